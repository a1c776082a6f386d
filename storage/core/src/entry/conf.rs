//! The members of a group, and their bytes in marks and in the applied state.

use core::fmt;

use super::PeerId;

/// Members of a group, in every role together. A joint configuration of two groups of [`MEMBERS_MAX`] fits.
pub const MEMBERS_MAX: usize = 15;

const AUTO_LEAVE: u8 = 1;

/// The members of a group, by Raft id ([`PeerId`]). Every list is sorted and free of repetitions.
///
/// While `voters_outgoing` is not empty the configuration is joint: elections and commits need a majority of `voters`
/// *and* one of `voters_outgoing`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conf {
    /// Who votes.
    pub voters: Vec<u64>,
    /// Who receives the log without a vote.
    pub learners: Vec<u64>,
    /// Who voted before a joint change that is not complete.
    pub voters_outgoing: Vec<u64>,
    /// Outgoing voters that become learners when the joint change is complete.
    pub learners_next: Vec<u64>,
    /// Whether Raft itself ends the joint change. Throng's leaders do, so this is false in what they write.
    pub auto_leave: bool,
}

/// Bytes that are no configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfError(pub &'static str);

impl fmt::Display for ConfError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "membership: {}", self.0)
    }
}

impl std::error::Error for ConfError {}

impl Conf {
    /// Voters and nobody else.
    pub fn of_voters(voters: impl IntoIterator<Item = u64>) -> Self {
        let mut conf = Self { voters: voters.into_iter().collect(), ..Self::default() };
        conf.sort();
        conf
    }

    /// Sorts every list and drops repetitions.
    pub fn sort(&mut self) {
        for list in [&mut self.voters, &mut self.learners, &mut self.voters_outgoing, &mut self.learners_next]
        {
            list.sort_unstable();
            list.dedup();
        }
    }

    /// Whether a change is under way that needs two majorities.
    pub fn is_joint(&self) -> bool {
        !self.voters_outgoing.is_empty()
    }

    /// Whether nobody is a member.
    pub fn is_empty(&self) -> bool {
        self.members().next().is_none()
    }

    /// Whether a replica is a member in any role.
    pub fn contains(&self, peer: u64) -> bool {
        self.members().any(|member| member == peer)
    }

    /// Whether a replica votes, in the incoming or in the outgoing half.
    pub fn is_voter(&self, peer: u64) -> bool {
        self.voters.contains(&peer) || self.voters_outgoing.contains(&peer)
    }

    /// All whose vote is needed for one that is unanimous; whoever stays through a joint change comes twice.
    pub fn all_voters(&self) -> impl Iterator<Item = u64> + '_ {
        self.voters.iter().chain(&self.voters_outgoing).copied()
    }

    /// All members; outgoing voters that stay come twice.
    pub fn members(&self) -> impl Iterator<Item = u64> + '_ {
        self.voters.iter().chain(&self.learners).chain(&self.voters_outgoing).copied()
    }

    /// Appends the bytes that [`Self::decode`] reads: a byte of flags, then the four lists, each as a byte with its
    /// length and its ids, 8 bytes each, big-endian.
    ///
    /// # Panics
    /// If a list is longer than [`MEMBERS_MAX`].
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(if self.auto_leave { AUTO_LEAVE } else { 0 });
        for list in [&self.voters, &self.learners, &self.voters_outgoing, &self.learners_next] {
            assert!(list.len() <= MEMBERS_MAX, "membership changes are limited");
            out.push(list.len() as u8);
            list.iter().for_each(|peer| out.extend_from_slice(&peer.to_be_bytes()));
        }
    }

    /// Bytes that [`Self::encode`] appends.
    pub fn encoded_len(&self) -> usize {
        let ids =
            self.voters.len() + self.learners.len() + self.voters_outgoing.len() + self.learners_next.len();
        5 + 8 * ids
    }

    /// Reads a configuration from the front of `bytes`, which is moved behind it.
    ///
    /// # Errors
    /// [`ConfError`] if the bytes are no configuration that [`Self::encode`] writes.
    pub fn decode(bytes: &mut &[u8]) -> Result<Self, ConfError> {
        let flags = take(bytes, 1)?[0];
        if flags > AUTO_LEAVE {
            return Err(ConfError("unknown flags"));
        }
        let mut lists: [Vec<u64>; 4] = Default::default();
        for list in &mut lists {
            *list = decode_list(bytes)?;
        }
        let [voters, learners, voters_outgoing, learners_next] = lists;
        let conf = Self { voters, learners, voters_outgoing, learners_next, auto_leave: flags == AUTO_LEAVE };
        conf.check()?;
        Ok(conf)
    }

    /// Whether Raft can begin with this: [`Self::decode`] would read what [`Self::encode`] writes.
    pub fn is_sound(&self) -> bool {
        let lists = [&self.voters, &self.learners, &self.voters_outgoing, &self.learners_next];
        lists.into_iter().all(|list| check_list(list).is_ok()) && self.check().is_ok()
    }

    fn check(&self) -> Result<(), ConfError> {
        let voter = |peer: &u64| self.is_voter(*peer);
        let is_staged = |peer: &u64| self.voters_outgoing.contains(peer) && !self.voters.contains(peer);
        if self.learners.iter().any(voter) {
            return Err(ConfError("a learner votes"));
        }
        if !self.learners_next.iter().all(is_staged) {
            return Err(ConfError("only an outgoing voter becomes a learner later"));
        }
        if self.voters.is_empty() && !self.is_empty() {
            return Err(ConfError("nobody votes"));
        }
        if self.auto_leave && !self.is_joint() {
            return Err(ConfError("there is nothing to leave"));
        }
        Ok(())
    }
}

