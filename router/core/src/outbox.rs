//! The outbox of a shard: which channels have moved for users of which other shard. Replicated state, set at apply and
//! cleared by a command, so that no leader change forgets an inbox (design §2, "the outbox between shards").
//!
//! A row says *that* a channel has unsent events for a shard, not which: what is sent is the head at the time of
//! sending, so a busy channel costs one row however long the other shard is away.

use std::collections::{BTreeMap, BTreeSet};

use bytes::BufMut;
use throng_storage_core::state::{StateRead, Table};
use throng_wire::ids::{ChannelId, MemberNo, Seq, ShardId};

use crate::codec::{Corrupt, Reader, put_var};
use crate::fatal::Fatal;
use crate::limits::MEMBERS_EVER_MAX;
use crate::state::batch::Batch;
use crate::state::keys::{self, PREFIX_LEN, Replica};

/// Rows read at a time.
const SCAN_ROWS: usize = 1_000;

/// Unsent events of one channel for one shard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Row {
    /// The first event that concerns all members and is unsent.
    pub(crate) all_from: Option<Seq>,
    /// Members that an unsent event concerns alone: who left, or joined a channel too large for inboxes; with that
    /// event. Invariant: each member once.
    pub(crate) members: Vec<(MemberNo, Seq)>,
}

/// All unsent rows of one shard.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outbox {
    rows: BTreeMap<(ShardId, ChannelId), Row>,
    /// Changed since the last batch was cut.
    dirty: BTreeSet<(ShardId, ChannelId)>,
    /// A row was made or extended since this was last asked.
    has_grown: bool,
}

impl Outbox {
    /// An event that concerns all members.
    pub(crate) fn mark_all(&mut self, dest: ShardId, channel: ChannelId, seq: Seq) {
        let row = self.rows.entry((dest, channel)).or_default();
        if row.all_from.is_none() {
            row.all_from = Some(seq);
            self.has_grown = true;
            self.dirty.insert((dest, channel));
        }
    }

    /// An event that concerns one member.
    pub(crate) fn mark_member(&mut self, dest: ShardId, channel: ChannelId, member: MemberNo, seq: Seq) {
        let row = self.rows.entry((dest, channel)).or_default();
        row.members.retain(|&(known, _)| known != member);
        row.members.push((member, seq));
        self.has_grown = true;
        self.dirty.insert((dest, channel));
    }

    /// The destination has stored everything through `stored`; the channel is at `head`.
    pub(crate) fn clear(&mut self, dest: ShardId, channel: ChannelId, stored: Seq, head: Seq) {
        let Some(row) = self.rows.get_mut(&(dest, channel)) else { return };
        row.members.retain(|&(_, seq)| seq > stored);
        row.all_from =
            row.all_from.map(|from| from.max(Seq(stored.0.saturating_add(1)))).filter(|&from| from <= head);
        if row.members.is_empty() && row.all_from.is_none() {
            self.rows.remove(&(dest, channel));
        }
        self.dirty.insert((dest, channel));
    }

    /// The unsent rows for `dest`, those of channels above `after` first, then the others: whoever stops early starts
    /// behind the last one next time, so no channel waits for ever behind busier ones.
    pub(crate) fn unsent(&self, dest: ShardId, after: ChannelId) -> impl Iterator<Item = (ChannelId, &Row)> {
        use core::ops::Bound::{Excluded, Included};
        let low = (dest, ChannelId([0; 16]));
        let high = (dest, ChannelId([0xff; 16]));
        let above = self.rows.range((Excluded((dest, after)), Included(high)));
        let below = self.rows.range((Included(low), Included((dest, after))));
        above.chain(below).map(|(&(_, channel), row)| (channel, row))
    }

    /// Shards with unsent rows, in order.
    pub(crate) fn dests(&self) -> impl Iterator<Item = ShardId> + '_ {
        let from = |shard| self.rows.range((shard, ChannelId([0; 16]))..).next().map(|(&(dest, _), _)| dest);
        core::iter::successors(from(ShardId(0)), move |dest| from(ShardId(dest.0.checked_add(1)?)))
    }

    /// Whether something is unsent for a shard.
    pub(crate) fn has(&self, dest: ShardId) -> bool {
        self.rows.range((dest, ChannelId([0; 16]))..).next().is_some_and(|(&(first, _), _)| first == dest)
    }

    /// Whether something was added since this was last asked.
    pub(crate) fn take_grown(&mut self) -> bool {
        core::mem::take(&mut self.has_grown)
    }

    /// Whether nothing is unsent.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Reads the rows of a shard.
    pub(crate) fn load(
        state: &impl StateRead,
        replica: Replica,
        shard: ShardId,
        shards: u32,
    ) -> Result<Self, Fatal> {
        let begin = keys::outbox(replica, shard, shards);
        let end = begin.range_end();
        let mut outbox = Self::default();
        let mut from = begin.to_vec();
        loop {
            let rows = state.scan(Table::Objects, &from, &end, SCAN_ROWS)?;
            for (key, value) in &rows {
                outbox.rows.insert(decode_key(key)?, Row::decode(value)?);
            }
            if rows.len() < SCAN_ROWS {
                return Ok(outbox);
            }
            from = rows.last().expect("the scan was full").0.to_vec();
            from.push(0); // the least key above the last
        }
    }

    /// Writes everything changed since the last batch into this one.
    pub(crate) fn cut(&mut self, replica: Replica, shard: ShardId, shards: u32, batch: &mut Batch) {
        for (dest, channel) in core::mem::take(&mut self.dirty) {
            let key = keys::outbox_row(replica, shard, shards, dest, &channel);
            match self.rows.get(&(dest, channel)) {
                Some(row) => batch.put(Table::Objects, &key, |out| row.encode(out)),
                None => batch.delete(Table::Objects, &key),
            }
        }
    }
}

