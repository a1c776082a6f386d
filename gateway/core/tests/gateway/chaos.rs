//! Random histories: members come and go, links break, leaders change, routers drop deliveries, clients stop reading.
//! Checked for every session, by a model that shares no code with the gateway:
//! - nobody is delivered an event at which its user was no member (contract C7);
//! - numbers rise, and no hole comes without a LAGGED before the next delivery (contract C4);
//! - once everything is whole again, everybody knows every head.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use throng_base::Rng;
use throng_gateway_core::{GatewayConfig, SessionKey};
use throng_wire::event::{EventKind, Membership};
use throng_wire::frame::{Frame, Ping, Unsubscribe};
use throng_wire::link::{Answer, Op, Refusal, Reply, Request, ToGateway, ToRouter};
use throng_wire::{ChannelId, Code, Event, MemberNo, NodeId, Seq, ServerTs, ShardId, UserId, UserSeq};

use crate::harness::{World, channel, user};

const CHANNELS: u8 = 3;
const USERS: [&str; 4] = ["alice", "bob", "carol", "dave"];
const NODES: usize = 2;
const STEPS: u32 = 600;

/// Replicated state: what survives leaders.
#[derive(Default)]
struct Log {
    members: BTreeSet<UserId>,
    /// Who may read event n + 1.
    readers: Vec<BTreeSet<UserId>>,
    leaves: BTreeMap<UserId, u64>,
}

/// One node and the link to it.
#[derive(Default)]
struct Node {
    is_up: bool,
    subscribed: BTreeSet<ChannelId>,
    /// Channels whose deliveries were dropped, to be announced.
    lagging: BTreeSet<ChannelId>,
    inbox: VecDeque<ToRouter>,
    outbox: VecDeque<ToGateway>,
}

/// What one session was told of one channel.
struct Watch {
    known: u64,
    leaves_before: u64,
}

struct Chaos {
    world: World,
    rng: Rng,
    logs: BTreeMap<u8, Log>,
    nodes: [Node; NODES],
    leader: Option<usize>,
    term: u64,
    sessions: BTreeMap<SessionKey, &'static str>,
    watches: BTreeMap<(SessionKey, u8), Watch>,
    /// Highest delivered number, which never falls on one session.
    delivered: BTreeMap<(SessionKey, u8), u64>,
    /// Requests whose SUBSCRIBED counts: session, channel, and how often the user had left it.
    asked: BTreeMap<u64, (SessionKey, u8, u64)>,
    next_request: u64,
}

fn node_id(index: usize) -> NodeId {
    NodeId(index as u64 + 1)
}

impl Chaos {
    fn new(seed: u64) -> Self {
        let config = GatewayConfig { shards: 1, outbox_bytes: 2_048, ..GatewayConfig::default() };
        let mut world = World::without_router(config);
        world.is_answering = false;
        let logs = (1..=CHANNELS).map(|n| (n, Log::default())).collect();
        let mut chaos = Self {
            world,
            rng: Rng::new(seed),
            logs,
            nodes: Default::default(),
            leader: None,
            term: 0,
            sessions: BTreeMap::new(),
            watches: BTreeMap::new(),
            delivered: BTreeMap::new(),
            asked: BTreeMap::new(),
            next_request: 1,
        };
        for n in 1..=CHANNELS {
            USERS.iter().for_each(|name| chaos.membership(n, name, true));
        }
        chaos.elect(Some(0));
        (0..NODES).for_each(|node| chaos.link_up(node));
        chaos
    }

    fn draw(&mut self, bound: usize) -> usize {
        self.rng.below(bound as u64) as usize
    }

    fn step(&mut self) {
        let n = 1 + self.draw(usize::from(CHANNELS)) as u8;
        let name = USERS[self.draw(USERS.len())];
        let node = self.draw(NODES);
        match self.draw(100) {
            0..30 => self.apply(n, EventKind::MESSAGE, vec![b'x'; 300].into(), None),
            30..33 => self.membership(n, name, false),
            33..36 => self.membership(n, name, true),
            36..50 => self.client(n, name),
            50 if self.nodes[node].is_up => self.link_down(node),
            51..57 => self.link_up(node),
            57 => {
                let leader = [None, Some(0), Some(0), Some(1), Some(1)][self.draw(5)];
                self.elect(leader);
            }
            58..66 => self.stick(),
            66..70 => self.pass(),
            _ => self.carry(node),
        }
        self.take_asked();
        self.check();
    }

    /// Applies an event; the leader pushes it, unless it has to drop it.
    fn apply(&mut self, n: u8, kind: EventKind, body: bytes::Bytes, leaver: Option<UserId>) {
        let drops = self.draw(20) == 0;
        let log = self.logs.get_mut(&n).expect("a channel");
        let mut readers = log.members.clone();
        readers.extend(leaver);
        log.readers.push(readers);
        let seq = Seq(log.readers.len() as u64);
        let Some(leader) = self.leader else { return };
        let leader = &mut self.nodes[leader];
        let id = channel(n);
        if !leader.is_up || !leader.subscribed.contains(&id) {
            return;
        }
        if drops || leader.lagging.contains(&id) {
            leader.lagging.insert(id);
            return;
        }
        let event = Event { seq, kind, sender: MemberNo(1), ts: ServerTs(1), origin: None, body };
        leader.outbox.push_back(ToGateway::Deliver { channel: id, event, sender: UserId::NIL });
    }

