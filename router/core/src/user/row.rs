//! A user's rows.

use bytes::BufMut;
use throng_storage_core::state::{StateRead, Table};
use throng_wire::ids::{ChannelId, Seq, UserId, UserSeq};

use super::{Position, User};
use crate::codec::{Corrupt, Reader, put_var};
use crate::fatal::Fatal;
use crate::limits::INBOX_ROWS_MAX;
use crate::state::batch::Batch;
use crate::state::keys::{self, PREFIX_LEN, Replica};

const ROW_VERSION: u8 = 1;

/// Inbox rows read at a time.
const SCAN_ROWS: usize = 1_000;

impl User {
    /// Reads a user; one without rows is empty.
    pub(crate) fn load(state: &impl StateRead, replica: Replica, id: UserId) -> Result<Self, Fatal> {
        let mut user = Self::empty(id);
        let Some(head) = state.get(Table::Objects, &keys::user(replica, &id))? else { return Ok(user) };
        user.user_seq = decode_head(&head)?;
        user.load_rows(state, replica)?;
        Ok(user)
    }

    fn load_rows(&mut self, state: &impl StateRead, replica: Replica) -> Result<(), Fatal> {
        let begin = keys::inbox(replica, &self.id);
        let end = begin.range_end();
        let mut from = begin.to_vec();
        loop {
            let rows = state.scan(Table::Objects, &from, &end, SCAN_ROWS)?;
            for (key, value) in &rows {
                let channel = key[PREFIX_LEN + 1..].try_into().map_err(|_| Corrupt("inbox.key"))?;
                self.load_row(ChannelId(channel), value)?;
            }
            if rows.len() < SCAN_ROWS {
                return Ok(());
            }
            if self.rows.len() > INBOX_ROWS_MAX {
                return Err(Fatal::corrupt_row("inbox: too many rows"));
            }
            from = rows.last().expect("the scan was full").0.to_vec();
            from.push(0); // the least key above the last
        }
    }

    fn load_row(&mut self, channel: ChannelId, value: &[u8]) -> Result<(), Fatal> {
        let (head, count, user_seq) = decode_row(value)?;
        let twice = self.channel_by_seq.insert(user_seq, channel).is_some();
        if twice || user_seq > self.user_seq {
            return Err(Fatal::corrupt_row("inbox.seq"));
        }
        self.rows.insert(channel, Position { head, count, user_seq, is_dirty: false });
        Ok(())
    }

    /// Writes everything changed since the last batch into this one.
    pub(crate) fn cut(&mut self, replica: Replica, batch: &mut Batch) {
        let id = self.id;
        batch.put(Table::Objects, &keys::user(replica, &id), |out| {
            out.put_u8(ROW_VERSION);
            put_var(out, self.user_seq.0);
        });
        for channel in core::mem::take(&mut self.dirty.rows) {
            let key = keys::inbox_row(replica, &id, &channel);
            let Some(row) = self.rows.get_mut(&channel) else {
                batch.delete(Table::Objects, &key);
                continue;
            };
            row.is_dirty = false;
            batch.put(Table::Objects, &key, |out| {
                put_var(out, row.head.0);
                put_var(out, row.count);
                put_var(out, row.user_seq.0);
            });
        }
    }
}

/// Whether a row of a user parses.
pub(crate) fn check_row(tag: u8, row: &[u8]) -> Result<(), Corrupt> {
    if tag == keys::tag::USER { decode_head(row).map(drop) } else { decode_row(row).map(drop) }
}

fn decode_head(row: &[u8]) -> Result<UserSeq, Corrupt> {
    let mut reader = Reader::new(row);
    if reader.u8("user.version")? != ROW_VERSION {
        return Err(Corrupt("user.version"));
    }
    let user_seq = UserSeq(reader.var("user.seq")?);
    reader.end("user")?;
    Ok(user_seq)
}

fn decode_row(row: &[u8]) -> Result<(Seq, u64, UserSeq), Corrupt> {
    let mut reader = Reader::new(row);
    let head = Seq(reader.var("inbox.head")?);
    let count = reader.var("inbox.count")?;
    let user_seq = UserSeq(reader.var("inbox.seq")?);
    reader.end("inbox")?;
    Ok((head, count, user_seq))
}
