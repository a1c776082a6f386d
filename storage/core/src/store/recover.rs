//! From what lay on disk to a running raft node, or a refusal. A replica that has lost synced entries may have voted
//! or acknowledged what it no longer knows, so it must not take part; one that may have lost the last of them takes part
//! as a suspect (`group/suspicion.rs`).

use std::sync::Arc;

use raft::eraftpb::ConfState;
use raft::{RaftState, RawNode};
use throng_base::planted::{Bug, is_planted};
use throng_wire::ids::ShardId;

use super::conf_change;
use super::config::{RecoverError, RecoveredGroup, StoreConfig};
use super::convert;
use super::group::{Group, Kit, Members, Standing};
use super::guard;
use super::limits;
use super::raft_log::GroupLog;
use super::terms::Terms;
use crate::entry::{Conf, Entry, EntryKind, HardState, Mark, PeerId};

/// Builds a group.
pub(super) fn group(kit: &Arc<Kit>, found: RecoveredGroup) -> Result<Group, RecoverError> {
    let (shard, is_suspect) = (found.shard, found.is_suspect);
    let mark = found.mark.clone().unwrap_or_else(|| formatted(&kit.config, shard));
    let standing = standing(&mark);
    if standing != Standing::Member {
        let group = outsider(kit, shard, standing, &mark, found.hard_state)?;
        return Ok(group.suspected(is_suspect, mark.is_suspect));
    }
    let terms = older_terms(&found, &mark)?;
    let state = check(&found, &mark, terms.clone())?;
    let members = Members::new(&mark, found.applied, found.conf);
    let initial = RaftState::new(convert::hard_state_to_raft(state), convert::conf_to_raft(members.conf()));
    let applied =
        if is_planted(Bug::CommitBehindApplied) { found.applied.min(state.commit) } else { found.applied };
    let raw = raw_node(kit, shard, PeerId(mark.peer), initial, terms, found.entries, applied)?;
    let group = Group::new(shard, kit.clone(), raw, standing, members, found.hard_state);
    Ok(group.suspected(is_suspect, mark.is_suspect))
}

/// A replica that takes no part, or waits for its first snapshot. It has no log; if it had written one, its id had
/// become a member by a snapshot first.
fn outsider(
    kit: &Arc<Kit>,
    shard: ShardId,
    standing: Standing,
    mark: &Mark,
    found: HardState,
) -> Result<Group, RecoverError> {
    // What a removed replica once promised binds nobody: its id is never used again.
    let state = if standing == Standing::Fresh { found } else { HardState::default() };
    let initial = RaftState::new(convert::hard_state_to_raft(state), ConfState::default());
    let raw = raw_node(kit, shard, PeerId(mark.peer), initial, Terms::new(0, 0), Vec::new(), 0)?;
    let (index, term) = (mark.index, mark.term);
    let mark = Mark { index: 0, term: 0, conf: Conf::default(), ..mark.clone() };
    Ok(Group::new(shard, kit.clone(), raw, standing, Members::new(&mark, 0, None), found).left(index, term))
}

/// A raft node with a log.
pub(super) fn raw_node(
    kit: &Kit,
    shard: ShardId,
    peer: PeerId,
    initial: RaftState,
    terms: Terms,
    tail: Vec<Entry>,
    applied: u64,
) -> Result<RawNode<GroupLog>, RecoverError> {
    let mut log = GroupLog::new(shard, initial, terms, kit.older.clone());
    let tail: Vec<_> = tail.into_iter().map(convert::entry_to_raft).collect();
    log.append(&tail);
    let logger = slog::Logger::root(slog::Discard, slog::o!());
    // Raft wants some id even where this node is no member; nothing is ever sent under it.
    let peer = if peer == PeerId::NONE { PeerId(kit.config.node.0) } else { peer };
    RawNode::new(&guard::raft_config(&kit.config, peer, applied), log, &logger)
        .map_err(|_| RecoverError::Config("raft refuses the configuration"))
}

/// The mark of a replica that was never written to: the cluster's format says who begins.
fn formatted(config: &StoreConfig, shard: ShardId) -> Mark {
    let mut mark = Mark { replica: shard.0, ..Mark::default() };
    if config.voters.contains(&config.node) {
        mark.peer = config.node.0;
        mark.conf = Conf::of_voters(config.voters.iter().map(|node| node.0));
    }
    mark
}

fn standing(mark: &Mark) -> Standing {
    match mark.peer {
        0 => Standing::Passive,
        peer if mark.conf.contains(peer) => Standing::Member,
        _ if mark.index == 0 => Standing::Fresh,
        _ => Standing::Passive, // It was removed, and keeps its id so that no newer replica takes it again.
    }
}

fn bad(shard: ShardId, why: &'static str) -> RecoverError {
    RecoverError::BadLog { shard, why }
}

