//! The roles router and storage: data directory, store, machines, and the thread that runs them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use throng_router::{Driver, DriverConfig, RouterHandle, RouterInput, ShardStatus, StoreDrivers};
use throng_router_core::entry::{FIRST_VERSION, VERSION};
use throng_router_core::meta::{JoinId, Registration, Versions};
use throng_router_core::{FlushToken, ImportToken, Pressure, Router, RouterConfig, applied};
use throng_runtime::tls::PeerTls;
use throng_runtime::{Clock, Waker, unix_millis};
use throng_storage::{
    FlushPolicy, Flusher, Format, Importer, LogReader, OpenError, OpenOptions, Opened, Report, RocksState,
    SpaceWatch, read_format,
};
use throng_storage_core::store::limits::NO_REPLICA;
use throng_storage_core::store::{RecoveredGroup, Store, StoreConfig};
use throng_wire::{NodeId, ShardId};

use super::join::{Enrolled, JOIN_FILE, join_id};
use super::views::StateViews;
use super::{ClusterFacts, random_id, random_u64};
use crate::backup;
use crate::care::{Care, Schedule, Scrubber};
use crate::config::Config;
use crate::error::Failure;

/// Shards of a new cluster unless told otherwise.
const SHARDS_DEFAULT: u32 = 64;

/// How often the log's size is looked at.
const WATCH_LOG_EVERY: Duration = Duration::from_secs(1);

/// How long a node that stops waits for others to take its shards over.
const RETIRE_MAX: Duration = Duration::from_secs(2);

/// The running roles.
pub(crate) struct RouterRole {
    facts: ClusterFacts,
    handle: RouterHandle,
    peer_address: SocketAddr,
    backup: backup::Source,
    care: Care,
    /// Scrubs now and then.
    _scrubs: Schedule,
    thread: Option<JoinHandle<Result<(), String>>>,
    /// The log, to see when it is beyond its budget,
    log: LogReader,
    /// and when that was looked at last.
    log_seen: Instant,
    _space: SpaceWatch,
}

impl RouterRole {
    /// Opens the data directory and starts the threads.
    ///
    /// # Errors
    /// [`Failure::Runtime`]: the directory is locked, of another cluster, version or shard count, or damaged; the
    /// peer port is in use.
    pub(crate) fn start(
        config: &mut Config,
        tls: Option<PeerTls>,
        client: Option<SocketAddr>,
        ops: SocketAddr,
    ) -> Result<Self, Failure> {
        probe(config.peer_listen)?;
        let found = read_format(&config.data_dir).map_err(refused)?;
        let drawn = drawn_id(config)?;
        let introduce = |config: &Config, join| introduction(config, tls.as_ref(), [client, Some(ops)], join);
        let enrolled = match drawn {
            Some(join) => enroll(config, found.as_ref(), tls.as_ref(), |config| introduce(config, join))?,
            None => None,
        };
        let options = open_options(config, found.as_ref(), enrolled.as_ref(), tls.as_ref())?;
        let opened = throng_storage::open(&config.data_dir, &options).map_err(refused)?;
        let facts = ClusterFacts {
            id: opened.format.cluster,
            shards: opened.format.shards,
            epoch: opened.format.epoch,
        };
        let me = introduce(config, drawn.unwrap_or_else(|| founder_id(&opened.format, config.node)));
        let log = opened.log.reader();
        let backup = backup::Source {
            state: opened.state.clone(),
            cluster: opened.format.cluster,
            epoch: opened.format.epoch,
            node: config.node,
            shards: opened.format.shards,
        };
        let (handle, inputs, waker) =
            RouterHandle::new().map_err(|e| Failure::runtime("cannot make the router's queue", e))?;
        let care = Care {
            router: handle.clone(),
            state: opened.state.clone(),
            log: log.clone(),
            shards: opened.format.shards,
            scrubber: Arc::new(Scrubber::new(&config.data_dir, config.scrub)),
        };
        let scrubs = Schedule::start(care.clone())?;
        let pressed = handle.clone();
        let space = SpaceWatch::start(config.data_dir.clone(), move |is_high| {
            pressed.send(RouterInput::Pressure(Pressure::Disk, is_high));
        })
        .map_err(|e| Failure::runtime("cannot watch the disk's free space", e))?;
        let peers =
            enrolled.map(|enrolled| enrolled.peers).unwrap_or_else(|| super::links::other_nodes(config));
        let peers = peers.into_iter().collect();
        let (own, known) = (config.clone(), facts.clone());
        let plan = Plan { config: own, facts: known, handle: handle.clone(), tls, me, peers };
        let (thread, peer_address) = plan.start(opened, inputs, waker)?;
        Ok(Self {
            facts,
            handle,
            peer_address,
            backup,
            care,
            _scrubs: scrubs,
            thread: Some(thread),
            log,
            log_seen: Instant::now(),
            _space: space,
        })
    }

