//! Raft messages and entries, as they travel and as entries rest in the log.

use bytes::Bytes;

use super::proto;
use crate::error::DecodeError;
use crate::ids::ShardId;

/// Raft messages of all groups to one node, in the order they were made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RaftBatch {
    /// The messages.
    pub messages: Vec<RaftMessage>,
}

/// One Raft message: the fields of the raft crate's `Message` without its snapshot (snapshots travel as files).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RaftMessage {
    /// The group.
    pub shard: ShardId,
    /// The raft crate's `MessageType` as a number.
    pub kind: u32,
    /// Receiving replica.
    pub to: u64,
    /// Sending replica.
    pub from: u64,
    /// The sender's term.
    pub term: u64,
    /// Term of the entry before `entries`.
    pub log_term: u64,
    /// Index of the entry before `entries`.
    pub index: u64,
    /// Entries.
    pub entries: Vec<RaftEntry>,
    /// The sender's commit index.
    pub commit: u64,
    /// Term of the entry at the commit index.
    pub commit_term: u64,
    /// Index at which a follower asks for a snapshot.
    pub request_snapshot: u64,
    /// Whether the request is rejected.
    pub reject: bool,
    /// Where a rejecting follower's log ends.
    pub reject_hint: u64,
    /// Context of ReadIndex and votes.
    pub context: Bytes,
    /// Election priority.
    pub priority: i64,
    /// In a vote, or in what a replica asks and is told about it: the number of its present life, if it may have
    /// forgotten what it said in an earlier one; otherwise 0.
    pub suspect: u64,
}

/// One log entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RaftEntry {
    /// The raft crate's `EntryType` as a number.
    pub kind: u32,
    /// Its term.
    pub term: u64,
    /// Its index.
    pub index: u64,
    /// What was proposed.
    pub data: Bytes,
    /// The proposer's context.
    pub context: Bytes,
}

impl RaftMessage {
    /// About what it takes in a frame, never less; senders cut batches by it.
    pub fn size_hint(&self) -> usize {
        // Fourteen numbers of at most 12 bytes with their tags; an entry's three and its two lengths.
        let entries: usize =
            self.entries.iter().map(|entry| entry.data.len() + entry.context.len() + 56).sum();
        176 + self.context.len() + entries
    }
}

impl From<&RaftMessage> for proto::Raft {
    fn from(message: &RaftMessage) -> Self {
        Self {
            shard: message.shard.0,
            kind: message.kind,
            to: message.to,
            from: message.from,
            term: message.term,
            log_term: message.log_term,
            index: message.index,
            entries: message.entries.iter().map(proto::Entry::from).collect(),
            commit: message.commit,
            commit_term: message.commit_term,
            request_snapshot: message.request_snapshot,
            reject: message.reject,
            reject_hint: message.reject_hint,
            context: message.context.clone(),
            priority: message.priority,
            suspect: message.suspect,
        }
    }
}

impl From<&RaftEntry> for proto::Entry {
    fn from(entry: &RaftEntry) -> Self {
        Self {
            kind: entry.kind,
            term: entry.term,
            index: entry.index,
            data: entry.data.clone(),
            context: entry.context.clone(),
        }
    }
}

impl TryFrom<proto::Raft> for RaftMessage {
    type Error = DecodeError;

    fn try_from(message: proto::Raft) -> Result<Self, DecodeError> {
        Ok(Self {
            shard: proto::shard(message.shard)?,
            kind: message.kind,
            to: message.to,
            from: message.from,
            term: message.term,
            log_term: message.log_term,
            index: message.index,
            entries: message.entries.into_iter().map(RaftEntry::from).collect(),
            commit: message.commit,
            commit_term: message.commit_term,
            request_snapshot: message.request_snapshot,
            reject: message.reject,
            reject_hint: message.reject_hint,
            context: message.context,
            priority: message.priority,
            suspect: message.suspect,
        })
    }
}

impl From<proto::Entry> for RaftEntry {
    fn from(entry: proto::Entry) -> Self {
        Self {
            kind: entry.kind,
            term: entry.term,
            index: entry.index,
            data: entry.data,
            context: entry.context,
        }
    }
}
