//! A cluster of routers in one thread: disks and links work at once, time passes when the test says so.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use throng_base::Instant;
use throng_router_core::entry::{FIRST_VERSION, VERSION};
use throng_router_core::machines::first_replicas;
use throng_router_core::meta::{JoinId, MetaDone, MetaError, Registration, Versions};
use throng_router_core::router::RouterConfig;
use throng_router_core::snapshot::{Cursor, next_chunk};
use throng_router_core::{Checkpoint, Output, PeerMessage, Router, ViewId, applied};
use throng_storage_core::entry::{Entry, HardState, Record};
use throng_storage_core::state::{MemState, StateWrite};
use throng_storage_core::store::limits::NO_REPLICA;
use throng_storage_core::store::{NoLog, PersistToken, RecoveredGroup, Store, StoreConfig};
use throng_wire::frame::{ChannelClass, Freshness};
use throng_wire::ids::*;
use throng_wire::link::*;

use crate::harness::{Disk, user};

pub(crate) const EPOCH: Epoch = Epoch(3);
pub(crate) const GATEWAY: GatewayId = GatewayId(77);

/// One node with its disks.
pub(crate) struct Node {
    pub(crate) router: Router<Disk>,
    pub(crate) disk: Disk,
    log: BTreeMap<ShardId, (HardState, Vec<Entry>)>,
    /// What gateways got, in order.
    pub(crate) heard: Vec<(GatewayId, ToGateway)>,
    pub(crate) fatal: Option<String>,
    /// Group commits are not reported while this is set.
    pub(crate) log_hangs: bool,
    held: Option<PersistToken>,
    pub(crate) flushes: usize,
    /// Groups whose logs need less than they have.
    pub(crate) truncated: BTreeSet<ShardId>,
    /// What operators were told.
    pub(crate) operated: Vec<(u64, Result<(), Refusal>)>,
    pub(crate) checkpoints: Vec<(u64, Checkpoint)>,
    views: BTreeMap<ViewId, (MemState, ShardId, u32, Option<Cursor>)>,
    /// The nodes that it was told of last,
    pub(crate) nodes: Vec<u64>,
    /// and what its commands for the metadata came to, by ticket.
    pub(crate) done: BTreeMap<u64, Result<MetaDone, MetaError>>,
}

impl Node {
    fn read(&mut self, now: Instant, view: ViewId) {
        let Some((state, shard, replica, cursor)) = self.views.get_mut(&view) else { return };
        let at = cursor.take().expect("nothing is read behind the last chunk");
        let chunk = next_chunk(state, *shard, *replica, &at, 400).expect("memory can be read");
        *cursor = chunk.next;
        self.router.handle_view_rows(now, view, chunk.rows, chunk.digest);
    }
}

/// The cluster.
pub(crate) struct World {
    pub(crate) nodes: BTreeMap<NodeId, Node>,
    founders: Vec<NodeId>,
    pub(crate) shards: u32,
    pub(crate) now: Instant,
    wall_ms: u64,
    mail: VecDeque<(NodeId, NodeId, PeerMessage)>,
    pub(crate) cut_off: BTreeSet<NodeId>,
    /// Messages between routers are lost while this is set; Raft's are not.
    pub(crate) lose_router_mail: bool,
    pub(crate) lost_mail: usize,
    next_request: u64,
    starts: u64,
    pub(crate) config: fn(&mut RouterConfig),
}

impl World {
    pub(crate) fn new(nodes: u64, shards: u32) -> Self {
        Self::with_config(nodes, shards, |_| {})
    }

    pub(crate) fn with_config(nodes: u64, shards: u32, config: fn(&mut RouterConfig)) -> Self {
        let mut world = Self {
            nodes: BTreeMap::new(),
            founders: (1..=nodes).map(NodeId).collect(),
            shards,
            now: Instant::from_millis(1),
            wall_ms: 1_700_000_000_000,
            mail: VecDeque::new(),
            cut_off: BTreeSet::new(),
            lose_router_mail: false,
            lost_mail: 0,
            next_request: 1,
            starts: 0,
            config,
        };
        for id in world.founders.clone() {
            world.start(id, Disk::default(), BTreeMap::new());
        }
        world.run();
        world
    }

