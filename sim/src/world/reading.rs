//! What users ask for beside sending: ranges of history at every freshness, memberships that come and go, inboxes.

use core::time::Duration;

use throng_client_core::{Answer, Cursor, Request, RequestError, Start};
use throng_wire::event::Membership;
use throng_wire::frame::Freshness as WireFreshness;
use throng_wire::{ChannelId, Epoch, Event as ChannelEvent, EventKind, RequestId, Seq};

use super::clients::content_of;
use super::{Event, World};
use crate::actor::{Asked, Stage};
use crate::check::{Freshness, Query};

/// A history that never existed.
const OTHER_EPOCH: Epoch = Epoch(7);

/// Events asked for at once.
const PAGE: u16 = 50;

/// Pause between syncs of all inboxes once everything has healed.
const SYNC_EVERY: Duration = Duration::from_secs(1);

impl World {
    pub(crate) fn schedule_read(&mut self, actor: usize) {
        if self.scenario.reads > 0 && self.actors[actor].reads < self.scenario.reads {
            let mean = self.scenario.plan.duration.as_nanos() as u64 / self.scenario.reads;
            let delay = Duration::from_nanos(self.rng.below(2 * mean + 1));
            self.after(delay, Event::Read { actor });
        }
    }

    /// A random range of a random channel, as a member or as somebody who was one.
    pub(crate) fn read_something(&mut self, actor: usize) {
        self.actors[actor].reads += 1;
        let visited = (0..self.channels.len()).filter(|number| {
            self.guests[*number].is_some_and(|guest| guest.actor == actor && guest.stage >= Stage::Inside)
        });
        let own = self.actors[actor].channels.iter().map(|(number, _)| (*number, true));
        let choices: Vec<(usize, bool)> = own
            .chain(visited.map(|number| (number, false)))
            .filter(|(number, _)| self.channels[*number].2)
            .collect();
        if !choices.is_empty() {
            let (number, member) = choices[self.rng.below(choices.len() as u64) as usize];
            self.read(actor, number, member);
        }
        self.schedule_read(actor);
    }

    fn read(&mut self, actor: usize, number: usize, member: bool) {
        let fed = self.model.fed(actor, number);
        let after = self.rng.between(fed.saturating_sub(20), fed);
        // RESET concerns everything a client has of a channel, so only who has nothing any more provokes it.
        let gone = self.guests[number].is_some_and(|guest| guest.stage == Stage::Gone);
        let foreign = !member && gone && self.rng.chance(300_000);
        let freshness = match self.rng.below(4) {
            0 => Freshness::Stale,
            1 => Freshness::AtLeast(after + self.rng.below(3)),
            _ => Freshness::Linearizable,
        };
        let wire = match freshness {
            Freshness::Stale => WireFreshness::Stale,
            Freshness::AtLeast(seq) => WireFreshness::AtLeast(Seq(seq)),
            Freshness::Linearizable => WireFreshness::Linearizable,
        };
        // A future number is due only once it exists.
        let freshness = match freshness {
            Freshness::AtLeast(seq) => Freshness::AtLeast(seq.min(fed)),
            other => other,
        };
        let channel = self.channels[number].0;
        let cursor = Cursor { after: Seq(after), epoch: foreign.then_some(OTHER_EPOCH) };
        let request = Request::Fetch { channel, cursor, limit: PAGE, freshness: wire };
        let query = Query { channel: number, after, freshness, foreign, member };
        // The model hears of it first: what "before" means must not depend on the machine's turn.
        let now = self.now;
        if let Ok(id) = self.actors[actor].machine.request(now, request) {
            self.actors[actor].asked.insert(id, Asked::Read);
            self.model.asked(actor, id.0, query);
        }
        self.pump_actor(actor);
    }

    pub(crate) fn answered(&mut self, actor: usize, id: RequestId, result: Result<Answer, RequestError>) {
        match self.actors[actor].asked.remove(&id).expect("only what was asked is answered") {
            Asked::Create(number) => self.created(number, result.is_ok()),
            Asked::Join(number) => self.joined(number, &result),
            Asked::Leave(number) => self.left_channel(number, &result),
            Asked::Read => self.read_answered(actor, id, result),
        }
    }

    /// A CREATE was answered: its members may follow and send. One that failed is tried again.
    fn created(&mut self, number: usize, done: bool) {
        if !done {
            return self.create(number);
        }
        self.channels[number].2 = true;
        for member in self.channels[number].1.clone() {
            self.follow(member, number);
        }
        self.visit_soon(number);
    }

