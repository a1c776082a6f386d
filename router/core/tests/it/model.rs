//! A reference model of a channel that shares no code with the machine: lists and plain loops, as SPEC reads.

use proptest::prelude::*;
use throng_router_core::Outcome;
use throng_wire::code::Code;
use throng_wire::frame::ChannelClass;
use throng_wire::ids::*;

use crate::harness::*;

#[derive(Clone, Debug)]
enum Op {
    Send { user: u8, device: u64, id: u64, body: u8 },
    Join { actor: u8, user: u8 },
    Leave { actor: u8, user: u8 },
}

fn op() -> impl Strategy<Value = Op> {
    let u = 1..5u8;
    prop_oneof![
        12 => (u.clone(), 0..2u64, 0..48u64, 0..2u8).prop_map(|(user, device, id, body)| Op::Send {
            user, device, id, body
        }),
        1 => (u.clone(), u.clone()).prop_map(|(actor, user)| Op::Join { actor, user }),
        1 => (u.clone(), u).prop_map(|(actor, user)| Op::Leave { actor, user }),
    ]
}

/// One remembered send.
#[derive(Clone)]
struct Sent {
    id: u64,
    seq: u64,
    body: u8,
}

#[derive(Default)]
struct Device {
    owner: (u8, u64),
    window: Vec<Sent>,
    evicted: Vec<u64>,
}

#[derive(Clone, PartialEq, Debug)]
enum What {
    Said(u8),
    In(u8),
    Out(u8),
}

#[derive(Default)]
struct Model {
    events: Vec<What>,
    /// In the order of first joining: the place is the number. Who left, with the number of the event.
    members: Vec<(u8, Option<usize>)>,
    owners: Vec<u8>,
    devices: Vec<Device>,
    open: bool,
}

#[derive(PartialEq, Debug)]
enum Answer {
    New(u64),
    Old(u64),
    No(Code),
    Fine { head: u64, member: u32 },
}

impl Model {
    fn is_in(&self, user: u8) -> bool {
        self.members.iter().any(|&(member, left)| member == user && left.is_none())
    }

    fn was_in(&self, user: u8) -> bool {
        self.members.iter().any(|&(member, _)| member == user)
    }

    fn fine(&self, user: u8) -> Answer {
        let at = self.members.iter().position(|&(member, _)| member == user).expect("a member");
        let head = self.members[at].1.unwrap_or(self.events.len()) as u64;
        Answer::Fine { head, member: at as u32 + 1 }
    }

    fn enter(&mut self, user: u8) {
        self.events.push(What::In(user));
        match self.members.iter_mut().find(|(member, _)| *member == user) {
            Some(known) => known.1 = None,
            None => self.members.push((user, None)),
        }
    }

    fn answer(&mut self, op: &Op) -> Answer {
        match *op {
            Op::Send { user, device, id, body } => self.send(user, device, id, body),
            Op::Join { actor, user } => {
                if !(self.is_in(actor) || self.open && actor == user) {
                    return Answer::No(Code::NOT_FOUND);
                }
                if !self.is_in(user) {
                    self.enter(user);
                }
                self.fine(user)
            }
            Op::Leave { actor, user } => {
                if actor == user && self.was_in(user) && !self.is_in(user) {
                    return self.fine(user);
                }
                let may = self.is_in(actor) && (actor == user || self.owners.contains(&actor));
                if !may || !self.was_in(user) {
                    return Answer::No(Code::NOT_FOUND);
                }
                if self.is_in(user) {
                    self.exit(user);
                }
                self.fine(user)
            }
        }
    }

    fn exit(&mut self, user: u8) {
        self.events.push(What::Out(user));
        let number = self.events.len();
        self.members.iter_mut().find(|(member, _)| *member == user).expect("a member").1 = Some(number);
        let had_owner = self.owners.contains(&user);
        self.owners.retain(|owner| *owner != user);
        if had_owner && self.owners.is_empty() {
            self.owners
                .extend(self.members.iter().find(|(_, left)| left.is_none()).map(|&(member, _)| member));
        }
    }