    /// Starts a node that is no founder, with nothing on its disks.
    pub(crate) fn start_another(&mut self, id: u64) {
        self.start(NodeId(id), Disk::default(), BTreeMap::new());
        self.run();
    }

    fn start(&mut self, id: NodeId, disk: Disk, log: BTreeMap<ShardId, (HardState, Vec<Entry>)>) {
        self.starts += 1;
        let mut config = StoreConfig::new(id, self.founders.clone(), self.shards + 1);
        config.balance = false;
        let groups = (0..=self.shards).map(ShardId).map(|shard| recovered(&disk, &log, shard)).collect();
        let store =
            Store::new(config, self.starts, self.now, groups, Box::new(NoLog)).expect("a possible past");
        let mut config = RouterConfig::new(id, self.shards, EPOCH);
        config.me = Some(registration(id));
        let is_founder = self.founders.contains(&id);
        if is_founder {
            let first = Versions { oldest: FIRST_VERSION, newest: FIRST_VERSION };
            let founder = |id: &NodeId| (*id, Registration { speaks: first, ..registration(*id) });
            config.founders = self.founders.iter().map(founder).collect();
        }
        (self.config)(&mut config);
        // The metadata's group stands behind those of the shards.
        let groups = self.shards + 1;
        let replicas = if is_founder { first_replicas(groups) } else { vec![NO_REPLICA; groups as usize] };
        let mut router =
            Router::new(config, self.starts, self.now, self.wall_ms, store, disk.clone(), &replicas)
                .expect("a readable disk");
        router.handle_gateway_up(self.now, GATEWAY);
        let node = Node {
            router,
            disk,
            log,
            heard: vec![],
            fatal: None,
            log_hangs: false,
            held: None,
            flushes: 0,
            truncated: BTreeSet::new(),
            operated: vec![],
            checkpoints: vec![],
            views: BTreeMap::new(),
            nodes: Vec::new(),
            done: BTreeMap::new(),
        };
        self.nodes.insert(id, node);
    }

    /// Kills a node and starts it from its disks. What was not flushed is lost, what was logged is not.
    pub(crate) fn restart(&mut self, id: NodeId) {
        let node = self.nodes.remove(&id).expect("a node of the cluster");
        node.disk.0.borrow_mut().crash();
        self.mail.retain(|(from, to, _)| *from != id && *to != id);
        self.start(id, node.disk, node.log);
        self.run();
    }

    pub(crate) fn node(&mut self, id: u64) -> &mut Node {
        self.nodes.get_mut(&NodeId(id)).expect("a node of the cluster")
    }

    /// Works until nothing is left to do at this instant.
    pub(crate) fn run(&mut self) {
        for _ in 0..100_000 {
            let mut worked = false;
            let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
            for id in ids {
                worked |= self.drain(id);
            }
            while let Some((from, to, message)) = self.mail.pop_front() {
                worked = true;
                if self.cut_off.contains(&from) || self.cut_off.contains(&to) {
                    continue;
                }
                if self.lose_router_mail && matches!(message, PeerMessage::Router(_)) {
                    self.lost_mail += 1;
                    continue;
                }
                let now = self.now;
                if let Some(node) = self.nodes.get_mut(&to) {
                    node.router.handle_peer(now, from, message);
                }
            }
            if !worked {
                return;
            }
        }
        panic!("the cluster never rests");
    }

