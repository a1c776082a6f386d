//! SYNC and SYNCED.

use super::codec::Layout;
use super::fields::{Reader, Writer};
use crate::error::DecodeError;
use crate::ids::{ChannelId, Epoch, RequestId, Seq, UserSeq};
use crate::limits::SYNC_ENTRIES_MAX;

/// SYNC: which of my channels moved after `after`? Answered by SYNCED, RESET or ERROR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sync {
    /// Echoed in the answer.
    pub request: RequestId,
    /// The device's inbox cursor.
    pub after: UserSeq,
    /// History epoch of the cursor.
    pub epoch: Epoch,
    /// At most this many entries, 1 to 200.
    pub limit: u16,
}

/// One channel that moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyncEntry {
    /// The channel.
    pub channel: ChannelId,
    /// Its newest event, as far as the inbox knows (it may be newer than asked).
    pub head: Seq,
    /// Messages in it so far; unread is a difference of counts.
    pub count: u64,
    /// Position of this row in the inbox.
    pub user_seq: UserSeq,
}

/// SYNCED: entries in rising `user_seq`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synced {
    /// From SYNC.
    pub request: RequestId,
    /// Cursor after this answer.
    pub cursor: UserSeq,
    /// Whether more follow; ask again with `cursor`.
    pub more: bool,
    /// The entries.
    pub entries: Vec<SyncEntry>,
}

impl<'a> Layout<'a> for Sync {
    fn write(&self, out: &mut impl Writer) {
        out.varint(self.request.0);
        out.varint(self.after.0);
        out.varint(self.epoch.0);
        out.varint(self.limit.into());
    }

    fn read(_flags: u8, fields: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            request: fields.request()?,
            after: fields.user_seq()?,
            epoch: fields.epoch()?,
            limit: fields.limit(SYNC_ENTRIES_MAX)?,
        })
    }
}

/// Channel id and three varints.
const ENTRY_LEN_MIN: usize = 16 + 3;

/// SYNCED: more entries follow.
const FLAG_MORE: u8 = 0x01;

impl<'a> Layout<'a> for Synced {
    const FLAGS: u8 = FLAG_MORE;

    fn flags(&self) -> u8 {
        if self.more { FLAG_MORE } else { 0 }
    }

    fn write(&self, out: &mut impl Writer) {
        out.varint(self.request.0);
        out.varint(self.cursor.0);
        out.varint(self.entries.len() as u64);
        for entry in &self.entries {
            out.raw(&entry.channel.0);
            out.varint(entry.head.0);
            out.varint(entry.count);
            out.varint(entry.user_seq.0);
        }
    }

    fn read(flags: u8, fields: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            request: fields.request()?,
            cursor: fields.user_seq()?,
            more: flags & FLAG_MORE != 0,
            entries: fields.list(SYNC_ENTRIES_MAX, ENTRY_LEN_MIN, "entries", |fields| {
                Ok(SyncEntry {
                    channel: fields.channel()?,
                    head: fields.seq()?,
                    count: fields.varint()?,
                    user_seq: fields.user_seq()?,
                })
            })?,
        })
    }
}
