//! Disks: when writes end, how they end, and what a node learns of it.

use core::time::Duration;

use throng_base::Instant;
use throng_base::planted::{Bug, is_planted};
use throng_router_core::{FlushToken, ImportToken, ViewId};
use throng_storage_core::entry::{Mark, Record};
use throng_storage_core::state::WriteBatch;
use throng_storage_core::store::PersistToken;
use throng_wire::ids::ShardId;
use throng_wire::peer::SnapshotMessage;

use super::{Event, World};
use crate::disk::WriteEnd;

/// How soon a node ends whose disk has lost a write.
const DIES_WITHIN: Duration = Duration::from_millis(300);

/// How often the length of a log is looked at.
const WATCH_LOG_EVERY: Duration = Duration::from_millis(500);

impl World {
    /// The node wants a group commit on its disk.
    pub(crate) fn persist(&mut self, node: usize, token: PersistToken, records: Vec<Record>) {
        self.check_versions(node, &records);
        let begun = self.nodes[node].disk.log.submit(token, records);
        if begun {
            self.write_begins(node);
        }
    }

    fn write_begins(&mut self, node: usize) {
        let mut took = self.write_time();
        if !self.calm && self.rng.chance(self.scenario.plan.hang) {
            self.faults.hangs += 1;
            took += Duration::from_millis(self.rng.between(200, 8_000));
        }
        if is_planted(Bug::NoFsync) {
            took = Duration::from_micros(20); // into the page cache
        }
        let life = self.nodes[node].life;
        self.after(took, Event::Written { node, life });
    }

    fn write_time(&mut self) -> Duration {
        let slowest = if self.calm { Duration::from_millis(1) } else { self.scenario.plan.sync_max };
        Duration::from_nanos(self.rng.between(30_000, slowest.as_nanos() as u64))
    }

    /// A write of the log has ended, well or not.
    pub(crate) fn written(&mut self, node: usize, life: u32) {
        if self.nodes[node].life != life || !self.nodes[node].disk.log.is_writing() {
            return;
        }
        if !self.calm && self.rng.chance(self.scenario.plan.write_error) {
            // A failed write or sync is final: the process ends, and what it wrote may be there or not.
            self.faults.write_errors += 1;
            self.crash(node);
            let pause = Duration::from_millis(self.rng.between(100, 3_000));
            return self.after(pause, Event::Start { node });
        }
        let end = self.write_end(node);
        let (token, begun) = self.nodes[node].disk.log.written(end, &mut self.rng);
        if begun {
            self.write_begins(node);
        }
        if let Some(token) = token {
            self.persisted(node, life, token);
        }
        self.rot(node);
        self.watch_log(node);
    }

    /// A bit of what is written flips now and then on the disk that does such things.
    fn rot(&mut self, node: usize) {
        let rate = self.scenario.plan.flip / 100;
        if self.may_damage(node) && self.rng.chance(rate) {
            self.flip(node);
        }
    }

    /// Nodes whose logs are longer than they should be. Whatever holds one, once nothing goes wrong it is short again soon.
    pub(crate) fn long_logs(&self) -> Vec<String> {
        let most = self.scenario.plan.keep_segments;
        let runs = self.nodes.iter().enumerate().filter(|(_, node)| node.process.is_some());
        runs.map(|(number, node)| (number, node.disk.log.pins_beyond(most)))
            .filter(|(_, pins)| !pins.is_empty())
            .map(|(number, pins)| {
                format!("the log of node {number} has more than {most} segments, held by {pins:?}")
            })
            .collect()
    }

    /// A log that is too long is looked at now and then.
    pub(crate) fn watch_log(&mut self, node: usize) {
        if self.nodes[node].process.is_none() || self.now < self.nodes[node].pressed_until {
            return;
        }
        let shards = self.nodes[node].disk.log.pins_beyond(self.scenario.plan.keep_segments);
        if shards.is_empty() {
            return;
        }
        self.faults.pressed += 1;
        self.nodes[node].pressed_until = self.now + WATCH_LOG_EVERY;
        let (now, life) = (self.nodes[node].local(self.now), self.nodes[node].life);
        if let Some(process) = self.process(node, life) {
            process.router.handle_log_over_budget(now, &shards);
            self.pump_node(node);
        }
    }

    /// The log needs some entries no more.
    pub(crate) fn truncate(&mut self, node: usize, shard: ShardId, mark: Mark) {
        self.faults.truncations += 1;
        let begun = self.nodes[node].disk.log.truncate(shard, mark);
        if begun {
            self.write_begins(node);
        }
    }

    /// A node could not read its log: the process ends, and the next start will see why.
    pub(crate) fn read_failed(&mut self, node: usize) {
        if self.victim != Some(node) {
            self.model.violations.push(format!("node {node} cannot read its log on a sound disk"));
        }
        self.faults.read_errors += 1;
        self.crash(node);
        let pause = Duration::from_millis(self.rng.between(100, 3_000));
        self.after(pause, Event::Start { node });
    }

    fn write_end(&mut self, node: usize) -> WriteEnd {
        if !self.may_damage(node) {
            return WriteEnd::Placed;
        }
        let end = if self.rng.chance(self.scenario.plan.lost_write) {
            self.faults.lost_writes += 1;
            WriteEnd::Lost
        } else if self.rng.chance(self.scenario.plan.misdirected) {
            self.faults.misdirected += 1;
            WriteEnd::Misdirected
        } else {
            return WriteEnd::Placed;
        };
        // Such a disk is about to go: what is lost matters most while little stands behind it.
        if self.rng.chance(300_000) {
            let life = self.nodes[node].life;
            let soon = Duration::from_nanos(self.rng.below(DIES_WITHIN.as_nanos() as u64));
            self.after(soon, Event::Die { node, life });
        }
        end
    }

