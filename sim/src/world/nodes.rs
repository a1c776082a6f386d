//! Nodes: timers, disks, and the effects of router and gateway.

use core::time::Duration;

use throng_base::{Instant, Key};
use throng_gateway_core::{Claims, Output as GatewayOutput};
use throng_router_core::{AppliedRow, FlushToken, ImportToken, Output as RouterOutput, ViewId};
use throng_storage_core::store::PersistToken;
use throng_wire::{DeviceId, UserId};

use super::{Event, World};
use crate::node::Process;

/// Tokens of simulated users never expire within a run.
const EXPIRES_MS: u64 = 4_000_000_000_000;

impl World {
    pub(crate) fn start_node(&mut self, node: usize) {
        if self.nodes[node].process.is_some() {
            return;
        }
        self.down.remove(&node);
        let (now, voters, shards) = (self.now, self.voters.clone(), self.scenario.shards);
        self.nodes[node].start(now, &voters, shards, &mut self.rng);
        for other in 0..self.nodes.len() {
            self.try_link_soon(node, other);
            if other != node {
                self.try_link_soon(other, node);
            }
        }
        self.pump_node(node);
    }

    /// The process of a node in this life, with its wall clock fed.
    pub(crate) fn process(&mut self, node: usize, life: u32) -> Option<&mut Process> {
        let now = self.now;
        let node = &mut self.nodes[node];
        if node.life != life {
            return None;
        }
        let wall = node.wall_ms(now);
        let process = node.process.as_mut()?;
        process.router.handle_wall_clock(wall);
        process.gateway.handle_wall_clock(now, wall);
        Some(process)
    }

    pub(crate) fn node_timer(&mut self, node: usize, life: u32, at: Instant) {
        let now = self.now;
        let Some(process) = self.process(node, life) else { return };
        if process.timer_at != Some(at) {
            return;
        }
        process.timer_at = None;
        if process.router.poll_timeout().is_some_and(|at| at <= now) {
            process.router.handle_timeout(now);
        }
        if process.gateway.poll_timeout().is_some_and(|at| at <= now) {
            process.gateway.handle_timeout(now);
        }
        self.pump_node(node);
    }

    pub(crate) fn synced(&mut self, node: usize, life: u32, token: PersistToken) {
        let now = self.now;
        if self.nodes[node].life != life || self.nodes[node].process.is_none() {
            return;
        }
        self.nodes[node].disk.sync(token);
        if let Some(process) = self.process(node, life) {
            process.router.handle_persisted(now, token);
        }
        self.pump_node(node);
    }

    pub(crate) fn flushed(&mut self, node: usize, life: u32, token: FlushToken) {
        let now = self.now;
        if self.nodes[node].life != life || self.nodes[node].process.is_none() {
            return;
        }
        self.nodes[node].disk.flush_state();
        if let Some(process) = self.process(node, life) {
            process.router.handle_flushed(now, token);
        }
        self.pump_node(node);
    }

    pub(crate) fn imported(&mut self, node: usize, life: u32, token: ImportToken, flush: bool) {
        let now = self.now;
        if self.nodes[node].life != life || self.nodes[node].process.is_none() {
            return;
        }
        if flush {
            self.nodes[node].disk.flush_state();
        }
        if let Some(process) = self.process(node, life) {
            process.router.handle_imported(now, token);
        }
        self.pump_node(node);
    }

    pub(crate) fn view_opened(&mut self, node: usize, life: u32, view: ViewId, row: AppliedRow) {
        let now = self.now;
        if let Some(process) = self.process(node, life) {
            process.router.handle_view(now, view, Some(row));
            self.pump_node(node);
        }
    }

    pub(crate) fn view_read(&mut self, node: usize, life: u32, view: ViewId) {
        let now = self.now;
        if self.nodes[node].life != life {
            return;
        }
        let Some((rows, digest)) = self.nodes[node].disk.read_view(view) else { return };
        if let Some(process) = self.process(node, life) {
            process.router.handle_view_rows(now, view, rows, digest);
            self.pump_node(node);
        }
    }

    /// Carries out all effects of a node and sets its timer.
    pub(crate) fn pump_node(&mut self, node: usize) {
        while let Some(output) = self.nodes[node].process.as_mut().and_then(|p| p.router.poll_output()) {
            self.router_output(node, output);
        }
        while let Some(output) = self.nodes[node].process.as_mut().and_then(|p| p.gateway.poll_output()) {
            self.gateway_output(node, output);
        }
        let now = self.now;
        let life = self.nodes[node].life;
        let Some(process) = &mut self.nodes[node].process else { return };
        let wanted =
            [process.router.poll_timeout(), process.gateway.poll_timeout()].into_iter().flatten().min();
        // A timer in the past fires at once, but never at the very same instant again: time must move.
        let wanted = wanted.map(|at| at.max(now + Duration::from_nanos(1)));
        if let Some(at) = wanted
            && process.timer_at.is_none_or(|set| at < set)
        {
            process.timer_at = Some(at);
            self.at(at, Event::NodeTimer { node, life, at });
        }
    }