    fn membership(&mut self, n: u8, name: &str, joins: bool) {
        let user = user(name);
        let log = self.logs.get_mut(&n).expect("a channel");
        let body = Membership { user, member: MemberNo(1) }.encode();
        if joins && log.members.insert(user) {
            self.apply(n, EventKind::JOINED, body, None);
        } else if !joins && log.members.remove(&user) {
            *log.leaves.entry(user).or_default() += 1;
            self.apply(n, EventKind::LEFT, body, Some(user));
        }
    }

    fn client(&mut self, n: u8, name: &'static str) {
        let of_user: Vec<SessionKey> =
            self.sessions.iter().filter(|(_, owner)| **owner == name).map(|(key, _)| *key).collect();
        if of_user.len() < 2 {
            let key = self.world.login(name);
            self.sessions.insert(key, name);
            return;
        }
        let key = of_user[self.draw(of_user.len())];
        match self.draw(10) {
            0 => {
                self.world.disconnect(key);
                self.world.stuck.remove(&key);
                self.sessions.remove(&key);
                self.watches.retain(|(session, _), _| *session != key);
                self.delivered.retain(|(session, _), _| *session != key);
            }
            1..3 => {
                self.watches.remove(&(key, n));
                self.asked.retain(|_, (session, channel, _)| (*session, *channel) != (key, n));
                self.world.send(key, Frame::Unsubscribe(Unsubscribe { channel: channel(n) }));
            }
            _ if self.watches.contains_key(&(key, n)) => {}
            _ => {
                let leaves = self.leaves(n, name);
                self.asked.insert(self.next_request, (key, n, leaves));
                self.world.subscribe(key, self.next_request, n);
                self.next_request += 1;
            }
        }
    }

    fn leaves(&self, n: u8, name: &str) -> u64 {
        self.logs[&n].leaves.get(&user(name)).copied().unwrap_or(0)
    }

    fn link_down(&mut self, node: usize) {
        self.nodes[node] = Node::default();
        self.world.gateway.handle_router_down(self.world.now, node_id(node));
        self.world.pump();
    }

    fn link_up(&mut self, node: usize) {
        if self.nodes[node].is_up {
            return;
        }
        self.nodes[node] = Node { is_up: true, ..Node::default() };
        self.world.gateway.handle_router_up(self.world.now, node_id(node));
        self.world.pump();
        self.announce(node);
    }

    fn elect(&mut self, leader: Option<usize>) {
        if let Some(old) = self.leader {
            self.nodes[old].subscribed.clear();
            self.nodes[old].lagging.clear();
        }
        self.leader = leader;
        self.term += 1;
        (0..NODES).for_each(|node| self.announce(node));
    }

    fn announce(&mut self, node: usize) {
        let leads = ToGateway::Leads { shards: vec![(ShardId(0), self.leader.map(node_id), self.term)] };
        if self.nodes[node].is_up {
            self.nodes[node].outbox.push_back(leads);
        }
    }

    fn stick(&mut self) {
        let keys: Vec<SessionKey> = self.sessions.keys().copied().collect();
        if keys.is_empty() {
            return;
        }
        let key = keys[self.draw(keys.len())];
        if self.world.stuck.contains(&key) || self.draw(3) > 0 {
            self.world.unstick(key);
        } else {
            self.world.stuck.insert(key);
        }
    }

    fn pass(&mut self) {
        let millis = self.rng.below(60);
        self.world.pass(Duration::from_millis(millis));
        let keys: Vec<SessionKey> = self.sessions.keys().copied().collect();
        for key in keys {
            self.world.send(key, Frame::Ping(Ping { wants_answer: false, nonce: 0 }));
        }
    }

    /// A few messages in each direction of one link.
    fn carry(&mut self, node: usize) {
        for _ in 0..self.draw(6) {
            if let Some(message) = self.nodes[node].inbox.pop_front() {
                self.handle(node, message);
            }
            if let Some(message) = self.nodes[node].outbox.pop_front() {
                self.world.router_says(node_id(node), message);
                self.take_asked();
            }
        }
        let lagging = std::mem::take(&mut self.nodes[node].lagging);
        for id in lagging {
            let head = Seq(self.logs[&id.0[0]].readers.len() as u64);
            self.nodes[node].outbox.push_back(ToGateway::Lagged { channel: id, head });
        }
    }

    fn take_asked(&mut self) {
        for (node, message) in self.world.asked() {
            let node = &mut self.nodes[node.0 as usize - 1];
            assert!(node.is_up, "the gateway asks only who can be reached");
            node.inbox.push_back(message);
        }
    }

    fn handle(&mut self, node: usize, message: ToRouter) {
        match message {
            ToRouter::Unsubscribe { channel } => {
                self.nodes[node].subscribed.remove(&channel);
                self.nodes[node].lagging.remove(&channel);
            }
            ToRouter::Unregister { .. } => {}
            ToRouter::Request(request) => {
                let result = self.answer(node, &request);
                self.nodes[node].outbox.push_back(ToGateway::Reply(Reply { id: request.id, result }));
            }
        }
    }

