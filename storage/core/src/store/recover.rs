//! From what lay on disk to a running raft node, or a refusal. A replica that has lost synced entries may have voted
//! or acknowledged what it no longer knows, so it must not take part.

use std::sync::Arc;

use raft::eraftpb::ConfState;
use raft::{RaftState, RawNode};
use throng_wire::ids::ShardId;

use super::config::{LogRead, RecoverError, RecoveredGroup, StoreConfig};
use super::convert;
use super::group::Group;
use super::guard::{self, ElectionTimeouts};
use super::limits;
use super::raft_log::GroupLog;
use super::terms::Terms;
use crate::entry::{EntryKind, HardState};

/// Builds a group.
pub(super) fn group(
    config: &StoreConfig,
    seed: u64,
    found: RecoveredGroup,
    older: Arc<dyn LogRead>,
) -> Result<Group, RecoverError> {
    let shard = found.shard;
    let terms = older_terms(&found)?;
    let state = check(&found, terms.clone())?;
    let initial = RaftState::new(convert::hard_state_to_raft(state), conf_state(config));
    let mut log = GroupLog::new(shard, initial, terms, older);
    let tail: Vec<_> = found.entries.into_iter().map(convert::entry_to_raft).collect();
    log.append(&tail);
    let logger = slog::Logger::root(slog::Discard, slog::o!());
    let raw = RawNode::new(&guard::raft_config(config, found.applied), log, &logger)
        .map_err(|_| RecoverError::Config("raft refuses the configuration"))?;
    let timeouts = ElectionTimeouts::new(seed, shard, config.node.0, config, place(config, shard));
    Ok(Group::new(shard, raw, timeouts, found.hard_state, config.proposals_max))
}

/// Static membership: all nodes vote in all groups.
fn conf_state(config: &StoreConfig) -> ConfState {
    let mut voters: Vec<u64> = config.voters.iter().map(|node| node.0).collect();
    voters.sort_unstable();
    ConfState::from((voters, Vec::new()))
}

/// This node's place among the voters, counted from the group's preferred leader.
fn place(config: &StoreConfig, shard: ShardId) -> usize {
    let below = config.voters.iter().filter(|voter| **voter < config.node).count();
    let voters = config.voters.len();
    (below + voters - shard.0 as usize % voters) % voters
}

fn bad(shard: ShardId, why: &'static str) -> RecoverError {
    RecoverError::BadLog { shard, why }
}

/// The terms of the entries before the tail.
fn older_terms(found: &RecoveredGroup) -> Result<Terms, RecoverError> {
    let bad = |why| bad(found.shard, why);
    if found.first_index != 1 {
        return Err(bad("the log is truncated, which this version never does"));
    }
    let mut terms = Terms::new(0, 0);
    let tail_first = found.entries.first().map_or(1, |entry| entry.index);
    for (i, run) in found.terms.iter().enumerate() {
        let end = found.terms.get(i + 1).map_or(tail_first, |next| next.first_index);
        if run.first_index != terms.last_index() + 1 || end <= run.first_index || end > tail_first {
            return Err(bad("the runs of terms do not lead to the tail"));
        }
        if !terms.extend(end - 1, run.term) {
            return Err(bad("terms fall along the log"));
        }
    }
    if terms.last_index() + 1 != tail_first {
        return Err(bad("terms before the tail are missing"));
    }
    Ok(terms)
}

/// Checks the tail and what it must hold; returns the hard state to begin with, its commit index raised to what the
/// flushed state has applied (the log may have lost an unsynced commit index, never the entry).
fn check(found: &RecoveredGroup, mut terms: Terms) -> Result<HardState, RecoverError> {
    let bad = |why| bad(found.shard, why);
    let tail_first = terms.last_index() + 1;
    for (entry, index) in found.entries.iter().zip(tail_first..) {
        if entry.index != index || !terms.extend(index, entry.term) {
            return Err(bad("the tail is not a log"));
        }
        if entry.kind != EntryKind::Normal {
            return Err(bad("the log changes its members, which this version cannot apply"));
        }
    }
    let (state, last, applied) = (found.hard_state, terms.last_index(), found.applied);
    if terms.last_term() > state.term {
        return Err(bad("an entry is newer than the hard state"));
    }
    if last > limits::INDEX_MAX || state.term > limits::TERM_MAX {
        return Err(bad("a number is beyond its limit"));
    }
    if applied > 0 && (applied > last || terms.term(applied) != Some(found.applied_term)) {
        return Err(RecoverError::AppliedNotInLog { shard: found.shard, applied, term: found.applied_term });
    }
    let commit = state.commit.max(applied);
    if commit > last {
        return Err(RecoverError::CommitBeyondLog { shard: found.shard, commit, last });
    }
    if tail_first > applied + 1 {
        return Err(bad("the tail lacks entries that are not applied"));
    }
    Ok(HardState { commit, ..state })
}

