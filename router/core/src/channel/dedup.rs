//! What a channel remembers of one device's sends (contract C3).
//!
//! ```text
//!   client_msg_id ──►  remembered, same content ─► the original number        (a retry)
//!                      remembered, other content ─► CONFLICT
//!                      not remembered, ≤ floor  ─► UNKNOWN_OUTCOME            (never a second copy)
//!                      not remembered, > floor  ─► new
//! ```
//!
//! The floor is the highest id that ever left the window: below it the record cannot tell "stored long ago" from
//! "never seen". Of a full window the *lowest* id leaves, but never the one just stored, whose ack is the likeliest to
//! be lost. So a device whose oldest unacknowledged send has at most 15 later ones behind it always gets a final
//! answer, in whatever order its sends arrive.

use bytes::BufMut;
use throng_wire::ids::{ClientMsgId, Seq, ServerTs};

use crate::codec::{Corrupt, Reader, put_var};
use crate::limits::REMEMBERED_PER_DEVICE;

/// A send that is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) id: ClientMsgId,
    pub(crate) seq: Seq,
    pub(crate) ts: ServerTs,
    /// First 8 bytes of the content hash: it tells a retry from a reused number, against no attacker but the sender.
    pub(crate) hash: u64,
}

/// What the record says about a send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Stored by an earlier try.
    Remembered { seq: Seq, ts: ServerTs },
    /// The number was used with other content.
    Conflict,
    /// Too old to tell.
    Forgotten,
    /// Not stored yet.
    New,
}

/// One device's record. It outlives the membership of its user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Record {
    /// Highest id that left the window.
    floor: Option<ClientMsgId>,
    /// In the order of storing. Invariant: at most [`REMEMBERED_PER_DEVICE`], ids distinct, numbers rising.
    window: Vec<Sent>,
}

impl Record {
    /// What to do with a send.
    pub(crate) fn verdict(&self, id: ClientMsgId, hash: u64) -> Verdict {
        match self.window.iter().rev().find(|sent| sent.id == id) {
            Some(sent) if sent.hash == hash => Verdict::Remembered { seq: sent.seq, ts: sent.ts },
            Some(_) => Verdict::Conflict,
            None if self.floor.is_some_and(|floor| id <= floor) => Verdict::Forgotten,
            None => Verdict::New,
        }
    }

    /// Remembers a send that was [`Verdict::New`].
    pub(crate) fn remember(&mut self, sent: Sent) {
        assert!(self.floor.is_none_or(|floor| sent.id > floor), "only a new send is remembered");
        assert!(self.window.last().is_none_or(|last| last.seq < sent.seq), "numbers rise");
        if self.window.len() == REMEMBERED_PER_DEVICE {
            self.evict_lowest();
        }
        self.window.push(sent);
        assert!(self.window.len() <= REMEMBERED_PER_DEVICE);
    }

    fn evict_lowest(&mut self) {
        let lowest =
            self.window.iter().enumerate().min_by_key(|(_, sent)| sent.id).expect("the window is full");
        let (at, id) = (lowest.0, lowest.1.id);
        self.window.remove(at);
        self.floor = self.floor.max(Some(id));
    }

    /// Appends the row: floor + 1, then per send id, seq, ts, hash.
    pub(crate) fn encode(&self, out: &mut impl BufMut) {
        put_var(out, self.floor.map_or(0, |floor| floor.0.wrapping_add(1)));
        put_var(out, self.window.len() as u64);
        for sent in &self.window {
            put_var(out, sent.id.0);
            put_var(out, sent.seq.0);
            put_var(out, sent.ts.0);
            out.put_u64(sent.hash);
        }
    }

