//! Who is there: ticks, heartbeats of quiet groups, broken links and silent nodes.

use throng_base::Instant;
use throng_wire::ids::{NodeId, ShardId};
use throng_wire::peer::RaftMessage;

use super::Store;
use super::beats::{self, Side};
use super::group::Word;
use crate::entry::PeerId;

impl Store {
    pub(super) fn tick(&mut self, stalled: bool) {
        for shard in (0..self.config.shards).map(ShardId) {
            // Whoever cannot write, or is about to go, does not ask to lead.
            if (stalled || self.retired) && !self.group(shard).is_leader() {
                continue;
            }
            let (now, beats) = (self.now, &mut self.beats);
            let (campaigned, busy) = self.groups[shard.0 as usize].tick(now, beats);
            self.stats.campaigns += u64::from(campaigned);
            for (node, plea) in self.groups[shard.0 as usize].pleas() {
                self.outbox.add_message(node, plea);
                self.touch(shard);
            }
            if busy {
                self.touch(shard);
            }
        }
    }

    /// What a suspect asks, or a leader answers it.
    pub(super) fn handle_word(&mut self, shard: ShardId, word: Word, message: &RaftMessage) {
        let heard = match word {
            Word::Plea => self.group_mut(shard).hear_plea(message),
            Word::Release => {
                let released = self.change(shard, |group, persists| group.hear_release(message, persists));
                released.map(|()| None)
            }
        };
        match heard {
            Ok(Some(answer)) => self.outbox.add_message(PeerId(message.from).node(), answer),
            Ok(None) => (),
            Err(refusal) => refusal.count(&mut self.stats),
        }
        self.touch(shard);
    }

    /// People say that this node's replica of a shard forgot nothing: that the damaged end of its log was a write which no
    /// sync had finished. Then it counts again, and a group that waits for a node which never comes back elects. If that is
    /// wrong, what was acknowledged can be lost. False if it is no suspect.
    pub fn acquit(&mut self, now: Instant, shard: ShardId) -> bool {
        self.advance(now);
        let acquitted = self.change(shard, |group, persists| group.acquit(persists));
        self.touch(shard);
        acquitted
    }

    /// Heartbeats of quiet groups, the answers to them, or what leaders have committed.
    pub(super) fn handle_beats(&mut self, from: NodeId, side: Side, message: &RaftMessage) {
        for beat in beats::read(side, &message.context, from, self.config.node, self.config.shards) {
            let Some(beat) = beat else {
                self.stats.dropped_malformed += 1;
                break;
            };
            let group = &mut self.groups[beat.shard.0 as usize];
            match side {
                Side::Leader if group.hear_beat(&beat) => self.beats.add(from, beat),
                Side::Leader => self.stats.beats_unanswered += 1,
                Side::Follower => group.hear_answer(&beat),
                Side::Commit if group.hear_commit(&beat) => self.touch(beat.shard),
                Side::Commit => {}
            }
        }
        for (node, answers) in self.beats.take(Side::Follower, self.config.node) {
            self.outbox.add_message(node, answers);
        }
    }

    /// The link to a node broke: what was in flight to it is probably gone.
    pub fn handle_peer_down(&mut self, now: Instant, node: NodeId) {
        self.advance(now);
        self.balance.down(node);
        for shard in (0..self.config.shards).map(ShardId) {
            self.group_mut(shard).unreachable(node);
            self.touch(shard);
        }
    }

    /// For `silence` nothing has gone to a node and come back, or nobody is there ([`core::time::Duration::MAX`]). Groups
    /// that it leads count that time towards their election; groups that this node leads without a majority it can talk
    /// to are let go. The driver keeps messages of such a node away until it answers again: a link that carries only one
    /// way must not keep a leader alive whom its followers cannot answer.
    pub fn handle_peer_silent(&mut self, now: Instant, node: NodeId, silence: core::time::Duration) {
        self.advance(now);
        self.balance.down(node);
        let ticks = silence.as_nanos() / self.config.tick.as_nanos();
        let ticks = usize::try_from(ticks).unwrap_or(usize::MAX);
        for shard in (0..self.config.shards).map(ShardId) {
            let balance = &self.balance;
            if self.groups[shard.0 as usize].silent(node, ticks, |node| balance.talks(node)) {
                self.stats.let_go += 1;
                self.touch(shard);
            }
        }
    }
}