#[cfg(test)]
mod tests {
    use throng_wire::ids::NodeId;

    use super::*;
    use crate::entry::Entry;
    use crate::store::config::{NoLog, TermRun};

    fn entry(index: u64, term: u64) -> Entry {
        Entry { index, term, ..Entry::default() }
    }

    /// Entries 1 to 6 with terms 1 1 2 2 3 3, of which 3 to 6 are the tail; 4 is applied, 5 committed.
    fn found() -> RecoveredGroup {
        RecoveredGroup {
            hard_state: HardState { term: 4, vote: 1, commit: 5 },
            terms: vec![TermRun { first_index: 1, term: 1 }],
            entries: vec![entry(3, 2), entry(4, 2), entry(5, 3), entry(6, 3)],
            applied: 4,
            applied_term: 2,
            ..RecoveredGroup::empty(ShardId(2))
        }
    }

    fn recover(change: impl FnOnce(&mut RecoveredGroup)) -> Result<Group, RecoverError> {
        let config = StoreConfig::new(NodeId(2), vec![NodeId(1), NodeId(2), NodeId(3)], 4);
        let mut found = found();
        change(&mut found);
        group(&config, 1, found, Arc::new(NoLog))
    }

    #[track_caller]
    fn refused(change: impl FnOnce(&mut RecoveredGroup)) -> RecoverError {
        match recover(change) {
            Err(error) => error,
            Ok(_) => panic!("this must be refused"),
        }
    }

    #[test]
    fn a_sound_log_recovers() {
        let group = recover(|_| ()).map_err(|error| error.to_string()).expect("sound");
        assert_eq!((group.term(), group.log().terms().last_index()), (4, 6));
        assert!(recover(|found| *found = RecoveredGroup::empty(ShardId(2))).is_ok());
    }

    #[test]
    fn commit_is_raised_to_what_was_applied() {
        assert!(recover(|found| found.hard_state.commit = 2).is_ok());
        let whole = |found: &mut RecoveredGroup| {
            found.hard_state.commit = 0;
            (found.applied, found.applied_term) = (6, 3);
        };
        assert!(recover(whole).is_ok());
    }

    #[test]
    fn lost_synced_entries_are_refused() {
        let commit = refused(|found| found.hard_state.commit = 7);
        assert!(matches!(commit, RecoverError::CommitBeyondLog { commit: 7, last: 6, .. }), "{commit}");
        let beyond = refused(|found| found.applied = 7);
        assert!(matches!(beyond, RecoverError::AppliedNotInLog { applied: 7, .. }), "{beyond}");
        let other = refused(|found| found.applied_term = 1);
        assert!(matches!(other, RecoverError::AppliedNotInLog { applied: 4, term: 1, .. }), "{other}");
    }

    #[test]
    fn contradictions_are_refused() {
        let changes: [fn(&mut RecoveredGroup); 9] = [
            |found| found.first_index = 2,
            |found| found.terms.clear(),
            |found| found.terms[0].first_index = 2,
            |found| found.terms.push(TermRun { first_index: 3, term: 2 }),
            |found| found.entries[1].index = 9,
            |found| found.entries[1].term = 1,
            |found| found.entries[1].kind = EntryKind::ConfChange,
            |found| found.hard_state.term = 2,
            |found| (found.applied, found.applied_term) = (1, 1),
        ];
        for (i, change) in changes.into_iter().enumerate() {
            assert!(matches!(refused(change), RecoverError::BadLog { .. }), "change {i}");
        }
    }

    #[test]
    fn places_count_from_the_preferred_node() {
        let place_of = |node: u64, shard| {
            place(&StoreConfig::new(NodeId(node), vec![NodeId(3), NodeId(1), NodeId(2)], 9), ShardId(shard))
        };
        let shard_4: Vec<_> = (1..=3).map(|node| place_of(node, 4)).collect();
        assert_eq!(shard_4, [2, 0, 1], "shard 4 prefers the second of three");
    }
}