    fn drain(&mut self, id: NodeId) -> bool {
        let (now, wall) = (self.now, self.wall_ms);
        let node = self.nodes.get_mut(&id).expect("a node of the cluster");
        node.router.handle_wall_clock(wall);
        let mut worked = false;
        let (mut persisted, mut flushed) = (None, None);
        let (mut imported, mut opened, mut asked) = (Vec::new(), Vec::new(), Vec::new());
        while let Some(output) = node.router.poll_output() {
            worked = true;
            match output {
                Output::Persist { token, records } => {
                    records.into_iter().for_each(|record| append(&mut node.log, record));
                    persisted = Some(token);
                }
                Output::Flush { token, batch } => {
                    let mut disk = node.disk.0.borrow_mut();
                    disk.write(&batch).expect("memory does not fail");
                    disk.flush().expect("memory does not fail");
                    node.flushes += 1;
                    flushed = Some(token);
                }
                // The log of these tests keeps everything, which is always legal.
                Output::Truncate { shard, .. } => drop(node.truncated.insert(shard)),
                Output::Import { token, batch, flush } => {
                    let mut disk = node.disk.0.borrow_mut();
                    disk.write(&batch).expect("memory does not fail");
                    if flush {
                        disk.flush().expect("memory does not fail");
                    }
                    imported.push(token);
                }
                Output::OpenView { view, shard, replica } => {
                    let state = node.disk.0.borrow().clone();
                    let row = applied(&state, shard, replica).expect("memory can be read");
                    node.views.insert(view, (state, shard, replica, Some(Cursor::start())));
                    opened.push((view, row));
                }
                Output::ReadView { view } => asked.push(view),
                Output::CloseView { view } => drop(node.views.remove(&view)),
                Output::ToPeer { node: to, message } => self.mail.push_back((id, to, message)),
                Output::ToGateway { gateway, message } => node.heard.push((gateway, message)),
                Output::Nodes { nodes } => node.nodes = nodes.iter().map(|(node, _)| node.0).collect(),
                Output::MetaDone { ticket, result } => drop(node.done.insert(ticket, result)),
                Output::Operated { ask, result } => node.operated.push((ask, result)),
                Output::Checkpoint { ask, outcome } => node.checkpoints.push((ask, outcome)),
                Output::Fatal { reason } => node.fatal = Some(reason.to_string()),
            }
        }
        if let Some(token) = flushed {
            node.router.handle_flushed(now, token);
        }
        for token in imported {
            node.router.handle_imported(now, token);
        }
        for (view, row) in opened {
            node.router.handle_view(now, view, Some(row));
        }
        for view in asked {
            node.read(now, view);
        }
        node.held = persisted.or(node.held);
        if !node.log_hangs
            && let Some(token) = node.held.take()
        {
            node.router.handle_persisted(now, token);
            worked = true;
        }
        worked
    }

    /// Lets time pass.
    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            let next = self.nodes.values().filter_map(|node| node.router.poll_timeout()).min().unwrap_or(end);
            let next = next.max(self.now + Duration::from_micros(1)).min(end);
            self.wall_ms += (next - self.now).as_millis() as u64;
            self.now = next;
            for node in self.nodes.values_mut() {
                if node.router.poll_timeout().is_some_and(|at| at <= next) {
                    node.router.handle_timeout(next);
                }
            }
            self.run();
        }
    }

    pub(crate) fn pass_ms(&mut self, ms: u64) {
        self.pass(Duration::from_millis(ms));
    }

    /// The node that serves a shard, when there is one.
    pub(crate) fn leader(&mut self, shard: ShardId) -> u64 {
        for _ in 0..500 {
            let cut_off = &self.cut_off;
            let mut serving = self.nodes.iter().filter(|(id, _)| !cut_off.contains(id));
            if let Some((id, _)) = serving.find(|(_, node)| node.router.store().is_serving(shard)) {
                return id.0;
            }
            self.pass_ms(20);
        }
        panic!("{shard:?} has no leader");
    }

    pub(crate) fn shard_of(&self, channel: &ChannelId) -> ShardId {
        ShardId::of_channel(channel, self.shards)
    }

    // ---- requests ----------------------------------------------------------------------------------------------------

    /// Sends a request; returns its number.
    pub(crate) fn ask(&mut self, node: u64, user: UserId, op: Op) -> u64 {
        self.next_request += 1;
        let (id, now) = (self.next_request, self.now);
        let request = Request { id, user, device: DeviceId(1), op };
        self.node(node).router.handle_gateway(now, GATEWAY, ToRouter::Request(request));
        id
    }

    /// The answer to a request, if it was answered; a second one is a failure.
    pub(crate) fn reply(&mut self, node: u64, id: u64) -> Option<Result<Answer, Refusal>> {
        let replies = self.node(node).heard.iter().filter_map(|(_, message)| match message {
            ToGateway::Reply(reply) if reply.id == id => Some(reply.result.clone()),
            _ => None,
        });
        let replies: Vec<_> = replies.collect();
        assert!(replies.len() <= 1, "request {id} was answered {} times", replies.len());
        replies.into_iter().next()
    }

    /// Asks the leader of the operation's shard and waits for the answer.
    pub(crate) fn call(&mut self, user: UserId, op: Op) -> Result<Answer, Refusal> {
        let shard = ShardId::of_slot(op.slot(&user), self.shards);
        let leader = self.leader(shard);
        let id = self.ask(leader, user, op);
        self.run();
        for _ in 0..200 {
            if let Some(result) = self.reply(leader, id) {
                return result;
            }
            self.pass_ms(20);
        }
        panic!("request {id} was never answered");
    }

    pub(crate) fn publish(
        &mut self,
        channel: ChannelId,
        from: UserId,
        id: u64,
        body: &str,
    ) -> Result<u64, Refusal> {
        match self.call(from, publish(channel, id, body))? {
            Answer::Published { seq, .. } => Ok(seq.0),
            other => panic!("{other:?}"),
        }
    }

    /// Makes a group of these users, the first one its owner.
    pub(crate) fn group(&mut self, channel: ChannelId, members: &[u8]) {
        let others = members[1..].iter().map(|&n| user(n)).collect();
        let op = Op::Create { channel, class: ChannelClass::Group, members: others };
        self.call(user(members[0]), op).expect("a new group");
    }

    pub(crate) fn fetch(&mut self, channel: ChannelId, user: UserId, after: u64) -> Answer {
        self.call(user, fetch(channel, after)).expect("a member may fetch")
    }

    /// What a gateway heard at a node beside replies and notices about leaders.
    pub(crate) fn take_heard(&mut self, node: u64, gateway: GatewayId) -> Vec<ToGateway> {
        let heard = std::mem::take(&mut self.node(node).heard);
        heard
            .into_iter()
            .filter(|(to, _)| *to == gateway)
            .map(|(_, message)| message)
            .filter(|message| {
                !matches!(message, ToGateway::Reply(_) | ToGateway::Leads { .. } | ToGateway::Nodes { .. })
            })
            .collect()
    }
}

