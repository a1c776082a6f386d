//! From the members that a shard's group has to those that the map wants, one membership change at a time.
//!
//! ```text
//!   a learner nobody wants          → remove it
//!   a follower without a replica    → add it as a learner, which it stays; nobody waits for it
//!   a wanted node without a replica → add it as a learner, one at a time, and wait until it has caught up
//!   the leader itself is not wanted → hand over to a voter that is, which goes on; give votes until there is one
//!   all wanted ones have caught up  → one joint change: give them votes, remove the others (or only their votes)
//! ```
//!
//! A function of what is there, without memory: a new leader takes up where the old one fell, and a map that changes in
//! the middle of a move is met from wherever the group is.

use throng_storage_core::entry::{Conf, PeerId};
use throng_storage_core::store::ConfStep;
use throng_wire::ids::NodeId;

/// What a shard's leader should do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NextStep {
    /// The members are those of the map.
    Settled,
    /// A change is under way, or a learner catches up.
    Wait,
    /// Propose this change.
    Propose(Vec<ConfStep>),
    /// Give the leadership to this node, a voter that has caught up.
    HandOver(NodeId),
}

/// The next step of the group that `leader` leads, with members `conf`, towards one voter on each of the `wanted` nodes
/// and one learner on each of the `followers`, which are others. `is_caught_up` tells whether a member has all of the log
/// but what is in flight.
pub fn next_step(
    conf: &Conf,
    wanted: &[NodeId],
    followers: &[NodeId],
    leader: PeerId,
    is_caught_up: impl Fn(PeerId) -> bool,
) -> NextStep {
    if conf.is_joint() || wanted.is_empty() {
        return NextStep::Wait; // the store ends a joint change; a map that wants nobody is none
    }
    let peers = |list: &[u64]| -> Vec<PeerId> { list.iter().map(|peer| PeerId(*peer)).collect() };
    let (voters, learners) = (peers(&conf.voters), peers(&conf.learners));
    let is_wanted = |peer: &PeerId| wanted.contains(&peer.node());
    let follows = |peer: &PeerId| followers.contains(&peer.node());
    let strays: Vec<ConfStep> = learners
        .iter()
        .filter(|peer| !is_wanted(peer) && !follows(peer))
        .map(|peer| ConfStep::Remove(*peer))
        .collect();
    if !strays.is_empty() {
        return NextStep::Propose(strays);
    }
    let is_missing = |node: &&NodeId| !voters.iter().chain(&learners).any(|peer| peer.node() == **node);
    if let Some(missing) = followers.iter().find(is_missing) {
        return NextStep::Propose(vec![ConfStep::AddLearner(*missing)]);
    }
    // A leader that removes itself leaves the group to an election, and one that removes the others first stays in a group
    // that is smaller than both sets: it hands over as soon as there is somebody.
    let leads_on = is_wanted(&leader);
    if let Some(heir) = voters.iter().find(|peer| !leads_on && is_wanted(peer) && is_caught_up(**peer)) {
        return NextStep::HandOver(heir.node());
    }
    let rising = || learners.iter().filter(|peer| is_wanted(peer));
    if !rising().all(|peer| is_caught_up(*peer)) {
        return NextStep::Wait;
    }
    if let Some(missing) = wanted.iter().find(is_missing) {
        return NextStep::Propose(vec![ConfStep::AddLearner(*missing)]);
    }
    let promotions = rising().map(|peer| ConfStep::Promote(*peer));
    let unwanted = voters.iter().filter(|peer| leads_on && !is_wanted(peer));
    let removals = unwanted.map(|peer| match follows(peer) {
        true => ConfStep::Demote(*peer),
        false => ConfStep::Remove(*peer),
    });
    let steps: Vec<ConfStep> = promotions.chain(removals).collect();
    match (steps.is_empty(), leads_on) {
        (false, _) => NextStep::Propose(steps),
        (true, true) => NextStep::Settled,
        (true, false) => NextStep::Wait,
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::btree_set;
    use proptest::prelude::*;

    use super::*;

    fn nodes(numbers: &[u64]) -> Vec<NodeId> {
        numbers.iter().map(|number| NodeId(*number)).collect()
    }

    fn conf(voters: &[u64], learners: &[u64]) -> Conf {
        Conf { learners: learners.to_vec(), ..Conf::of_voters(voters.iter().copied()) }
    }

    fn step(voters: &[u64], learners: &[u64], wanted: &[u64], leader: u64) -> NextStep {
        next_step(&conf(voters, learners), &nodes(wanted), &[], PeerId(leader), |_| true)
    }

    #[test]
    fn each_situation_has_its_step() {
        use ConfStep::{AddLearner, Promote, Remove};
        let propose = |steps: &[ConfStep]| NextStep::Propose(steps.to_vec());
        assert_eq!(step(&[1, 2, 3], &[], &[1, 2, 3], 1), NextStep::Settled);
        assert_eq!(step(&[1, 2, 3], &[], &[1, 2, 4], 1), propose(&[AddLearner(NodeId(4))]));
        assert_eq!(step(&[1, 2, 3], &[4], &[1, 2, 4], 1), propose(&[Promote(PeerId(4)), Remove(PeerId(3))]));
        assert_eq!(step(&[1, 2, 3], &[4], &[1, 2, 3], 1), propose(&[Remove(PeerId(4))]), "the map changed");
        assert_eq!(step(&[1], &[], &[2], 1), propose(&[AddLearner(NodeId(2))]));
        assert_eq!(
            step(&[1], &[2], &[2], 1),
            propose(&[Promote(PeerId(2))]),
            "not before it can be left to it"
        );
        assert_eq!(step(&[1, 2], &[], &[2], 1), NextStep::HandOver(NodeId(2)));
        assert_eq!(step(&[1, 2], &[], &[2], 2), propose(&[Remove(PeerId(1))]));
        assert_eq!(step(&[1, 2, 3], &[], &[], 1), NextStep::Wait);
        let joint = Conf { voters_outgoing: vec![1, 2, 3], ..conf(&[1, 2, 4], &[]) };
        assert_eq!(next_step(&joint, &nodes(&[1, 2, 4]), &[], PeerId(1), |_| true), NextStep::Wait);
        let late = next_step(&conf(&[1], &[2]), &nodes(&[1, 2]), &[], PeerId(1), |_| false);
        assert_eq!(late, NextStep::Wait, "a learner that is behind gets no vote");
    }

    #[test]
    fn followers_keep_a_copy_without_a_vote() {
        use ConfStep::{AddLearner, Demote, Promote};
        let step =
            |voters: &[u64], learners: &[u64], wanted: &[u64], followers: &[u64], is_caught_up: bool| {
                let (wanted, followers) = (nodes(wanted), nodes(followers));
                next_step(&conf(voters, learners), &wanted, &followers, PeerId(1), |_| is_caught_up)
            };
        let propose = |steps: &[ConfStep]| NextStep::Propose(steps.to_vec());
        assert_eq!(step(&[1], &[], &[1], &[2], true), propose(&[AddLearner(NodeId(2))]));
        assert_eq!(step(&[1], &[2], &[1], &[2], false), NextStep::Settled, "nobody waits for a follower");
        assert_eq!(step(&[1], &[2], &[1], &[2, 3], false), propose(&[AddLearner(NodeId(3))]));
        assert_eq!(
            step(&[1], &[2, 3], &[1, 2, 3], &[], true),
            propose(&[Promote(PeerId(2)), Promote(PeerId(3))])
        );
        assert_eq!(step(&[1, 2], &[], &[1], &[2], true), propose(&[Demote(PeerId(2))]));
    }

    /// What the group makes of a change (joint changes completed at once).
    fn carry_out(conf: &mut Conf, steps: &[ConfStep], index: u64) {
        for step in steps {
            match *step {
                ConfStep::AddLearner(node) => {
                    let peer = PeerId::new(node, index).expect("in range").0;
                    assert!(!conf.contains(peer));
                    conf.learners.push(peer);
                }
                ConfStep::Promote(peer) => {
                    assert!(conf.learners.contains(&peer.0));
                    conf.learners.retain(|learner| *learner != peer.0);
                    conf.voters.push(peer.0);
                }
                ConfStep::Remove(peer) => {
                    assert!(conf.contains(peer.0));
                    conf.voters.retain(|voter| *voter != peer.0);
                    conf.learners.retain(|learner| *learner != peer.0);
                }
                ConfStep::Demote(_) => unreachable!("no step of ours"),
            }
        }
        conf.sort();
    }

    proptest! {
        #[test]
        fn every_group_arrives_and_never_loses_its_leader(
            before in btree_set(1..9u64, 1..6), wanted in btree_set(1..9u64, 1..6),
            later in btree_set(1..9u64, 1..6), turn in 0..12usize,
        ) {
            let mut conf = Conf::of_voters(before.iter().copied());
            let mut leader = PeerId(*before.first().expect("one at least"));
            let [mut wanted, later] = [wanted, later].map(|set| set.into_iter().map(NodeId).collect::<Vec<_>>());
            let mut is_settled = false;
            for index in 1..100u64 {
                if index as usize == turn {
                    wanted.clone_from(&later);
                }
                let old: Vec<u64> = conf.voters.clone();
                match next_step(&conf, &wanted, &[], leader, |_| true) {
                    NextStep::Settled => { is_settled = true; if index as usize > turn { break } }
                    NextStep::Wait => prop_assert!(false, "nothing to wait for"),
                    NextStep::HandOver(node) => {
                        let heir = conf.voters.iter().map(|peer| PeerId(*peer)).find(|peer| peer.node() == node);
                        leader = heir.expect("an heir votes");
                    }
                    NextStep::Propose(steps) => {
                        prop_assert!(!steps.is_empty());
                        carry_out(&mut conf, &steps, index);
                    }
                }
                prop_assert!(conf.voters.contains(&leader.0), "the leader votes");
                let keeps = conf.voters.iter().any(|peer| old.contains(peer));
                prop_assert!(keeps, "somebody who voted before votes after");
            }
            prop_assert!(is_settled);
            let mut on: Vec<NodeId> = conf.voters.iter().map(|peer| PeerId(*peer).node()).collect();
            on.sort_unstable();
            prop_assert_eq!(on, wanted);
            prop_assert!(conf.learners.is_empty());
        }
    }
}
