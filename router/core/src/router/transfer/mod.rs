//! Carrying snapshots of shards to replicas that are too far behind for the log.
//!
//! ```text
//!   store: SnapshotWanted ─► OpenView ─► view stands ─► store: prepared ─► store: SendSnapshot ─► Sending ─► store: sent
//!   a peer's Offer ─► Receiving ─► Import … flush ─► store: handle_snapshot ─► store: Restored ─► machines switch
//! ```
//!
//! A view is applied state as of one moment, held by the driver; the store's log keeps what follows it. Views, streams
//! and windows are limited; whatever stops moving is given up, and raft asks again.

mod receive;
mod send;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};

use throng_base::{Instant, Rng};
use throng_storage_core::entry::{Conf, PeerId};
use throng_storage_core::state::{StateRead, WriteBatch};
use throng_storage_core::store::SnapshotMeta;
use throng_wire::ids::{NodeId, ShardId};
use throng_wire::peer::{RaftConf, RaftMessage, SnapshotMessage, SnapshotRow};

use super::output::{Output, PeerMessage};
use super::{Fatal, Router};
use crate::limits::{SNAPSHOT_IDLE_MAX, SNAPSHOTS_IN_MAX, SNAPSHOTS_OUT_MAX};
use crate::machines::{AppliedRow, StoredCopy};
use crate::snapshot::Import;

use receive::Receiving;
use send::Sending;

/// A view of applied state that the driver holds open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ViewId(pub u64);

/// Rows to be written outside of flush batches; tokens are reported in the order they were handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImportToken(pub u64);

/// One snapshot to another replica; its number names its view and its stream.
#[derive(Debug)]
struct Outgoing {
    shard: ShardId,
    peer: PeerId,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// The view is being opened, or raft has not used it yet.
    Ready {
        meta: Option<SnapshotMeta>,
        until: Instant,
    },
    Sending(Box<Sending>),
}

/// All snapshots on their way from and to this node.
#[derive(Debug)]
pub(super) struct Transfers {
    /// By stream.
    outgoing: BTreeMap<u64, Outgoing>,
    /// By stream.
    incoming: BTreeMap<u64, Receiving>,
    /// Whose rows are being written, oldest first.
    imports: VecDeque<(ImportToken, u64)>,
    /// Random from the start: a message of an earlier life must not meet another stream.
    next_stream: u64,
    next_import: u64,
    /// Number of the next copy; above all that the store has.
    next_replica: u32,
}

impl Transfers {
    pub(super) fn new(seed: u64, next_replica: u32) -> Self {
        let next_stream = Rng::new(seed).fork(u64::from_be_bytes(*b"snapshot")).next_u64();
        Self {
            outgoing: BTreeMap::new(),
            incoming: BTreeMap::new(),
            imports: VecDeque::new(),
            next_stream,
            next_import: 1,
            next_replica,
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let outgoing = self.outgoing.values().map(|outgoing| match &outgoing.stage {
            Stage::Ready { until, .. } => *until,
            Stage::Sending(sending) => sending.poll_timeout(),
        });
        outgoing.chain(self.incoming.values().filter_map(Receiving::poll_timeout)).min()
    }

    fn outgoing_to(&self, shard: ShardId, peer: PeerId) -> Option<u64> {
        let is_it = |outgoing: &Outgoing| outgoing.shard == shard && outgoing.peer == peer;
        self.outgoing.iter().find(|(_, outgoing)| is_it(outgoing)).map(|(stream, _)| *stream)
    }
}

impl<S: StateRead> Router<S> {
    /// A replica needs a snapshot: a view of the shard is opened.
    pub(super) fn snapshot_wanted(&mut self, shard: ShardId, peer: PeerId) {
        if self.transfers.outgoing_to(shard, peer).is_some() {
            return; // It is on its way.
        }
        if self.transfers.outgoing.len() >= SNAPSHOTS_OUT_MAX {
            return self.store.snapshot_sent(self.now, shard, peer, false);
        }
        // What the replica lacks may just have been applied: its own entry into the group, for one.
        self.is_flush_wanted |= self.machines.is_dirty();
        let stream = self.transfers.next_stream;
        self.transfers.next_stream = stream.wrapping_add(1);
        let stage = Stage::Ready { meta: None, until: self.now + SNAPSHOT_IDLE_MAX };
        self.transfers.outgoing.insert(stream, Outgoing { shard, peer, stage });
        let replica = self.machines.replica(shard);
        self.output(Output::OpenView { view: ViewId(stream), shard, replica });
    }

