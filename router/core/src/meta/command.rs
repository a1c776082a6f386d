//! Commands and the entries that carry them.
//!
//! ```text
//!   version: u8 │ ts_ms: u64 │ count: u32 │ command × count
//!                                            └─ tag: u8 │ fields
//! ```

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::{BufMut, Bytes, BytesMut};
use throng_wire::ids::{NodeId, ServerTs, ShardId};

use super::registry::{JoinId, NodeState, Versions};
use crate::codec::{Corrupt, Reader, put_var};
use crate::entry::EntryError;
use crate::limits::{ENTRY_COMMANDS_MAX, META_NAME_MAX, META_REPLICAS_MAX, TS_MAX};

/// Version of the metadata machine: the newest that this program can apply. A change of what a command does at apply
/// raises it.
pub const META_VERSION: u8 = 1;

/// What a node says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// Drawn once by the node.
    pub join: JoinId,
    /// Where other nodes and gateways reach it.
    pub peer: SocketAddr,
    /// Where clients reach it.
    pub client: Option<SocketAddr>,
    /// Its operations port.
    pub ops: Option<SocketAddr>,
    /// What it shares a fate with, at most [`META_NAME_MAX`] bytes; empty = nothing that is known.
    pub zone: String,
    /// The name in its peer certificate, at most [`META_NAME_MAX`] bytes; empty without TLS.
    pub certificate: String,
    /// Versions of the replicated machines that it speaks.
    pub speaks: Versions,
}

/// One command of the metadata group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetaCommand {
    /// The nodes that the cluster was formatted with, by number. Said by the group's first leader; again = nothing.
    Found(Vec<(NodeId, Registration)>),
    /// A node wants to join, or has new addresses or another version.
    Register {
        /// The number it wants: above all that were given. Without, the next one.
        number: Option<NodeId>,
        /// The node.
        node: Registration,
    },
    /// Sets whether a node takes part.
    SetState {
        /// The node.
        node: NodeId,
        /// Its state from here on.
        state: NodeState,
    },
    /// One replica of a shard should be elsewhere.
    Move {
        /// The shard.
        shard: ShardId,
        /// The node that holds it.
        from: NodeId,
        /// The active node that should.
        to: NodeId,
    },
    /// The replicas of a shard should be these.
    SetReplicas {
        /// The shard.
        shard: ShardId,
        /// The nodes.
        nodes: Vec<NodeId>,
    },
    /// Lays all shards out over the active nodes, with as few moves as possible.
    Balance {
        /// Replicas of each shard from here on, as far as there are nodes; 0 = as before.
        replicas: u8,
    },
    /// Commands of this version of the machines may be proposed from here on.
    OpenVersion(u8),
}

/// Tags. Numbers are for ever.
mod tag {
    pub(super) const FOUND: u8 = 1;
    pub(super) const REGISTER: u8 = 2;
    pub(super) const SET_STATE: u8 = 3;
    pub(super) const MOVE: u8 = 4;
    pub(super) const SET_REPLICAS: u8 = 5;
    pub(super) const BALANCE: u8 = 6;
    pub(super) const OPEN_VERSION: u8 = 7;
}

/// Writes an entry.
///
/// # Panics
/// If there are more commands than [`ENTRY_COMMANDS_MAX`] or a list or name is above its limit.
pub fn write_entry(commands: &[MetaCommand], ts: ServerTs) -> Bytes {
    assert!(commands.len() <= ENTRY_COMMANDS_MAX, "who proposes cuts entries");
    let mut out = BytesMut::new();
    out.put_u8(META_VERSION);
    out.put_u64(ts.0.min(TS_MAX));
    out.put_u32(commands.len() as u32);
    commands.iter().for_each(|command| put_command(&mut out, command));
    out.freeze()
}

/// Reads an entry; an empty payload is Raft's own at the start of a term.
///
/// # Errors
/// [`EntryError`]: a version or command that this program does not know, or bytes that are no entry; the replica stops.
pub fn read_entry(payload: &[u8]) -> Result<(ServerTs, Vec<MetaCommand>), EntryError> {
    let mut reader = Reader::new(payload);
    if payload.is_empty() {
        return Ok((ServerTs(0), Vec::new()));
    }
    let version = reader.u8("version")?;
    if version != META_VERSION {
        return Err(EntryError::Version(version));
    }
    let ts = ServerTs(reader.u64("ts")?);
    let count = reader.u32("count")? as usize;
    if count > ENTRY_COMMANDS_MAX {
        return Err(EntryError::Corrupt("count"));
    }
    let commands = (0..count).map(|_| command(&mut reader)).collect::<Result<_, EntryError>>()?;
    reader.end("end of entry")?;
    Ok((ts, commands))
}

fn put_command(out: &mut BytesMut, command: &MetaCommand) {
    match command {
        MetaCommand::Found(nodes) => {
            out.put_u8(tag::FOUND);
            assert!(nodes.len() <= META_REPLICAS_MAX, "a founding is one group");
            put_var(out, nodes.len() as u64);
            for (id, node) in nodes {
                put_var(out, id.0);
                put_registration(out, node);
            }
        }
        MetaCommand::Register { number, node } => {
            out.put_u8(tag::REGISTER);
            put_var(out, number.map_or(0, |number| number.0));
            put_registration(out, node);
        }
        MetaCommand::SetState { node, state } => {
            out.put_u8(tag::SET_STATE);
            put_var(out, node.0);
            out.put_u8(state_byte(*state));
        }
        MetaCommand::Move { shard, from, to } => {
            out.put_u8(tag::MOVE);
            out.put_u32(shard.0);
            put_var(out, from.0);
            put_var(out, to.0);
        }
        MetaCommand::SetReplicas { shard, nodes } => {
            out.put_u8(tag::SET_REPLICAS);
            out.put_u32(shard.0);
            put_nodes(out, nodes);
        }
        MetaCommand::Balance { replicas } => {
            out.put_u8(tag::BALANCE);
            out.put_u8(*replicas);
        }
        MetaCommand::OpenVersion(version) => {
            out.put_u8(tag::OPEN_VERSION);
            out.put_u8(*version);
        }
    }
}

