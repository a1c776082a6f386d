//! One node without sockets: the real log, state store and router, in one thread, as its cluster's only voter.

use std::path::Path;
use std::time::{Duration, Instant as Time};

use crossbeam_channel::{Receiver, unbounded};
use throng_base::Instant;
use throng_router_core::machines::MemoryLimits;
use throng_router_core::{FlushToken, Output, Router, RouterConfig, applied};
use throng_runtime::{Clock, unix_millis};
use throng_storage::{FlushPolicy, Flusher, LogConfig, LogWriter, OpenOptions, Report, RocksState};
use throng_storage_core::log::{BLOCK, Tail};
use throng_storage_core::store::{PersistToken, Store, StoreConfig};
use throng_wire::ids::{Epoch, NodeId, ShardId, UserId};
use throng_wire::link::{Answer, GatewayId, Op, Refusal, Request, ToGateway, ToRouter};

use crate::Result;
use crate::plan::DEVICE;

const NODE: NodeId = NodeId(1);
const SHARDS: u32 = 4;
pub(crate) const EPOCH: Epoch = Epoch(1);
const CLUSTER: [u8; 16] = *b"throng power cut";
const GATEWAY: GatewayId = GatewayId(1);
/// Bounds every wait. The guest is emulated, and a segment or a flush takes it seconds.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// How the node is set up: small, so that everything that happens in days happens in seconds.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Bytes of a log segment.
    pub(crate) segment_bytes: u64,
    /// When applied state is flushed.
    pub(crate) flush: FlushPolicy,
    /// How old a change gets before it goes into a flush batch.
    pub(crate) flush_age: Duration,
    /// The planted bug: a group commit counts as durable as soon as it was handed to the log.
    pub(crate) acks_early: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: 64 * BLOCK as u64,
            flush: FlushPolicy { bytes: 128 << 10, delay: Duration::from_millis(150) },
            flush_age: Duration::from_millis(100),
            acks_early: false,
        }
    }
}

/// Group commits that the planted bug leaves with the log thread; an honest node has fewer under way.
const UNSYNCED_MAX: u64 = 8;

/// What the threads say.
enum Said {
    Log(Report<PersistToken>),
    State(Report<FlushToken>),
}

/// A running node. Its threads end before its state is closed.
pub(crate) struct Node {
    log: LogWriter,
    flusher: Flusher<FlushToken>,
    router: Router<RocksState>,
    said: Receiver<Said>,
    clock: Clock,
    acks_early: bool,
    /// The newest group commit that is durable.
    durable: u64,
    last_request: u64,
    replies: Vec<(u64, std::result::Result<Answer, Refusal>)>,
    tail: Tail,
}

impl Node {
    /// Opens, formats or recovers a data directory.
    ///
    /// # Errors
    /// It refuses to.
    pub(crate) fn open(dir: &Path, options: &Options) -> Result<Self> {
        let mut open = OpenOptions::new(CLUSTER, NODE, SHARDS);
        open.log = LogConfig { segment_bytes: options.segment_bytes, ..LogConfig::default() };
        let opened = throng_storage::open(dir, &open).map_err(|error| format!("refused to open: {error}"))?;
        let (clock, state, reader) = (Clock::new(), opened.state, opened.log.reader());
        let tail = opened.log.tail();
        let (mut groups, mut replicas) = (Vec::new(), Vec::new());
        for shard in (0..opened.format.groups()).map(ShardId) {
            let replica = reader.mark(shard).map_or(shard.0, |mark| mark.replica);
            let at = applied(&state, shard, replica).map_err(|error| format!("state: {error}"))?;
            replicas.push(replica);
            groups.push(reader.recovered_group(shard, at.index, at.term).map_err(|error| error.to_string())?);
        }
        let config = StoreConfig::new(NODE, vec![NODE], opened.format.groups());
        let store = Store::new(config, unix_millis(), clock.now(), groups, Box::new(reader))
            .map_err(|error| format!("refused to recover: {error}"))?;
        let mut config = RouterConfig::new(NODE, SHARDS, EPOCH);
        config.flush_age = options.flush_age;
        // Little memory, so that reads come from the disk.
        config.memory = MemoryLimits { event_bytes: 256 << 10, object_bytes: 256 << 10 };
        let (now, wall) = (clock.now(), unix_millis());
        let mut router = Router::new(config, wall, now, wall, store, state.clone(), &replicas)
            .map_err(|error| format!("refused to load: {error}"))?;
        router.handle_gateway_up(clock.now(), GATEWAY);
        let (says, said) = unbounded();
        let flush_says = says.clone();
        // Nobody listens after the node has closed.
        let log = opened.log.start(move |report| drop(says.send(Said::Log(report))));
        let flusher =
            Flusher::start(state, options.flush, move |report| drop(flush_says.send(Said::State(report))));
        let threads = |error: std::io::Error| format!("threads: {error}");
        Ok(Self {
            log: log.map_err(threads)?,
            flusher: flusher.map_err(threads)?,
            router,
            said,
            clock,
            acks_early: options.acks_early,
            durable: 0,
            last_request: 0,
            replies: Vec::new(),
            tail,
        })
    }

