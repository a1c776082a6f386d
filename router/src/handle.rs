//! How other threads talk to the router loop.

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use throng_base::Full;
use throng_router_core::meta::{Meta, MetaCommand, MetaDone, MetaError};
use throng_router_core::{AppliedRow, Checkpoint, FlushToken, ImportToken, Operation, Pressure, ViewId};
use throng_runtime::Waker;
use throng_storage_core::store::{PersistToken, StoreStats};
use throng_wire::link::{GatewayId, ToRouter};
use throng_wire::peer::SnapshotRow;
use throng_wire::{NodeId, ShardId};

use crate::asks::Operated;
use crate::gateways::GatewaySink;
use crate::limits::{CAUSE_WAIT, INPUTS_MAX};

/// One input of the loop.
pub enum RouterInput {
    /// The log has synced everything through this token.
    Persisted(PersistToken),
    /// The state store has flushed everything through this token.
    Flushed(FlushToken),
    /// Rows of a received snapshot are written.
    Imported(ImportToken),
    /// A view of the state is open, with the row of its shard, or could not be opened.
    View(ViewId, Option<Box<AppliedRow>>),
    /// The next rows of a view; a digest comes with the last ones.
    ViewRows(ViewId, Vec<SnapshotRow>, Option<u64>),
    /// A view broke.
    ViewLost(ViewId),
    /// Log or state store failed; the node stops.
    Fatal(String),
    /// A gateway loop of this process is there.
    GatewayUp(GatewayId, Box<dyn GatewaySink>),
    /// It speaks.
    Gateway(GatewayId, Vec<ToRouter>),
    /// It is gone.
    GatewayDown(GatewayId),
    /// The log is beyond its budget because of these shards.
    LogOverBudget(Vec<ShardId>),
    /// Something does not keep up with clients that write, or does again.
    Pressure(Pressure, bool),
    /// Somebody waits until everything that is applied here is durable in the state; the answer is which copy each shard
    /// uses.
    Settle(Sender<Vec<u32>>),
    /// Somebody has a command for the metadata group.
    Meta(Box<MetaCommand>, Sender<MetaReply>),
    /// Somebody wants to know what the metadata says, as far as it is applied here.
    Metadata(Sender<Option<Meta>>),
    /// An operator asks, and waits for the answer of this node.
    Operate(Operation, Sender<Operated>),
    /// Somebody wants to see a shard exactly as of an entry; the answer carries the number by which to say that it is
    /// done.
    Checkpoint(ShardId, u64, Sender<(u64, Checkpoint)>),
    /// A checkpoint was seen.
    CheckpointDone(u64),
    /// Somebody wants to know how the loop is doing.
    Status(Sender<RouterStatus>),
    /// The node is about to stop: give all leaderships away.
    Retire,
    /// Stop after this turn.
    Stop,
}

/// What a command of the metadata group came to.
pub type MetaReply = Result<MetaDone, MetaError>;

/// Why the loop ends: what the thread that stopped says, if it says something within a moment, because whoever could not
/// hand work to it knows only that it has stopped.
pub(crate) fn cause(inputs: &Receiver<RouterInput>, known: String) -> String {
    let deadline = std::time::Instant::now() + CAUSE_WAIT;
    while let Ok(input) = inputs.recv_deadline(deadline) {
        if let RouterInput::Fatal(reason) = input {
            return reason;
        }
    }
    known
}

/// How a node's shards are doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouterStatus {
    /// By shard.
    pub shards: Vec<ShardStatus>,
    /// The metadata group.
    pub metadata: Option<ShardStatus>,
    /// Nodes with a working link.
    pub links_up: Vec<NodeId>,
    /// Gateways connected.
    pub gateways: usize,
    /// Sessions registered at users' shards here.
    pub sessions: usize,
    /// Bytes that the registry of sessions takes.
    pub registry_bytes: usize,
    /// Commands that retention has proposed here.
    pub retentions: u64,
    /// What keeps clients from writing here: they are answered BUSY.
    pub pressures: Vec<Pressure>,
    /// Counters of the replicated store.
    pub store: StoreStats,
}

/// How one shard is doing on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardStatus {
    /// Which.
    pub shard: ShardId,
    /// Its leader, as this node knows.
    pub leader: Option<NodeId>,
    /// Raft term.
    pub term: u64,
    /// Whether this node leads it and serves.
    pub serving: bool,
    /// Highest entry applied here.
    pub applied: u64,
    /// The nodes with a replica, as is applied here; none if this one has none.
    pub members: Vec<NodeId>,
    /// Of these: the nodes whose replica has a vote.
    pub voters: Vec<NodeId>,
    /// Whether the replica here may have forgotten what it said, and counts for nothing until a leader has cleared it.
    pub is_suspect: bool,
}

/// Sends inputs to the loop; cloned into every thread that has some.
#[derive(Clone)]
pub struct RouterHandle {
    inputs: Sender<RouterInput>,
    waker: Waker,
}

impl RouterHandle {
    /// A handle and the loop's ends of it.
    ///
    /// # Errors
    /// Out of descriptors.
    pub fn new() -> std::io::Result<(Self, Receiver<RouterInput>, Waker)> {
        let (inputs, receiver) = bounded(INPUTS_MAX);
        let waker = Waker::new()?;
        Ok((Self { inputs, waker: waker.clone() }, receiver, waker))
    }

    /// Hands over an input without waiting.
    ///
    /// # Errors
    /// [`Full`] with the input if the queue is full or the loop has ended.
    pub fn try_send(&self, input: RouterInput) -> Result<(), Full<RouterInput>> {
        match self.inputs.try_send(input) {
            Ok(()) => {
                self.waker.wake();
                Ok(())
            }
            Err(TrySendError::Full(input) | TrySendError::Disconnected(input)) => Err(Full(input)),
        }
    }

    /// Hands over an input, waiting for room; only for threads that the loop itself never waits for.
    pub fn send(&self, input: RouterInput) {
        if self.inputs.send(input).is_ok() {
            self.waker.wake();
        }
    }
}
