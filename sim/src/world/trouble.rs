//! Faults: crashes, pauses, partitions, clogs, cut connections, clocks; and their end.

use core::time::Duration;

use throng_base::Instant;
use throng_wire::ids::ShardId;

use super::{Event, World};

impl World {
    pub(crate) fn schedule_trouble(&mut self) {
        let plan = self.scenario.plan.clone();
        self.next_trouble(plan.crash_every, Event::Crash);
        self.next_trouble(plan.pause_every, Event::Pause);
        self.next_trouble(plan.partition_every, Event::Partition);
        self.next_trouble(plan.clog_every, Event::Clog);
        self.next_trouble(plan.cut_every, Event::Cut);
        self.next_trouble(plan.jump_every, Event::Jump);
        self.next_trouble(plan.change_every, Event::Change);
        self.next_trouble(plan.full_every, Event::Full);
        self.schedule_holds();
    }

    pub(crate) fn next_trouble(&mut self, mean: Duration, event: Event) {
        if !mean.is_zero() && !self.calm {
            let delay = Duration::from_nanos(self.rng.below(2 * mean.as_nanos() as u64));
            self.after(delay, event);
        }
    }

    /// Every node's clocks run at their own rate.
    pub(crate) fn set_clocks(&mut self) {
        let limit = u64::from(self.scenario.plan.drift_ppm);
        for node in &mut self.nodes {
            node.drift_ppm = self.rng.below(2 * limit + 1) as i64 - limit as i64;
            self.faults.drifting += u64::from(node.drift_ppm != 0);
        }
    }

    /// A random node that runs.
    pub(crate) fn somebody(&mut self) -> Option<usize> {
        let up: Vec<usize> =
            (0..self.nodes.len()).filter(|node| self.nodes[*node].process.is_some()).collect();
        (!up.is_empty()).then(|| up[self.rng.below(up.len() as u64) as usize])
    }

    /// Kills a random node that runs, or all of them; they start again a little later.
    pub(crate) fn crash_somebody(&mut self) {
        if self.calm {
            return;
        }
        let all = self.rng.chance(100_000);
        let victims: Vec<usize> =
            if all { (0..self.nodes.len()).collect() } else { self.somebody().into_iter().collect() };
        self.faults.blackouts += u64::from(all);
        for node in victims.into_iter().filter(|node| self.nodes[*node].process.is_some()).collect::<Vec<_>>()
        {
            self.crash(node);
            let pause = Duration::from_millis(self.rng.between(1, 3_000));
            self.after(pause, Event::Start { node });
        }
        self.next_trouble(self.scenario.plan.crash_every, Event::Crash);
    }

    /// A process that is to end does, and starts again a little later.
    pub(crate) fn die(&mut self, node: usize, life: u32) {
        if self.nodes[node].life == life && self.nodes[node].process.is_some() && !self.calm {
            self.crash(node);
            let pause = Duration::from_millis(self.rng.between(1, 500));
            self.after(pause, Event::Start { node });
        }
    }

    /// A process ends from one moment to the next.
    pub(crate) fn crash(&mut self, node: usize) {
        self.faults.crashes += 1;
        self.down.insert(node);
        self.close_books(node);
        let gateway_id = self.nodes[node].process.take().map(|process| process.gateway_id);
        let (unsynced, unflushed) = (self.nodes[node].disk.log.unsynced(), self.nodes[node].disk.unflushed());
        let batches = self.rng.below(unflushed as u64 + 1) as usize;
        self.faults.unsynced_commits += unsynced as u64;
        self.faults.unflushed_batches += (unflushed - batches) as u64;
        let may_tear = self.may_tear(node);
        let torn = self.nodes[node].disk.log.crash(may_tear, &mut self.rng);
        self.faults.torn_writes += u64::from(torn);
        self.nodes[node].disk.crash_state(batches);
        self.damage(node);
        for (_, (actor, connection)) in core::mem::take(&mut self.sessions[node]) {
            self.after(Duration::from_micros(100), Event::Broken { actor, connection });
        }
        let id = self.ids[node];
        for other in 0..self.nodes.len() {
            self.break_link(node, other, gateway_id);
            self.break_link(other, node, None);
            let now = self.nodes[other].local(self.now);
            if let Some(process) = &mut self.nodes[other].process {
                process.router.handle_peer_down(now, id);
                self.pump_node(other);
            }
        }
    }

    /// Whether a crash may tear the write of a node. A node that may have forgotten something counts for nothing before the
    /// others have cleared it. Where one of them is lost for good nobody can, and people have to decide.
    fn may_tear(&self, node: usize) -> bool {
        self.victim.is_none_or(|victim| {
            let victim_node = &self.nodes[victim];
            victim == node || !victim_node.is_refused && victim_node.disk.log.is_sound()
        })
    }

