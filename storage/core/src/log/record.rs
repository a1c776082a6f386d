//! Records and entries as bytes, inside a commit's payload.
//!
//! ```text
//!  record
//!  0         4         8         12        16
//!  ┌─────────┬─────────┬─────────┬─────────┬──────────────┬────────────┬─────────┬─────┐
//!  │ shard   │ flags   │ entries │ mark len│ hard state   │ mark       │ entry   │ …   │
//!  └─────────┴─────────┴─────────┴─────────┴──────────────┴────────────┴─────────┴─────┘
//!             bit 0: hard state, bit 1: mark  24: term, vote, commit
//!  mark
//!  0                 8                 16                24        28        32
//!  ┌─────────────────┬─────────────────┬─────────────────┬─────────┬─────────┬───────────┐
//!  │ index           │ term            │ peer            │ replica │ flags   │ members   │
//!  └─────────────────┴─────────────────┴─────────────────┴─────────┴─────────┴───────────┘
//!                                                          bit 0: reset, bit 1: suspect
//!  entry
//!  0         4         8                 16                24        28        32
//!  ┌─────────┬─────────┬─────────────────┬─────────────────┬─────────┬─────────┬───────────┬─────────────┐
//!  │ crc32c  │ kind    │ term            │ index           │ data len│ ctx len │ data      │ context     │
//!  └─────────┴─────────┴─────────────────┴─────────────────┴─────────┴─────────┴───────────┴─────────────┘
//! ```
//!
//! An entry has a checksum of its own (over log id, shard and all its other bytes) because it is read alone when a
//! follower needs it long after it has left memory.

use core::fmt;

use bytes::Bytes;
use throng_wire::ids::ShardId;

use super::layout::{LogId, u32_at, u64_at};
use crate::entry::{Conf, Entry, EntryKind, HardState, Mark, Record};

const RECORD_HEADER: usize = 16;
const HARD_STATE: usize = 24;
const ENTRY_HEADER: usize = 32;
const MARK: usize = 32;
const HAS_HARD_STATE: u32 = 1;
const HAS_MARK: u32 = 2;
const MARK_RESET: u32 = 1;
const MARK_SUSPECT: u32 = 2;

/// A record that borrows its commit's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordView<'a> {
    /// The group.
    pub shard: ShardId,
    /// Its new hard state, if it changed.
    pub hard_state: Option<HardState>,
    /// Its new mark, if it changed or was written again.
    pub mark: Option<Mark>,
    /// Its new entries, contiguous.
    pub entries: Vec<EntryView<'a>>,
}

/// An entry that borrows its commit's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryView<'a> {
    /// How to read `data`.
    pub kind: EntryKind,
    /// The appending leader's term.
    pub term: u64,
    /// Its place in the group's log.
    pub index: u64,
    /// Payload.
    pub data: &'a [u8],
    /// Which proposal it is.
    pub context: &'a [u8],
    /// Where it starts in the bytes it was decoded from.
    pub offset: usize,
    /// Encoded length.
    pub len: usize,
}

/// Bytes that pass a commit's checksum and are no records all the same: a fault of the writer, never of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordError(pub &'static str);

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for RecordError {}

impl RecordView<'_> {
    /// A record that stands alone.
    pub fn to_record(&self) -> Record {
        let entries = self.entries.iter().map(EntryView::to_entry).collect();
        Record { shard: self.shard, hard_state: self.hard_state, mark: self.mark.clone(), entries }
    }
}

impl EntryView<'_> {
    /// An entry that stands alone.
    pub fn to_entry(&self) -> Entry {
        Entry {
            kind: self.kind,
            term: self.term,
            index: self.index,
            data: Bytes::copy_from_slice(self.data),
            context: Bytes::copy_from_slice(self.context),
        }
    }
}

/// Bytes that `record` takes.
pub fn encoded_len(record: &Record) -> usize {
    header_len(record) + record.entries.iter().map(entry_len).sum::<usize>()
}

/// Bytes of `record` before its first entry.
pub fn header_len(record: &Record) -> usize {
    let hard_state = if record.hard_state.is_some() { HARD_STATE } else { 0 };
    RECORD_HEADER + hard_state + record.mark.as_ref().map_or(0, mark_len)
}

fn mark_len(mark: &Mark) -> usize {
    MARK + mark.conf.encoded_len()
}

/// Bytes that `entry` takes.
pub fn entry_len(entry: &Entry) -> usize {
    ENTRY_HEADER + entry.data.len() + entry.context.len()
}

/// Appends `record` to `out`.
///
/// # Panics
/// If its entries are not contiguous: a record is refused before it becomes durable nonsense.
pub fn encode(record: &Record, log: LogId, out: &mut Vec<u8>) {
    let flags = if record.hard_state.is_some() { HAS_HARD_STATE } else { 0 }
        | if record.mark.is_some() { HAS_MARK } else { 0 };
    let mark_bytes = record.mark.as_ref().map_or(0, mark_len);
    for word in [record.shard.0, flags, record.entries.len() as u32, mark_bytes as u32] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    if let Some(state) = record.hard_state {
        for word in [state.term, state.vote, state.commit] {
            out.extend_from_slice(&word.to_le_bytes());
        }
    }
    if let Some(mark) = &record.mark {
        encode_mark(mark, out);
    }
    for (at, entry) in record.entries.iter().enumerate() {
        assert!(entry.index == record.entries[0].index + at as u64, "entries of a record are contiguous");
        encode_entry(entry, record.shard, log, out);
    }
}