    pub(crate) fn facts(&self) -> &ClusterFacts {
        &self.facts
    }

    /// What a backup of this node is written from.
    pub(crate) fn backup_source(&self) -> backup::Source {
        self.backup.clone()
    }

    /// What this node is looked after by.
    pub(crate) fn care(&self) -> Care {
        self.care.clone()
    }

    pub(crate) fn handle(&self) -> &RouterHandle {
        &self.handle
    }

    pub(crate) fn peer_address(&self) -> SocketAddr {
        self.peer_address
    }

    /// Whether the thread lives; why not, if it ended.
    pub(crate) fn check(&mut self) -> Result<(), Failure> {
        self.watch_log();
        let Some(thread) = self.thread.take_if(|thread| thread.is_finished()) else { return Ok(()) };
        match thread.join() {
            Ok(Err(reason)) => Err(Failure::Runtime(reason)),
            Ok(Ok(())) => Err(Failure::Runtime("the router thread ended".into())),
            Err(_) => Err(Failure::Runtime("the router thread broke".into())),
        }
    }

    /// A log beyond its budget is held by entries that are not flushed, or that slow followers lack.
    fn watch_log(&mut self) {
        if self.log_seen.elapsed() < WATCH_LOG_EVERY {
            return;
        }
        self.log_seen = Instant::now();
        if self.log.bytes_over_budget() > 0 {
            let shards = self.log.oldest_pins().into_iter().map(|(shard, _)| shard).collect();
            // A loop that takes nothing at the moment is asked again.
            let _ = self.handle.try_send(RouterInput::LogOverBudget(shards));
        }
    }