    /// For the same reason damage strikes only while no other node is in doubt.
    pub(crate) fn may_damage(&self, node: usize) -> bool {
        let is_in_doubt = |(number, other): (usize, &crate::node::Node)| {
            number != node
                && match &other.process {
                    None => other.disk.log.is_in_doubt(),
                    Some(process) => {
                        let store = process.router.store();
                        (0..=self.scenario.shards).any(|shard| store.is_suspect(ShardId(shard)))
                    }
                }
        };
        self.victim == Some(node) && !self.calm && !self.nodes.iter().enumerate().any(is_in_doubt)
    }

    /// Bits flip on the disk of the one node whose disk does that.
    fn damage(&mut self, node: usize) {
        if self.may_damage(node) && self.rng.chance(self.scenario.plan.flip) {
            self.flip(node);
        }
    }

    pub(crate) fn flip(&mut self, node: usize) {
        self.faults.flips += u64::from(self.nodes[node].disk.log.flip(&mut self.rng));
    }

    pub(crate) fn pause_somebody(&mut self) {
        if self.calm {
            return;
        }
        if let Some(node) = self.somebody() {
            // Mostly short, up to 5 s: longer than elections take.
            let longest = if self.rng.chance(500_000) { 300 } else { 5_000 };
            let lasts = Duration::from_millis(self.rng.between(10, longest));
            self.nodes[node].paused_until = self.nodes[node].paused_until.max(self.now + lasts);
            self.faults.pauses += 1;
        }
        self.next_trouble(self.scenario.plan.pause_every, Event::Pause);
    }

    /// When an event for a paused node is looked at.
    pub(crate) fn held_until(&self, event: &Event) -> Option<Instant> {
        let node = match event {
            Event::NodeTimer { node, .. }
            | Event::Written { node, .. }
            | Event::Flushed { node, .. }
            | Event::Imported { node, .. }
            | Event::ViewOpened { node, .. }
            | Event::ViewRead { node, .. }
            | Event::Left { node, .. } => *node,
            Event::Peer { to, .. } => *to,
            Event::ToRouter { router, .. } => *router,
            Event::ToGateway { gateway, .. } => *gateway,
            Event::Accept { actor, .. } | Event::ToServer { actor, .. } => {
                self.actors[*actor].connection.as_ref()?.node
            }
            _ => return None,
        };
        let node = &self.nodes[node];
        let held = node.process.is_some() && node.paused_until >= self.now;
        held.then(|| node.paused_until + Duration::from_nanos(1))
    }

    pub(crate) fn partition(&mut self) {
        if self.calm {
            return;
        }
        let nodes = self.nodes.len();
        if nodes > 1 {
            self.net.partition(nodes, &mut self.rng, &mut self.faults);
            for gateway in 0..nodes {
                for router in (0..nodes).filter(|router| *router != gateway) {
                    if self.net.is_cut(gateway, router) || self.net.is_cut(router, gateway) {
                        self.break_link(gateway, router, None);
                    }
                }
            }
        }
        let lasts = Duration::from_millis(self.rng.between(50, 3_000));
        self.after(lasts, Event::Heal);
    }

    pub(crate) fn heal_net(&mut self) {
        self.net.heal();
        self.next_trouble(self.scenario.plan.partition_every, Event::Partition);
    }

    pub(crate) fn clog_somebody(&mut self) {
        if self.calm {
            return;
        }
        if self.nodes.len() > 1 {
            self.net.clog(self.nodes.len(), self.now, &mut self.rng);
            self.faults.clogs += 1;
        }
        self.next_trouble(self.scenario.plan.clog_every, Event::Clog);
    }

    pub(crate) fn cut_somebody(&mut self) {
        if self.calm {
            return;
        }
        let actor = self.rng.below(self.actors.len() as u64) as usize;
        self.cut_actor(actor);
        self.next_trouble(self.scenario.plan.cut_every, Event::Cut);
    }

    pub(crate) fn jump_somebody(&mut self) {
        if self.calm {
            return;
        }
        let node = self.rng.below(self.nodes.len() as u64) as usize;
        let limit = 24 * 3_600 * 1_000;
        self.nodes[node].wall_offset_ms = self.rng.between(0, 2 * limit) as i64 - limit as i64;
        self.faults.clock_jumps += 1;
        self.next_trouble(self.scenario.plan.jump_every, Event::Jump);
    }

    /// From here on nothing goes wrong: liveness is owed.
    pub(crate) fn end_faults(&mut self) {
        self.calm = true;
        self.net.heal();
        self.after(Duration::ZERO, Event::Sync);
        for node in core::mem::take(&mut self.down) {
            self.start_node(node);
        }
    }
}