    /// The node learns that a group commit is durable.
    fn persisted(&mut self, node: usize, life: u32, token: PersistToken) {
        let now = self.nodes[node].local(self.now);
        if let Some(process) = self.process(node, life) {
            process.router.handle_persisted(now, token);
            self.pump_node(node);
        }
    }

    /// The node wants a batch in its state store, and all of it flushed.
    pub(crate) fn flush(&mut self, node: usize, token: FlushToken, batch: &WriteBatch) {
        self.nodes[node].disk.write_state(batch);
        let before: Instant = self.nodes[node].flushed_until;
        let at = (before + Duration::from_nanos(1)).max(self.now + self.write_time());
        self.nodes[node].flushed_until = at;
        let life = self.nodes[node].life;
        self.at(at, Event::Flushed { node, life, token });
    }

    pub(crate) fn flushed(&mut self, node: usize, life: u32, token: FlushToken) {
        if self.nodes[node].life != life || self.nodes[node].process.is_none() {
            return;
        }
        self.nodes[node].disk.flush_state();
        let now = self.nodes[node].local(self.now);
        if let Some(process) = self.process(node, life) {
            process.router.handle_flushed(now, token);
        }
        self.pump_node(node);
    }

    /// The node wants rows of a snapshot in its state store. They are written by a thread of their own.
    pub(crate) fn import(&mut self, node: usize, token: ImportToken, batch: WriteBatch, flush: bool) {
        self.nodes[node].disk.queue_import(batch, flush);
        let before: Instant = self.nodes[node].imported_until;
        let at = (before + Duration::from_nanos(1)).max(self.now + self.write_time());
        self.nodes[node].imported_until = at;
        let life = self.nodes[node].life;
        self.at(at, Event::Imported { node, life, token });
    }

    pub(crate) fn imported(&mut self, node: usize, life: u32, token: ImportToken) {
        if self.nodes[node].life != life || self.nodes[node].process.is_none() {
            return;
        }
        self.nodes[node].disk.write_import();
        let now = self.nodes[node].local(self.now);
        if let Some(process) = self.process(node, life) {
            process.router.handle_imported(now, token);
        }
        self.pump_node(node);
    }

    pub(crate) fn open_view(&mut self, node: usize, view: ViewId, shard: ShardId, replica: u32) {
        let life = self.nodes[node].life;
        let delay = Duration::from_micros(self.rng.between(1, 3_000));
        self.after(delay, Event::ViewOpened { node, life, view, shard, replica });
    }

    pub(crate) fn view_opened(&mut self, node: usize, life: u32, view: ViewId, shard: ShardId, replica: u32) {
        if self.nodes[node].life != life || self.nodes[node].process.is_none() {
            return;
        }
        let row = match self.view_breaks() {
            true => None,
            false => Some(self.nodes[node].disk.open_view(view, shard, replica)),
        };
        let now = self.nodes[node].local(self.now);
        if let Some(process) = self.process(node, life) {
            process.router.handle_view(now, view, row);
            self.pump_node(node);
        }
    }

    pub(crate) fn read_view_soon(&mut self, node: usize, view: ViewId) {
        let life = self.nodes[node].life;
        let delay = Duration::from_micros(self.rng.between(50, 3_000));
        self.after(delay, Event::ViewRead { node, life, view });
    }

    pub(crate) fn view_read(&mut self, node: usize, life: u32, view: ViewId) {
        if self.nodes[node].life != life || self.nodes[node].process.is_none() {
            return;
        }
        let breaks = self.view_breaks();
        let read = self.nodes[node].disk.read_view(view).filter(|_| !breaks);
        let now = self.nodes[node].local(self.now);
        if let Some(process) = self.process(node, life) {
            match read {
                Some((rows, digest)) => process.router.handle_view_rows(now, view, rows, digest),
                None => process.router.handle_view_lost(now, view),
            }
            self.pump_node(node);
        }
    }

    fn view_breaks(&mut self) -> bool {
        let breaks = !self.calm && self.rng.chance(self.scenario.plan.view_error);
        self.faults.views_lost += u64::from(breaks);
        breaks
    }

    pub(crate) fn close_view(&mut self, node: usize, view: ViewId) {
        self.nodes[node].disk.close_view(view);
        if let Some(false) = self.nodes[node].offers.remove(&view.0) {
            self.faults.snapshots_failed += 1;
        }
    }

    /// Counts what nodes say to each other about snapshots, when it leaves.
    pub(crate) fn note_snapshot(&mut self, node: usize, message: &SnapshotMessage) {
        if let SnapshotMessage::Offer { stream, .. } = message
            && self.nodes[node].offers.insert(*stream, false).is_none()
        {
            self.faults.snapshots_sent += 1;
        }
    }

    /// The same when it arrives.
    pub(crate) fn note_answer(&mut self, node: usize, message: &SnapshotMessage) {
        if let SnapshotMessage::Done { stream, ok: true } = message
            && let Some(is_done) = self.nodes[node].offers.get_mut(stream)
        {
            *is_done = true;
        }
    }

    /// A process has ended, or the run: what its counters say.
    pub(crate) fn close_books(&mut self, node: usize) {
        let open = std::mem::take(&mut self.nodes[node].offers);
        self.faults.snapshots_failed += open.values().filter(|is_done| !**is_done).count() as u64;
        if let Some(process) = &self.nodes[node].process {
            let stats = process.router.store().stats();
            self.faults.snapshots_restored += stats.snapshots_taken;
            self.faults.suspects += stats.suspects;
            self.faults.released += stats.released;
            self.faults.retentions += process.router.stats().retentions;
        }
    }
}
