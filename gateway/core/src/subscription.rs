//! What becomes of a Subscribe request, a client's or a renewal: see the picture in `hub.rs`.

use throng_base::{Instant, Key};
use throng_wire::link::ToRouter;
use throng_wire::{ChannelId, Seq};

use crate::Output;
use crate::gateway::Gateway;
use crate::hub::State;
use crate::pending::{Pending, Purpose};
use crate::reply::channel_of;

/// How the shard answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The user may read; every event above this one follows.
    From(Seq),
    /// The cursor is useless; the client was told to start over and to subscribe again.
    Reset,
    /// The user may not read.
    Refused,
    /// Not now.
    Later,
}

impl Gateway {
    /// Notes a Subscribe request under way.
    pub(crate) fn subscription_asked(&mut self, key: Key, id: &ChannelId) {
        let Some(index) = self.hub.find(id) else { return };
        let place = self.hub.place(index, &self.sessions, key.index);
        let channel = self.hub.channel_mut(index).expect("found by its id");
        channel.asking += 1;
        if let Some(place) = place {
            let subscription = &mut channel.subscriptions[place];
            subscription.asking = subscription.asking.checked_add(1).expect("128 renewals and 64 requests");
        }
    }

    /// Carries the answer to a Subscribe request into the hub. Called exactly once for each.
    pub(crate) fn subscription_answered(&mut self, now: Instant, pending: &Pending, verdict: Verdict) {
        let id = channel_of(&pending.op);
        let generation = self.routes.generation(self.routes.shard(id.slot()));
        let Some(index) = self.hub.find(&id) else { return };
        let session = pending.session;
        let is_there = self.sessions.get(session).is_some();
        let place = self.hub.place(index, &self.sessions, session.index).filter(|_| is_there);
        let channel = self.hub.channel_mut(index).expect("found by its id");
        channel.asking -= 1;
        channel.is_fed |= matches!(verdict, Verdict::From(_));
        channel.settle(generation);
        if let Some(place) = place {
            let subscription = &mut channel.subscriptions[place];
            subscription.asking -= 1;
            match subscription.void.checked_sub(1) {
                Some(left) => subscription.void = left,
                None => self.apply(now, index, place, pending, verdict),
            }
            self.hub.leave_if_idle(index, &mut self.sessions, session.index);
        }
        self.drop_unused(index);
    }

    fn apply(&mut self, now: Instant, index: u32, place: usize, pending: &Pending, verdict: Verdict) {
        let channel = self.hub.channel_mut(index).expect("the caller found it");
        let shard = self.routes.shard(channel.id.slot());
        let is_current = pending.generation == self.routes.generation(shard)
            && self.routes.leader(shard) == Some(pending.node);
        match (verdict, channel.subscriptions[place].state) {
            (Verdict::From(head), _) if is_current => self.go_live(now, index, place, pending.session, head),
            (Verdict::From(head), _) => {
                // The stream it belongs to has ended meanwhile.
                channel.silence_one(place, head);
                self.renewal.start(now);
            }
            (Verdict::Reset, _) => channel.set_state(place, State::Idle),
            (Verdict::Refused, before) => {
                let (id, beyond) = (channel.id, channel.silent_since.next());
                channel.set_state(place, State::Idle);
                if pending.purpose == Purpose::Renew && before == State::Asked {
                    // The LEFT event lies above what the session was given; fetching tells it so.
                    self.lag(now, pending.session, id, beyond);
                }
            }
            (Verdict::Later, State::Asked) if pending.purpose == Purpose::Renew => {
                channel.set_state(place, State::Silent);
                self.renewal.retry(now);
            }
            // A client was told ERROR and asks again.
            (Verdict::Later, _) => {}
        }
    }

    fn go_live(&mut self, now: Instant, index: u32, place: usize, key: Key, head: Seq) {
        let channel = self.hub.channel_mut(index).expect("the caller found it");
        let id = channel.id;
        let missed = match channel.subscriptions[place].state {
            State::Silent | State::Asked => head > channel.silent_since,
            State::Idle | State::Live => false,
        };
        // On one ordered stream everybody who is live has been given the events up to `head`; should a router ever
        // answer ahead of its own stream, the others are told.
        let behind: Vec<u32> = if head > channel.head {
            let others = channel.subscriptions.iter().enumerate();
            others.filter(|(at, s)| s.state == State::Live && *at != place).map(|(_, s)| s.session).collect()
        } else {
            Vec::new()
        };
        channel.set_state(place, State::Live);
        channel.head = channel.head.max(head);
        if missed {
            self.lag(now, key, id, head);
        }
        for session in behind {
            if let Some(other) = self.sessions.key_at(session) {
                self.lag(now, other, id, head);
            }
        }
    }

    /// UNSUBSCRIBE: answers on their way change nothing any more.
    pub(crate) fn unsubscribe(&mut self, key: Key, index: u32) {
        let Some(place) = self.hub.place(index, &self.sessions, key.index) else { return };
        let channel = self.hub.channel_mut(index).expect("it has the place");
        channel.set_state(place, State::Idle);
        let subscription = &mut channel.subscriptions[place];
        subscription.void = subscription.asking;
        self.hub.leave_if_idle(index, &mut self.sessions, key.index);
        self.drop_unused(index);
    }

    /// The last session gone, the shard need not send this channel's events any more.
    pub(crate) fn drop_unused(&mut self, index: u32) {
        let Some(channel) = self.hub.remove_if_unused(index) else { return };
        if let Some(node) = self.routes.leader(self.routes.shard(channel.slot())) {
            self.outputs.push_back(Output::ToRouter { node, message: ToRouter::Unsubscribe { channel } });
        }
    }
}
