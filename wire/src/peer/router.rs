//! Router to router: the replicated outbox of a channel's shard, drained to users' shards.

use super::proto;
use crate::error::DecodeError;
use crate::ids::{ChannelId, Seq, ShardId, UserId};
use crate::limits::PEER_ROWS_MAX;

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

/// Between the leader of a channel's shard and the leader of a user's shard.
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
}

impl From<&RouterMessage> for proto::Router {
    fn from(message: &RouterMessage) -> Self {
        let (from_shard, to_shard, batch) = match message {
            RouterMessage::InboxUpdate { from_shard, to_shard, batch, .. }
            | RouterMessage::InboxStored { from_shard, to_shard, batch } => {
                (from_shard.0, to_shard.0, *batch)
            }
        };
        let what = match message {
            RouterMessage::InboxUpdate { rows, .. } => {
                let rows = rows.iter().map(proto::InboxRow::from).collect();
                proto::RouterWhat::InboxUpdate(proto::InboxRows { rows })
            }
            RouterMessage::InboxStored { .. } => proto::RouterWhat::InboxStored(proto::Empty {}),
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
        })
    }
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
