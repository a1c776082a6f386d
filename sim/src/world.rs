//! The world: one queue of events in virtual time, and everything that takes part.

mod changes;
mod clients;
mod describe;
mod disks;
mod links;
mod nodes;
mod reading;
mod rows;
mod trace;
mod trouble;
mod upkeep;

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use throng_base::{Instant, Key, Rng};
use throng_router_core::{FlushToken, ImportToken, PeerMessage, ViewId};
use throng_wire::link::{ToGateway, ToRouter};
use throng_wire::{ChannelId, NodeId, ShardId};

use crate::actor::{Actor, Guest};
use crate::check::{History, Model};
use crate::faults::{FaultCounts, FaultPlan};
use crate::net::{Net, Ordered};
use crate::node::Node;
use crate::queue::Queue;

use trace::Trace;
pub use trace::first_difference;

/// What is run.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Everything random comes from it.
    pub seed: u64,
    /// Nodes that the cluster is formatted with.
    pub nodes: usize,
    /// Nodes that join later, if members change.
    pub spares: usize,
    /// Shards.
    pub shards: u32,
    /// Users, one device each.
    pub clients: usize,
    /// Groups with two to five members.
    pub channels: usize,
    /// Sends of each user.
    pub sends: u64,
    /// Reads of each user.
    pub reads: u64,
    /// What goes wrong.
    pub plan: FaultPlan,
    /// What is shown of the events.
    pub watch: Watch,
}

impl Scenario {
    /// Draws a scenario.
    pub fn draw(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let plan = FaultPlan::draw(&mut rng.fork(1));
        Self {
            seed,
            nodes: [1, 3, 3, 3, 3, 3, 3, 3, 3, 5][rng.below(10) as usize],
            spares: if plan.change_every.is_zero() { 0 } else { rng.between(0, 2) as usize },
            shards: rng.between(1, 6) as u32,
            clients: rng.between(2, 8) as usize,
            channels: rng.between(1, 6) as usize,
            sends: rng.between(20, 120),
            reads: rng.between(0, 40),
            plan,
            watch: Watch::default(),
        }
    }
}

/// What is shown of a run's events.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    /// Print every event.
    pub print: bool,
    /// Keep every event's line.
    pub keep: bool,
    /// Stop after this many events and describe all nodes.
    pub stop_at: Option<u64>,
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Hash over all events: the same seed gives the same one.
    pub trace: u64,
    /// The events, if they were asked for.
    pub lines: Vec<String>,
    /// Events handled.
    pub events: u64,
    /// Sends acknowledged.
    pub acked: usize,
    /// Events handed to followers.
    pub deliveries: u64,
    /// Virtual time that passed.
    pub virtual_time: Duration,
    /// What went wrong on purpose.
    pub faults: FaultCounts,
    /// What clients called and what came back.
    pub history: History,
    /// What must not have happened.
    pub violations: Vec<String>,
}

/// How long everything may take to settle once nothing goes wrong any more.
const SETTLE: Duration = Duration::from_secs(90);

/// A run with more events than this is stuck in a loop.
const EVENTS_MAX: u64 = 20_000_000;

/// Events of the world. A `life` or connection id that is over makes an event void.
pub(crate) enum Event {
    NodeTimer { node: usize, life: u32, at: Instant },
    ActorTimer { actor: usize, at: Instant },
    Written { node: usize, life: u32 },
    Flushed { node: usize, life: u32, token: FlushToken },
    Imported { node: usize, life: u32, token: ImportToken },
    ViewOpened { node: usize, life: u32, view: ViewId, shard: ShardId, replica: u32 },
    ViewRead { node: usize, life: u32, view: ViewId },
    Peer { from: usize, to: usize, message: PeerMessage },
    LinkTry { gateway: usize, router: usize, epoch: u64 },
    ToRouter { gateway: usize, router: usize, epoch: u64, message: ToRouter },
    ToGateway { gateway: usize, router: usize, epoch: u64, message: ToGateway },
    Accept { actor: usize, connection: u64 },
    Connected { actor: usize, connection: u64 },
    ToServer { actor: usize, connection: u64, bytes: Vec<u8> },
    ToClient { actor: usize, connection: u64, bytes: Vec<u8> },
    Broken { actor: usize, connection: u64 },
    Left { node: usize, life: u32, session: Key },
    Send { actor: usize },
    Read { actor: usize },
    Visit { number: usize },
    Sync,
    Start { node: usize },
    Crash,
    Partition,
    Heal,
    Clog,
    Pause,
    Cut,
    Jump,
    Change,
    Upgrade { node: usize },
    Hold,
    Full,
    Space { node: usize, life: u32 },
    Die { node: usize, life: u32 },
    EndFaults,
}