fn command(reader: &mut Reader<'_>) -> Result<MetaCommand, EntryError> {
    Ok(match reader.u8("tag")? {
        tag::FOUND => {
            let count = reader.count(1, "found.count")?;
            if count > META_REPLICAS_MAX {
                return Err(EntryError::Corrupt("found.count"));
            }
            let node = |reader: &mut Reader<'_>| Ok((NodeId(reader.var("found.id")?), registration(reader)?));
            MetaCommand::Found((0..count).map(|_| node(reader)).collect::<Result<_, Corrupt>>()?)
        }
        tag::REGISTER => {
            let number = Some(NodeId(reader.var("register.number")?)).filter(|number| number.0 > 0);
            MetaCommand::Register { number, node: registration(reader)? }
        }
        tag::SET_STATE => MetaCommand::SetState {
            node: NodeId(reader.var("state.node")?),
            state: state_of(reader.u8("state.state")?).ok_or(Corrupt("state.state"))?,
        },
        tag::MOVE => MetaCommand::Move {
            shard: ShardId(reader.u32("move.shard")?),
            from: NodeId(reader.var("move.from")?),
            to: NodeId(reader.var("move.to")?),
        },
        tag::SET_REPLICAS => {
            MetaCommand::SetReplicas { shard: ShardId(reader.u32("replicas.shard")?), nodes: nodes(reader)? }
        }
        tag::BALANCE => MetaCommand::Balance { replicas: reader.u8("balance.replicas")? },
        tag::OPEN_VERSION => MetaCommand::OpenVersion(reader.u8("open.version")?),
        unknown => return Err(EntryError::UnknownCommand(unknown)),
    })
}

pub(super) fn put_nodes(out: &mut BytesMut, nodes: &[NodeId]) {
    put_var(out, nodes.len() as u64);
    nodes.iter().for_each(|node| put_var(out, node.0));
}

pub(super) fn nodes(reader: &mut Reader<'_>) -> Result<Vec<NodeId>, Corrupt> {
    let count = reader.count(1, "nodes.count")?;
    (0..count).map(|_| Ok(NodeId(reader.var("nodes.node")?))).collect()
}

pub(super) fn put_registration(out: &mut BytesMut, node: &Registration) {
    out.put_slice(&node.join.0);
    put_address(out, Some(node.peer));
    put_address(out, node.client);
    put_address(out, node.ops);
    put_name(out, &node.zone);
    put_name(out, &node.certificate);
    out.put_u8(node.speaks.oldest);
    out.put_u8(node.speaks.newest);
}

pub(super) fn registration(reader: &mut Reader<'_>) -> Result<Registration, Corrupt> {
    Ok(Registration {
        join: JoinId(reader.array("node.join")?),
        peer: address(reader)?.ok_or(Corrupt("node.peer"))?,
        client: address(reader)?,
        ops: address(reader)?,
        zone: name(reader)?,
        certificate: name(reader)?,
        speaks: Versions { oldest: reader.u8("node.oldest")?, newest: reader.u8("node.newest")? },
    })
}

fn put_name(out: &mut BytesMut, name: &str) {
    assert!(name.len() <= META_NAME_MAX, "names are checked where they come in");
    put_var(out, name.len() as u64);
    out.put_slice(name.as_bytes());
}

fn name(reader: &mut Reader<'_>) -> Result<String, Corrupt> {
    let length = reader.count(1, "name")?;
    let bytes = reader.take(length, "name")?;
    let text = core::str::from_utf8(bytes).map_err(|_| Corrupt("name"))?;
    if text.len() > META_NAME_MAX { Err(Corrupt("name")) } else { Ok(text.to_owned()) }
}

fn put_address(out: &mut BytesMut, address: Option<SocketAddr>) {
    let Some(address) = address else { return out.put_u8(0) };
    match address.ip() {
        IpAddr::V4(ip) => {
            out.put_u8(4);
            out.put_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            out.put_u8(6);
            out.put_slice(&ip.octets());
        }
    }
    out.put_u16(address.port());
}

fn address(reader: &mut Reader<'_>) -> Result<Option<SocketAddr>, Corrupt> {
    let ip: IpAddr = match reader.u8("address")? {
        0 => return Ok(None),
        4 => Ipv4Addr::from(reader.array::<4>("address")?).into(),
        6 => Ipv6Addr::from(reader.array::<16>("address")?).into(),
        _ => return Err(Corrupt("address")),
    };
    Ok(Some(SocketAddr::new(ip, reader.u16("address")?)))
}

pub(super) fn state_byte(state: NodeState) -> u8 {
    match state {
        NodeState::Joining => 0,
        NodeState::Active => 1,
        NodeState::Leaving => 2,
        NodeState::Gone => 3,
    }
}

pub(super) fn state_of(byte: u8) -> Option<NodeState> {
    [NodeState::Joining, NodeState::Active, NodeState::Leaving, NodeState::Gone]
        .get(usize::from(byte))
        .copied()
}
