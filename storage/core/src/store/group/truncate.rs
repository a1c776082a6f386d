//! When the log may forget.
//!
//! ```text
//!   forgotten │ kept for followers and their snapshots │ kept for the next start │ not committed
//!             │                                        │                         │
//!            base                                   flushed                   applied
//! ```
//!
//! Nothing above the flushed applied index ever goes: a restart replays it. Below, a leader keeps what its slowest
//! follower lacks and every replica keeps what a follower might lack after the next election, both within a budget; who
//! lacks more gets a snapshot.

use super::{Group, Standing};
use crate::entry::Mark;
use crate::store::output::StoreOutput;

impl Group {
    /// The state is durable through `applied`. `all` ignores the budget: the log needs the space.
    pub(in crate::store) fn flushed(&mut self, applied: u64, all: bool) -> Option<StoreOutput> {
        if self.standing != Standing::Member || self.is_resetting() {
            return None;
        }
        self.flushed = self.flushed.max(applied.min(self.applied));
        let index = self.needed_above(all);
        // A replica that has applied its own removal is about to begin anew.
        let conf = self.members.conf_at(index).filter(|conf| conf.contains(self.members.peer().0))?.clone();
        if index <= self.members.base() {
            return None;
        }
        let term = self.log().terms().term(index)?;
        self.raw.mut_store().forget(index);
        self.members.forget(index);
        let (peer, replica) = (self.members.peer().0, self.members.replica());
        let is_suspect = self.is_suspect();
        let mark = Mark { index, term, peer, replica, conf, reset: false, is_suspect };
        Some(StoreOutput::Truncate { shard: self.shard, mark })
    }

    /// Entries through this index are needed by nobody.
    fn needed_above(&self, all: bool) -> u64 {
        let config = &self.kit.config;
        let budget = self.log().keep_from(config.log_keep_bytes, config.log_keep_entries);
        let lacking = match self.is_leader() {
            true => self.slowest().max(budget),
            false => budget,
        };
        let wanted = if all { self.flushed } else { lacking };
        wanted.min(self.flushed).min(self.flights_above())
    }

    /// The highest entry that every other member is known to have.
    fn slowest(&self) -> u64 {
        let prs = self.raw.raft.prs();
        let me = self.members.peer().0;
        prs.iter()
            .filter(|(id, _)| **id != me)
            .map(|(_, progress)| progress.matched)
            .min()
            .unwrap_or(u64::MAX)
    }
}
