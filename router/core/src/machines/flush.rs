//! Cutting flush batches.

use std::collections::VecDeque;

use throng_base::planted::{Bug, is_planted};
use throng_storage_core::state::{StateRead, Table, WriteBatch};
use throng_wire::ids::{Seq, ShardId};

use super::Machines;
use crate::limits::{FLUSH_BYTES, FLUSH_ROWS, FLUSHES_UNDER_WAY_MAX};
use crate::state::batch::Batch;
use crate::state::keys;

/// A flush batch: reported when it is written and flushed; reporting one reports all below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlushToken(pub u64);

/// How much is to be flushed, and how far flushing has come.
#[derive(Debug, Default)]
pub(super) struct WriteBehind {
    /// Rows of new events: they never change again, so they are encoded at once, and a cut has less to do.
    events: Batch,
    /// Rows and bytes of objects changed since the last cut, by estimate.
    rows: usize,
    bytes: usize,
    is_dirty: bool,
    /// Batches cut so far; a batch's number is its token.
    cut: u64,
    /// Batches under way, oldest first.
    under_way: VecDeque<UnderWay>,
    flushed: u64,
}

/// A batch that is cut and not yet flushed.
#[derive(Debug)]
struct UnderWay {
    number: u64,
    bytes: usize,
    /// Recent events up to this mark are in it or in an earlier one.
    mark: u64,
    /// What is applied with it, of the shards that it changes.
    applied: Vec<(ShardId, u64)>,
}

impl WriteBehind {
    /// Bytes that wait to be cut, by estimate.
    fn open_bytes(&self) -> usize {
        self.events.bytes() + self.bytes
    }

    /// The open batch, for rows of new events.
    pub(super) fn events(&mut self) -> &mut Batch {
        &mut self.events
    }

    pub(super) fn add(&mut self, rows: usize, bytes: usize) {
        self.rows += rows;
        self.bytes += bytes;
        self.is_dirty = true;
    }

    /// All batches up to this one are flushed.
    pub(super) fn flushed(&self) -> u64 {
        self.flushed
    }
}

impl<S: StateRead> Machines<S> {
    /// Whether something changed since the last cut.
    pub fn is_dirty(&self) -> bool {
        self.flush.is_dirty
    }

    /// Whether another batch may be cut; otherwise the state store does not keep up, and changes gather.
    pub fn may_cut(&self) -> bool {
        self.flush.under_way.len() < FLUSHES_UNDER_WAY_MAX
    }

    /// The newest batch that was cut and is not flushed, or the one that will be cut next; zero if there is none.
    pub fn newest_flush(&self, next: bool) -> FlushToken {
        match (next, self.flush.under_way.back()) {
            (true, _) => FlushToken(self.flush.cut + 1),
            (false, Some(batch)) => FlushToken(batch.number),
            (false, None) => FlushToken(0),
        }
    }

    /// Whether enough changed to cut a batch before its time.
    pub fn wants_flush(&self) -> bool {
        self.flush.events.rows() + self.flush.rows >= FLUSH_ROWS || self.flush.open_bytes() >= FLUSH_BYTES
    }

    /// Bytes that are applied and not yet flushed, by estimate.
    pub fn unflushed_bytes(&self) -> usize {
        self.flush.open_bytes() + self.flush.under_way.iter().map(|batch| batch.bytes).sum::<usize>()
    }

    /// Cuts a batch: rows of everything that changed, and the applied index of every shard that did.
    pub fn cut(&mut self) -> (FlushToken, WriteBatch) {
        assert!(self.may_cut(), "the caller asked");
        let flush = &mut self.flush;
        flush.cut += 1;
        let number = flush.cut;
        let groups = self.shards.iter().chain(self.metadata.iter().map(|copy| &copy.shard));
        let dirty = groups.zip(0..).filter(|(shard, _)| shard.is_dirty);
        let applied = dirty.map(|(shard, number)| (ShardId(number), shard.applied.index)).collect();
        let (bytes, mark) = (flush.open_bytes(), self.recent.mark());
        flush.under_way.push_back(UnderWay { number, bytes, mark, applied });
        let mut batch = core::mem::take(&mut flush.events);
        (flush.rows, flush.bytes, flush.is_dirty) = (0, 0, false);
        let (shards, all) = (self.shards.len() as u32, &mut self.shards);
        let state = &self.state;
        self.channels.cut(number, |channel| {
            let shard = ShardId::of_channel(&channel.id, shards);
            let replica = all[shard.0 as usize].replica;
            if is_planted(Bug::RetentionWithoutCommand) && number.is_multiple_of(4) {
                let wanted = Seq(channel.head.0.saturating_sub(30));
                if let Ok(Some(before)) = channel.retain(state, replica, wanted) {
                    let (from, to) = (
                        keys::event(replica, &channel.id, before),
                        keys::event(replica, &channel.id, channel.floor),
                    );
                    batch.delete_range(Table::Events, &from, &to);
                }
            }
            channel.cut(replica, &mut batch);
        });
        self.users.cut(number, |user| {
            let shard = ShardId::of_user(&user.id, shards);
            user.cut(all[shard.0 as usize].replica, &mut batch);
        });
        for (shard, number) in all.iter_mut().zip(0..) {
            shard.cut(ShardId(number), shards, &mut batch);
        }
        if let Some(copy) = &mut self.metadata {
            copy.cut(ShardId(shards), &mut batch);
        }
        (FlushToken(number), batch.finish())
    }

    /// A batch is written and flushed, and so are all before it. Returns what is durably applied with it, of the shards
    /// that changed, oldest first.
    pub fn handle_flushed(&mut self, token: FlushToken) -> Vec<(ShardId, u64)> {
        assert!(token.0 <= self.flush.cut, "only a batch that was cut is flushed");
        let mut applied = Vec::new();
        while let Some(mut batch) = self.flush.under_way.pop_front_if(|batch| batch.number <= token.0) {
            self.flush.flushed = batch.number;
            self.recent.flushed(batch.mark);
            applied.append(&mut batch.applied);
        }
        self.shrink();
        applied
    }
}
