//! Requests that read: after a read index that a turn's reads share, from applied state.
//!
//! A stale read of a channel that is known here, or one that applied state is fresh enough for, is answered at once. That is safe whatever happened
//! elsewhere: applied state is a prefix, so where a removal is missing, so is everything after it (contract C7).

use throng_base::planted::{Bug, is_planted, noted};
use throng_storage_core::state::StateRead;
use throng_wire::code::Code;
use throng_wire::frame::Freshness;
use throng_wire::ids::{ChannelId, Epoch, MemberNo, NodeId, Seq, ShardId, UserId, UserSeq};
use throng_wire::limits::{MEMBERS_PAGE_MAX, SYNC_ENTRIES_MAX};
use throng_wire::link::{Answer, Op, Refusal, Request, SessionRef};

use super::Router;
use super::desk::Read;
use super::fanout::Link;
use crate::fatal::Fatal;
use crate::limits::BUSY_RETRY_MS;
use crate::machines::ReadChannel;

/// What a read came to; a fatal error stops the node.
type Served = Result<Result<Answer, Code>, Fatal>;

impl<S: StateRead> Router<S> {
    /// A request that reads.
    pub(super) fn read(&mut self, shard: ShardId, link: Link, request: Request) {
        if let Op::Register { session } = request.op
            && let Err(code) = self.fanout.register(shard, request.user, link.gateway, session)
        {
            // Registered before the answer, so that no row that moves in between is missed.
            return self.fanout.refuse(&link, request.id, code, BUSY_RETRY_MS);
        }
        match self.is_fresh_enough(&request) {
            Err(reason) => self.stop(reason),
            Ok(true) => {
                if let Err(reason) = self.serve(shard, Read::Request { link, request }) {
                    self.stop(reason);
                }
            }
            Ok(false) => self.queue_read(shard, link, request),
        }
    }

    fn queue_read(&mut self, shard: ShardId, link: Link, request: Request) {
        let id = request.id;
        if self.desk(shard).push_read(Read::Request { link, request }) {
            self.busy.insert(shard);
        } else {
            self.fanout.refuse(&link, id, Code::BUSY, BUSY_RETRY_MS);
        }
    }

    /// Whether this replica alone answers a read: it knows the channel, and the read asks for no more than it has. A
    /// replica that cannot be read ends the router.
    pub(super) fn suffices(&mut self, request: &Request) -> bool {
        let Op::Fetch { channel, .. } = request.op else { return false };
        let known = self.machines.read_channel(&channel, &request.user).map(|view| view.is_some());
        let enough = known.and_then(|known| Ok(known && self.is_fresh_enough(request)?));
        enough.unwrap_or_else(|reason| {
            self.stop(reason);
            false
        })
    }

    /// Whether applied state answers a read as it is.
    fn is_fresh_enough(&mut self, request: &Request) -> Result<bool, Fatal> {
        if is_planted(Bug::ReadWithoutIndex) || self.holds_wall_clock_lease(&request.op, &request.user) {
            return Ok(true);
        }
        Ok(match request.op {
            // A leader that does not know yet that it was deposed must not say that there is no such channel: what is
            // final is said after a read index.
            Op::Fetch { channel, freshness: Freshness::Stale, .. } => {
                self.machines.read_channel(&channel, &request.user)?.is_some()
            }
            Op::Fetch { channel, freshness: Freshness::AtLeast(seq), .. } => {
                self.machines.read_channel(&channel, &request.user)?.is_some_and(|view| view.head >= seq)
            }
            _ => false,
        })
    }

    /// [`Bug::LeaseOnWallClock`]: a round within the last two seconds of the wall clock counts as one.
    fn holds_wall_clock_lease(&self, op: &Op, user: &UserId) -> bool {
        let shard = ShardId::of_slot(op.slot(user), self.config.shards);
        is_planted(Bug::LeaseOnWallClock)
            && noted(lease_key(self.config.node, shard)).is_some_and(|at| self.wall.0 < at + 2_000)
    }

    /// A gateway has no session left that wants a channel. Behind reads that wait, because one of them may be the
    /// subscription that this ends.
    pub(super) fn unsubscribe(&mut self, link: Link, channel: ChannelId) {
        let shard = ShardId::of_channel(&channel, self.config.shards);
        let waits = self.desk(shard).has_reads();
        if !(waits && self.desk(shard).push_read(Read::Unsubscribe { link, channel })) {
            self.fanout.unsubscribe(shard, &channel, link.gateway);
        }
    }

    /// A session ended.
    pub(super) fn unregister(&mut self, link: Link, user: UserId, session: SessionRef) {
        let shard = ShardId::of_user(&user, self.config.shards);
        self.fanout.unregister(shard, &user, link.gateway, session);
    }

    /// Serves a read from applied state.
    pub(super) fn serve(&mut self, shard: ShardId, read: Read) -> Result<(), Fatal> {
        match read {
            Read::Request { link, request } => {
                if self.fanout.stands(&link) {
                    let result = self.serve_request(shard, &link, &request)?;
                    let refusal = |code| Refusal { code, retry_after_ms: 0, leader: None };
                    self.fanout.reply(&link, request.id, result.map_err(refusal));
                }
            }
            Read::Unsubscribe { link, channel } => {
                if self.fanout.stands(&link) {
                    self.fanout.unsubscribe(shard, &channel, link.gateway);
                }
            }
        }
        Ok(())
    }

