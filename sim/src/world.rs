//! The world: one queue of events in virtual time, and everything that takes part.

mod clients;
mod links;
mod nodes;
mod trouble;

use core::cmp::Reverse;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use throng_base::{Instant, Key, Rng};
use throng_router_core::{AppliedRow, FlushToken, ImportToken, PeerMessage, ViewId};
use throng_storage_core::store::PersistToken;
use throng_wire::link::{ToGateway, ToRouter};
use throng_wire::{ChannelId, NodeId};

use crate::actor::Actor;
use crate::check::Model;
use crate::faults::{FaultCounts, FaultPlan};
use crate::net::{Net, Ordered};
use crate::node::Node;

/// What is run.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Everything random comes from it.
    pub seed: u64,
    /// Nodes of the cluster.
    pub nodes: usize,
    /// Shards.
    pub shards: u32,
    /// Users, one device each.
    pub clients: usize,
    /// Groups with two to five members.
    pub channels: usize,
    /// Sends of each user.
    pub sends: u64,
    /// What goes wrong.
    pub plan: FaultPlan,
    /// Print every event.
    pub print_trace: bool,
}

impl Scenario {
    /// Draws a scenario.
    pub fn draw(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let plan = FaultPlan::draw(&mut rng.fork(1));
        Self {
            seed,
            nodes: if rng.chance(100_000) { 1 } else { 3 },
            shards: rng.between(1, 6) as u32,
            clients: rng.between(2, 8) as usize,
            channels: rng.between(1, 6) as usize,
            sends: rng.between(20, 120),
            plan,
            print_trace: false,
        }
    }
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Hash over all events: the same seed gives the same one.
    pub trace: u64,
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
    Synced { node: usize, life: u32, token: PersistToken },
    Flushed { node: usize, life: u32, token: FlushToken },
    Imported { node: usize, life: u32, token: ImportToken, flush: bool },
    ViewOpened { node: usize, life: u32, view: ViewId, row: AppliedRow },
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
    Start { node: usize },
    Crash,
    Partition,
    Heal,
    Cut,
    Jump,
    EndFaults,
}

struct Scheduled {
    at: Instant,
    number: u64,
    event: Event,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.number) == (other.at, other.number)
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> core::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
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
    queue: BinaryHeap<Reverse<Scheduled>>,
    scheduled: u64,
    handled: u64,
    pub(crate) nodes: Vec<Node>,
    pub(crate) voters: Vec<NodeId>,
    pub(crate) links: Vec<Vec<Link>>,
    pub(crate) net: Net,
    pub(crate) actors: Vec<Actor>,
    /// By node: whose session a key is.
    pub(crate) sessions: Vec<BTreeMap<Key, (usize, u64)>>,
    /// By channel number: id, members, whether it was created.
    pub(crate) channels: Vec<(ChannelId, Vec<usize>, bool)>,
    pub(crate) model: Model,
    pub(crate) faults: FaultCounts,
    pub(crate) calm: bool,
    pub(crate) down: BTreeSet<usize>,
    trace: u64,
}

/// Runs a scenario to its end.
pub fn run(scenario: &Scenario) -> Outcome {
    let mut world = World::new(scenario.clone());
    world.begin();
    let faults_end = Instant::ZERO + scenario.plan.duration;
    let deadline = faults_end + SETTLE;
    let mut settled_at = None;
    while let Some(Reverse(next)) = world.queue.pop() {
        if next.at > deadline || world.handled >= EVENTS_MAX || !world.model.violations.is_empty() {
            break;
        }
        world.now = next.at;
        world.handled += 1;
        world.record(&next.event);
        world.handle(next.event);
        // Looked at now and then: it walks over everything.
        if world.calm && world.handled.is_multiple_of(512) && settled_at.is_none() && world.is_settled() {
            settled_at = Some(world.now);
        }
        // A little longer, so that followers of the last leader apply the last entries too.
        if settled_at.is_some_and(|at| world.now > at + Duration::from_secs(3)) {
            break;
        }
    }
    world.finish()
}

impl World {
    fn new(scenario: Scenario) -> Self {
        let mut rng = Rng::new(scenario.seed ^ 0x7468_726f_6e67);
        let (nodes, now) = (scenario.nodes, Instant::ZERO);
        let voters: Vec<NodeId> = (1..=nodes as u64).map(NodeId).collect();
        let actors = (0..scenario.clients).map(|n| Actor::new(n, nodes, n % 2 == 0, &mut rng, now)).collect();
        let link = |_| (0..nodes).map(|_| Link::default()).collect();
        Self {
            now,
            queue: BinaryHeap::new(),
            scheduled: 0,
            handled: 0,
            nodes: voters.iter().map(|id| Node::new(*id)).collect(),
            links: (0..nodes).map(link).collect(),
            voters,
            net: Net::default(),
            actors,
            sessions: vec![BTreeMap::new(); nodes],
            channels: Vec::new(),
            model: Model::default(),
            faults: FaultCounts::default(),
            calm: false,
            down: BTreeSet::new(),
            trace: 0xcbf2_9ce4_8422_2325,
            scenario,
            rng,
        }
    }

    fn begin(&mut self) {
        for node in 0..self.nodes.len() {
            self.start_node(node);
        }
        self.make_channels();
        for actor in 0..self.actors.len() {
            self.pump_actor(actor);
            self.schedule_send(actor);
        }
        self.schedule_trouble();
        self.at(Instant::ZERO + self.scenario.plan.duration, Event::EndFaults);
    }