fn decode_list(bytes: &mut &[u8]) -> Result<Vec<u64>, ConfError> {
    let len = usize::from(take(bytes, 1)?[0]);
    if len > MEMBERS_MAX {
        return Err(ConfError("too many members"));
    }
    let ids = take(bytes, 8 * len)?.chunks_exact(8);
    let ids: Vec<u64> = ids.map(|id| u64::from_be_bytes(id.try_into().expect("chunks of 8"))).collect();
    check_list(&ids)?;
    Ok(ids)
}

fn check_list(ids: &[u64]) -> Result<(), ConfError> {
    if ids.len() > MEMBERS_MAX {
        return Err(ConfError("too many members"));
    }
    if !ids.is_sorted_by(|a, b| a < b) {
        return Err(ConfError("members out of order"));
    }
    if ids.iter().any(|id| PeerId(*id).node().0 == 0) {
        return Err(ConfError("node ids begin at 1"));
    }
    Ok(())
}

fn take<'a>(bytes: &mut &'a [u8], len: usize) -> Result<&'a [u8], ConfError> {
    let (taken, rest) = bytes.split_at_checked(len).ok_or(ConfError("it ends too early"))?;
    *bytes = rest;
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joint() -> Conf {
        Conf {
            voters: vec![1, 2, 9 << 24 | 4],
            learners: vec![5],
            voters_outgoing: vec![1, 2, 3],
            learners_next: vec![3],
            auto_leave: false,
        }
    }

    fn bytes(conf: &Conf) -> Vec<u8> {
        let mut bytes = Vec::new();
        conf.encode(&mut bytes);
        bytes
    }

    #[test]
    fn what_is_written_is_read() {
        for conf in [Conf::default(), Conf::of_voters([3, 1, 2, 1]), joint()] {
            let mut written = bytes(&conf);
            assert_eq!(written.len(), conf.encoded_len());
            written.push(0xee);
            let mut rest = &written[..];
            assert_eq!(Conf::decode(&mut rest), Ok(conf));
            assert_eq!(rest, [0xee], "what follows stays");
        }
    }

    #[test]
    fn every_cut_is_refused() {
        let written = bytes(&joint());
        for len in 0..written.len() {
            assert_eq!(Conf::decode(&mut &written[..len]), Err(ConfError("it ends too early")));
        }
    }

    #[test]
    fn contradictions_are_refused() {
        let changes: [fn(&mut Conf); 7] = [
            |conf| conf.voters.swap(0, 1),
            |conf| conf.voters[1] = 1,
            |conf| conf.voters[0] = 0,
            |conf| conf.learners[0] = 2,
            |conf| conf.learners_next[0] = 2,
            |conf| conf.voters.clear(),
            |conf| *conf = Conf { auto_leave: true, ..Conf::of_voters([1]) },
        ];
        for (i, change) in changes.into_iter().enumerate() {
            let mut conf = joint();
            change(&mut conf);
            assert!(Conf::decode(&mut &bytes(&conf)[..]).is_err(), "change {i}");
            assert!(!conf.is_sound() && joint().is_sound(), "change {i}");
        }
        assert!(Conf::decode(&mut &[2, 0, 0, 0, 0][..]).is_err(), "unknown flags");
        assert!(Conf::decode(&mut &[0, 16, 0, 0, 0][..]).is_err(), "too many");
    }
}