    fn answer(&mut self, node: usize, request: &Request) -> Result<Answer, Refusal> {
        if self.leader != Some(node) {
            let leader = self.leader.map(node_id);
            return Err(Refusal { code: Code::UNAVAILABLE, retry_after_ms: 0, leader });
        }
        let Op::Subscribe { channel, .. } = &request.op else {
            return Ok(Answer::Registered { user_seq: UserSeq(0) });
        };
        let log = &self.logs[&channel.0[0]];
        if !log.members.contains(&request.user) {
            return Err(Refusal { code: Code::NOT_FOUND, retry_after_ms: 0, leader: None });
        }
        let head = Seq(log.readers.len() as u64);
        // What was dropped is announced before anything that comes behind it.
        if self.nodes[node].lagging.remove(channel) {
            self.nodes[node].outbox.push_back(ToGateway::Lagged { channel: *channel, head });
        }
        self.nodes[node].subscribed.insert(*channel);
        Ok(Answer::Subscribed { head, member: MemberNo(1) })
    }

    /// Reads what clients received.
    fn check(&mut self) {
        assert!(self.world.closed.is_empty(), "{:?}", self.world.closed);
        let sessions: Vec<_> = self.sessions.iter().map(|(key, name)| (*key, *name)).collect();
        for (key, name) in sessions {
            for frame in self.world.received(key) {
                self.check_frame(key, name, &frame);
            }
        }
    }

    fn check_frame(&mut self, key: SessionKey, name: &str, frame: &str) {
        let words: Vec<&str> = frame.split(' ').collect();
        let number = |text: &str| text.parse::<u64>().expect("a number");
        let place = |text: &str| text.split_once('.').map(|(n, seq)| (number(n) as u8, number(seq)));
        match words[..] {
            ["ERROR", ..] => {}
            ["SUBSCRIBED", request, "at", head] => {
                // One that UNSUBSCRIBE overtook means nothing.
                if let Some((_, n, leaves_before)) = self.asked.remove(&number(request)) {
                    let watch = Watch { known: number(head), leaves_before };
                    self.watches.insert((key, n), watch);
                }
            }
            ["LAGGED", at] => {
                let (n, head) = place(at).expect("a channel and a head");
                assert!(head <= self.logs[&n].readers.len() as u64, "no head is invented");
                if let Some(watch) = self.watches.get_mut(&(key, n)) {
                    watch.known = watch.known.max(head);
                }
            }
            ["DELIVER", at, ..] => {
                let (n, seq) = place(at).expect("a channel and a number");
                let readers = &self.logs[&n].readers[seq as usize - 1];
                assert!(readers.contains(&user(name)), "{name} reads {at} without being a member");
                let last = self.delivered.insert((key, n), seq).unwrap_or(0);
                assert!(seq > last, "{at} after {last}");
                if let Some(watch) = self.watches.get_mut(&(key, n)) {
                    assert!(seq <= watch.known + 1, "{name} gets {at} and knows {}", watch.known);
                    watch.known = watch.known.max(seq);
                }
            }
            _ => panic!("unexpected: {frame}"),
        }
    }

    /// Everything becomes whole: then everybody who still watches knows every head.
    fn heal(&mut self) {
        self.elect(Some(0));
        (0..NODES).for_each(|node| self.link_up(node));
        self.world.stuck.clear();
        for _ in 0..200 {
            let keys: Vec<SessionKey> = self.sessions.keys().copied().collect();
            keys.into_iter().for_each(|key| self.world.unstick(key));
            (0..NODES).for_each(|node| self.carry(node));
            self.world.pass(Duration::from_millis(30));
            self.take_asked();
            self.check();
        }
        for ((key, n), watch) in &self.watches {
            let (name, log) = (self.sessions[key], &self.logs[n]);
            let stayed = self.leaves(*n, name) == watch.leaves_before && log.members.contains(&user(name));
            if stayed {
                assert_eq!(watch.known, log.readers.len() as u64, "{name} in channel {n}");
            }
        }
        assert_eq!(self.world.gateway.pending_count(), 0);
    }
}

#[test]
fn nobody_reads_too_much_and_nobody_misses_anything_silently() {
    let mut total = [0; 6];
    for seed in 0..300 {
        let run = std::panic::catch_unwind(|| {
            let mut chaos = Chaos::new(seed);
            (0..STEPS).for_each(|_| chaos.step());
            chaos.heal();
            chaos.world.gateway.counters().clone()
        });
        let Ok(c) = run else { panic!("seed {seed}") };
        let seen = [c.deliveries, c.deliveries_dropped, c.events_stale, c.left, c.renewals, c.rerouted];
        total.iter_mut().zip(seen).for_each(|(total, seen)| *total += seen);
    }
    println!("deliveries, dropped, stale, left, renewals, rerouted: {total:?}");
    assert!(total.iter().all(|count| *count > 300), "every fault happens: {total:?}");
}
