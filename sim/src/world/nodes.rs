//! Nodes: starts, timers, and the effects of router and gateway.

use core::time::Duration;

use throng_base::{Instant, Key};
use throng_gateway_core::{Claims, Output as GatewayOutput};
use throng_router_core::Output as RouterOutput;
use throng_wire::{DeviceId, UserId};

use super::{Event, World};
use crate::node::Process;

/// Tokens of simulated users never expire within a run.
const EXPIRES_MS: u64 = 4_000_000_000_000;

impl World {
    pub(crate) fn start_node(&mut self, node: usize) {
        if self.nodes[node].process.is_some() || self.nodes[node].is_refused {
            return;
        }
        self.down.remove(&node);
        let (now, shards) = (self.now, self.scenario.shards);
        let founders = self.ids[..self.scenario.nodes].to_vec();
        match self.nodes[node].start(now, &founders, shards, &self.scenario.plan, &mut self.rng) {
            Ok(half_copies) => self.faults.half_copies += half_copies,
            Err(reason) => return self.start_refused(node, &reason),
        }
        for other in 0..self.nodes.len() {
            self.try_link_soon(node, other);
            if other != node {
                self.try_link_soon(other, node);
            }
        }
        self.pump_node(node);
    }

    /// A node does not start on what its disk holds: right for the one whose disk was damaged, a bug anywhere else.
    fn start_refused(&mut self, node: usize, reason: &str) {
        self.nodes[node].is_refused = true;
        self.faults.refused_starts += 1;
        if self.victim != Some(node) {
            self.model.violations.push(format!("node {node} does not start on a sound disk: {reason}"));
        }
    }

    /// The process of a node in this life, with its wall clock fed.
    pub(crate) fn process(&mut self, node: usize, life: u32) -> Option<&mut Process> {
        let now = self.now;
        let node = &mut self.nodes[node];
        if node.life != life {
            return None;
        }
        let (wall, now) = (node.wall_ms(now), node.local(now));
        let process = node.process.as_mut()?;
        process.router.handle_wall_clock(wall);
        process.gateway.handle_wall_clock(now, wall);
        Some(process)
    }

    pub(crate) fn node_timer(&mut self, node: usize, life: u32, at: Instant) {
        let now = self.nodes[node].local(self.now);
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
        self.watch_log(node);
    }

    /// Carries out all effects of a node and sets its timer.
    pub(crate) fn pump_node(&mut self, node: usize) {
        while let Some(output) = self.nodes[node].process.as_mut().and_then(|p| p.router.poll_output()) {
            self.router_output(node, output);
        }
        while let Some(output) = self.nodes[node].process.as_mut().and_then(|p| p.gateway.poll_output()) {
            self.gateway_output(node, output);
        }
        if self.nodes[node].process.is_some() && self.nodes[node].disk.log.is_unreadable() {
            return self.read_failed(node);
        }
        let now = self.now;
        let life = self.nodes[node].life;
        let true_time = self.nodes[node].clock();
        let Some(process) = &mut self.nodes[node].process else { return };
        let wanted =
            [process.router.poll_timeout(), process.gateway.poll_timeout()].into_iter().flatten().min();
        let wanted = wanted.map(|at| true_time.true_at(at));
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
            RouterOutput::Persist { token, records } => self.persist(node, token, records),
            RouterOutput::Flush { token, batch } => self.flush(node, token, &batch),
            RouterOutput::Truncate { shard, mark } => self.truncate(node, shard, mark),
            RouterOutput::Import { token, batch, flush } => self.import(node, token, batch, flush),
            RouterOutput::OpenView { view, shard, replica } => self.open_view(node, view, shard, replica),
            RouterOutput::ReadView { view } => self.read_view_soon(node, view),
            RouterOutput::CloseView { view } => self.close_view(node, view),
            RouterOutput::Operated { ask, result } => self.operated(node, ask, result.is_ok()),
            // Nobody asks.
            RouterOutput::Checkpoint { .. } => {}
            RouterOutput::ToPeer { node: to, message } => self.peer_send(node, to.0 as usize - 1, message),
            RouterOutput::ToGateway { gateway, message } => self.router_to_gateway(node, gateway, message),
            // Links stand between all nodes of a run, and nobody waits for what came of a command.
            RouterOutput::Nodes { .. } | RouterOutput::MetaDone { .. } => {}
            // The end of the node follows.
            RouterOutput::Fatal { .. } if self.nodes[node].disk.log.is_unreadable() => {}
            RouterOutput::Fatal { reason } => {
                self.model.violations.push(format!("node {node} stopped: {reason}"));
            }
        }
    }

    fn gateway_output(&mut self, node: usize, output: GatewayOutput) {
        let now = self.nodes[node].local(self.now);
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
        let now = self.nodes[node].local(self.now);
        let mut bytes = Vec::new();
        if let Some(process) = &mut self.nodes[node].process {
            process.gateway.pull(now, session, &mut bytes, usize::MAX);
        }
        if !bytes.is_empty() {
            self.stream_to_client(node, session, Some(bytes));
        }
    }

    fn server_closes(&mut self, node: usize, session: Key) {
        let now = self.nodes[node].local(self.now);
        self.stream_to_client(node, session, None);
        self.sessions[node].remove(&session);
        if let Some(process) = &mut self.nodes[node].process {
            process.gateway.handle_disconnect(now, session);
        }
    }
}
