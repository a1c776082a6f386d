//! CREATE, JOIN and LEAVE at apply. Every change of membership is an event of the sequence.
//!
//! | class | who is added | who is removed |
//! |---|---|---|
//! | Direct | fixed at creation | nobody |
//! | Group | anybody, by a member | oneself; anybody, by an owner |
//! | Open | oneself; anybody, by a member | oneself; anybody, by an owner |

use bytes::Bytes;
use sha2::{Digest, Sha256};
use throng_wire::code::Code;
use throng_wire::event::{EventKind, Membership};
use throng_wire::frame::{ChannelClass, Role};
use throng_wire::ids::{ChannelId, MemberNo, ServerTs, UserId};
use throng_wire::limits::CREATE_MEMBERS_MAX;

use super::members::Left;
use super::{Channel, Draft, MemberRecord, content_hash};
use crate::entry::{Change, Create, class_byte};
use crate::hash::Keyed;
use crate::limits::{MEMBERS_EVER_MAX, members_max};
use crate::outcome::Outcome;

impl Channel {
    /// Makes a channel, or says why not.
    pub(crate) fn create(
        create: &Create,
        ts: ServerTs,
        keyed: Keyed,
        shards: u32,
    ) -> Result<(Self, Outcome), Code> {
        if create.members.len() > CREATE_MEMBERS_MAX || takes_kept_id(create.class, &create.channel) {
            return Err(Code::LIMIT);
        }
        let members = first_members(create);
        if create.class == ChannelClass::Direct && !is_direct_pair(&create.channel, &members) {
            return Err(Code::CONFLICT);
        }
        let content = content_of(create.class, &members);
        let mut channel = Self::empty(create.channel, create.class, create.user, content, keyed, shards);
        for (user, at) in members.iter().zip(0..) {
            let owner = at == 0 || create.class == ChannelClass::Direct;
            let role = if owner { Role::Owner } else { Role::Member };
            channel.add_member(ts, MemberRecord::new(*user, role), MemberNo(1));
        }
        let outcome = channel.outcome(MemberNo(1));
        Ok((channel, outcome))
    }

    /// CREATE of a channel that exists: the same again is answered as before, anything else is a conflict.
    pub(crate) fn create_again(&self, create: &Create) -> Outcome {
        if takes_kept_id(create.class, &create.channel) {
            return Outcome::Refused(Code::LIMIT); // as if it did not exist: strangers learn nothing
        }
        let members = first_members(create);
        let same = match create.class {
            // Either of the two makes it; the id says who they are.
            ChannelClass::Direct => self.class == create.class && is_direct_pair(&self.id, &members),
            _ => self.creator == create.user && self.content == content_of(create.class, &members),
        };
        let number = self.members.number_of(&create.user).filter(|_| same);
        number.map_or(Outcome::Refused(Code::CONFLICT), |number| self.outcome(number))
    }

    /// JOIN.
    pub(crate) fn join(&mut self, ts: ServerTs, change: &Change) -> Outcome {
        let joins_self = change.actor == change.user;
        let actor = self.present_number(&change.actor);
        let allowed = actor.is_some() || (self.class == ChannelClass::Open && joins_self);
        if !allowed {
            return Outcome::Refused(Code::NOT_FOUND);
        }
        let number = self.members.number_of(&change.user);
        if let Some(number) = number.filter(|&number| self.members.given(number).is_present()) {
            return self.outcome(number); // again: harmless
        }
        if self.class == ChannelClass::Direct {
            return Outcome::Refused(Code::UNSUPPORTED);
        }
        let full = self.members.present() >= members_max(self.class)
            || (number.is_none() && self.members.ever() >= MEMBERS_EVER_MAX);
        if full {
            return Outcome::Refused(Code::LIMIT);
        }
        let number = match number {
            Some(number) => self.readmit_member(ts, number, actor.unwrap_or(number)),
            None => {
                let own = MemberNo(self.members.ever() as u32 + 1);
                self.add_member(ts, MemberRecord::new(change.user, Role::Member), actor.unwrap_or(own))
            }
        };
        self.outcome(number)
    }

