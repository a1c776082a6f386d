//! Proposals whose outcome is open. An entry is known by its index and term: a leader appends one entry per index and
//! term, and a node that restarts never leads in an old term again, so the pair cannot mean another proposal.

use std::collections::VecDeque;

use super::output::ProposalId;

#[derive(Clone, Copy, Debug)]
struct Open {
    index: u64,
    term: u64,
    id: ProposalId,
}

/// Open proposals of one group, by rising index.
#[derive(Debug)]
pub(super) struct Proposals {
    open: VecDeque<Open>,
    limit: usize,
}

impl Proposals {
    pub(super) fn new(limit: usize) -> Self {
        Self { open: VecDeque::new(), limit }
    }

    pub(super) fn is_full(&self) -> bool {
        self.open.len() >= self.limit
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Notes what was appended. The caller has asked [`Self::is_full`] before it appended.
    pub(super) fn add(&mut self, index: u64, term: u64, id: ProposalId) {
        assert!(!self.is_full(), "the caller checked");
        assert!(self.open.back().is_none_or(|last| last.index < index), "a leader only appends");
        assert!(self.open.back().is_none_or(|last| last.term == term), "older terms were reported lost");
        self.open.push_back(Open { index, term, id });
    }

    /// The proposal that a committed entry answers. Called for every committed entry in order.
    pub(super) fn committed(&mut self, index: u64, term: u64) -> Option<ProposalId> {
        let front = self.open.front()?;
        if (front.index, front.term) != (index, term) {
            return None; // An overwritten proposal stays here until the same turn reports it lost.
        }
        self.open.pop_front().map(|open| open.id)
    }

    /// Takes everything that was proposed in a term in which this node does not lead (any more).
    pub(super) fn lost(&mut self, leading_term: Option<u64>) -> Vec<ProposalId> {
        match self.open.front() {
            Some(front) if Some(front.term) != leading_term => {
                self.open.drain(..).map(|open| open.id).collect()
            }
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three() -> Proposals {
        let mut proposals = Proposals::new(3);
        (5..8).for_each(|index| proposals.add(index, 2, ProposalId(index)));
        proposals
    }

    #[test]
    fn entries_find_their_proposal_by_index_and_term() {
        let mut proposals = three();
        assert!(proposals.is_full());
        assert_eq!(proposals.committed(4, 2), None, "the leader's own first entry");
        assert_eq!(proposals.committed(5, 2), Some(ProposalId(5)));
        assert_eq!(proposals.committed(6, 3), None, "another leader's entry");
        assert_eq!(proposals.lost(None), [ProposalId(6), ProposalId(7)]);
    }

    #[test]
    fn nothing_is_lost_while_leading_and_everything_once_after() {
        let mut proposals = three();
        assert_eq!(proposals.lost(Some(2)), []);
        assert_eq!(proposals.lost(Some(3)), [ProposalId(5), ProposalId(6), ProposalId(7)]);
        assert!(proposals.is_empty());
        assert_eq!(proposals.lost(None), []);
    }
}