/// A link from a gateway to a router.
#[derive(Default)]
pub(crate) struct Link {
    pub(crate) up: bool,
    /// Counts its lives; what was under way in an earlier one is lost.
    pub(crate) epoch: u64,
    pub(crate) to_router: Ordered,
    pub(crate) to_gateway: Ordered,
}

/// The world.
pub struct World {
    pub(crate) scenario: Scenario,
    pub(crate) now: Instant,
    pub(crate) rng: Rng,
    queue: Queue<Event>,
    handled: u64,
    pub(crate) nodes: Vec<Node>,
    pub(crate) ids: Vec<NodeId>,
    pub(crate) links: Vec<Vec<Link>>,
    pub(crate) net: Net,
    pub(crate) actors: Vec<Actor>,
    /// By node: whose session a key is.
    pub(crate) sessions: Vec<BTreeMap<Key, (usize, u64)>>,
    /// By channel number: id, members, whether it was created.
    pub(crate) channels: Vec<(ChannelId, Vec<usize>, bool)>,
    /// By channel number: who comes and goes.
    pub(crate) guests: Vec<Option<Guest>>,
    pub(crate) model: Model,
    pub(crate) faults: FaultCounts,
    pub(crate) calm: bool,
    pub(crate) down: BTreeSet<usize>,
    /// The node whose disk does more than crash: a minority.
    pub(crate) victim: Option<usize>,
    /// The hold that was asked for last, by the number of the question and of the channel.
    asked_hold: Option<(u64, usize)>,
    trace: Trace,
}

/// Runs a scenario to its end. A panic of a machine is a violation like any other.
pub fn run(scenario: &Scenario) -> Outcome {
    let mut world = World::new(scenario.clone());
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.run_to_end())) {
        Ok(()) => world.finish(),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("of unknown kind");
            world.model.violations.push(format!("panic: {text}"));
            world.finish()
        }
    }
}

impl World {
    fn run_to_end(&mut self) {
        self.begin();
        let scenario = self.scenario.clone();
        let faults_end = Instant::ZERO + scenario.plan.duration;
        let deadline = faults_end + SETTLE;
        let mut settled_at = None;
        while let Some(next) = self.queue.pop() {
            if next.at > deadline || self.handled >= EVENTS_MAX || !self.model.violations.is_empty() {
                break;
            }
            self.now = next.at;
            if let Some(until) = self.held_until(&next.what) {
                self.queue.put_off(until, next);
                continue;
            }
            self.handled += 1;
            self.trace.record(self.now, &next.what);
            self.handle(next.what);
            if scenario.watch.stop_at.is_some_and(|last| self.handled >= last) {
                self.describe();
                break;
            }
            // Looked at now and then: it walks over everything.
            if self.calm && self.handled.is_multiple_of(512) && settled_at.is_none() && self.is_settled() {
                settled_at = Some(self.now);
            }
            // A little longer, so that followers of the last leader apply the last entries too. What a guest began
            // meanwhile is waited for like everything else.
            if settled_at.is_some_and(|at| self.now > at + Duration::from_secs(1)) {
                if self.is_settled() {
                    break;
                }
                settled_at = None;
            }
        }
    }

    fn new(scenario: Scenario) -> Self {
        let mut rng = Rng::new(scenario.seed ^ 0x7468_726f_6e67);
        let (nodes, now) = (scenario.nodes + scenario.spares, Instant::ZERO);
        let ids: Vec<NodeId> = (1..=nodes as u64).map(NodeId).collect();
        let actors = (0..scenario.clients).map(|n| Actor::new(n, nodes, n % 2 == 0, &mut rng, now)).collect();
        let members = ids.iter().map(|id| Node::new(*id, scenario.shards, &mut rng)).collect();
        let damaged = scenario.plan.damage && scenario.nodes > 2;
        let victim = damaged.then(|| rng.below(scenario.nodes as u64) as usize);
        let link = |_| (0..nodes).map(|_| Link::default()).collect();
        Self {
            now,
            queue: Queue::default(),
            handled: 0,
            nodes: members,
            links: (0..nodes).map(link).collect(),
            ids,
            net: Net::default(),
            actors,
            sessions: vec![BTreeMap::new(); nodes],
            channels: Vec::new(),
            guests: Vec::new(),
            model: Model::new(scenario.plan.keep_events),
            faults: FaultCounts::default(),
            calm: false,
            down: BTreeSet::new(),
            victim,
            asked_hold: None,
            trace: Trace::new(scenario.watch.clone()),
            scenario,
            rng,
        }
    }