    fn serve_request(&mut self, shard: ShardId, link: &Link, request: &Request) -> Served {
        let user = &request.user;
        match &request.op {
            Op::Members { channel, after, limit } => self.serve_members(channel, user, *after, *limit),
            Op::Fetch { channel, after, epoch, limit, freshness } => {
                let cursor = Cursor { channel: *channel, after: *after, epoch: *epoch };
                self.serve_fetch(&cursor, user, *limit, *freshness)
            }
            Op::Subscribe { channel, after, epoch } => {
                let cursor = Cursor { channel: *channel, after: *after, epoch: *epoch };
                self.serve_subscribe(shard, link, &cursor, user)
            }
            Op::Sync { after, epoch, limit } => self.serve_sync(user, *after, *epoch, *limit),
            Op::Register { .. } => {
                let view = self.machines.read_inbox(user, UserSeq(u64::MAX), 0)?;
                Ok(Ok(Answer::Registered { user_seq: view.user_seq }))
            }
            Op::Publish { .. } | Op::Create { .. } | Op::Join { .. } | Op::Leave { .. } => {
                unreachable!("commands go to the log")
            }
        }
    }

    fn serve_members(&mut self, channel: &ChannelId, user: &UserId, after: MemberNo, limit: u16) -> Served {
        let limit = usize::from(limit).clamp(1, MEMBERS_PAGE_MAX);
        let page = self.machines.read_members(channel, user, after, limit)?;
        Ok(page.map(|(more, members)| Answer::Members { more, members }))
    }

    fn serve_fetch(&mut self, cursor: &Cursor, user: &UserId, limit: u16, freshness: Freshness) -> Served {
        let Some(view) = self.machines.read_channel(&cursor.channel, user)? else {
            return Ok(Err(Code::NOT_FOUND));
        };
        // A stale replica may lie behind the cursor, and so does a former member's view: nothing is there to read, but
        // nothing is wrong with the cursor either.
        let may_be_ahead = freshness == Freshness::Stale || !view.is_present;
        if self.is_void(cursor, &view) || (cursor.after > view.head && !may_be_ahead) {
            return Ok(Ok(self.reset_channel(&view)));
        }
        if cursor.after >= view.head {
            return Ok(Ok(Answer::Page { head: view.head, events: Vec::new() }));
        }
        let body_max = self.config.body_max;
        let page = self.machines.read_page(&cursor.channel, view.member, cursor.after, limit, body_max)?;
        Ok(Ok(Answer::Page { head: page.head, events: page.events }))
    }

    fn serve_subscribe(&mut self, shard: ShardId, link: &Link, cursor: &Cursor, user: &UserId) -> Served {
        let view = self.machines.read_channel(&cursor.channel, user)?.filter(|view| view.is_present);
        let Some(view) = view else { return Ok(Err(Code::NOT_FOUND)) };
        if self.is_void(cursor, &view) || cursor.after > view.head {
            return Ok(Ok(self.reset_channel(&view)));
        }
        let subscribed = self.fanout.subscribe(shard, cursor.channel, link.gateway);
        let head = if is_planted(Bug::HeadNotHealed) { cursor.after } else { view.head };
        Ok(subscribed.map(|()| Answer::Subscribed { head, member: view.member }))
    }

    fn serve_sync(&mut self, user: &UserId, after: UserSeq, epoch: Epoch, limit: u16) -> Served {
        let limit = usize::from(limit).clamp(1, SYNC_ENTRIES_MAX);
        let view = self.machines.read_inbox(user, after, limit)?;
        if epoch != self.config.epoch || after > view.user_seq {
            return Ok(Ok(Answer::ResetInbox { epoch: self.config.epoch, user_seq: view.user_seq }));
        }
        let last = view.entries.last().map_or(view.user_seq, |entry| entry.user_seq);
        let cursor = if view.more { last } else { view.user_seq };
        Ok(Ok(Answer::Synced { cursor, more: view.more, entries: view.entries }))
    }

    /// Whether a cursor belongs to another history, or lies below what is kept (contract C5).
    fn is_void(&self, cursor: &Cursor, view: &ReadChannel) -> bool {
        (cursor.epoch != self.config.epoch && !is_planted(Bug::StaleEpochAccepted))
            || cursor.after.0.saturating_add(1) < view.floor.0
    }

    fn reset_channel(&self, view: &ReadChannel) -> Answer {
        Answer::ResetChannel { epoch: self.config.epoch, floor: view.floor, head: view.head }
    }
}

/// Where [`Bug::LeaseOnWallClock`] keeps when a round ended.
pub(super) fn lease_key(node: NodeId, shard: ShardId) -> u64 {
    node.0 << 32 | u64::from(shard.0)
}

/// Where a client is in a channel.
struct Cursor {
    channel: ChannelId,
    after: Seq,
    epoch: Epoch,
}