/// Takes one record off the front of `payload`; `offset` is where `payload` starts, for the entries' places.
///
/// # Errors
/// [`RecordError`] if the bytes are no record.
pub fn decode<'a>(
    payload: &mut &'a [u8],
    offset: &mut usize,
    log: LogId,
) -> Result<RecordView<'a>, RecordError> {
    let header = take(payload, offset, RECORD_HEADER)?;
    let (shard, flags, count) = (ShardId(u32_at(header, 0)), u32_at(header, 4), u32_at(header, 8) as usize);
    let mark_bytes = u32_at(header, 12) as usize;
    if flags & !(HAS_HARD_STATE | HAS_MARK) != 0 || (flags & HAS_MARK == 0 && mark_bytes != 0) {
        return Err(RecordError("a record has flags that this version does not know"));
    }
    let hard_state = if flags & HAS_HARD_STATE != 0 {
        let state = take(payload, offset, HARD_STATE)?;
        Some(HardState { term: u64_at(state, 0), vote: u64_at(state, 8), commit: u64_at(state, 16) })
    } else {
        None
    };
    let mark =
        if flags & HAS_MARK != 0 { Some(decode_mark(take(payload, offset, mark_bytes)?)?) } else { None };
    if count > payload.len() / ENTRY_HEADER {
        return Err(RecordError("a record claims more entries than it has bytes for"));
    }
    let mut entries: Vec<EntryView<'a>> = Vec::with_capacity(count);
    for _ in 0..count {
        let entry = decode_entry(payload, offset, shard, log)?;
        if entries.last().is_some_and(|last| last.index.checked_add(1) != Some(entry.index)) {
            return Err(RecordError("a record's entries are not contiguous"));
        }
        entries.push(entry);
    }
    Ok(RecordView { shard, hard_state, mark, entries })
}

/// Takes one entry of `shard` off the front of `bytes`.
///
/// # Errors
/// [`RecordError`] if the bytes are no entry of this shard in this log.
pub fn decode_entry<'a>(
    bytes: &mut &'a [u8],
    offset: &mut usize,
    shard: ShardId,
    log: LogId,
) -> Result<EntryView<'a>, RecordError> {
    let (all, start) = (*bytes, *offset);
    let header = take(bytes, offset, ENTRY_HEADER)?;
    let kind = kind_of(u32_at(header, 4))?;
    let data = take(bytes, offset, u32_at(header, 24) as usize)?;
    let context = take(bytes, offset, u32_at(header, 28) as usize)?;
    let len = *offset - start;
    if entry_checksum(&all[..len], shard, log) != u32_at(header, 0) {
        return Err(RecordError("an entry's checksum does not match"));
    }
    Ok(EntryView {
        kind,
        term: u64_at(header, 8),
        index: u64_at(header, 16),
        data,
        context,
        offset: start,
        len,
    })
}

fn encode_mark(mark: &Mark, out: &mut Vec<u8>) {
    for word in [mark.index, mark.term, mark.peer] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    let flags = if mark.reset { MARK_RESET } else { 0 } | if mark.is_suspect { MARK_SUSPECT } else { 0 };
    for word in [mark.replica, flags] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    mark.conf.encode(out);
}

fn decode_mark(bytes: &[u8]) -> Result<Mark, RecordError> {
    let (head, mut conf) = bytes.split_at_checked(MARK).ok_or(RecordError("a mark is cut short"))?;
    let flags = u32_at(head, 28);
    if flags & !(MARK_RESET | MARK_SUSPECT) != 0 {
        return Err(RecordError("a mark has flags that this version does not know"));
    }
    let members = Conf::decode(&mut conf).map_err(|error| RecordError(error.0))?;
    if !conf.is_empty() {
        return Err(RecordError("a mark has bytes behind its members"));
    }
    Ok(Mark {
        index: u64_at(head, 0),
        term: u64_at(head, 8),
        peer: u64_at(head, 16),
        replica: u32_at(head, 24),
        conf: members,
        reset: flags & MARK_RESET != 0,
        is_suspect: flags & MARK_SUSPECT != 0,
    })
}

fn encode_entry(entry: &Entry, shard: ShardId, log: LogId, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&kind_number(entry.kind).to_le_bytes());
    out.extend_from_slice(&entry.term.to_le_bytes());
    out.extend_from_slice(&entry.index.to_le_bytes());
    out.extend_from_slice(&(entry.data.len() as u32).to_le_bytes());
    out.extend_from_slice(&(entry.context.len() as u32).to_le_bytes());
    out.extend_from_slice(&entry.data);
    out.extend_from_slice(&entry.context);
    let crc = entry_checksum(&out[start..], shard, log);
    out[start..start + 4].copy_from_slice(&crc.to_le_bytes());
}

fn entry_checksum(bytes: &[u8], shard: ShardId, log: LogId) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c_append(log.salt(), &shard.0.to_le_bytes()), &bytes[4..])
}

fn take<'a>(bytes: &mut &'a [u8], offset: &mut usize, len: usize) -> Result<&'a [u8], RecordError> {
    let (front, rest) = bytes.split_at_checked(len).ok_or(RecordError("a record is cut short"))?;
    *bytes = rest;
    *offset += len;
    Ok(front)
}

fn kind_number(kind: EntryKind) -> u32 {
    match kind {
        EntryKind::Normal => 0,
        EntryKind::ConfChange => 1,
        EntryKind::ConfChangeV2 => 2,
    }
}

fn kind_of(number: u32) -> Result<EntryKind, RecordError> {
    match number {
        0 => Ok(EntryKind::Normal),
        1 => Ok(EntryKind::ConfChange),
        2 => Ok(EntryKind::ConfChangeV2),
        _ => Err(RecordError("an entry has a kind that this version does not know")),
    }
}
