//! The receiving end of one snapshot: rows are written beside the present copy under a number of their own, flushed,
//! and only then offered to raft.
//!
//! ```text
//!   Receiving ──last chunk written, digest right──► Flushing ──flushed──► Complete (raft decides)
//!       │ digest wrong, no progress for too long ▼
//!       └──────────────────────────────────────► ended, rows dropped
//! ```

use std::collections::VecDeque;

use throng_base::Instant;
use throng_storage_core::state::WriteBatch;
use throng_storage_core::store::SnapshotMeta;
use throng_wire::ids::{NodeId, ShardId};
use throng_wire::peer::{RaftMessage, SnapshotMessage, SnapshotRow};

use crate::limits::{SNAPSHOT_IDLE_MAX, SNAPSHOT_WINDOW};
use crate::snapshot::{BadSnapshot, Import, Imported};

/// What the receiving end wants done.
#[derive(Debug, PartialEq)]
pub(super) enum Step {
    /// Send to the sender's node.
    Send(SnapshotMessage),
    /// Write these rows, and say so.
    Write(WriteBatch),
    /// Everything is written: flush, and say so.
    Flush,
    /// Everything is durable: raft may have it.
    Complete,
    /// It is over without success.
    Failed(BadSnapshot),
}

/// One snapshot on its way here.
#[derive(Debug)]
pub(super) struct Receiving {
    pub(super) shard: ShardId,
    pub(super) node: NodeId,
    /// The raft message that it belongs to,
    pub(super) message: RaftMessage,
    /// and what the rows stand for.
    pub(super) meta: SnapshotMeta,
    stream: u64,
    import: Import,
    /// Number of the first chunk that is not written.
    written: u64,
    /// Number of the last chunk that was missed and asked for.
    asked: Option<u64>,
    /// The last chunk was taken in.
    is_whole: bool,
    is_flushing: bool,
    progress_at: Instant,
    steps: VecDeque<Step>,
}

impl Receiving {
    /// Accepts an offer; `import` says where the rows go.
    pub(super) fn new(
        now: Instant,
        node: NodeId,
        stream: u64,
        message: RaftMessage,
        meta: SnapshotMeta,
        import: Import,
    ) -> Self {
        let steps = VecDeque::from([Step::Send(SnapshotMessage::Accept { stream, next: 0 })]);
        Self {
            shard: message.shard,
            node,
            message,
            meta,
            stream,
            import,
            written: 0,
            asked: None,
            is_whole: false,
            is_flushing: false,
            progress_at: now,
            steps,
        }
    }

    /// The number under which its rows are written.
    pub(super) fn replica(&self) -> u32 {
        self.import.replica()
    }

    /// The same offer again: the link broke, or an answer was lost.
    pub(super) fn offered_again(&mut self) {
        // Chunks that are being written are not asked for again.
        let (stream, next) = (self.stream, self.import.next());
        self.steps.push_back(Step::Send(SnapshotMessage::Accept { stream, next }));
    }

    /// Rows. What does not come in order is dropped, and what is missing before it asked for once; what came before is
    /// acknowledged again.
    pub(super) fn handle_chunk(
        &mut self,
        now: Instant,
        number: u64,
        rows: Vec<SnapshotRow>,
        digest: Option<u64>,
    ) {
        if number < self.import.next() {
            return self.acknowledge();
        }
        let (stream, next) = (self.stream, self.import.next());
        if next - self.written >= SNAPSHOT_WINDOW as u64 {
            return;
        }
        if number > next {
            if self.asked != Some(next) {
                self.asked = Some(next);
                self.steps.push_back(Step::Send(SnapshotMessage::Accept { stream, next }));
            }
            return;
        }
        self.progress_at = now;
        match self.take(number, rows, digest) {
            Ok(batch) => self.steps.push_back(Step::Write(batch)),
            Err(bad) => self.fail(bad),
        }
    }

    fn take(
        &mut self,
        number: u64,
        rows: Vec<SnapshotRow>,
        digest: Option<u64>,
    ) -> Result<WriteBatch, BadSnapshot> {
        match self.import.take(number, rows, digest)? {
            Imported::Skipped => Err(BadSnapshot("chunks follow its end")),
            Imported::Rows(batch) => Ok(batch),
            Imported::Whole(batch, row) => {
                let SnapshotMeta { index, term, conf } = &self.meta;
                if (row.index, row.term, row.conf.as_ref()) != (*index, *term, Some(conf)) {
                    return Err(BadSnapshot("its rows are of another moment than its offer"));
                }
                self.is_whole = true;
                Ok(batch)
            }
        }
    }

    /// The oldest rows that were to be written are.
    pub(super) fn handle_written(&mut self, now: Instant) {
        if self.is_flushing {
            return self.steps.push_back(Step::Complete);
        }
        assert!(self.written < self.import.next(), "only what was handed out is written");
        self.written += 1;
        self.progress_at = now;
        self.acknowledge();
        if self.is_whole && self.written == self.import.next() {
            self.is_flushing = true;
            self.steps.push_back(Step::Flush);
        }
    }

    /// Whether all rows are written: what is left is to make them durable.
    pub(super) fn is_flushing(&self) -> bool {
        self.is_flushing
    }

    /// Gives up on what does not move. A flush takes as long as it takes.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if !self.is_flushing && now.since(self.progress_at) >= SNAPSHOT_IDLE_MAX {
            self.fail(BadSnapshot("it does not move"));
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        (!self.is_flushing).then(|| self.progress_at + SNAPSHOT_IDLE_MAX)
    }

    pub(super) fn poll_step(&mut self) -> Option<Step> {
        self.steps.pop_front()
    }

    fn acknowledge(&mut self) {
        self.steps.push_back(Step::Send(SnapshotMessage::Ack { stream: self.stream, next: self.written }));
    }

    fn fail(&mut self, why: BadSnapshot) {
        self.steps.push_back(Step::Send(SnapshotMessage::Done { stream: self.stream, ok: false }));
        self.steps.push_back(Step::Failed(why));
    }
}