pub(crate) fn publish(channel: ChannelId, id: u64, body: &str) -> Op {
    Op::Publish {
        channel,
        client_msg_id: ClientMsgId(id),
        kind: throng_wire::EventKind::MESSAGE,
        body: body.as_bytes().to_vec().into(),
    }
}

pub(crate) fn fetch(channel: ChannelId, after: u64) -> Op {
    Op::Fetch { channel, after: Seq(after), epoch: EPOCH, limit: 200, freshness: Freshness::Linearizable }
}

pub(crate) fn subscribe(channel: ChannelId, after: u64) -> Op {
    Op::Subscribe { channel, after: Seq(after), epoch: EPOCH }
}

pub(crate) fn sync(after: u64) -> Op {
    Op::Sync { after: UserSeq(after), epoch: EPOCH, limit: 200 }
}

/// What a node says of itself.
pub(crate) fn registration(id: NodeId) -> Registration {
    Registration {
        join: JoinId([id.0 as u8; 16]),
        peer: ([127, 0, 0, 1], id.0 as u16).into(),
        client: None,
        ops: None,
        zone: String::new(),
        certificate: String::new(),
        speaks: Versions { oldest: FIRST_VERSION, newest: VERSION },
    }
}

fn append(log: &mut BTreeMap<ShardId, (HardState, Vec<Entry>)>, record: Record) {
    let (hard_state, entries) = log.entry(record.shard).or_default();
    if record.mark.is_some_and(|mark| mark.reset) {
        entries.clear();
    }
    *hard_state = record.hard_state.unwrap_or(*hard_state);
    if let Some(first) = record.entries.first() {
        entries.truncate(first.index as usize - 1);
    }
    entries.extend(record.entries);
}

fn recovered(
    disk: &Disk,
    log: &BTreeMap<ShardId, (HardState, Vec<Entry>)>,
    shard: ShardId,
) -> RecoveredGroup {
    let (hard_state, entries) = log.get(&shard).cloned().unwrap_or_default();
    let applied = applied(disk, shard, shard.0).expect("a readable disk");
    RecoveredGroup {
        hard_state,
        entries,
        applied: applied.index,
        applied_term: applied.term,
        ..RecoveredGroup::empty(shard)
    }
}