    pub(crate) fn at(&mut self, at: Instant, event: Event) {
        self.scheduled += 1;
        self.queue.push(Reverse(Scheduled { at: at.max(self.now), number: self.scheduled, event }));
    }

    pub(crate) fn after(&mut self, delay: Duration, event: Event) {
        self.at(self.now + delay, event);
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::NodeTimer { node, life, at } => self.node_timer(node, life, at),
            Event::ActorTimer { actor, at } => self.actor_timer(actor, at),
            Event::Synced { node, life, token } => self.synced(node, life, token),
            Event::Flushed { node, life, token } => self.flushed(node, life, token),
            Event::Imported { node, life, token, flush } => self.imported(node, life, token, flush),
            Event::ViewOpened { node, life, view, row } => self.view_opened(node, life, view, row),
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
            Event::Start { node } => self.start_node(node),
            Event::Crash => self.crash_somebody(),
            Event::Partition => self.partition(),
            Event::Heal => self.heal_net(),
            Event::Cut => self.cut_somebody(),
            Event::Jump => self.jump_somebody(),
            Event::EndFaults => self.end_faults(),
        }
    }

    fn is_settled(&self) -> bool {
        let all_sent = self.actors.iter().all(|actor| actor.sent >= self.scenario.sends);
        all_sent && self.model.open_sends() == 0 && self.model.is_caught_up(&self.followers())
    }

    /// (client, channel) of everybody who follows a channel.
    fn followers(&self) -> Vec<(usize, usize)> {
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
            self.compare_replicas();
        }
        Outcome {
            trace: self.trace,
            events: self.handled,
            acked: self.model.acked_sends(),
            deliveries: self.model.deliveries(),
            virtual_time: self.now - Instant::ZERO,
            faults: self.faults,
            violations: self.model.violations,
        }
    }

    /// Content hashes of all replicas agree after healing.
    fn compare_replicas(&mut self) {
        for (number, (channel, _, _)) in self.channels.clone().into_iter().enumerate() {
            let mut chains = Vec::new();
            for node in &mut self.nodes {
                let Some(process) = &mut node.process else { continue };
                chains.push(process.router.machines().read_chain(&channel).expect("memory can be read"));
            }
            if chains.windows(2).any(|pair| pair[0] != pair[1]) {
                self.model.violations.push(format!("replicas of channel {number} differ: {chains:?}"));
            }
        }
    }

    /// Folds an event into the trace.
    fn record(&mut self, event: &Event) {
        let mut line = [0u64; 5];
        line[0] = self.now.0;
        let mut content: &[u8] = &[];
        let encoded;
        let (kind, a, b) = match event {
            Event::NodeTimer { node, life, .. } => (1, *node as u64, u64::from(*life)),
            Event::ActorTimer { actor, .. } => (2, *actor as u64, 0),
            Event::Synced { node, token, .. } => (3, *node as u64, token.0),
            Event::Flushed { node, token, .. } => (4, *node as u64, token.0),
            Event::Imported { node, token, .. } => (26, *node as u64, token.0),
            Event::ViewOpened { node, view, .. } => (27, *node as u64, view.0),
            Event::ViewRead { node, view, .. } => (28, *node as u64, view.0),
            Event::Peer { from, to, message } => {
                encoded = links::encode(message);
                content = &encoded;
                (5, *from as u64, *to as u64)
            }
            Event::LinkTry { gateway, router, .. } => (6, *gateway as u64, *router as u64),
            Event::ToRouter { gateway, router, .. } => (7, *gateway as u64, *router as u64),
            Event::ToGateway { gateway, router, .. } => (8, *gateway as u64, *router as u64),
            Event::Accept { actor, connection } => (9, *actor as u64, *connection),
            Event::Connected { actor, connection } => (10, *actor as u64, *connection),
            Event::ToServer { actor, bytes, .. } => {
                content = bytes;
                (11, *actor as u64, bytes.len() as u64)
            }
            Event::ToClient { actor, bytes, .. } => {
                content = bytes;
                (12, *actor as u64, bytes.len() as u64)
            }
            Event::Broken { actor, connection } => (13, *actor as u64, *connection),
            Event::Left { node, session, .. } => (14, *node as u64, session.to_u64()),
            Event::Send { actor } => (15, *actor as u64, 0),
            Event::Start { node } => (16, *node as u64, 0),
            Event::Crash => (17, 0, 0),
            Event::Partition => (18, 0, 0),
            Event::Heal => (19, 0, 0),
            Event::Cut => (20, 0, 0),
            Event::Jump => (21, 0, 0),
            Event::EndFaults => (22, 0, 0),
        };
        (line[1], line[2], line[3], line[4]) = (kind, a, b, content.len() as u64);
        if self.scenario.print_trace {
            println!("{:?} {}", self.now, describe(&line));
        }
        for byte in line.iter().flat_map(|word| word.to_le_bytes()).chain(content.iter().copied()) {
            self.trace = (self.trace ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

fn describe(line: &[u64; 5]) -> String {
    const KINDS: [&str; 23] = [
        "",
        "node timer",
        "actor timer",
        "synced",
        "flushed",
        "peer",
        "link try",
        "to router",
        "to gateway",
        "accept",
        "connected",
        "to server",
        "to client",
        "broken",
        "left",
        "send",
        "start",
        "crash",
        "partition",
        "heal",
        "cut",
        "jump",
        "end of faults",
    ];
    format!("{:<12} {} {} ({} bytes)", KINDS[line[1] as usize], line[2], line[3], line[4])
}