    fn send(&mut self, user: u8, device: u64, id: u64, body: u8) -> Answer {
        if !self.was_in(user) {
            return Answer::No(Code::NOT_FOUND);
        }
        let is_in = self.is_in(user);
        let known = self.devices.iter().position(|known| known.owner == (user, device));
        if let Some(known) = known.map(|at| &self.devices[at]) {
            if let Some(sent) = known.window.iter().find(|sent| sent.id == id) {
                return if sent.body == body { Answer::Old(sent.seq) } else { Answer::No(Code::CONFLICT) };
            }
            if known.evicted.iter().any(|evicted| *evicted >= id) {
                return Answer::No(Code::UNKNOWN_OUTCOME);
            }
        }
        if !is_in {
            return Answer::No(Code::NOT_FOUND);
        }
        self.events.push(What::Said(body));
        let seq = self.events.len() as u64;
        let at = known.unwrap_or_else(|| {
            self.devices.push(Device { owner: (user, device), ..Device::default() });
            self.devices.len() - 1
        });
        let device = &mut self.devices[at];
        if device.window.len() == 16 {
            device.window.sort_by_key(|sent| sent.id);
            device.evicted.push(device.window.remove(0).id);
        }
        device.window.push(Sent { id, seq, body });
        Answer::New(seq)
    }
}

fn command_of(op: &Op) -> throng_router_core::entry::Command {
    match *op {
        Op::Send { user: from, device, id, body } => {
            send_from(channel(1), user(from), device, id, &body.to_string())
        }
        Op::Join { actor, user: joins } => join(channel(1), user(actor), user(joins)),
        Op::Leave { actor, user: leaves } => leave(channel(1), user(actor), user(leaves)),
    }
}

fn answer_of(outcome: &Outcome) -> Answer {
    match *outcome {
        Outcome::Published { seq, duplicate: false, .. } => Answer::New(seq.0),
        Outcome::Published { seq, duplicate: true, .. } => Answer::Old(seq.0),
        Outcome::Channel { head, member, .. } => Answer::Fine { head: head.0, member: member.0 },
        Outcome::Refused(code) => Answer::No(code),
        Outcome::Done => unreachable!("no command between shards was given"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_machine_answers_as_the_model_does(open: bool, ops in prop::collection::vec(op(), 1..150), flush_every in 1..40usize) {
        let mut replica = Replica::new();
        let mut model = Model { open, ..Model::default() };
        let class = if open { ChannelClass::Open } else { ChannelClass::Group };
        replica.one(create(channel(1), user(1), class, &[user(2)]));
        model.enter(1);
        model.enter(2);
        model.owners.push(1);
        for (n, op) in ops.iter().enumerate() {
            let outcome = replica.one(command_of(op));
            prop_assert_eq!(answer_of(&outcome), model.answer(op), "operation {} of {:?}", n, ops);
            if n % flush_every == 0 {
                replica.flush();
            }
            if n % (3 * flush_every) == 0 {
                replica.crash_and_replay();
            }
        }
        for n in 1..5 {
            let left = model.members.iter().find(|(member, _)| *member == n);
            let seen = left.map_or(0, |(_, left)| left.unwrap_or(model.events.len()));
            let history = replica.history(channel(1), user(n));
            prop_assert_eq!(history.len(), seen);
            for (event, what) in history.iter().zip(&model.events) {
                let is_message = event.origin.is_some() || event.body.len() == 1;
                prop_assert_eq!(is_message, matches!(what, What::Said(_)));
            }
        }
        prop_assert_eq!(replica.ears.events.len() >= model.events.len(), true);
        prop_assert_eq!(replica.machines.read_chain(&channel(1)).expect("readable").map(|(head, _)| head), Some(Seq(model.events.len() as u64)));
    }
}
