//! Between raft's protobuf 2 types and ours. Raft's own parser never sees bytes from network or disk
//! (RUSTSEC-2024-0437); payloads are shared, not copied.

use bytes::Bytes;
use raft::eraftpb::{self, ConfState, EntryType, MessageType};
use throng_wire::ids::ShardId;
use throng_wire::peer::{RaftEntry, RaftMessage};

use super::output::SnapshotMeta;
use crate::entry::{Conf, Entry, EntryKind, HardState};

/// The kind of a message, `None` if there is no such kind.
pub(super) fn message_kind(kind: u32) -> Option<MessageType> {
    use protobuf::ProtobufEnum;
    MessageType::from_i32(i32::try_from(kind).ok()?)
}

/// The kind of an entry, `None` if there is no such kind.
pub(super) fn entry_kind(kind: u32) -> Option<EntryType> {
    use protobuf::ProtobufEnum;
    EntryType::from_i32(i32::try_from(kind).ok()?)
}

/// Our form of an entry's kind.
pub(super) fn entry_kind_from_raft(kind: EntryType) -> EntryKind {
    match kind {
        EntryType::EntryNormal => EntryKind::Normal,
        EntryType::EntryConfChange => EntryKind::ConfChange,
        EntryType::EntryConfChangeV2 => EntryKind::ConfChangeV2,
    }
}

/// Our form of a raft entry.
pub(super) fn entry_from_raft(entry: &eraftpb::Entry) -> Entry {
    Entry {
        kind: entry_kind_from_raft(entry.entry_type),
        term: entry.term,
        index: entry.index,
        data: entry.data.clone(),
        context: entry.context.clone(),
    }
}

/// Raft's form of an entry.
pub(super) fn entry_to_raft(entry: Entry) -> eraftpb::Entry {
    let kind = match entry.kind {
        EntryKind::Normal => EntryType::EntryNormal,
        EntryKind::ConfChange => EntryType::EntryConfChange,
        EntryKind::ConfChangeV2 => EntryType::EntryConfChangeV2,
    };
    raft_entry(kind, entry.term, entry.index, entry.data, entry.context)
}

fn raft_entry(kind: EntryType, term: u64, index: u64, data: Bytes, context: Bytes) -> eraftpb::Entry {
    eraftpb::Entry { entry_type: kind, term, index, data, context, ..Default::default() }
}

/// Our form of a raft hard state.
pub(super) fn hard_state_from_raft(state: &eraftpb::HardState) -> HardState {
    HardState { term: state.term, vote: state.vote, commit: state.commit }
}

/// Raft's form of a hard state.
pub(super) fn hard_state_to_raft(state: HardState) -> eraftpb::HardState {
    let HardState { term, vote, commit } = state;
    eraftpb::HardState { term, vote, commit, ..Default::default() }
}

/// Our form of raft's members.
pub(super) fn conf_from_raft(state: &ConfState) -> Conf {
    let mut conf = Conf {
        voters: state.voters.clone(),
        learners: state.learners.clone(),
        voters_outgoing: state.voters_outgoing.clone(),
        learners_next: state.learners_next.clone(),
        auto_leave: state.auto_leave,
    };
    conf.sort();
    conf
}

/// Raft's form of members.
pub(super) fn conf_to_raft(conf: &Conf) -> ConfState {
    ConfState {
        voters: conf.voters.clone(),
        learners: conf.learners.clone(),
        voters_outgoing: conf.voters_outgoing.clone(),
        learners_next: conf.learners_next.clone(),
        auto_leave: conf.auto_leave,
        ..Default::default()
    }
}

/// Raft's form of a snapshot: what it stands for, without data.
pub(super) fn snapshot_to_raft(meta: &SnapshotMeta) -> eraftpb::Snapshot {
    let mut snapshot = eraftpb::Snapshot::default();
    let metadata = snapshot.mut_metadata();
    metadata.index = meta.index;
    metadata.term = meta.term;
    metadata.set_conf_state(conf_to_raft(&meta.conf));
    snapshot
}

/// What a snapshot of raft stands for.
pub(super) fn snapshot_from_raft(snapshot: &eraftpb::Snapshot) -> SnapshotMeta {
    let metadata = snapshot.get_metadata();
    SnapshotMeta {
        index: metadata.index,
        term: metadata.term,
        conf: conf_from_raft(metadata.get_conf_state()),
    }
}

/// A message as it travels. A snapshot's index and term stand in the fields of a previous entry, which it does not have.
pub(super) fn message_from_raft(shard: ShardId, mut message: eraftpb::Message) -> RaftMessage {
    if message.msg_type == MessageType::MsgSnapshot {
        let metadata = message.get_snapshot().get_metadata();
        (message.index, message.log_term) = (metadata.index, metadata.term);
    }
    // Raft has no field for the mark of a suspect; nobody uses priorities (`group/suspicion.rs`).
    let suspect = message.priority as u64;
    let entries = message.take_entries().into_iter().map(|entry| RaftEntry {
        kind: entry.entry_type as u32,
        term: entry.term,
        index: entry.index,
        data: entry.data,
        context: entry.context,
    });
    RaftMessage {
        shard,
        kind: message.msg_type as u32,
        to: message.to,
        from: message.from,
        term: message.term,
        log_term: message.log_term,
        index: message.index,
        entries: entries.collect(),
        commit: message.commit,
        commit_term: message.commit_term,
        request_snapshot: message.request_snapshot,
        reject: message.reject,
        reject_hint: message.reject_hint,
        context: message.context,
        priority: 0,
        suspect,
    }
}

/// Whether a message asks for a vote or a pre-vote.
pub(super) fn is_vote_request(kind: MessageType) -> bool {
    matches!(kind, MessageType::MsgRequestVote | MessageType::MsgRequestPreVote)
}

/// Whether a message answers a request for a vote or a pre-vote.
pub(super) fn is_vote(kind: MessageType) -> bool {
    matches!(kind, MessageType::MsgRequestVoteResponse | MessageType::MsgRequestPreVoteResponse)
}

/// Raft's form of a message that the guard let pass.
pub(super) fn message_to_raft(message: RaftMessage) -> Option<eraftpb::Message> {
    let mut entries = Vec::with_capacity(message.entries.len());
    for entry in message.entries {
        entries.push(raft_entry(entry_kind(entry.kind)?, entry.term, entry.index, entry.data, entry.context));
    }
    Some(eraftpb::Message {
        msg_type: message_kind(message.kind)?,
        to: message.to,
        from: message.from,
        term: message.term,
        log_term: message.log_term,
        index: message.index,
        entries: entries.into(),
        commit: message.commit,
        commit_term: message.commit_term,
        request_snapshot: message.request_snapshot,
        reject: message.reject,
        reject_hint: message.reject_hint,
        context: message.context,
        priority: message.priority,
        ..Default::default()
    })
}