    /// The driver has opened a view, and this is the shard's row in it; or it could not.
    pub fn handle_view(&mut self, now: Instant, view: ViewId, row: Option<AppliedRow>) {
        self.advance(now);
        let Some(Outgoing { shard, peer, stage }) = self.transfers.outgoing.get_mut(&view.0) else {
            return self.output(Output::CloseView { view });
        };
        let (shard, peer) = (*shard, *peer);
        let Stage::Ready { meta, .. } = stage else { return };
        match row {
            Some(AppliedRow { index, term, conf: Some(conf) }) if index > 0 => {
                let found = SnapshotMeta { index, term, conf };
                *meta = Some(found.clone());
                if !self.store.snapshot_prepared(self.now, shard, peer, found) {
                    self.close_view(view.0); // Not needed any more.
                }
            }
            _ => self.end_outgoing(view.0, false),
        }
    }

    /// The next rows of a view, in answer to [`Output::ReadView`]; a digest comes with the last ones.
    pub fn handle_view_rows(
        &mut self,
        now: Instant,
        view: ViewId,
        rows: Vec<SnapshotRow>,
        digest: Option<u64>,
    ) {
        self.advance(now);
        if let Some(Outgoing { stage: Stage::Sending(sending), .. }) =
            self.transfers.outgoing.get_mut(&view.0)
        {
            sending.handle_read(rows, digest);
            self.step_outgoing(view.0);
        }
    }

    /// A view broke: the state store could not be read, or the view was open for too long.
    pub fn handle_view_lost(&mut self, now: Instant, view: ViewId) {
        self.advance(now);
        self.end_outgoing(view.0, false);
    }

    /// Raft has made its message for a snapshot whose view stands.
    pub(super) fn send_snapshot(
        &mut self,
        shard: ShardId,
        peer: PeerId,
        message: RaftMessage,
        meta: SnapshotMeta,
    ) {
        let found = self.transfers.outgoing_to(shard, peer);
        let Some((stream, outgoing)) =
            found.and_then(|stream| Some((stream, self.transfers.outgoing.get_mut(&stream)?)))
        else {
            return self.store.snapshot_sent(self.now, shard, peer, false);
        };
        match &outgoing.stage {
            Stage::Ready { meta: Some(prepared), .. } if *prepared == meta => {}
            // Another one than the view is of, or the same one twice.
            Stage::Ready { .. } | Stage::Sending(_) => return self.end_outgoing(stream, false),
        }
        let (message, conf) = (Box::new(message), Box::new(conf_to_wire(meta.conf)));
        let offer = SnapshotMessage::Offer { stream, message, index: meta.index, log_term: meta.term, conf };
        outgoing.stage = Stage::Sending(Box::new(Sending::new(self.now, peer.node(), offer)));
        self.step_outgoing(stream);
    }

    /// What another node says about a snapshot.
    pub(super) fn handle_snapshot(&mut self, node: NodeId, message: SnapshotMessage) -> Result<(), Fatal> {
        let stream = message.stream();
        match message {
            SnapshotMessage::Offer { message, index, log_term, conf, .. } => {
                let meta = SnapshotMeta { index, term: log_term, conf: conf_from_wire(*conf) };
                self.offered(node, stream, *message, meta)
            }
            SnapshotMessage::Chunk { number, rows, digest, .. } => {
                let now = self.now;
                if let Some((receiving, _)) = self.incoming(stream, node) {
                    receiving.handle_chunk(now, number, rows, digest);
                }
                self.step_incoming(stream)
            }
            answer => {
                let now = self.now;
                let outgoing = self.transfers.outgoing.get_mut(&stream);
                if let Some(Outgoing { stage: Stage::Sending(sending), .. }) = outgoing
                    && sending.node == node
                {
                    sending.handle(now, &answer);
                }
                self.step_outgoing(stream);
                Ok(())
            }
        }
    }