    /// LEAVE.
    pub(crate) fn leave(&mut self, ts: ServerTs, change: &Change) -> Outcome {
        let leaves_self = change.actor == change.user;
        let Some(number) = self.members.number_of(&change.user) else {
            return Outcome::Refused(Code::NOT_FOUND);
        };
        let is_gone = !self.members.given(number).is_present();
        if leaves_self && is_gone {
            return self.outcome(number); // again: harmless
        }
        let Some(actor) = self.present_number(&change.actor) else {
            return Outcome::Refused(Code::NOT_FOUND);
        };
        if self.class == ChannelClass::Direct {
            return Outcome::Refused(Code::UNSUPPORTED);
        }
        if !leaves_self && self.members.given(actor).role != Role::Owner {
            return Outcome::Refused(Code::NOT_FOUND); // "no right to know of it": there is no code of its own
        }
        if !is_gone {
            self.remove_member(ts, number, actor);
        }
        self.outcome(number)
    }

    fn add_member(&mut self, ts: ServerTs, record: MemberRecord, actor: MemberNo) -> MemberNo {
        let number = self.members.add(record);
        self.joined(ts, number, actor);
        number
    }

    fn readmit_member(&mut self, ts: ServerTs, number: MemberNo, actor: MemberNo) -> MemberNo {
        self.members.rejoin(number);
        self.joined(ts, number, actor);
        number
    }

    fn joined(&mut self, ts: ServerTs, member: MemberNo, actor: MemberNo) {
        let user = self.user_of(member);
        self.add_dest(&user);
        self.member_changed(member);
        self.append(ts, membership_event(EventKind::JOINED, actor, user, member));
    }

    fn remove_member(&mut self, ts: ServerTs, member: MemberNo, actor: MemberNo) {
        let user = self.user_of(member);
        let was_owner = self.members.given(member).role == Role::Owner;
        let seq = self.append(ts, membership_event(EventKind::LEFT, actor, user, member));
        self.members.leave(member, Left { seq, messages: self.messages });
        self.remove_dest(&user);
        self.member_changed(member);
        if let Some(heir) = was_owner.then(|| self.members.succeed_owner()).flatten() {
            self.member_changed(heir);
        }
    }

    /// The number of a user who is a member.
    pub(crate) fn present_number(&self, user: &UserId) -> Option<MemberNo> {
        self.members.number_of(user).filter(|&number| self.members.given(number).is_present())
    }

    /// Notes that a member's row must be written.
    pub(super) fn member_changed(&mut self, number: MemberNo) {
        if self.dirty_members.last() != Some(&number) {
            self.dirty_members.push(number);
        }
    }

    fn outcome(&self, member: MemberNo) -> Outcome {
        Outcome::Channel { class: self.class, head: self.visible_head(member), member }
    }
}

fn membership_event(kind: EventKind, sender: MemberNo, user: UserId, member: MemberNo) -> Draft {
    let body: Bytes = Membership { user, member }.encode();
    let hash = content_hash(kind, &body);
    Draft { kind, sender, origin: None, body, hash }
}

/// The creator, then the others as listed, each once.
fn first_members(create: &Create) -> Vec<UserId> {
    let mut members = vec![create.user];
    for user in &create.members {
        if !members.contains(user) {
            members.push(*user);
        }
    }
    members
}

/// Whether a CREATE wants an id that is kept for direct channels (SPEC W-CH-6). The other way round, a direct channel
/// under an id without the bit, is no pair's id.
pub(crate) fn takes_kept_id(class: ChannelClass, channel: &ChannelId) -> bool {
    class != ChannelClass::Direct && channel.is_direct()
}

fn is_direct_pair(channel: &ChannelId, members: &[UserId]) -> bool {
    match *members {
        [own] => *channel == ChannelId::direct(own, own),
        [one, other] => *channel == ChannelId::direct(one, other),
        _ => false,
    }
}

/// A fingerprint of what a CREATE asked for, whatever the order of its list.
fn content_of(class: ChannelClass, members: &[UserId]) -> u64 {
    let mut sorted = members.to_vec();
    sorted.sort_unstable();
    let mut sha = Sha256::new().chain_update([class_byte(class)]);
    sorted.iter().for_each(|user| sha.update(user.0));
    u64::from_be_bytes(sha.finalize()[..8].try_into().expect("32 bytes hold 8"))
}
