//! Changes of the groups' members: replicas that come, are given votes, lose them, go, one at a time or several at once.

use throng_router_core::meta::{Meta, MetaCommand, NodeState};
use throng_storage_core::entry::{Conf, PeerId};
use throng_storage_core::store::ConfStep;
use throng_wire::{NodeId, ShardId};

use super::{Event, World};
use crate::node::registration;

/// Members of a group at most.
const MEMBERS_MAX: usize = 5;

impl World {
    /// Something about the members is changed: on paper, by a command of the metadata group, which the groups then
    /// follow; or behind its back, at a group's leader, which the map brings back.
    pub(crate) fn change_somebody(&mut self) {
        if self.calm {
            return;
        }
        self.next_trouble(self.scenario.plan.change_every, Event::Change);
        if self.rng.chance(500_000) {
            self.command_somebody();
        } else {
            self.change_some_group();
        }
    }

    /// A random node is asked to carry a random command to the metadata group.
    fn command_somebody(&mut self) {
        let node = self.rng.below(self.nodes.len() as u64) as usize;
        let (now, life) = (self.nodes[node].local(self.now), self.nodes[node].life);
        let Some(command) = self.draw_command() else { return };
        let ticket = self.rng.next_u64() >> 1;
        let Some(process) = self.process(node, life) else { return };
        process.router.handle_meta(now, ticket, &command);
        self.faults.commands += 1;
        self.pump_node(node);
    }

    fn draw_command(&mut self) -> Option<MetaCommand> {
        let ids = self.ids.clone();
        Some(match self.rng.below(5) {
            0 | 4 => {
                let spares: Vec<NodeId> = ids[self.scenario.nodes..].to_vec();
                let id = self.pick(&spares)?;
                MetaCommand::Register {
                    number: Some(id),
                    node: registration(id, self.nodes[id.0 as usize - 1].speaks),
                }
            }
            // With a third of the replicas on damaged disks at most, as everywhere.
            1 => MetaCommand::Balance { replicas: 3 },
            _ => {
                let shard = ShardId(self.rng.below(u64::from(self.scenario.shards)) as u32);
                let mut nodes = ids;
                while nodes.len() > 3 || (nodes.len() > 1 && self.rng.chance(200_000)) {
                    nodes.swap_remove(self.rng.below(nodes.len() as u64) as usize);
                }
                let is_sound = |node: &&NodeId| self.victim != Some(node.0 as usize - 1);
                if 2 * nodes.iter().filter(is_sound).count() <= nodes.len() {
                    return None;
                }
                MetaCommand::SetReplicas { shard, nodes }
            }
        })
    }

    /// A random group's leader is asked for a random change.
    fn change_some_group(&mut self) {
        let shard = ShardId(self.rng.below(u64::from(self.scenario.shards)) as u32);
        let Some(node) = self.server_of(shard) else { return };
        let (now, life) = (self.nodes[node].local(self.now), self.nodes[node].life);
        let Some(process) = self.process(node, life) else { return };
        let conf = process.router.store().conf(shard);
        // A node that is no member knows nothing of the others: leading a shard, it could not even give it back.
        let nodes = process.router.machines().meta().into_iter().flat_map(Meta::members);
        let active =
            nodes.filter(|node| node.state == NodeState::Active).map(|node| node.id.0 as usize - 1).collect();
        let Some(steps) = self.draw_change(&conf, active) else { return };
        let joint = steps.len() > 1;
        let Some(process) = self.process(node, life) else { return };
        if process.router.propose_conf(now, shard, steps).is_ok() {
            self.faults.changes += 1;
            self.faults.joint_changes += u64::from(joint);
        }
        self.pump_node(node);
    }

    /// The node that serves a group.
    pub(crate) fn server_of(&self, shard: ShardId) -> Option<usize> {
        let serves = |node: &crate::node::Node| {
            node.process.as_ref().is_some_and(|process| process.router.store().is_serving(shard))
        };
        self.nodes.iter().position(serves)
    }

    /// Nodes with a replica of a group, as the one knows that has applied the most.
    ///
    /// # Errors
    /// One sentence if a change is not complete.
    pub(crate) fn members_of(&mut self, shard: ShardId) -> Result<Vec<usize>, String> {
        let running = self.nodes.iter_mut().filter_map(|node| node.process.as_mut());
        let known = running.map(|process| {
            let applied = process.router.machines().applied(shard).index;
            (applied, process.router.store().conf(shard))
        });
        let newest = known.filter(|(_, conf)| !conf.is_empty()).max_by_key(|(applied, _)| *applied);
        let conf = newest.map(|(_, conf)| conf).unwrap_or_default();
        if conf.is_joint() {
            return Err(format!("shard {shard} stays in a joint configuration: {conf:?}"));
        }
        Ok((0..self.nodes.len()).filter(|node| conf.members().any(|peer| place(peer) == *node)).collect())
    }

    /// A change that leaves a majority on disks that are sound; who comes is one of `free`.
    fn draw_change(&mut self, conf: &Conf, mut free: Vec<usize>) -> Option<Vec<ConfStep>> {
        free.retain(|node| conf.members().all(|peer| place(peer) != *node));
        let newcomer = self.pick(&free).map(|node| ConfStep::AddLearner(self.ids[node]));
        let newcomer = newcomer.filter(|_| conf.members().count() < MEMBERS_MAX);
        let (learner, voter) = (self.pick(&conf.learners), self.pick(&conf.voters)?);
        let promoted = learner.map(|peer| ConfStep::Promote(PeerId(peer)));
        let gone = match self.rng.chance(500_000) {
            true => ConfStep::Demote(PeerId(voter)),
            false => ConfStep::Remove(PeerId(voter)),
        };
        let all = conf.voters.clone();
        let without: Vec<u64> = all.iter().copied().filter(|peer| *peer != voter).collect();
        let (steps, voters) = match self.rng.below(7) {
            0 | 1 => (vec![newcomer?], all),
            2 => (vec![promoted?], [&all[..], &[learner?]].concat()),
            3 => (vec![ConfStep::Remove(PeerId(learner?))], all),
            4 => (vec![gone], without),
            5 => (vec![promoted?, gone], [&without[..], &[learner?]].concat()),
            _ => (vec![newcomer?, gone], without),
        };
        let sound = voters.iter().filter(|peer| self.victim != Some(place(**peer))).count();
        (2 * sound > voters.len()).then_some(steps)
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        (!from.is_empty()).then(|| from[self.rng.below(from.len() as u64) as usize])
    }
}

/// The node that a replica is on.
fn place(peer: u64) -> usize {
    PeerId(peer).node().0 as usize - 1
}