    /// What the log ended in when it was opened.
    pub(crate) fn tail(&self) -> Tail {
        self.tail
    }

    /// Puts a request and returns its number.
    pub(crate) fn ask(&mut self, user: UserId, op: Op) -> u64 {
        self.last_request += 1;
        let request = Request { id: self.last_request, user, device: DEVICE, op };
        self.router.handle_gateway(self.clock.now(), GATEWAY, ToRouter::Request(request));
        self.last_request
    }

    /// Works for one turn, waiting at most so long; returns what was answered.
    ///
    /// # Errors
    /// The node must stop.
    pub(crate) fn turn(
        &mut self,
        wait: Duration,
    ) -> Result<Vec<(u64, std::result::Result<Answer, Refusal>)>> {
        let now = self.clock.now();
        self.router.handle_wall_clock(unix_millis());
        if self.router.poll_timeout().is_some_and(|at| at <= now) {
            self.router.handle_timeout(now);
        }
        self.drain(now)?;
        let wait = if self.replies.is_empty() { wait } else { Duration::ZERO };
        let wait = self.router.poll_timeout().map_or(wait, |at| wait.min(at.since(self.clock.now())));
        if let Ok(said) = self.said.recv_timeout(wait) {
            let now = self.clock.now();
            self.hear(now, said)?;
            while let Ok(said) = self.said.try_recv() {
                self.hear(now, said)?;
            }
            self.drain(now)?;
        }
        Ok(std::mem::take(&mut self.replies))
    }

    /// Asks and waits for the answer; while the shard has no leader, again.
    ///
    /// # Errors
    /// The node must stop, or does not answer.
    pub(crate) fn call(&mut self, user: UserId, op: Op) -> Result<std::result::Result<Answer, Refusal>> {
        let deadline = Time::now() + PATIENCE;
        let mut id = self.ask(user, op.clone());
        while Time::now() < deadline {
            for (answered, result) in self.turn(Duration::from_millis(20))? {
                match result {
                    _ if answered != id => {}
                    Err(Refusal { retry_after_ms: 1.., .. }) => id = self.ask(user, op.clone()),
                    result => return Ok(result),
                }
            }
        }
        Err(format!("no answer to {op:?} within {PATIENCE:?}"))
    }

    fn hear(&mut self, now: Instant, said: Said) -> Result<()> {
        match said {
            Said::Log(Report::Durable(token)) if !self.acks_early => self.router.handle_persisted(now, token),
            Said::Log(Report::Durable(token)) => self.durable = token.0,
            Said::State(Report::Durable(token)) => self.router.handle_flushed(now, token),
            Said::Log(Report::Fatal(why)) | Said::State(Report::Fatal(why)) => return Err(why),
        }
        Ok(())
    }

    fn drain(&mut self, now: Instant) -> Result<()> {
        while let Some(output) = self.router.poll_output() {
            match output {
                Output::Persist { token, records } => {
                    while self.acks_early && token.0 > self.durable + UNSYNCED_MAX {
                        let said = self.said.recv_timeout(PATIENCE);
                        self.hear(now, said.map_err(|_| "the log does not answer".to_owned())?)?;
                    }
                    self.log.submit(token, records).map_err(|error| format!("log: {error}"))?;
                    if self.acks_early {
                        self.router.handle_persisted(now, token);
                    }
                }
                Output::Flush { token, batch } => {
                    self.flusher.submit(token, batch).map_err(|error| format!("state: {error}"))?;
                }
                Output::ToGateway { message: ToGateway::Reply(reply), .. } => {
                    self.replies.push((reply.id, reply.result));
                }
                Output::Truncate { shard, mark } => {
                    self.log.truncate(vec![(shard, mark)]).map_err(|error| format!("log: {error}"))?;
                }
                // Nobody else is in the cluster, so nobody is behind, and nobody is subscribed.
                Output::ToPeer { .. }
                | Output::ToGateway { .. }
                | Output::OpenView { .. }
                | Output::ReadView { .. }
                | Output::CloseView { .. }
                | Output::Import { .. }
                | Output::Nodes { .. }
                | Output::Operated { .. }
                | Output::Checkpoint { .. }
                | Output::MetaDone { .. } => {}
                Output::Fatal { reason } => return Err(format!("the node stopped: {reason}")),
            }
        }
        Ok(())
    }
}