    fn incoming(&mut self, stream: u64, node: NodeId) -> Option<(&mut Receiving, u64)> {
        let receiving = self.transfers.incoming.get_mut(&stream)?;
        (receiving.node == node).then_some((receiving, stream))
    }

    /// A snapshot is offered: it is taken if the group lacks it and there is room. A newer leader's replaces an older
    /// one's, and a leader's own newer one that which it gave up, whose end nobody told us.
    fn offered(
        &mut self,
        node: NodeId,
        stream: u64,
        message: RaftMessage,
        meta: SnapshotMeta,
    ) -> Result<(), Fatal> {
        if let Some((receiving, _)) = self.incoming(stream, node) {
            receiving.offered_again();
            return self.step_incoming(stream);
        }
        let shard = message.shard;
        if shard.0 >= self.config.shards && !self.is_meta(shard) {
            return Ok(());
        }
        let older = self.transfers.incoming.iter().find(|(_, other)| other.shard == shard);
        let replaced = older.filter(|(older, other)| {
            // Within a term a leader has one life, in which its streams are numbered in order.
            let is_own = other.node == node && other.message.term == message.term;
            let is_newer = is_own && stream.wrapping_sub(**older) < 1 << 63;
            (other.message.term < message.term || is_newer) && !other.is_flushing()
        });
        let is_free = older.is_none() || replaced.is_some();
        if let Some(replaced) = replaced.map(|(stream, _)| *stream) {
            self.drop_incoming(replaced);
        }
        let has_room = is_free && self.transfers.incoming.len() < SNAPSHOTS_IN_MAX;
        if !has_room || !self.store.wants_snapshot(&message) {
            self.store.decline_snapshot(self.now, &message);
            self.tell(node, SnapshotMessage::Refuse { stream });
            return Ok(());
        }
        let replica = self.transfers.next_replica;
        // Two billion snapshots on one store; the last number has no end of its range.
        let Some(next) = replica.checked_add(1).filter(|next| *next < u32::MAX) else {
            return Err(Fatal::corrupt_row("replica: numbers are used up"));
        };
        self.transfers.next_replica = next;
        let import = Import::new(shard, self.config.shards, replica);
        let receiving = Receiving::new(self.now, node, stream, message, meta, import);
        self.transfers.incoming.insert(stream, receiving);
        self.step_incoming(stream)
    }

    /// Rows that were handed out in [`Output::Import`] are written, or flushed where that was asked for.
    pub fn handle_imported(&mut self, now: Instant, token: ImportToken) {
        self.advance(now);
        let Some((_, stream)) = self.transfers.imports.pop_front_if(|(oldest, _)| *oldest == token) else {
            return;
        };
        if let Some(receiving) = self.transfers.incoming.get_mut(&stream) {
            receiving.handle_written(now);
            if let Err(reason) = self.step_incoming(stream) {
                self.stop(reason);
            }
        }
    }

    /// Carries out what the sending end wants.
    fn step_outgoing(&mut self, stream: u64) {
        loop {
            let Some(Outgoing { stage: Stage::Sending(sending), .. }) =
                self.transfers.outgoing.get_mut(&stream)
            else {
                return;
            };
            let node = sending.node;
            match sending.poll_step() {
                None => return,
                Some(send::Step::Send(message)) => self.tell(node, message),
                Some(send::Step::Read) => self.output(Output::ReadView { view: ViewId(stream) }),
                Some(send::Step::Ended(ok)) => return self.end_outgoing(stream, ok),
            }
        }
    }

    fn close_view(&mut self, stream: u64) {
        self.transfers.outgoing.remove(&stream);
        self.output(Output::CloseView { view: ViewId(stream) });
    }

