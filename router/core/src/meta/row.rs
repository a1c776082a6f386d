//! Rows of the metadata machine, under the replica prefix of its copy like those of every other group.
//!
//! ```text
//!   Objects  replica: u32 │ slot 0: u16 │ 0xff × 16 │ tag: u8 │ sub-key
//!     HEAD                → version │ shards │ last node │ epoch │ replicas │ machine version
//!     NODE   node: u64    → version │ state │ registration
//!     PLACE  shard: u32   → version │ nodes
//! ```

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use throng_storage_core::state::{Change, StateRead, Table, WriteBatch};
use throng_wire::ids::NodeId;

use super::command::{nodes, put_nodes, put_registration, registration, state_byte, state_of};
use super::{Dirty, Meta, NodeRow, Registration};
use crate::codec::{Corrupt, Reader, put_var};
use crate::fatal::Fatal;
use crate::limits::META_REPLICAS_MAX;
use crate::state::PREFIX_LEN;

/// Version of the rows.
const ROW_VERSION: u8 = 1;

/// Row tags, apart from those of channels, users and shards. Numbers are for ever.
mod tag {
    pub(super) const HEAD: u8 = 16;
    pub(super) const NODE: u8 = 17;
    pub(super) const PLACE: u8 = 18;
}

/// Rows read at a time.
const SCAN_ROWS: usize = 256;

fn key(replica: u32, tag: u8, sub: &[u8]) -> Bytes {
    let mut key = BytesMut::with_capacity(PREFIX_LEN + 1 + sub.len());
    key.put_u32(replica);
    key.put_u16(0);
    key.put_bytes(0xff, 16);
    key.put_u8(tag);
    key.put_slice(sub);
    key.freeze()
}

impl Meta {
    /// The rows that changed since the last call, for the copy `replica`.
    pub fn take_changes(&mut self, replica: u32) -> WriteBatch {
        let Dirty { head, nodes, shards } = core::mem::take(&mut self.dirty);
        let mut batch = WriteBatch::with_capacity(usize::from(head) + nodes.len() + shards.len());
        if head {
            batch.push(Change::Put(Table::Objects, key(replica, tag::HEAD, &[]), self.head_row()));
        }
        for id in nodes {
            let key = key(replica, tag::NODE, &id.0.to_be_bytes());
            batch.push(match self.nodes.get(&id) {
                Some(row) => Change::Put(Table::Objects, key, node_row(row)),
                None => Change::Delete(Table::Objects, key),
            });
        }
        for shard in shards {
            let key = key(replica, tag::PLACE, &shard.to_be_bytes());
            batch.push(Change::Put(Table::Objects, key, place_row(&self.map[shard as usize])));
        }
        batch
    }

    /// Whether there are changes to take.
    pub fn is_dirty(&self) -> bool {
        self.dirty != Dirty::default()
    }

    /// Loads the copy `replica`; without rows the cluster has no nodes yet.
    ///
    /// # Errors
    /// [`Fatal`] if the store cannot be read or a row is not what was written.
    pub fn load(state: &impl StateRead, replica: u32, shards: u32) -> Result<Self, Fatal> {
        let mut meta = Self::empty(shards);
        let Some(head) = state.get(Table::Objects, &key(replica, tag::HEAD, &[]))? else { return Ok(meta) };
        meta.read_head(&head).map_err(corrupt)?;
        for (sub, value) in rows(state, replica, tag::NODE)? {
            let row = read_node(&sub, &value).map_err(corrupt)?;
            meta.nodes.insert(row.id, row);
        }
        for (sub, value) in rows(state, replica, tag::PLACE)? {
            let shard = read_shard(&sub, shards).map_err(corrupt)?;
            meta.map[shard as usize] = read_place(&value).map_err(corrupt)?;
        }
        meta.check().map_err(Fatal::corrupt_row)?;
        Ok(meta)
    }

    /// Whether a row parses: of a copy of the metadata of a cluster with `shards`, by its key behind the prefix.
    ///
    /// # Errors
    /// [`Corrupt`] at the first field that does not.
    pub(crate) fn check_row(key: &[u8], value: &[u8], shards: u32) -> Result<(), Corrupt> {
        match key.split_first() {
            Some((&tag::HEAD, [])) => Self::empty(shards).read_head(value),
            Some((&tag::NODE, sub)) => read_node(sub, value).map(drop),
            Some((&tag::PLACE, sub)) => read_shard(sub, shards).and_then(|_| read_place(value)).map(drop),
            _ => Err(Corrupt("meta.key")),
        }
    }

