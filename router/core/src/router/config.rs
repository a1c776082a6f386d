//! Configuration of a node's router.

use core::time::Duration;

use throng_wire::ids::{Epoch, NodeId};
use throng_wire::limits::BODY_MAX_DEFAULT;

use crate::limits::{FLUSH_AGE_MS, OUTBOX_LINGER_MS, OUTBOX_PAUSE_MS, OUTBOX_RESEND_MS};
use crate::machines::MemoryLimits;

/// Configuration of a [`super::Router`].
#[derive(Clone, Debug)]
pub struct RouterConfig {
    /// This node.
    pub node: NodeId,
    /// Nodes of the cluster, as far as they are known at the start: where a shard may be that has no replica here.
    pub nodes: Vec<NodeId>,
    /// Number of shards; fixed when the cluster was formatted.
    pub shards: u32,
    /// History epoch.
    pub epoch: Epoch,
    /// Body limit, bytes.
    pub body_max: usize,
    /// How much the machines keep in memory.
    pub memory: MemoryLimits,
    /// A flush batch is cut when the oldest change is this old.
    pub flush_age: Duration,
    /// How long moved inbox rows gather before they are sent to their users' shards.
    pub outbox_linger: Duration,
    /// A shard's outbox is drained at most this often.
    pub outbox_pause: Duration,
    /// An inbox update that nobody answered is sent again after this.
    pub outbox_resend: Duration,
}

impl RouterConfig {
    /// Defaults.
    pub fn new(node: NodeId, shards: u32, epoch: Epoch) -> Self {
        Self {
            node,
            nodes: Vec::new(),
            shards,
            epoch,
            body_max: BODY_MAX_DEFAULT,
            memory: MemoryLimits::default(),
            flush_age: Duration::from_millis(FLUSH_AGE_MS),
            outbox_linger: Duration::from_millis(OUTBOX_LINGER_MS),
            outbox_pause: Duration::from_millis(OUTBOX_PAUSE_MS),
            outbox_resend: Duration::from_millis(OUTBOX_RESEND_MS),
        }
    }
}