    fn begin(&mut self) {
        self.draw_versions();
        for node in 0..self.nodes.len() {
            self.start_node(node);
        }
        self.make_channels();
        for actor in 0..self.actors.len() {
            self.pump_actor(actor);
            self.schedule_send(actor);
            self.schedule_read(actor);
        }
        self.set_clocks();
        self.schedule_trouble();
        self.at(Instant::ZERO + self.scenario.plan.duration, Event::EndFaults);
    }

    pub(crate) fn at(&mut self, at: Instant, event: Event) {
        self.queue.push(at.max(self.now), event);
    }

    pub(crate) fn after(&mut self, delay: Duration, event: Event) {
        self.at(self.now + delay, event);
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::NodeTimer { node, life, at } => self.node_timer(node, life, at),
            Event::ActorTimer { actor, at } => self.actor_timer(actor, at),
            Event::Written { node, life } => self.written(node, life),
            Event::Flushed { node, life, token } => self.flushed(node, life, token),
            Event::Imported { node, life, token } => self.imported(node, life, token),
            Event::ViewOpened { node, life, view, shard, replica } => {
                self.view_opened(node, life, view, shard, replica);
            }
            Event::ViewRead { node, life, view } => self.view_read(node, life, view),
            Event::Peer { from, to, message } => self.peer_arrives(from, to, message),
            Event::LinkTry { gateway, router, epoch } => self.link_try(gateway, router, epoch),
            Event::ToRouter { gateway, router, epoch, message } => {
                self.request_arrives(gateway, router, epoch, message)
            }
            Event::ToGateway { gateway, router, epoch, message } => {
                self.answer_arrives(gateway, router, epoch, message)
            }
            Event::Accept { actor, connection } => self.accept(actor, connection),
            Event::Connected { actor, connection } => self.connected(actor, connection),
            Event::ToServer { actor, connection, bytes } => self.server_reads(actor, connection, bytes),
            Event::ToClient { actor, connection, bytes } => self.client_reads(actor, connection, bytes),
            Event::Broken { actor, connection } => self.broken(actor, connection),
            Event::Left { node, life, session } => self.left(node, life, session),
            Event::Send { actor } => self.send(actor),
            Event::Read { actor } => self.read_something(actor),
            Event::Visit { number } => self.visit(number),
            Event::Sync => self.sync_all(),
            Event::Start { node } => self.start_node(node),
            Event::Crash => self.crash_somebody(),
            Event::Partition => self.partition(),
            Event::Heal => self.heal_net(),
            Event::Clog => self.clog_somebody(),
            Event::Pause => self.pause_somebody(),
            Event::Cut => self.cut_somebody(),
            Event::Jump => self.jump_somebody(),
            Event::Change => self.change_somebody(),
            Event::Upgrade { node } => self.upgrade(node),
            Event::Hold => self.hold_something(),
            Event::Full => self.fill_some_disk(),
            Event::Space { node, life } => self.press(node, life, false),
            Event::Die { node, life } => self.die(node, life),
            Event::EndFaults => self.end_faults(),
        }
    }

    fn is_settled(&mut self) -> bool {
        let all_sent = self.actors.iter().all(|actor| actor.sent >= self.scenario.sends);
        let served = all_sent && self.model.open_sends() == 0 && self.model.is_caught_up(&self.followers());
        served && self.long_logs().is_empty() && self.unequal_replicas().is_empty()
    }

    /// (client, channel) of everybody who follows a channel.
    pub(crate) fn followers(&self) -> Vec<(usize, usize)> {
        let followers = self.channels.iter().enumerate();
        followers
            .flat_map(|(number, (_, members, _))| members.iter().map(move |actor| (*actor, number)))
            .collect()
    }

    fn finish(mut self) -> Outcome {
        if self.handled >= EVENTS_MAX {
            self.model.violations.push(format!("{EVENTS_MAX} events and no end"));
        }
        if self.model.violations.is_empty() {
            let followers = self.followers();
            self.model.finish(&followers);
            let unequal = self.unequal_replicas();
            let long = self.long_logs();
            self.model.violations.extend(unequal.into_iter().chain(long));
        }
        if self.model.violations.is_empty() {
            self.check_rows();
        }
        for node in 0..self.nodes.len() {
            self.close_books(node);
            self.faults.recycled += self.nodes[node].disk.log.recycled();
        }
        let (acked, deliveries) = (self.model.acked_sends(), self.model.deliveries());
        let (history, violations) = self.model.into_history();
        Outcome {
            trace: self.trace.hash(),
            lines: self.trace.into_lines(),
            events: self.handled,
            acked,
            deliveries,
            virtual_time: self.now - Instant::ZERO,
            faults: self.faults,
            history,
            violations,
        }
    }
}
