//! Checking a copy of a shard row by row, to tell whether it is whole and whether replicas have the same.
//!
//! ```text
//!   Objects in key order ─► every row parses ─► digest
//!        └─ channel head ─► Events of that channel: floor..=head, each once ─► chain as in the head row ─► digest
//! ```
//!
//! A check reads a view that does not change, a bounded number of rows a step. Two replicas that have applied the same
//! entries have the same digest: it covers key and value of every row but the shard's own, which says how far it has
//! applied and is compared as numbers.

use bytes::Bytes;
use sha2::{Digest, Sha256};
use throng_storage_core::state::{StateRead, Table};
use throng_wire::ids::{ChannelId, Seq, ShardId};

use super::{Applied, applied};
use crate::channel::{BadEvents, Channel, EventCheck, check_row};
use crate::codec::Corrupt;
use crate::fatal::Fatal;
use crate::hash::Keyed;
use crate::meta::Meta;
use crate::state::keys::{self, PREFIX_LEN, Replica};

/// Findings that are kept; beyond them they are only counted.
const FINDINGS_MAX: usize = 64;

/// Something that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// A row does not parse at a field.
    Unreadable {
        /// Its table.
        table: Table,
        /// Its key.
        key: Bytes,
        /// The field.
        field: &'static str,
    },
    /// An event between floor and head is not there.
    Missing {
        /// Its channel.
        channel: ChannelId,
        /// Its number.
        seq: Seq,
    },
    /// An event is there that must not be: below the floor, above the head, or of a channel that does not exist.
    Stray {
        /// Its channel.
        channel: ChannelId,
        /// Its number.
        seq: Seq,
    },
    /// A channel's events are not those that were applied.
    Chain {
        /// The channel.
        channel: ChannelId,
    },
}

impl core::fmt::Display for Finding {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Unreadable { table, key, field } => {
                write!(f, "a row of {table:?} does not parse at {field}: key {key:?}")
            }
            Self::Missing { channel, seq } => write!(f, "event {} of {channel:?} is missing", seq.0),
            Self::Stray { channel, seq } => write!(f, "event {} of {channel:?} must not be there", seq.0),
            Self::Chain { channel } => write!(f, "the events of {channel:?} are not those that were applied"),
        }
    }
}

/// What a check has seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// How far the copy has applied.
    pub applied: Applied,
    /// Over all rows, once the check is complete.
    pub digest: [u8; 16],
    /// Channels checked.
    pub channels: u64,
    /// Events checked.
    pub events: u64,
    /// Rows read, events included.
    pub rows: u64,
    /// The first findings.
    pub findings: Vec<Finding>,
    /// How many there are in all.
    pub bad: u64,
}

/// A check of one copy of a shard.
#[derive(Clone, Debug)]
pub struct Check {
    shard: ShardId,
    shards: u32,
    replica: Replica,
    /// The least key of Objects that is not read yet; `None` before the first step.
    objects_from: Option<Vec<u8>>,
    /// Events below this key are checked.
    events_from: Vec<u8>,
    /// The channel whose events are being read.
    channel: Option<EventCheck>,
    sha: Sha256,
    report: VerifyReport,
}

impl Check {
    /// The check of the copy `replica` of `shard`; the one behind the last of the `shards` is the metadata's.
    pub fn new(shard: ShardId, shards: u32, replica: u32) -> Self {
        let replica = Replica(replica);
        Self {
            shard,
            shards,
            replica,
            objects_from: None,
            events_from: keys::copy_range(replica).0.to_vec(),
            channel: None,
            sha: Sha256::new(),
            report: VerifyReport::default(),
        }
    }

    /// What was seen so far.
    pub fn report(&self) -> &VerifyReport {
        &self.report
    }

    /// Reads at most about `rows` rows; true when the check is complete.
    ///
    /// # Errors
    /// [`Fatal`] if the view cannot be read.
    pub fn step(&mut self, view: &impl StateRead, rows: usize) -> Result<bool, Fatal> {
        let (begin, end) = keys::copy_range(self.replica);
        if self.objects_from.is_none() {
            self.report.applied = applied(view, self.shard, self.replica.0)?.applied();
            self.objects_from = Some(begin.to_vec());
        }
        let until = self.report.rows + rows as u64;
        while self.report.rows < until {
            if self.channel.is_some() {
                self.read_events(view, (until - self.report.rows) as usize)?;
                continue;
            }
            let from = self.objects_from.as_deref().expect("set above");
            let Some((key, value)) = view.scan(Table::Objects, from, &end, 1)?.pop() else {
                self.find_strays(view, &end)?;
                self.report.digest.copy_from_slice(&self.sha.clone().finalize()[..16]);
                return Ok(true);
            };
            self.objects_from = Some([&key, &[0][..]].concat());
            self.read_object(view, &key, &value)?;
        }
        Ok(false)
    }

