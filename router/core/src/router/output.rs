//! What a router tells its driver to do.

use core::net::SocketAddr;

use throng_storage_core::entry::{Mark, Record};
use throng_storage_core::state::WriteBatch;
use throng_storage_core::store::PersistToken;
use throng_wire::ids::{NodeId, ShardId};
use throng_wire::link::{GatewayId, Refusal, ToGateway};
use throng_wire::peer::{RaftBatch, RouterMessage, SnapshotMessage};

use crate::fatal::Fatal;
use crate::machines::FlushToken;
use crate::meta::{MetaDone, MetaError};

use super::checkpoint::Checkpoint;
use super::transfer::{ImportToken, ViewId};

/// Effects, in the order in which they are to begin. What goes to one gateway stays in order.
#[derive(Debug)]
pub enum Output {
    /// Write these records as one atomic group commit, sync, then report the token.
    Persist {
        /// What to report.
        token: PersistToken,
        /// The records.
        records: Vec<Record>,
    },
    /// Write this batch to the state store, flush, then report the token; reporting one reports all below it. Batches
    /// must be written in the order in which they are handed out; one flush may serve several.
    Flush {
        /// What to report.
        token: FlushToken,
        /// The rows.
        batch: WriteBatch,
    },
    /// The log needs no entries of a group through the mark's index.
    Truncate {
        /// The group.
        shard: ShardId,
        /// Where its log begins from here on.
        mark: Mark,
    },
    /// Open a view: applied state as it is written at this moment, which does not change. Answer with
    /// [`super::Router::handle_view`].
    OpenView {
        /// Its name.
        view: ViewId,
        /// The shard that will be read.
        shard: ShardId,
        /// The number of its copy.
        replica: u32,
    },
    /// Read the next chunk of a view ([`crate::snapshot::next_chunk`]). Answer with
    /// [`super::Router::handle_view_rows`].
    ReadView {
        /// Which.
        view: ViewId,
    },
    /// A view is not needed any more, whether it was opened or not.
    CloseView {
        /// Which.
        view: ViewId,
    },
    /// Write these rows, and with `flush` make everything written before them durable; then report the token. They
    /// belong to copies that no machine uses yet, so their order towards [`Output::Flush`] does not matter.
    Import {
        /// What to report.
        token: ImportToken,
        /// The rows.
        batch: WriteBatch,
        /// Whether to flush.
        flush: bool,
    },
    /// Send to a node. May be lost.
    ToPeer {
        /// To whom.
        node: NodeId,
        /// What.
        message: PeerMessage,
    },
    /// Send to a gateway, in order. Replies must arrive while the link stands; deliveries may be dropped if the
    /// gateway is told so by [`ToGateway::Lagged`].
    ToGateway {
        /// To whom.
        gateway: GatewayId,
        /// What.
        message: ToGateway,
    },
    /// The nodes of the cluster and their peer addresses, this one included: links go to these and to nobody else. Once the
    /// cluster is founded, at the start and at every change.
    Nodes {
        /// All that are not gone.
        nodes: Vec<(NodeId, SocketAddr)>,
    },
    /// What a command of [`super::Router::handle_meta`] came to.
    MetaDone {
        /// Of the command.
        ticket: u64,
        /// The outcome.
        result: Result<MetaDone, MetaError>,
    },
    /// What an operator asked for is done, or refused.
    Operated {
        /// Which question.
        ask: u64,
        /// Done; or why not.
        result: Result<(), Refusal>,
    },
    /// What became of a checkpoint. The batch that it is about is handed out before.
    Checkpoint {
        /// Which question.
        ask: u64,
        /// What became of it.
        outcome: Checkpoint,
    },
    /// The node must stop; nothing follows.
    Fatal {
        /// Why.
        reason: Fatal,
    },
}

/// What routers say to each other.
#[derive(Clone, Debug, PartialEq)]
pub enum PeerMessage {
    /// Raft messages.
    Raft(RaftBatch),
    /// Between shards.
    Router(RouterMessage),
    /// A snapshot on its way.
    Snapshot(SnapshotMessage),
}