/// The terms of the entries before the tail.
fn older_terms(found: &RecoveredGroup, mark: &Mark) -> Result<Terms, RecoverError> {
    let bad = |why| bad(found.shard, why);
    if found.first_index != mark.index + 1 {
        return Err(bad("the log does not begin where its mark says"));
    }
    if mark.index > limits::INDEX_MAX || (mark.index == 0) != (mark.term == 0) {
        return Err(bad("the mark is no place in a log"));
    }
    let mut terms = Terms::new(mark.index, mark.term);
    let tail_first = found.entries.first().map_or(found.first_index, |entry| entry.index);
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
fn check(found: &RecoveredGroup, mark: &Mark, mut terms: Terms) -> Result<HardState, RecoverError> {
    let bad = |why| bad(found.shard, why);
    let tail_first = terms.last_index() + 1;
    for (entry, index) in found.entries.iter().zip(tail_first..) {
        if entry.index != index || !terms.extend(index, entry.term) {
            return Err(bad("the tail is not a log"));
        }
        if !is_entry(entry) {
            return Err(bad("an entry changes the members in a way that cannot be read"));
        }
    }
    let (state, last, applied) = (found.hard_state, terms.last_index(), found.applied);
    if terms.last_term() > state.term {
        return Err(bad("an entry is newer than the hard state"));
    }
    if last > limits::INDEX_MAX || state.term > limits::TERM_MAX {
        return Err(bad("a number is beyond its limit"));
    }
    if applied < mark.index {
        return Err(RecoverError::AppliedBehindLog { shard: found.shard, applied, base: mark.index });
    }
    if applied > 0 && (applied > last || terms.term(applied) != Some(found.applied_term)) {
        return Err(RecoverError::AppliedNotInLog { shard: found.shard, applied, term: found.applied_term });
    }
    let commit = if is_planted(Bug::CommitBehindApplied) { state.commit } else { state.commit.max(applied) };
    if commit > last {
        return Err(RecoverError::CommitBeyondLog { shard: found.shard, commit, last });
    }
    if tail_first > applied + 1 {
        return Err(bad("the tail lacks entries that are not applied"));
    }
    Ok(HardState { commit, ..state })
}

fn is_entry(entry: &Entry) -> bool {
    match entry.kind {
        EntryKind::Normal => true,
        EntryKind::ConfChange => false,
        EntryKind::ConfChangeV2 => conf_change::decode(&entry.data).is_ok(),
    }
}

#[cfg(test)]
mod tests {
    use throng_wire::ids::NodeId;

    use super::*;
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
        group(&Arc::new(Kit { config, seed: 1, life: 1, older: Arc::new(NoLog) }), found)
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

    /// The same with entries 1 and 2 truncated.
    fn truncated(found: &mut RecoveredGroup) {
        let conf = Conf::of_voters([1, 2, 3]);
        found.mark = Some(Mark { index: 2, term: 1, peer: 2, replica: 2, conf, ..Mark::default() });
        found.first_index = 3;
        found.terms.clear();
    }

    #[test]
    fn a_truncated_log_recovers_where_state_and_mark_meet() {
        let group = recover(truncated).map_err(|error| error.to_string()).expect("sound");
        assert_eq!(group.log().terms().first_index(), 3);
        // All that was applied may be gone from the log, down to the very entry.
        let bare = |found: &mut RecoveredGroup| {
            truncated(found);
            found.mark.as_mut().expect("it has one").index = 4;
            found.mark.as_mut().expect("it has one").term = 2;
            found.first_index = 5;
            found.entries.drain(..2);
        };
        assert!(recover(bare).is_ok());
        let behind = refused(|found| {
            bare(found);
            (found.applied, found.applied_term) = (3, 2);
        });
        assert!(matches!(behind, RecoverError::AppliedBehindLog { applied: 3, base: 4, .. }), "{behind}");
        let other = refused(|found| {
            bare(found);
            found.applied_term = 1;
        });
        assert!(matches!(other, RecoverError::AppliedNotInLog { applied: 4, .. }), "{other}");
    }

    #[test]
    fn marks_that_contradict_the_log_are_refused() {
        let changes: [fn(&mut Mark); 3] = [|mark| mark.index = 1, |mark| mark.term = 0, |mark| mark.term = 4];
        for (i, change) in changes.into_iter().enumerate() {
            let error = refused(|found| {
                truncated(found);
                change(found.mark.as_mut().expect("it has one"));
            });
            assert!(matches!(error, RecoverError::BadLog { .. }), "change {i}");
        }
    }

    #[test]
    fn replicas_that_are_no_members_wait_without_a_log() {
        let joined = StoreConfig::new(NodeId(9), vec![NodeId(1)], 4);
        let kit = Arc::new(Kit { config: joined, seed: 1, life: 1, older: Arc::new(NoLog) });
        let stand = |mark: Option<Mark>| {
            let found = RecoveredGroup { mark, ..RecoveredGroup::empty(ShardId(2)) };
            group(&kit, found).map_err(|error| error.to_string()).expect("sound").members().peer()
        };
        assert_eq!(stand(None), PeerId::NONE);
        let peer = PeerId::new(NodeId(9), 70).expect("in range");
        let fresh = Mark { peer: peer.0, replica: limits::NO_REPLICA, ..Mark::default() };
        assert_eq!((stand(Some(fresh.clone())), standing(&fresh)), (peer, Standing::Fresh));
        let conf = Conf::of_voters([1]);
        let removed = Mark { index: 90, term: 3, conf, ..fresh };
        assert_eq!((stand(Some(removed.clone())), standing(&removed)), (peer, Standing::Passive));
    }
}