impl Row {
    fn encode(&self, out: &mut impl BufMut) {
        put_var(out, self.all_from.map_or(0, |seq| seq.0)); // number 0 is no event
        put_var(out, self.members.len() as u64);
        for (member, seq) in &self.members {
            put_var(out, u64::from(member.0));
            put_var(out, seq.0);
        }
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Corrupt> {
        let mut reader = Reader::new(bytes);
        let all_from = Some(Seq(reader.var("outbox.from")?)).filter(|seq| seq.0 > 0);
        let count = reader.count(2, "outbox.members")?;
        if count > MEMBERS_EVER_MAX {
            return Err(Corrupt("outbox.members"));
        }
        let mut members = Vec::with_capacity(count);
        for _ in 0..count {
            let member = u32::try_from(reader.var("outbox.member")?).map_err(|_| Corrupt("outbox.member"))?;
            members.push((MemberNo(member), Seq(reader.var("outbox.seq")?)));
        }
        reader.end("outbox")?;
        Ok(Self { all_from, members })
    }
}

fn decode_key(key: &[u8]) -> Result<(ShardId, ChannelId), Corrupt> {
    let mut reader = Reader::new(key);
    reader.take(PREFIX_LEN + 1, "outbox.key")?;
    let dest = ShardId(reader.u32("outbox.key")?);
    let channel = ChannelId(reader.array("outbox.key")?);
    reader.end("outbox.key")?;
    Ok((dest, channel))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(n: u8) -> ChannelId {
        ChannelId([n; 16])
    }

    #[test]
    fn rows_stay_until_everything_through_the_head_is_stored() {
        let mut outbox = Outbox::default();
        let dest = ShardId(2);
        outbox.mark_all(dest, channel(1), Seq(3));
        outbox.mark_all(dest, channel(1), Seq(4));
        let row = |outbox: &Outbox| outbox.unsent(dest, channel(0)).next().map(|(_, row)| row.clone());
        assert_eq!(row(&outbox).expect("marked").all_from, Some(Seq(3)));
        outbox.clear(dest, channel(1), Seq(3), Seq(4));
        assert_eq!(row(&outbox).expect("4 is unsent").all_from, Some(Seq(4)));
        outbox.clear(dest, channel(1), Seq(2), Seq(4)); // late
        assert_eq!(row(&outbox).expect("4 is unsent").all_from, Some(Seq(4)));
        outbox.mark_member(dest, channel(1), MemberNo(7), Seq(5));
        outbox.clear(dest, channel(1), Seq(4), Seq(4));
        assert_eq!(row(&outbox), Some(Row { all_from: None, members: vec![(MemberNo(7), Seq(5))] }));
        outbox.clear(dest, channel(1), Seq(5), Seq(5));
        assert!(outbox.is_empty());
    }

    #[test]
    fn unsent_rows_are_walked_in_turn() {
        let mut outbox = Outbox::default();
        for n in [1, 2, 3] {
            outbox.mark_all(ShardId(5), channel(n), Seq(1));
        }
        outbox.mark_all(ShardId(9), channel(4), Seq(1));
        let order =
            |after| outbox.unsent(ShardId(5), channel(after)).map(|(c, _)| c.0[0]).collect::<Vec<_>>();
        assert_eq!(order(0), [1, 2, 3]);
        assert_eq!(order(2), [3, 1, 2]);
        assert_eq!(outbox.dests().collect::<Vec<_>>(), [ShardId(5), ShardId(9)]);
    }

    #[test]
    fn rows_come_back() {
        for row in [
            Row { all_from: Some(Seq(300)), members: vec![] },
            Row { all_from: None, members: vec![(MemberNo(1), Seq(2)), (MemberNo(900), Seq(1 << 40))] },
        ] {
            let mut bytes = Vec::new();
            row.encode(&mut bytes);
            assert_eq!(Row::decode(&bytes), Ok(row));
        }
    }
}