    fn end_outgoing(&mut self, stream: u64, ok: bool) {
        if let Some(Outgoing { shard, peer, .. }) = self.transfers.outgoing.remove(&stream) {
            self.output(Output::CloseView { view: ViewId(stream) });
            self.store.snapshot_sent(self.now, shard, peer, ok);
        }
    }

    /// Carries out what the receiving end wants.
    fn step_incoming(&mut self, stream: u64) -> Result<(), Fatal> {
        loop {
            let Some(receiving) = self.transfers.incoming.get_mut(&stream) else { return Ok(()) };
            let node = receiving.node;
            match receiving.poll_step() {
                None => return Ok(()),
                Some(receive::Step::Send(message)) => self.tell(node, message),
                Some(receive::Step::Write(batch)) => self.import(stream, batch, false),
                Some(receive::Step::Flush) => self.import(stream, Vec::new(), true),
                Some(receive::Step::Complete) => self.received(stream),
                // The sender is told, and raft asks again.
                Some(receive::Step::Failed(_)) => self.drop_incoming(stream),
            }
        }
    }

    fn import(&mut self, stream: u64, batch: WriteBatch, flush: bool) {
        let token = ImportToken(self.transfers.next_import);
        self.transfers.next_import += 1;
        self.transfers.imports.push_back((token, stream));
        self.output(Output::Import { token, batch, flush });
    }

    /// All rows are durable beside the present copy: raft decides whether the group begins anew from them.
    fn received(&mut self, stream: u64) {
        let Some(receiving) = self.transfers.incoming.remove(&stream) else { return };
        let replica = receiving.replica();
        let Receiving { node, shard, message, meta, .. } = receiving;
        let taken = self.store.handle_snapshot(self.now, node, message, &meta, replica);
        if !taken {
            self.machines.drop_copy(StoredCopy { replica, shard: Some(shard) });
        }
        self.tell(node, SnapshotMessage::Done { stream, ok: taken });
    }

    /// Gives up a snapshot that is not complete. Rows that are still being written stay behind until the next start.
    fn drop_incoming(&mut self, stream: u64) {
        if let Some(receiving) = self.transfers.incoming.remove(&stream) {
            let copy = StoredCopy { replica: receiving.replica(), shard: Some(receiving.shard) };
            self.machines.drop_copy(copy);
        }
    }

    /// What takes too long.
    pub(super) fn transfers_due(&mut self) -> Result<(), Fatal> {
        let now = self.now;
        let outgoing: Vec<u64> = self.transfers.outgoing.keys().copied().collect();
        for stream in outgoing {
            match self.transfers.outgoing.get_mut(&stream).map(|outgoing| &mut outgoing.stage) {
                Some(Stage::Ready { until, .. }) if *until <= now => self.end_outgoing(stream, false),
                Some(Stage::Sending(sending)) => {
                    sending.handle_timeout(now);
                    self.step_outgoing(stream);
                }
                _ => {}
            }
        }
        let incoming: Vec<u64> = self.transfers.incoming.keys().copied().collect();
        for stream in incoming {
            if let Some(receiving) = self.transfers.incoming.get_mut(&stream) {
                receiving.handle_timeout(now);
                self.step_incoming(stream)?;
            }
        }
        Ok(())
    }

    fn tell(&mut self, node: NodeId, message: SnapshotMessage) {
        self.output(Output::ToPeer { node, message: PeerMessage::Snapshot(message) });
    }
}

fn conf_to_wire(conf: Conf) -> RaftConf {
    let Conf { voters, learners, voters_outgoing, learners_next, auto_leave } = conf;
    RaftConf { voters, learners, voters_outgoing, learners_next, auto_leave }
}

fn conf_from_wire(conf: RaftConf) -> Conf {
    let RaftConf { voters, learners, voters_outgoing, learners_next, auto_leave } = conf;
    Conf { voters, learners, voters_outgoing, learners_next, auto_leave }
}
