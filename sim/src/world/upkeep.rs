//! What operators do, and what disks do to them: programs are upgraded, channels held, disks fill and have room again.

use core::time::Duration;

use throng_router_core::entry::{FIRST_VERSION, VERSION};
use throng_router_core::{Operation, Pressure};
use throng_storage_core::entry::{EntryKind, Record};
use throng_wire::ShardId;

use super::{Event, World};

/// Longest time that a disk is full.
const FULL_MAX_MS: u64 = 3_000;

/// Mean time between holds that are set or lifted, in runs with retention.
const HOLD_EVERY: Duration = Duration::from_millis(700);

impl World {
    /// In some runs some of the founders run a program of the version before. Most are upgraded meanwhile.
    pub(crate) fn draw_versions(&mut self) {
        if !self.scenario.plan.mixed {
            return;
        }
        for node in 0..self.scenario.nodes {
            if !self.rng.chance(600_000) {
                continue;
            }
            self.nodes[node].speaks = FIRST_VERSION;
            self.faults.old_programs += 1;
            if self.rng.chance(850_000) {
                let at = Duration::from_nanos(self.rng.below(self.scenario.plan.duration.as_nanos() as u64));
                self.after(at, Event::Upgrade { node });
            }
        }
    }

    /// The program of a node is replaced by the newer one, which the next start runs.
    pub(crate) fn upgrade(&mut self, node: usize) {
        if self.calm {
            return;
        }
        self.nodes[node].speaks = VERSION;
        self.faults.upgrades += 1;
        if self.nodes[node].process.is_some() {
            self.crash(node);
            let pause = Duration::from_millis(self.rng.between(1, 3_000));
            self.after(pause, Event::Start { node });
        }
    }

    /// No program is given what it cannot apply: it would have to stop.
    pub(crate) fn check_versions(&mut self, node: usize, records: &[Record]) {
        let (speaks, shards) = (self.nodes[node].speaks, self.scenario.shards);
        let of_shards = records.iter().filter(|record| record.shard.0 < shards);
        let entries = of_shards.flat_map(|record| &record.entries);
        let versions =
            entries.filter(|entry| entry.kind == EntryKind::Normal).filter_map(|entry| entry.data.first());
        if let Some(version) = versions.max().filter(|version| **version > speaks) {
            let text =
                format!("node {node} knows version {speaks} and was given an entry of version {version}");
            self.model.violations.push(text);
        }
    }

    pub(crate) fn schedule_holds(&mut self) {
        if self.scenario.plan.keep_events.is_some() {
            self.next_trouble(HOLD_EVERY, Event::Hold);
        }
    }

    /// A random channel is held or let go.
    pub(crate) fn hold_something(&mut self) {
        let number = self.rng.below(self.channels.len() as u64) as usize;
        let (channel, is_held) = (self.channels[number].0, self.rng.chance(400_000));
        let shard = ShardId::of_channel(&channel, self.scenario.shards);
        if let Some(node) = self.server_of(shard) {
            let (now, life, ask) =
                (self.nodes[node].local(self.now), self.nodes[node].life, self.rng.next_u64());
            self.model.held(number, None);
            self.asked_hold = is_held.then_some((ask, number));
            if let Some(process) = self.process(node, life) {
                process.router.handle_operation(now, ask, Operation::Hold { channel, is_held });
                self.faults.holds += 1;
                self.pump_node(node);
            }
        }
        self.schedule_holds();
    }

    /// An operator's question is answered. From here on nothing in a channel that is held may go.
    pub(crate) fn operated(&mut self, node: usize, ask: u64, is_done: bool) {
        let Some((_, number)) = self.asked_hold.take_if(|(asked, _)| *asked == ask).filter(|_| is_done)
        else {
            return;
        };
        let (channel, user) = (self.channels[number].0, self.actors[self.channels[number].1[0]].user);
        let Some(process) = &mut self.nodes[node].process else { return };
        let read = process.router.machines().read_channel(&channel, &user).expect("memory can be read");
        self.model.held(number, read.map(|channel| channel.floor.0));
    }

    /// A disk is nearly full for a while: the node takes no writes of clients and would rather not lead.
    pub(crate) fn fill_some_disk(&mut self) {
        if self.calm {
            return;
        }
        if let Some(node) = self.somebody() {
            let life = self.nodes[node].life;
            self.press(node, life, true);
            self.faults.full_disks += 1;
            let lasts = Duration::from_millis(self.rng.between(20, FULL_MAX_MS));
            self.after(lasts, Event::Space { node, life });
        }
        self.next_trouble(self.scenario.plan.full_every, Event::Full);
    }

    pub(crate) fn press(&mut self, node: usize, life: u32, is_full: bool) {
        if let Some(process) = self.process(node, life) {
            process.router.handle_pressure(Pressure::Disk, is_full);
            self.pump_node(node);
        }
    }
}