    /// Gives leaderships away, if there is somebody to take them, and ends the thread.
    pub(crate) fn stop(mut self) {
        if self.leads_for_others() {
            self.handle.send(RouterInput::Retire);
            let deadline = Instant::now() + RETIRE_MAX;
            while Instant::now() < deadline && self.leads_for_others() {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        self.handle.send(RouterInput::Stop);
        if let Some(thread) = self.thread.take()
            && let Ok(Err(reason)) = thread.join()
        {
            tracing::warn!(%reason, "the router ended with an error");
        }
    }
}

/// Finds out whether the peer port is free before the data directory is touched; the driver binds it for good.
fn probe(address: SocketAddr) -> Result<(), Failure> {
    throng_runtime::listen(address, throng_runtime::ListenOptions::default())
        .map(drop)
        .map_err(|e| not_listening(address, e))
}

fn not_listening(address: SocketAddr, error: std::io::Error) -> Failure {
    Failure::runtime(format!("cannot listen on {address} for other nodes"), error)
}

impl RouterRole {
    /// Whether this node leads a shard that somebody else could take over.
    fn leads_for_others(&self) -> bool {
        let status = crate::ops::router_status(&self.handle);
        let leads = |shard: &ShardStatus| shard.serving && shard.members.len() > 1;
        status.is_some_and(|status| status.shards.iter().any(leads))
    }
}

/// What this node says of itself to the cluster.
fn introduction(
    config: &Config,
    tls: Option<&PeerTls>,
    [client, ops]: [Option<SocketAddr>; 2],
    join: JoinId,
) -> Registration {
    Registration {
        join,
        peer: config.peers.get(&config.node).copied().unwrap_or(config.peer_listen),
        client,
        ops,
        zone: config.zone.clone(),
        certificate: tls.map(|tls| tls.name().to_string()).unwrap_or_default(),
        speaks: Versions { oldest: FIRST_VERSION, newest: VERSION },
    }
}

/// The id that a node draws which joins, or has joined; a node of the first ones has none.
fn drawn_id(config: &Config) -> Result<Option<JoinId>, Failure> {
    let joins = !config.join.is_empty() || config.data_dir.join(JOIN_FILE).exists();
    joins.then(|| join_id(&config.data_dir)).transpose()
}

/// Asks the cluster that the configuration names for a number, and takes it. A node that has one already asks again, so
/// that it learns who is there now; without an answer it goes on with what it knows.
fn enroll(
    config: &mut Config,
    found: Option<&Format>,
    tls: Option<&PeerTls>,
    introduce: impl Fn(&Config) -> Registration,
) -> Result<Option<Enrolled>, Failure> {
    if let Some(found) = found.filter(|_| !config.is_numbered) {
        config.node = found.node;
    }
    if config.join.is_empty() {
        return Ok(None);
    }
    let number = found.map(|found| found.node).or(config.is_numbered.then_some(config.node));
    match super::join::enroll(&config.join, tls, number, &introduce(config)) {
        Ok(enrolled) => {
            config.node = enrolled.node;
            Ok(Some(enrolled))
        }
        Err(failure) if found.is_some() => {
            tracing::warn!(%failure, "nobody answers at the addresses to join; going on with what is known");
            Ok(None)
        }
        Err(failure) => Err(failure),
    }
}

/// What a node of the first ones has in place of what a joining one draws: the same on all of them.
fn founder_id(format: &Format, node: NodeId) -> JoinId {
    let mut id = format.cluster;
    for (byte, number) in id.iter_mut().rev().zip(node.0.to_le_bytes()) {
        *byte ^= number;
    }
    JoinId(id)
}

fn open_options(
    config: &Config,
    found: Option<&Format>,
    enrolled: Option<&Enrolled>,
    tls: Option<&PeerTls>,
) -> Result<OpenOptions, Failure> {
    let certified = tls.map(|tls| tls.name());
    let cluster = match (config.cluster, found, enrolled) {
        (Some(given), _, _) => given,
        (None, Some(format), _) => format.cluster,
        (None, None, Some(enrolled)) => enrolled.facts.id,
        (None, None, None) if certified.is_some() => certified.expect("just seen").cluster,
        (None, None, None) if config.peers.len() > 1 => {
            return Err(Failure::Config(
                "a new node of a cluster needs --cluster-id, the same on all nodes".into(),
            ));
        }
        (None, None, None) => random_id()?,
    };
    if let Some(name) = certified.filter(|name| name.cluster != cluster) {
        let cluster = throng_wire::ChannelId(cluster);
        return Err(Failure::Config(format!(
            "peer_cert is of {name}, this node belongs to cluster {cluster}"
        )));
    }
    let shards = config.shards.or(found.map(|format| format.shards));
    let shards = shards.or(enrolled.map(|enrolled| enrolled.facts.shards)).unwrap_or(SHARDS_DEFAULT);
    let mut options = OpenOptions::new(cluster, config.node, shards);
    options.state.background_bytes_per_second = config.background_bytes_per_second;
    if let Some(enrolled) = enrolled {
        // The groups begin elsewhere; who their first members were is of no use to a node that gets snapshots.
        options.founders = enrolled.peers.iter().map(|(node, _)| *node).take(1).collect();
        options.epoch = enrolled.facts.epoch;
    } else if !config.peers.is_empty() {
        options.founders = config.peers.keys().copied().collect();
    }
    options.foreign.push(JOIN_FILE.into());
    if config.keys.parent() == Some(config.data_dir.as_path()) {
        options.foreign.extend(config.keys.file_name().map(|name| name.to_string_lossy().into_owned()));
    }
    Ok(options)
}

fn refused(error: OpenError) -> Failure {
    Failure::Runtime(error.to_string())
}

struct Plan {
    config: Config,
    tls: Option<PeerTls>,
    facts: ClusterFacts,
    handle: RouterHandle,
    me: Registration,
    /// The other nodes, until the metadata says who they are.
    peers: BTreeMap<NodeId, SocketAddr>,
}

impl Plan {
    /// Starts the thread that owns the router; where it listens for other nodes.
    fn start(
        self,
        opened: Opened,
        inputs: Receiver<RouterInput>,
        waker: Waker,
    ) -> Result<(JoinHandle<Result<(), String>>, SocketAddr), Failure> {
        let (ready, is_ready) = mpsc::sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("router".into())
            .spawn(move || match self.build(opened, inputs, waker) {
                Ok(driver) => {
                    let _ = ready.send(driver.local_addr().map_err(|e| Failure::runtime("peer port", e)));
                    driver.run()
                }
                Err(failure) => {
                    let _ = ready.send(Err(failure));
                    Ok(())
                }
            })
            .map_err(|e| Failure::runtime("cannot start the router thread", e))?;
        let address = is_ready.recv().map_err(|_| Failure::Runtime("the router thread broke".into()))??;
        Ok((thread, address))
    }

    /// Recovers store and machines and starts the threads that make things durable.
    fn build(
        self,
        opened: Opened,
        inputs: Receiver<RouterInput>,
        waker: Waker,
    ) -> Result<Driver<RocksState>, Failure> {
        let (clock, seed) = (Clock::new(), random_u64()?);
        let founders = opened.format.founders.clone();
        let is_founder = founders.contains(&self.config.node);
        let (state, reader) = (opened.state.clone(), opened.log.reader());
        let (mut groups, mut replicas) = (Vec::new(), Vec::new());
        for shard in (0..opened.format.groups()).map(ShardId) {
            // Without a mark it is the first copy, which has the shard's own number, or there is none.
            let first = if is_founder { shard.0 } else { NO_REPLICA };
            let replica = reader.mark(shard).map_or(first, |mark| mark.replica);
            let row = applied(&state, shard, replica).map_err(|e| Failure::runtime("state store", e))?;
            let group = reader.recovered_group(shard, row.index, row.term);
            let group = group.map_err(|e| Failure::runtime("log", e))?;
            groups.push(RecoveredGroup { conf: row.conf, ..group });
            replicas.push(replica);
        }
        let store_config = StoreConfig::new(self.config.node, founders.clone(), opened.format.groups());
        let store = Store::new(store_config, seed, clock.now(), groups, Box::new(reader))
            .map_err(|e| Failure::runtime("recovery", e))?;
        let mut router_config = RouterConfig::new(self.config.node, self.facts.shards, opened.format.epoch);
        router_config.body_max = self.config.body_max;
        router_config.founders = self.founders(&opened.format);
        router_config.me = Some(self.me.clone());
        router_config.retention = self.config.retention;
        let (now, wall) = (clock.now(), unix_millis());
        let router = Router::new(router_config, seed, now, wall, store, state.clone(), &replicas)
            .map_err(|e| Failure::runtime("recovery", e))?;
        let drivers = self.drivers(opened, state)?;
        let driver_config = DriverConfig {
            node: self.config.node,
            cluster: self.facts.id,
            shards: self.facts.shards,
            epoch: self.facts.epoch,
            listen: self.config.peer_listen,
            peers: self.peers,
            tls: self.tls,
            seed,
        };
        let listen = self.config.peer_listen;
        Driver::new(driver_config, router, drivers, clock, inputs, waker)
            .map_err(|e| not_listening(listen, e))
    }

    /// What the first leader of the metadata group says of the nodes that the cluster was formatted with; each of them says
    /// the rest of itself, for instance that it speaks more than the first version. Empty on a node that joined, and on one that was not told where the others are: they will do.
    fn founders(&self, format: &Format) -> Vec<(NodeId, Registration)> {
        let address = |node: NodeId| match node == self.config.node {
            true => Some(self.me.peer),
            false => self.peers.get(&node).copied(),
        };
        let founder = |node: &NodeId| {
            let (client, ops) = (None, None);
            let (zone, certificate) = (String::new(), String::new());
            let (join, peer) = (founder_id(format, *node), address(*node)?);
            let speaks = Versions { oldest: FIRST_VERSION, newest: FIRST_VERSION };
            Some((*node, Registration { join, peer, client, ops, zone, certificate, speaks }))
        };
        let is_one = format.founders.contains(&self.config.node);
        let all: Option<Vec<_>> = format.founders.iter().filter(|_| is_one).map(founder).collect();
        all.unwrap_or_default()
    }

    fn drivers(&self, opened: Opened, state: RocksState) -> Result<StoreDrivers, Failure> {
        let report = self.handle.clone();
        let log = opened
            .log
            .start(move |said| said_to(&report, said, RouterInput::Persisted))
            .map_err(|e| Failure::runtime("cannot start the log", e))?;
        let report = self.handle.clone();
        let slow = self.handle.clone();
        let flusher: Flusher<FlushToken> = Flusher::start_watched(
            state.clone(),
            FlushPolicy::default(),
            move |said| said_to(&report, said, RouterInput::Flushed),
            move |is_high| slow.send(RouterInput::Pressure(Pressure::State, is_high)),
        )
        .map_err(|e| Failure::runtime("cannot start the flush thread", e))?;
        let report = self.handle.clone();
        let importer: Importer<ImportToken> =
            Importer::start(state.clone(), move |said| said_to(&report, said, RouterInput::Imported))
                .map_err(|e| Failure::runtime("cannot start the import thread", e))?;
        let log = Arc::new(log);
        let writer = Arc::clone(&log);
        Ok(StoreDrivers {
            views: Box::new(StateViews::new(state, self.handle.clone())),
            truncate: Box::new(move |shard, mark| {
                writer.truncate(vec![(shard, mark)]).map_err(|e| format!("log: {e}"))
            }),
            import: Box::new(move |token, batch, flush| {
                importer.submit(token, batch, flush).map_err(|e| format!("import: {e}"))
            }),
            persist: Box::new(move |token, records| {
                log.submit(token, records).map_err(|e| format!("log: {e}"))
            }),
            flush: Box::new(move |token, batch| {
                flusher.submit(token, batch).map_err(|e| format!("state: {e}"))
            }),
        })
    }
}

/// Hands on what a worker thread says.
fn said_to<T>(router: &RouterHandle, said: Report<T>, durable: fn(T) -> RouterInput) {
    match said {
        Report::Durable(token) => router.send(durable(token)),
        Report::Fatal(reason) => router.send(RouterInput::Fatal(reason)),
    }
}