    fn read_object(&mut self, view: &impl StateRead, key: &Bytes, value: &Bytes) -> Result<(), Fatal> {
        self.seen(Table::Objects, key, value);
        if self.shard.0 == self.shards {
            let bad = Meta::check_row(&key[PREFIX_LEN.min(key.len())..], value, self.shards);
            self.unreadable(Table::Objects, key, bad);
            return Ok(());
        }
        let Some(id) = keys::channel_of_head(key) else {
            let bad = keys::tag_of(key).ok_or(Corrupt("key")).and_then(|tag| check_row(tag, value));
            self.unreadable(Table::Objects, key, bad);
            return Ok(());
        };
        match Channel::head_only(id, value, Keyed::new(0), self.shards) {
            Ok(channel) => {
                self.find_strays(view, &key[..PREFIX_LEN])?;
                self.events_from = key[..PREFIX_LEN].to_vec();
                self.channel = Some(EventCheck::new(&channel));
                self.report.channels += 1;
            }
            Err(corrupt) => self.unreadable(Table::Objects, key, Err(corrupt)),
        }
        Ok(())
    }

    fn read_events(&mut self, view: &impl StateRead, limit: usize) -> Result<(), Fatal> {
        let Some(mut check) = self.channel.take() else { return Ok(()) };
        let end = keys::events_end(self.replica, &check.id);
        let rows = view.scan(Table::Events, &self.events_from, &end, limit)?;
        let is_last = rows.len() < limit;
        for (key, value) in rows {
            self.seen(Table::Events, &key, &value);
            self.report.events += 1;
            self.events_from = [&key, &[0][..]].concat();
            let seq = keys::seq_of_event(&key).unwrap_or(Seq(0));
            if let Err(bad) = check.take(seq, &value) {
                self.bad_events(&check.id, &key, bad);
                self.events_from = end.to_vec();
                return Ok(()); // one finding a channel
            }
        }
        if !is_last {
            self.channel = Some(check);
            return Ok(());
        }
        self.events_from = end.to_vec();
        if let Err(bad) = check.finish() {
            self.bad_events(&check.id, &Bytes::new(), bad);
        }
        Ok(())
    }

    /// Events before `to` that no channel's check has read.
    fn find_strays(&mut self, view: &impl StateRead, to: &[u8]) -> Result<(), Fatal> {
        let stray = view.scan(Table::Events, &self.events_from, to, 1)?.pop();
        if let Some((key, _)) = stray {
            let channel = keys::id_of(&key).map_or(ChannelId::NIL, ChannelId);
            let seq = keys::seq_of_event(&key).unwrap_or(Seq(0));
            self.found(Finding::Stray { channel, seq });
        }
        self.events_from = to.to_vec();
        Ok(())
    }

    fn seen(&mut self, table: Table, key: &[u8], value: &[u8]) {
        self.report.rows += 1;
        let suffix = &key[4..];
        let mut head = [table as u8; 9];
        head[1..5].copy_from_slice(&(suffix.len() as u32).to_be_bytes());
        head[5..].copy_from_slice(&(value.len() as u32).to_be_bytes());
        self.sha.update(head);
        self.sha.update(suffix);
        self.sha.update(value);
    }

    fn bad_events(&mut self, channel: &ChannelId, key: &Bytes, bad: BadEvents) {
        let channel = *channel;
        self.found(match bad {
            BadEvents::Missing(seq) => Finding::Missing { channel, seq },
            BadEvents::Stray(seq) => Finding::Stray { channel, seq },
            BadEvents::Chain => Finding::Chain { channel },
            BadEvents::Unreadable(field) => {
                Finding::Unreadable { table: Table::Events, key: key.clone(), field }
            }
        });
    }

    fn unreadable(&mut self, table: Table, key: &Bytes, result: Result<(), Corrupt>) {
        if let Err(Corrupt(field)) = result {
            self.found(Finding::Unreadable { table, key: key.clone(), field });
        }
    }

    fn found(&mut self, finding: Finding) {
        self.report.bad += 1;
        if self.report.findings.len() < FINDINGS_MAX {
            self.report.findings.push(finding);
        }
    }
}
