//! Requests with a number: the user's, and the machine's own.

use core::time::Duration;
use throng_base::Instant;
use throng_wire::frame::{ChannelClass, Create, Fetch, Frame, Freshness, Join, Leave, Members, Open, Sync};
use throng_wire::{ChannelId, Epoch, MemberNo, RequestId, UserId, UserSeq};

use crate::saved::Cursor;

/// A request of the user. All are safe to repeat, so the machine repeats them until there is an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Make a group.
    Create {
        /// [`ChannelId::group`] of 128 random bits.
        channel: ChannelId,
        /// `Group` or `Open`.
        class: ChannelClass,
        /// The first members beside the creator.
        members: Vec<UserId>,
    },
    /// Open the direct channel with a user, or the self channel.
    Open {
        /// The other user.
        peer: UserId,
    },
    /// Add a member.
    Join {
        /// The channel.
        channel: ChannelId,
        /// Who; nil = oneself.
        user: UserId,
    },
    /// Remove a member. Removing oneself (nil) also ends one's subscription.
    Leave {
        /// The channel.
        channel: ChannelId,
        /// Who; nil = oneself.
        user: UserId,
    },
    /// List members.
    Members {
        /// The channel.
        channel: ChannelId,
        /// Cursor; 0 = from the start.
        after: MemberNo,
        /// At most this many.
        limit: u16,
    },
    /// Read a range of history.
    Fetch {
        /// The channel.
        channel: ChannelId,
        /// From here.
        cursor: Cursor,
        /// At most this many.
        limit: u16,
        /// How fresh.
        freshness: Freshness,
    },
    /// Which channels moved?
    Sync {
        /// Inbox cursor.
        after: UserSeq,
        /// Its history; `None` = the current one.
        epoch: Option<Epoch>,
        /// At most this many.
        limit: u16,
    },
}

impl Request {
    pub(crate) fn frame(&self, request: RequestId, current: Epoch) -> Frame<'static> {
        match *self {
            Self::Create { channel, class, ref members } => {
                Frame::Create(Create { request, channel, class, members: members.clone() })
            }
            Self::Open { peer } => Frame::Open(Open { request, peer }),
            Self::Join { channel, user } => Frame::Join(Join { request, channel, user }),
            Self::Leave { channel, user } => Frame::Leave(Leave { request, channel, user }),
            Self::Members { channel, after, limit } => {
                Frame::Members(Members { request, channel, after, limit })
            }
            Self::Fetch { channel, cursor, limit, freshness } => {
                let epoch = cursor.epoch.unwrap_or(current);
                Frame::Fetch(Fetch { request, channel, after: cursor.after, epoch, limit, freshness })
            }
            Self::Sync { after, epoch, limit } => {
                Frame::Sync(Sync { request, after, epoch: epoch.unwrap_or(current), limit })
            }
        }
    }
}

/// Whom an answer is for.
#[derive(Clone, Debug)]
pub(crate) enum Owner {
    User(Box<Request>),
    Subscribe(ChannelId),
    Gap(ChannelId),
    Inbox,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// To be sent at this instant.
    Waiting {
        until: Instant,
    },
    Sent {
        since: Instant,
    },
}

#[derive(Clone, Debug)]
struct Pending {
    id: RequestId,
    owner: Owner,
    phase: Phase,
    /// Only of the user's.
    deadline: Instant,
    tries: u32,
}

/// Requests without an answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Requests {
    /// Invariant: ids rise.
    pending: Vec<Pending>,
    last_id: u64,
    own: usize,
}

impl Requests {
    /// A request of the user, to be sent as soon as possible.
    pub(crate) fn add_user(&mut self, now: Instant, request: Request, deadline: Instant) -> RequestId {
        self.add(Owner::User(Box::new(request)), Phase::Waiting { until: now }, deadline)
    }

    /// A request of the machine, sent by the caller at once.
    pub(crate) fn add_own(&mut self, now: Instant, owner: Owner) -> RequestId {
        assert!(!matches!(owner, Owner::User(_)));
        self.own += 1;
        self.add(owner, Phase::Sent { since: now }, Instant(u64::MAX))
    }

    fn add(&mut self, owner: Owner, phase: Phase, deadline: Instant) -> RequestId {
        self.last_id += 1;
        let id = RequestId(self.last_id);
        self.pending.push(Pending { id, owner, phase, deadline, tries: 0 });
        id
    }

    /// Requests that the server owes an answer.
    pub(crate) fn open(&self) -> usize {
        self.pending.iter().filter(|pending| matches!(pending.phase, Phase::Sent { .. })).count()
    }

    /// Unanswered requests of the user.
    pub(crate) fn user(&self) -> usize {
        self.pending.len() - self.own
    }

    /// Whether nothing is unanswered.
    pub(crate) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Whom an answer is for, without ending the request.
    pub(crate) fn owner(&self, id: RequestId) -> Option<&Owner> {
        self.position(id).map(|at| &self.pending[at].owner)
    }

    /// Ends a request; `None` if it is not known (any more).
    pub(crate) fn finish(&mut self, id: RequestId) -> Option<Owner> {
        let pending = self.pending.remove(self.position(id)?);
        if !matches!(pending.owner, Owner::User(_)) {
            self.own -= 1;
        }
        if self.pending.is_empty() {
            self.pending = Vec::new(); // a machine at rest owns no buffer
        }
        Some(pending.owner)
    }