    fn router_output(&mut self, node: usize, output: RouterOutput) {
        match output {
            RouterOutput::Persist { token, records } => {
                self.nodes[node].disk.write(token, records);
                let at = self.disk_done(self.nodes[node].synced_until);
                self.nodes[node].synced_until = at;
                let life = self.nodes[node].life;
                self.at(at, Event::Synced { node, life, token });
            }
            RouterOutput::Flush { token, batch } => {
                self.nodes[node].disk.write_state(&batch);
                let at = self.disk_done(self.nodes[node].flushed_until);
                self.nodes[node].flushed_until = at;
                let life = self.nodes[node].life;
                self.at(at, Event::Flushed { node, life, token });
            }
            // The simulated log keeps everything, which is always legal.
            RouterOutput::Truncate { .. } => {}
            RouterOutput::Import { token, batch, flush } => {
                self.nodes[node].disk.write_state(&batch);
                let at = self.disk_done(self.nodes[node].flushed_until);
                self.nodes[node].flushed_until = at;
                let life = self.nodes[node].life;
                self.at(at, Event::Imported { node, life, token, flush });
            }
            RouterOutput::OpenView { view, shard, replica } => {
                let row = self.nodes[node].disk.open_view(view, shard, replica);
                let life = self.nodes[node].life;
                self.at(self.now, Event::ViewOpened { node, life, view, row });
            }
            RouterOutput::ReadView { view } => {
                let life = self.nodes[node].life;
                self.after(Duration::from_micros(200), Event::ViewRead { node, life, view });
            }
            RouterOutput::CloseView { view } => self.nodes[node].disk.close_view(view),
            RouterOutput::ToPeer { node: to, message } => self.peer_send(node, to.0 as usize - 1, message),
            RouterOutput::ToGateway { gateway, message } => self.router_to_gateway(node, gateway, message),
            RouterOutput::Fatal { reason } => {
                self.model.violations.push(format!("node {node} stopped: {reason}"));
            }
        }
    }

    /// When a write that begins now is done, after all before it.
    fn disk_done(&mut self, before: Instant) -> Instant {
        let slowest = if self.calm { Duration::from_millis(1) } else { self.scenario.plan.sync_max };
        let took = Duration::from_nanos(self.rng.between(30_000, slowest.as_nanos() as u64));
        (before + Duration::from_nanos(1)).max(self.now + took)
    }

    fn gateway_output(&mut self, node: usize, output: GatewayOutput) {
        let now = self.now;
        match output {
            GatewayOutput::Write { session } => self.server_sends(node, session),
            GatewayOutput::Close { session, .. } => {
                self.server_sends(node, session);
                self.server_closes(node, session);
            }
            GatewayOutput::Abort { session } => self.server_closes(node, session),
            GatewayOutput::Authenticate { session, token } => {
                let name = String::from_utf8_lossy(&token).into_owned();
                let device = name.trim_start_matches("user-").parse::<u64>().map_or(0, |n| n + 1);
                let user = UserId::of("throng", &name);
                let claims = Claims { user, device: DeviceId(device), expires_ms: EXPIRES_MS };
                if let Some(process) = &mut self.nodes[node].process {
                    process.gateway.handle_authenticated(now, session, Ok(claims));
                }
            }
            GatewayOutput::ToRouter { node: router, message } => {
                self.gateway_to_router(node, router.0 as usize - 1, message);
            }
        }
    }

    fn server_sends(&mut self, node: usize, session: Key) {
        let now = self.now;
        let mut bytes = Vec::new();
        if let Some(process) = &mut self.nodes[node].process {
            process.gateway.pull(now, session, &mut bytes, usize::MAX);
        }
        if !bytes.is_empty() {
            self.stream_to_client(node, session, Some(bytes));
        }
    }

    fn server_closes(&mut self, node: usize, session: Key) {
        let now = self.now;
        self.stream_to_client(node, session, None);
        self.sessions[node].remove(&session);
        if let Some(process) = &mut self.nodes[node].process {
            process.gateway.handle_disconnect(now, session);
        }
    }
}
