//! Faults: crashes, partitions, cut connections, clock jumps; and their end.

use core::time::Duration;

use super::{Event, World};

impl World {
    pub(crate) fn schedule_trouble(&mut self) {
        let plan = self.scenario.plan.clone();
        self.next_trouble(plan.crash_every, Event::Crash);
        self.next_trouble(plan.partition_every, Event::Partition);
        self.next_trouble(plan.cut_every, Event::Cut);
        self.next_trouble(plan.jump_every, Event::Jump);
    }

    fn next_trouble(&mut self, mean: Duration, event: Event) {
        if !mean.is_zero() && !self.calm {
            let delay = Duration::from_nanos(self.rng.below(2 * mean.as_nanos() as u64));
            self.after(delay, event);
        }
    }

    /// Kills a random node that runs; it starts again a little later.
    pub(crate) fn crash_somebody(&mut self) {
        if self.calm {
            return;
        }
        let up: Vec<usize> =
            (0..self.nodes.len()).filter(|node| self.nodes[*node].process.is_some()).collect();
        if !up.is_empty() {
            let node = up[self.rng.below(up.len() as u64) as usize];
            self.crash(node);
            let pause = Duration::from_millis(self.rng.between(1, 3_000));
            self.after(pause, Event::Start { node });
        }
        self.next_trouble(self.scenario.plan.crash_every, Event::Crash);
    }

    fn crash(&mut self, node: usize) {
        self.faults.crashes += 1;
        self.down.insert(node);
        let gateway_id = self.nodes[node].process.take().map(|process| process.gateway_id);
        let (unsynced, unflushed) = (self.nodes[node].disk.unsynced(), self.nodes[node].disk.unflushed());
        let commits = self.rng.below(unsynced as u64 + 1) as usize;
        let batches = self.rng.below(unflushed as u64 + 1) as usize;
        self.faults.unsynced_commits += unsynced as u64;
        self.faults.unflushed_batches += (unflushed - batches) as u64;
        self.nodes[node].disk.crash(commits, batches);
        for (_, (actor, connection)) in core::mem::take(&mut self.sessions[node]) {
            self.after(Duration::from_micros(100), Event::Broken { actor, connection });
        }
        let (now, id) = (self.now, self.voters[node]);
        for other in 0..self.nodes.len() {
            self.break_link(node, other, gateway_id);
            self.break_link(other, node, None);
            if let Some(process) = &mut self.nodes[other].process {
                process.router.handle_peer_down(now, id);
                self.pump_node(other);
            }
        }
    }

    pub(crate) fn partition(&mut self) {
        if self.calm {
            return;
        }
        let nodes = self.nodes.len();
        if nodes > 1 {
            self.net.partition(nodes, &mut self.rng);
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
        for node in core::mem::take(&mut self.down) {
            self.start_node(node);
        }
    }
}