    fn follow(&mut self, actor: usize, number: usize) {
        let (now, channel) = (self.now, self.channels[number].0);
        let subscribed = self.actors[actor].machine.subscribe(now, channel, Start::After(Cursor::default()));
        subscribed.expect("a handful of channels");
        self.pump_actor(actor);
    }

    fn read_answered(&mut self, actor: usize, id: RequestId, result: Result<Answer, RequestError>) {
        match result {
            Ok(Answer::Page { head, events }) => {
                let events: Vec<_> =
                    events.iter().map(|event| (event.seq.0, event.ts.0, content_of(event))).collect();
                self.model.read(actor, id.0, head.0, &events);
            }
            Ok(other) => self.model.violations.push(format!("a FETCH was answered with {other:?}")),
            Err(RequestError::Reset { .. }) => self.model.read_reset(actor, id.0),
            Err(RequestError::Refused(code)) => {
                self.model.read_failed(actor, id.0, Some(&code.to_string()));
            }
            Err(RequestError::Timeout | RequestError::Closed) => self.model.read_failed(actor, id.0, None),
        }
    }

    /// The guest of a channel takes its next step after a while.
    pub(crate) fn visit_soon(&mut self, number: usize) {
        if self.guests[number].is_some() {
            let longest = self.scenario.plan.duration.as_millis() as u64 / 2;
            let delay = Duration::from_millis(self.rng.between(1, longest));
            self.after(delay, Event::Visit { number });
        }
    }

    pub(crate) fn visit(&mut self, number: usize) {
        let Some(guest) = &mut self.guests[number] else { return };
        let (channel, owner) = (self.channels[number].0, self.channels[number].1[0]);
        let user = self.actors[guest.actor].user;
        match guest.stage {
            Stage::Outside | Stage::Joining => {
                guest.stage = Stage::Joining;
                self.ask(owner, Request::Join { channel, user }, Asked::Join(number));
            }
            Stage::Inside | Stage::Leaving => {
                guest.stage = Stage::Leaving;
                self.ask(owner, Request::Leave { channel, user }, Asked::Leave(number));
            }
            Stage::Gone => {}
        }
    }

    fn joined(&mut self, number: usize, result: &Result<Answer, RequestError>) {
        self.visit_soon(number);
        let Some(guest) = self.guests[number].as_mut() else { return };
        if result.is_ok() && guest.stage == Stage::Joining {
            guest.stage = Stage::Inside;
            let actor = guest.actor;
            self.follow(actor, number);
        }
    }

    fn left_channel(&mut self, number: usize, result: &Result<Answer, RequestError>) {
        match (&mut self.guests[number], result) {
            (Some(guest), Ok(_)) => guest.stage = Stage::Gone,
            _ => self.visit_soon(number),
        }
    }

    /// Whether a subscription may end: its user was removed, or is about to be.
    pub(crate) fn may_end(&self, actor: usize, channel: ChannelId) -> bool {
        self.guests[self.number_of(channel)]
            .is_some_and(|guest| guest.actor == actor && guest.stage >= Stage::Leaving)
    }

    /// Tells the model where the log says that a guest came or was removed.
    pub(crate) fn note_membership(&mut self, number: usize, event: &ChannelEvent) {
        if ![EventKind::JOINED, EventKind::LEFT].contains(&event.kind) {
            return;
        }
        let user = Membership::decode(&event.body).map(|membership| membership.user);
        let Some(guest) = self.guests[number].filter(|guest| user == Some(self.actors[guest.actor].user))
        else {
            return;
        };
        match event.kind {
            EventKind::LEFT => self.model.removed(guest.actor, number, event.seq.0),
            _ => self.model.joined(guest.actor, number, event.seq.0),
        }
    }

    pub(crate) fn inbox(&mut self, actor: usize, channel: ChannelId, head: u64) {
        let number = self.number_of(channel);
        self.model.inbox(actor, number, head);
    }

    /// Once everything has healed, all inboxes are looked at now and then.
    pub(crate) fn sync_all(&mut self) {
        let now = self.now;
        // Feeds must heal by themselves: what an inbox would tell them does not count.
        let fed = self.model.is_fed(&self.followers());
        for actor in (0..self.actors.len()).filter(|_| fed) {
            self.actors[actor].machine.sync(now);
            self.pump_actor(actor);
        }
        self.after(SYNC_EVERY, Event::Sync);
    }
}
