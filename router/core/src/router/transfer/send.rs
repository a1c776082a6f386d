//! The sending end of one snapshot.
//!
//! ```text
//!   Offered ──Accept(next)──► Streaming ──last chunk acknowledged──► waits for Done ──► ended, ok
//!      │ Refuse, Done(false), no progress for too long ▼
//!      └────────────────────────────────────────────► ended, failed
//! ```

use std::collections::VecDeque;

use throng_base::Instant;
use throng_wire::ids::NodeId;
use throng_wire::peer::{SnapshotMessage, SnapshotRow};

use crate::limits::{SNAPSHOT_IDLE_MAX, SNAPSHOT_OFFER_AGAIN, SNAPSHOT_WINDOW};

/// What the sending end wants done.
#[derive(Debug, PartialEq)]
pub(super) enum Step {
    /// Send to the receiver's node.
    Send(SnapshotMessage),
    /// Read the next chunk of the view.
    Read,
    /// It is over: the receiver has it, or not.
    Ended(bool),
}

/// A chunk that was read and is not acknowledged.
#[derive(Clone, Debug)]
struct Chunk {
    rows: Vec<SnapshotRow>,
    digest: Option<u64>,
}

/// One snapshot under way to one replica.
#[derive(Debug)]
pub(super) struct Sending {
    pub(super) node: NodeId,
    offer: SnapshotMessage,
    is_accepted: bool,
    /// Chunks from `first` on. Invariant: at most [`SNAPSHOT_WINDOW`].
    window: VecDeque<Chunk>,
    /// Number of the oldest chunk in the window: all before it are acknowledged.
    first: u64,
    /// Number of the first chunk that was not sent since the last offer was accepted.
    unsent: u64,
    is_reading: bool,
    is_read: bool,
    progress_at: Instant,
    offered_at: Instant,
    steps: VecDeque<Step>,
}

impl Sending {
    /// Begins with an offer.
    pub(super) fn new(now: Instant, node: NodeId, offer: SnapshotMessage) -> Self {
        let steps = VecDeque::from([Step::Send(offer.clone())]);
        Self {
            node,
            offer,
            is_accepted: false,
            window: VecDeque::new(),
            first: 0,
            unsent: 0,
            is_reading: false,
            is_read: false,
            progress_at: now,
            offered_at: now,
            steps,
        }
    }

    fn stream(&self) -> u64 {
        self.offer.stream()
    }

    /// What the receiver says.
    pub(super) fn handle(&mut self, now: Instant, message: &SnapshotMessage) {
        match *message {
            SnapshotMessage::Accept { next, .. } => self.accepted(now, next),
            SnapshotMessage::Ack { next, .. } => self.acknowledged(now, next),
            SnapshotMessage::Done { ok, .. } => self.steps.push_back(Step::Ended(ok)),
            SnapshotMessage::Refuse { .. } => self.steps.push_back(Step::Ended(false)),
            // What a sender says, said to a sender.
            SnapshotMessage::Offer { .. } | SnapshotMessage::Chunk { .. } => {}
        }
        self.fill();
    }

    /// A chunk was read; a digest marks the last one.
    pub(super) fn handle_read(&mut self, rows: Vec<SnapshotRow>, digest: Option<u64>) {
        assert!(self.is_reading, "chunks are read one at a time, on request");
        self.is_reading = false;
        self.is_read = digest.is_some();
        self.window.push_back(Chunk { rows, digest });
        self.fill();
    }

    /// Offers again what was not answered, and gives up on what does not move.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if now.since(self.progress_at) >= SNAPSHOT_IDLE_MAX {
            self.steps.push_back(Step::Ended(false));
        } else if now.since(self.offered_at.max(self.progress_at)) >= SNAPSHOT_OFFER_AGAIN {
            self.offered_at = now;
            self.is_accepted = false;
            self.steps.push_back(Step::Send(self.offer.clone()));
        }
    }

    pub(super) fn poll_timeout(&self) -> Instant {
        let again = self.offered_at.max(self.progress_at) + SNAPSHOT_OFFER_AGAIN;
        again.min(self.progress_at + SNAPSHOT_IDLE_MAX)
    }

    pub(super) fn poll_step(&mut self) -> Option<Step> {
        self.steps.pop_front()
    }

    /// The receiver wants everything from `next` on; what it cannot have any more ends the stream.
    fn accepted(&mut self, now: Instant, next: u64) {
        if next < self.first || next > self.first + self.window.len() as u64 {
            return self.steps.push_back(Step::Ended(false));
        }
        self.acknowledged(now, next);
        self.is_accepted = true;
        self.unsent = next;
    }

    fn acknowledged(&mut self, now: Instant, next: u64) {
        while self.first < next && self.window.pop_front().is_some() {
            self.first += 1;
            self.progress_at = now;
        }
        self.unsent = self.unsent.max(self.first);
    }

    /// Sends what the receiver has room for, and reads ahead.
    fn fill(&mut self) {
        while self.is_accepted
            && let Some(chunk) = self.window.get((self.unsent - self.first) as usize)
        {
            let Chunk { rows, digest } = chunk.clone();
            let (stream, number) = (self.stream(), self.unsent);
            self.steps.push_back(Step::Send(SnapshotMessage::Chunk { stream, number, rows, digest }));
            self.unsent += 1;
        }
        if self.is_accepted && !self.is_reading && !self.is_read && self.window.len() < SNAPSHOT_WINDOW {
            self.is_reading = true;
            self.steps.push_back(Step::Read);
        }
    }
}
