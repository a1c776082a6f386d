//! What a router tells its driver to do.

use throng_storage_core::entry::Record;
use throng_storage_core::state::WriteBatch;
use throng_storage_core::store::PersistToken;
use throng_wire::ids::NodeId;
use throng_wire::link::{GatewayId, ToGateway};
use throng_wire::peer::{RaftBatch, RouterMessage};

use crate::fatal::Fatal;
use crate::machines::FlushToken;

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
}
