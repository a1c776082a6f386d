//! Router to router: the replicated outbox of a channel's shard, drained to users' shards; commands for the metadata
//! group, carried to its leader.

use bytes::Bytes;

use super::proto;
use crate::error::DecodeError;
use crate::ids::{ChannelId, NodeId, Seq, ShardId, UserId};
use crate::limits::{META_BYTES_MAX, PEER_ROWS_MAX};

/// One inbox row: maximum wins, so repeating it is harmless.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InboxRow {
    /// Whose inbox.
    pub user: UserId,
    /// Which channel moved.
    pub channel: ChannelId,
    /// Its newest event.
    pub head: Seq,
    /// Messages in it.
    pub count: u64,
}

/// Between routers: the leaders of two shards, or a node and the leader of the metadata group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouterMessage {
    /// Store these rows.
    InboxUpdate {
        /// The channels' shard.
        from_shard: ShardId,
        /// The users' shard.
        to_shard: ShardId,
        /// Ticket, echoed in the answer.
        batch: u64,
        /// The rows.
        rows: Vec<InboxRow>,
    },
    /// The rows of `batch` are committed; the sender clears them from its outbox.
    InboxStored {
        /// The channels' shard.
        to_shard: ShardId,
        /// The users' shard.
        from_shard: ShardId,
        /// The ticket.
        batch: u64,
    },
    /// In answer to what is for a shard's leader, from a node that is not: this node leads it.
    LeaderIs {
        /// The shard.
        shard: ShardId,
        /// Its leader, as the sender knows.
        leader: NodeId,
    },
    /// A command for the metadata group, at most [`META_BYTES_MAX`] bytes as the machine writes it.
    Meta {
        /// Echoed in the answer.
        ticket: u64,
        /// The command.
        command: Bytes,
    },
    /// What a command came to, as the machine writes it.
    MetaAnswer {
        /// Of the command.
        ticket: u64,
        /// The outcome.
        answer: Bytes,
    },
}

impl From<&RouterMessage> for proto::Router {
    fn from(message: &RouterMessage) -> Self {
        let (from_shard, to_shard, batch) = match message {
            RouterMessage::InboxUpdate { from_shard, to_shard, batch, .. }
            | RouterMessage::InboxStored { from_shard, to_shard, batch } => {
                (from_shard.0, to_shard.0, *batch)
            }
            RouterMessage::LeaderIs { shard, .. } => (0, shard.0, 0),
            RouterMessage::Meta { ticket, .. } | RouterMessage::MetaAnswer { ticket, .. } => (0, 0, *ticket),
        };
        let what = match message {
            RouterMessage::InboxUpdate { rows, .. } => {
                let rows = rows.iter().map(proto::InboxRow::from).collect();
                proto::RouterWhat::InboxUpdate(proto::InboxRows { rows })
            }
            RouterMessage::InboxStored { .. } => proto::RouterWhat::InboxStored(proto::Empty {}),
            RouterMessage::LeaderIs { leader, .. } => proto::RouterWhat::LeaderIs(leader.0),
            RouterMessage::Meta { command, .. } => proto::RouterWhat::Meta(command.clone()),
            RouterMessage::MetaAnswer { answer, .. } => proto::RouterWhat::MetaAnswer(answer.clone()),
        };
        Self { from_shard, to_shard, batch, what: Some(what) }
    }
}

impl From<&InboxRow> for proto::InboxRow {
    fn from(row: &InboxRow) -> Self {
        Self { user: row.user.0.into(), channel: row.channel.0.into(), head: row.head.0, count: row.count }
    }
}

impl TryFrom<proto::Router> for RouterMessage {
    type Error = DecodeError;

    fn try_from(message: proto::Router) -> Result<Self, DecodeError> {
        let (from_shard, to_shard) = (proto::shard(message.from_shard)?, proto::shard(message.to_shard)?);
        let batch = message.batch;
        Ok(match message.what.ok_or(DecodeError::BadValue("what"))? {
            proto::RouterWhat::InboxUpdate(update) => Self::InboxUpdate {
                from_shard,
                to_shard,
                batch,
                rows: proto::list(update.rows, PEER_ROWS_MAX, "rows", InboxRow::try_from)?,
            },
            proto::RouterWhat::InboxStored(_) => Self::InboxStored { to_shard, from_shard, batch },
            proto::RouterWhat::LeaderIs(leader) => Self::LeaderIs { shard: to_shard, leader: NodeId(leader) },
            proto::RouterWhat::Meta(command) => {
                Self::Meta { ticket: batch, command: small(command, "meta")? }
            }
            proto::RouterWhat::MetaAnswer(answer) => {
                Self::MetaAnswer { ticket: batch, answer: small(answer, "answer")? }
            }
        })
    }
}

fn small(bytes: Bytes, name: &'static str) -> Result<Bytes, DecodeError> {
    if bytes.len() > META_BYTES_MAX { Err(DecodeError::OverLimit(name)) } else { Ok(bytes) }
}

impl TryFrom<proto::InboxRow> for InboxRow {
    type Error = DecodeError;

    fn try_from(row: proto::InboxRow) -> Result<Self, DecodeError> {
        Ok(Self {
            user: UserId(row.user.into()),
            channel: ChannelId(row.channel.into()),
            head: proto::seq(row.head)?,
            count: proto::number(row.count, "count")?,
        })
    }
}