    fn head_row(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_u8(ROW_VERSION);
        out.put_u32(self.map.len() as u32);
        put_var(&mut out, self.last_node.0);
        put_var(&mut out, self.epoch);
        put_var(&mut out, self.replicas as u64);
        out.put_u8(self.version);
        out.freeze()
    }

    fn read_head(&mut self, value: &[u8]) -> Result<(), Corrupt> {
        let mut reader = versioned(value)?;
        if reader.u32("meta.shards")? as usize != self.map.len() {
            return Err(Corrupt("meta.shards"));
        }
        self.last_node = NodeId(reader.var("meta.last_node")?);
        self.epoch = reader.var("meta.epoch")?;
        self.replicas = reader.var("meta.replicas")? as usize;
        self.version = reader.u8("meta.version")?;
        if self.replicas > META_REPLICAS_MAX {
            return Err(Corrupt("meta.replicas"));
        }
        reader.end("meta head")
    }
}

/// All rows with a tag: sub-key and value.
fn rows(state: &impl StateRead, replica: u32, tag: u8) -> Result<BTreeMap<Bytes, Bytes>, Fatal> {
    let (mut from, to) = (key(replica, tag, &[]), key(replica, tag + 1, &[]));
    let mut all = BTreeMap::new();
    loop {
        let found = state.scan(Table::Objects, &from, &to, SCAN_ROWS)?;
        let count = found.len();
        if let Some((last, _)) = found.last() {
            from = [&last[..], &[0]].concat().into(); // the least key above the last
        }
        all.extend(found.into_iter().map(|(key, value)| (key.slice(PREFIX_LEN + 1..), value)));
        if count < SCAN_ROWS {
            return Ok(all);
        }
    }
}

fn node_row(row: &NodeRow) -> Bytes {
    let NodeRow { join, peer, client, ops, zone, certificate, speaks, .. } = row.clone();
    let mut out = BytesMut::new();
    out.put_u8(ROW_VERSION);
    out.put_u8(state_byte(row.state));
    put_registration(&mut out, &Registration { join, peer, client, ops, zone, certificate, speaks });
    out.freeze()
}

fn read_node(sub: &[u8], value: &[u8]) -> Result<NodeRow, Corrupt> {
    let id = NodeId(u64::from_be_bytes(sub.try_into().map_err(|_| Corrupt("meta.node"))?));
    let mut reader = versioned(value)?;
    let state = state_of(reader.u8("meta.state")?).ok_or(Corrupt("meta.state"))?;
    let Registration { join, peer, client, ops, zone, certificate, speaks } = registration(&mut reader)?;
    reader.end("meta node")?;
    Ok(NodeRow { id, join, peer, client, ops, zone, certificate, speaks, state })
}

/// The shard that a place is of.
fn read_shard(sub: &[u8], shards: u32) -> Result<u32, Corrupt> {
    let shard = u32::from_be_bytes(sub.try_into().map_err(|_| Corrupt("meta.place"))?);
    if shard < shards { Ok(shard) } else { Err(Corrupt("meta.shard")) }
}

fn place_row(place: &[NodeId]) -> Bytes {
    let mut out = BytesMut::new();
    out.put_u8(ROW_VERSION);
    put_nodes(&mut out, place);
    out.freeze()
}

fn read_place(value: &[u8]) -> Result<Vec<NodeId>, Corrupt> {
    let mut reader = versioned(value)?;
    let place = nodes(&mut reader)?;
    reader.end("meta place")?;
    Ok(place)
}

fn versioned(value: &[u8]) -> Result<Reader<'_>, Corrupt> {
    let mut reader = Reader::new(value);
    if reader.u8("meta row version")? == ROW_VERSION { Ok(reader) } else { Err(Corrupt("meta row version")) }
}

fn corrupt(corrupt: Corrupt) -> Fatal {
    Fatal::corrupt_row(corrupt.0)
}
