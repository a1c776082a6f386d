//! Snapshots between nodes: rows of a shard, in chunks, with the window in the receiver's hand.
//!
//! ```text
//!   leader                              replica that is too far behind
//!   Offer(stream, message, meta) ──────►  draws a place for the rows
//!                                ◄──────  Accept(stream, next = 0)          or Refuse
//!   Chunk 0, 1, 2 …              ──────►  written under the new place
//!                                ◄──────  Ack(stream, n): chunks below n are written; room for more
//!   Chunk n (last, digest)       ──────►  flushed, digest compared, switched
//!                                ◄──────  Done(stream, ok)
//! ```
//!
//! After a broken link the leader offers the same stream again, and `Accept` says which chunk is the next. Chunks may be
//! repeated; anything else out of order is dropped.

use bytes::Bytes;

use super::proto;
use super::raft::RaftMessage;
use crate::error::DecodeError;
use crate::limits::{PEER_ROWS_MAX, RAFT_CONF_MEMBERS_MAX};

/// Members of a Raft group as raft ids. In a joint change, `voters_outgoing` is the half that leaves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RaftConf {
    /// Who votes.
    pub voters: Vec<u64>,
    /// Who only receives.
    pub learners: Vec<u64>,
    /// Who voted before the joint change that is under way.
    pub voters_outgoing: Vec<u64>,
    /// Who becomes a learner when the joint change ends.
    pub learners_next: Vec<u64>,
    /// Whether the joint change ends by itself.
    pub auto_leave: bool,
}

/// One row of a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotRow {
    /// Its table.
    pub table: u8,
    /// Its key behind the number of the copy.
    pub key: Bytes,
    /// Its value.
    pub value: Bytes,
}

/// One step of carrying a snapshot. `stream` is a number that the sender drew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotMessage {
    /// Here is a snapshot.
    Offer {
        /// The stream.
        stream: u64,
        /// The raft message that it belongs to, without entries.
        message: Box<RaftMessage>,
        /// The last entry in it.
        index: u64,
        /// That entry's term.
        log_term: u64,
        /// Members as of that entry.
        conf: Box<RaftConf>,
    },
    /// Send it, from chunk `next` on.
    Accept {
        /// The stream.
        stream: u64,
        /// Number of the first chunk that is wanted.
        next: u64,
    },
    /// It is not wanted, or there is no room for it.
    Refuse {
        /// The stream.
        stream: u64,
    },
    /// Rows.
    Chunk {
        /// The stream.
        stream: u64,
        /// Its number, from 0.
        number: u64,
        /// The rows, in key order.
        rows: Vec<SnapshotRow>,
        /// In the last chunk: the digest over all rows.
        digest: Option<u64>,
    },
    /// Chunks below `next` are written.
    Ack {
        /// The stream.
        stream: u64,
        /// Number of the first chunk that is not.
        next: u64,
    },
    /// The stream has ended.
    Done {
        /// The stream.
        stream: u64,
        /// Whether the replica has the snapshot.
        ok: bool,
    },
}

impl SnapshotMessage {
    /// Which stream it belongs to.
    pub fn stream(&self) -> u64 {
        match self {
            Self::Offer { stream, .. }
            | Self::Accept { stream, .. }
            | Self::Refuse { stream }
            | Self::Chunk { stream, .. }
            | Self::Ack { stream, .. }
            | Self::Done { stream, .. } => *stream,
        }
    }
}

impl From<&SnapshotMessage> for proto::Snapshot {
    fn from(message: &SnapshotMessage) -> Self {
        let what = match message {
            SnapshotMessage::Offer { message, index, log_term, conf, .. } => {
                proto::SnapshotWhat::Offer(proto::SnapshotOffer {
                    message: (&**message).into(),
                    index: *index,
                    log_term: *log_term,
                    conf: (&**conf).into(),
                })
            }
            SnapshotMessage::Accept { next, .. } => proto::SnapshotWhat::Accept(*next),
            SnapshotMessage::Refuse { .. } => proto::SnapshotWhat::Refuse(proto::Empty {}),
            SnapshotMessage::Chunk { number, rows, digest, .. } => {
                let rows = rows.iter().map(proto::SnapshotRow::from).collect();
                proto::SnapshotWhat::Chunk(proto::SnapshotChunk { number: *number, rows, digest: *digest })
            }
            SnapshotMessage::Ack { next, .. } => proto::SnapshotWhat::Ack(*next),
            SnapshotMessage::Done { ok, .. } => proto::SnapshotWhat::Done(*ok),
        };
        Self { stream: message.stream(), what: Some(what) }
    }
}

impl TryFrom<proto::Snapshot> for SnapshotMessage {
    type Error = DecodeError;

    fn try_from(message: proto::Snapshot) -> Result<Self, DecodeError> {
        let stream = message.stream;
        Ok(match message.what.ok_or(DecodeError::BadValue("what"))? {
            proto::SnapshotWhat::Offer(offer) => Self::Offer {
                stream,
                message: Box::new(offer.message.try_into()?),
                index: offer.index,
                log_term: offer.log_term,
                conf: Box::new(offer.conf.try_into()?),
            },
            proto::SnapshotWhat::Accept(next) => Self::Accept { stream, next },
            proto::SnapshotWhat::Refuse(_) => Self::Refuse { stream },
            proto::SnapshotWhat::Chunk(chunk) => Self::Chunk {
                stream,
                number: chunk.number,
                rows: proto::list(chunk.rows, PEER_ROWS_MAX, "rows", SnapshotRow::try_from)?,
                digest: chunk.digest,
            },
            proto::SnapshotWhat::Ack(next) => Self::Ack { stream, next },
            proto::SnapshotWhat::Done(ok) => Self::Done { stream, ok },
        })
    }
}

impl From<&SnapshotRow> for proto::SnapshotRow {
    fn from(row: &SnapshotRow) -> Self {
        Self { table: u32::from(row.table), key: row.key.clone(), value: row.value.clone() }
    }
}

impl TryFrom<proto::SnapshotRow> for SnapshotRow {
    type Error = DecodeError;

    fn try_from(row: proto::SnapshotRow) -> Result<Self, DecodeError> {
        let table = u8::try_from(row.table).map_err(|_| DecodeError::BadValue("table"))?;
        Ok(Self { table, key: row.key, value: row.value })
    }
}

impl From<&RaftConf> for proto::RaftConf {
    fn from(conf: &RaftConf) -> Self {
        Self {
            voters: conf.voters.clone(),
            learners: conf.learners.clone(),
            voters_outgoing: conf.voters_outgoing.clone(),
            learners_next: conf.learners_next.clone(),
            auto_leave: conf.auto_leave,
        }
    }
}

impl TryFrom<proto::RaftConf> for RaftConf {
    type Error = DecodeError;

    fn try_from(conf: proto::RaftConf) -> Result<Self, DecodeError> {
        let lists = [&conf.voters, &conf.learners, &conf.voters_outgoing, &conf.learners_next];
        if lists.iter().any(|list| list.len() > RAFT_CONF_MEMBERS_MAX) {
            return Err(DecodeError::OverLimit("members"));
        }
        Ok(Self {
            voters: conf.voters,
            learners: conf.learners,
            voters_outgoing: conf.voters_outgoing,
            learners_next: conf.learners_next,
            auto_leave: conf.auto_leave,
        })
    }
}