    /// A request of the user is to be repeated later.
    pub(crate) fn retry(&mut self, id: RequestId, now: Instant, delay: impl FnOnce(u32) -> Duration) {
        if let Some(at) = self.position(id) {
            let pending = &mut self.pending[at];
            pending.phase = Phase::Waiting { until: now + delay(pending.tries) };
            pending.tries = pending.tries.saturating_add(1);
        }
    }

    /// The next request of the user that is due to be sent.
    pub(crate) fn transmit(&mut self, now: Instant, current: Epoch) -> Option<Frame<'static>> {
        let due = |pending: &&mut Pending| matches!(pending.phase, Phase::Waiting { until } if until <= now);
        let pending = self.pending.iter_mut().find(due)?;
        pending.phase = Phase::Sent { since: now };
        let Owner::User(request) = &pending.owner else { unreachable!("own requests never wait") };
        Some(request.frame(pending.id, current))
    }

    /// The connection is gone: the user's requests are sent again on the next one, the machine's are forgotten (it
    /// derives them anew from its cursors).
    pub(crate) fn connection_lost(&mut self, now: Instant) {
        self.pending.retain(|pending| matches!(pending.owner, Owner::User(_)));
        self.own = 0;
        self.pending.iter_mut().for_each(|pending| pending.phase = Phase::Waiting { until: now });
    }

    /// Ends the requests whose time is over, one per call: the user's after their deadline, the machine's after a
    /// time-out. The user's that are merely unanswered are sent again.
    pub(crate) fn expire(&mut self, now: Instant, answer_timeout: Duration) -> Option<(RequestId, Owner)> {
        let silent = |phase| matches!(phase, Phase::Sent { since } if since + answer_timeout <= now);
        for at in 0..self.pending.len() {
            let pending = &mut self.pending[at];
            let is_user = matches!(pending.owner, Owner::User(_));
            if pending.deadline <= now || (silent(pending.phase) && !is_user) {
                let id = pending.id;
                return self.finish(id).map(|owner| (id, owner));
            }
            if silent(pending.phase) {
                pending.phase = Phase::Waiting { until: now };
            }
        }
        None
    }

    /// When to look again; requests that wait for a connection or for a place (`may_send`) need no look before their
    /// deadline.
    pub(crate) fn deadline(&self, answer_timeout: Duration, may_send: bool) -> Option<Instant> {
        let each = self.pending.iter().map(|pending| match pending.phase {
            Phase::Waiting { until } if may_send => until.min(pending.deadline),
            Phase::Waiting { .. } => pending.deadline,
            Phase::Sent { since } => (since + answer_timeout).min(pending.deadline),
        });
        each.min()
    }

    /// The user's requests, oldest first.
    pub(crate) fn user_requests(&self) -> impl Iterator<Item = (RequestId, &Request)> {
        self.pending.iter().filter_map(|pending| match &pending.owner {
            Owner::User(request) => Some((pending.id, &**request)),
            Owner::Subscribe(_) | Owner::Gap(_) | Owner::Inbox => None,
        })
    }

    fn position(&self, id: RequestId) -> Option<usize> {
        self.pending.binary_search_by_key(&id, |pending| pending.id).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(10);

    fn open() -> Request {
        Request::Open { peer: UserId::NIL }
    }

    #[test]
    fn a_user_request_is_repeated_under_its_number_until_its_deadline() {
        let mut requests = Requests::default();
        let id = requests.add_user(Instant::ZERO, open(), Instant::from_millis(30_000));
        let expected = Frame::Open(Open { request: id, peer: UserId::NIL });
        assert_eq!(requests.transmit(Instant::ZERO, Epoch(1)), Some(expected.clone()));
        assert_eq!(requests.transmit(Instant::ZERO, Epoch(1)), None);
        assert_eq!(requests.deadline(TIMEOUT, true), Some(Instant::from_millis(10_000)));
        assert!(requests.expire(Instant::from_millis(10_000), TIMEOUT).is_none());
        assert_eq!(requests.transmit(Instant::from_millis(10_000), Epoch(1)), Some(expected.clone()));
        requests.connection_lost(Instant::from_millis(11_000));
        assert_eq!(requests.transmit(Instant::from_millis(11_000), Epoch(1)), Some(expected));
        let expired = requests.expire(Instant::from_millis(30_000), TIMEOUT);
        assert!(matches!(expired, Some((expired, Owner::User(_))) if expired == id));
        assert_eq!(requests.deadline(TIMEOUT, true), None);
    }

    #[test]
    fn own_requests_end_with_the_connection_or_by_silence() {
        let mut requests = Requests::default();
        let first = requests.add_own(Instant::ZERO, Owner::Inbox);
        assert_eq!((requests.open(), requests.user()), (1, 0));
        assert!(
            matches!(requests.expire(Instant::from_millis(10_000), TIMEOUT), Some((id, Owner::Inbox)) if id == first)
        );
        let second = requests.add_own(Instant::ZERO, Owner::Inbox);
        requests.connection_lost(Instant::ZERO);
        assert!(requests.finish(second).is_none());
        assert_eq!(requests.open(), 0);
    }
}