    /// Reads a row.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Corrupt> {
        let mut reader = Reader::new(bytes);
        let floor = reader.var("device.floor")?.checked_sub(1).map(ClientMsgId);
        let count = reader.count(11, "device.count")?;
        if count > REMEMBERED_PER_DEVICE {
            return Err(Corrupt("device.count"));
        }
        let mut window: Vec<Sent> = Vec::with_capacity(count);
        for _ in 0..count {
            let sent = Sent {
                id: ClientMsgId(reader.var("device.id")?),
                seq: Seq(reader.var("device.seq")?),
                ts: ServerTs(reader.var("device.ts")?),
                hash: reader.u64("device.hash")?,
            };
            if window.last().is_some_and(|last| last.seq >= sent.seq) {
                return Err(Corrupt("device.seq"));
            }
            window.push(sent);
        }
        reader.end("device")?;
        Ok(Self { floor, window })
    }

    /// About how much memory the record takes.
    pub(crate) const BYTES: usize = 96 + REMEMBERED_PER_DEVICE * size_of::<Sent>();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(ids: impl IntoIterator<Item = u64>) -> Record {
        let mut record = Record::default();
        for (at, id) in ids.into_iter().enumerate() {
            let id = ClientMsgId(id);
            assert_eq!(record.verdict(id, 7), Verdict::New, "{id:?}");
            record.remember(Sent { id, seq: Seq(at as u64 + 1), ts: ServerTs(5), hash: 7 });
        }
        record
    }

    #[test]
    fn a_retry_gets_the_original_number_and_other_content_a_conflict() {
        let record = stored([3, 9]);
        let remembered = |seq| Verdict::Remembered { seq: Seq(seq), ts: ServerTs(5) };
        assert_eq!(record.verdict(ClientMsgId(3), 7), remembered(1));
        assert_eq!(record.verdict(ClientMsgId(9), 7), remembered(2));
        assert_eq!(record.verdict(ClientMsgId(9), 8), Verdict::Conflict);
        assert_eq!(record.verdict(ClientMsgId(4), 7), Verdict::New);
        assert_eq!(record.verdict(ClientMsgId(0), 7), Verdict::New);
    }

    #[test]
    fn below_the_floor_nothing_is_new() {
        let record = stored(1..=17);
        assert_eq!(record.verdict(ClientMsgId(1), 7), Verdict::Forgotten);
        assert_eq!(record.verdict(ClientMsgId(0), 7), Verdict::Forgotten);
        assert!(matches!(record.verdict(ClientMsgId(2), 7), Verdict::Remembered { .. }));
        assert_eq!(record.verdict(ClientMsgId(18), 7), Verdict::New);
    }

    #[test]
    fn id_zero_is_an_id_like_any_other() {
        let record = stored(0..=16);
        assert_eq!(record.verdict(ClientMsgId(0), 7), Verdict::Forgotten);
    }

    #[test]
    fn a_straggler_with_fifteen_sends_behind_it_is_stored_and_remembered() {
        let mut record = stored((1..=16).chain(18..=32));
        assert_eq!(record.verdict(ClientMsgId(17), 7), Verdict::New);
        record.remember(Sent { id: ClientMsgId(17), seq: Seq(99), ts: ServerTs(5), hash: 7 });
        for id in 17..=32 {
            assert!(matches!(record.verdict(ClientMsgId(id), 7), Verdict::Remembered { .. }), "{id}");
        }
    }

    #[test]
    fn the_send_just_stored_never_leaves_at_once() {
        let mut record = stored(20..=36); // 20 has left
        assert_eq!(record.verdict(ClientMsgId(20), 7), Verdict::Forgotten);
        let mut record2 = stored((21..=36).chain([]));
        record2.remember(Sent { id: ClientMsgId(15), seq: Seq(99), ts: ServerTs(5), hash: 7 });
        assert!(matches!(record2.verdict(ClientMsgId(15), 7), Verdict::Remembered { .. }));
        assert_eq!(record2.verdict(ClientMsgId(21), 7), Verdict::Forgotten);
        record.remember(Sent { id: ClientMsgId(40), seq: Seq(99), ts: ServerTs(5), hash: 7 });
        assert_eq!(record.verdict(ClientMsgId(21), 7), Verdict::Forgotten);
    }

    #[test]
    fn rows_come_back() {
        for record in [Record::default(), stored(1..=3), stored(0..=40)] {
            let mut row = Vec::new();
            record.encode(&mut row);
            assert_eq!(Record::decode(&row), Ok(record));
            assert!(Record::decode(&row[..row.len() - 1]).is_err());
        }
    }
}
