//! Events and hints to sessions.

use throng_base::{Instant, Key};
use throng_wire::event::{EventKind, Membership};
use throng_wire::frame::Deliver;
use throng_wire::link::ToRouter;
use throng_wire::{ChannelId, Event, Frame, NodeId, Origin, Seq, UserId, UserSeq};

use crate::Output;
use crate::encode::Encoded;
use crate::gateway::Gateway;
use crate::hub::{State, Subscription};

impl Gateway {
    /// An event of a channel. It is encoded once for everybody, and once more for the sender's own sessions.
    pub(crate) fn deliver(
        &mut self,
        now: Instant,
        node: NodeId,
        id: ChannelId,
        event: Event,
        sender: UserId,
    ) {
        self.counters.events += 1;
        let Some(index) = self.live_channel(node, &id) else {
            self.counters.events_stale += 1;
            if self.hub.find(&id).is_none() {
                // Nobody here watches it and no answer is on its way: the router missed that.
                let message = ToRouter::Unsubscribe { channel: id };
                self.outputs.push_back(Output::ToRouter { node, message });
            }
            return;
        };
        let channel = self.hub.channel_mut(index).expect("found above");
        if event.seq <= channel.head {
            self.counters.events_stale += 1;
            return;
        }
        self.counters.events_after_gap += u64::from(event.seq != channel.head.next());
        channel.head = event.seq;
        // Nothing below touches the list while it is out.
        let subscriptions = core::mem::take(&mut channel.subscriptions);
        self.fan_out(now, &subscriptions, id, &event, sender);
        self.hub.channel_mut(index).expect("found above").subscriptions = subscriptions;
        if event.kind == EventKind::LEFT {
            self.drop_left(now, index, &event);
        }
    }

    fn fan_out(&mut self, now: Instant, list: &[Subscription], id: ChannelId, event: &Event, sender: UserId) {
        let mut plain: Option<Encoded> = None;
        let mut own: Option<Encoded> = None;
        for subscription in list.iter().filter(|subscription| subscription.state == State::Live) {
            let Some(key) = self.sessions.key_at(subscription.session) else { continue };
            let user = self.sessions.get(key).map(|session| session.user);
            let frame = if user == Some(sender) && event.origin.is_some() {
                own.get_or_insert_with(|| encode(id, event, event.origin))
            } else {
                plain.get_or_insert_with(|| encode(id, event, None))
            };
            self.deliver_to(now, key, id, event.seq, frame);
        }
    }

    /// Contract C7: who left at event n reads n, which says so, and nothing after.
    fn drop_left(&mut self, now: Instant, index: u32, event: &Event) {
        let Some(left) = Membership::decode(&event.body) else {
            // Nobody can tell who left: everybody has to be authorised again.
            return self.silence(now, index);
        };
        let channel = self.hub.channel(index).expect("the caller found it");
        let of_user = |subscription: &&Subscription| {
            let session = self.sessions.key_at(subscription.session).and_then(|key| self.sessions.get(key));
            subscription.state == State::Live && session.is_some_and(|session| session.user == left.user)
        };
        let sessions: Vec<u32> = channel.subscriptions.iter().filter(of_user).map(|s| s.session).collect();
        for session in sessions {
            let place = self.hub.place(index, &self.sessions, session).expect("it stands on the list");
            self.hub.channel_mut(index).expect("the caller found it").set_state(place, State::Idle);
            // An answer on its way comes from behind this event and decides anew.
            self.hub.leave_if_idle(index, &mut self.sessions, session);
            self.counters.left += 1;
        }
        self.drop_unused(index);
    }

    /// The router dropped events of this channel on the way. Its LEFT events may be among them, so rights have to be
    /// learnt again (contract C7); the answers tell each session the head it lacks.
    pub(crate) fn stream_lagged(&mut self, now: Instant, node: NodeId, id: ChannelId, head: Seq) {
        let Some(index) = self.live_channel(node, &id) else { return };
        let channel = self.hub.channel(index).expect("found above");
        if head > channel.head {
            self.silence(now, index);
        }
    }

    fn silence(&mut self, now: Instant, index: u32) {
        self.hub.channel_mut(index).expect("the caller found it").silence();
        self.renewal.start(now);
        self.renew_some(now);
    }

    /// The channel, if `node` is the leader whose stream feeds it.
    fn live_channel(&mut self, node: NodeId, id: &ChannelId) -> Option<u32> {
        let index = self.hub.find(id)?;
        let shard = self.routes.shard(id.slot());
        let generation = self.routes.generation(shard);
        self.hub.channel_mut(index)?.settle(generation);
        (self.routes.leader(shard) == Some(node)).then_some(index)
    }

    /// An inbox row of the session's user moved.
    pub(crate) fn hint(&mut self, now: Instant, key: Key, channel: ChannelId, head: Seq, user_seq: UserSeq) {
        let Some(session) = self.sessions.get_mut(key).filter(|session| session.is_open()) else { return };
        session.user_seq = session.user_seq.max(user_seq);
        if self.has_passed(key, &channel, head) {
            self.counters.hints_passed += 1;
            return;
        }
        self.lag(now, key, channel, head);
    }

    /// Whether a delivery (or the debt for one) at least as new has passed to the session.
    fn has_passed(&mut self, key: Key, id: &ChannelId, head: Seq) -> bool {
        let Some(index) = self.hub.find(id) else { return false };
        let generation = self.routes.generation(self.routes.shard(id.slot()));
        let Some(channel) = self.hub.channel_mut(index) else { return false };
        channel.settle(generation);
        let has_all = channel.head >= head;
        let Some(place) = self.hub.place(index, &self.sessions, key.index) else { return false };
        let channel = self.hub.channel(index).expect("found above");
        has_all && channel.subscriptions[place].state == State::Live
    }
}

fn encode(channel: ChannelId, event: &Event, origin: Option<Origin>) -> Encoded {
    Encoded::of(&Frame::Deliver(Deliver {
        channel,
        seq: event.seq,
        kind: event.kind,
        sender: event.sender,
        ts: event.ts,
        origin,
        body: &event.body,
    }))
}
