//! Requests that wait for their answer from a router.

use std::collections::BTreeMap;

use throng_base::Key;
use throng_wire::link::Op;
use throng_wire::{NodeId, RequestId};

use crate::limits::{MEMBERS_ANSWER, PENDING_PER_LOOP, RENEWALS_IN_FLIGHT, SMALL_ANSWER, SYNC_ANSWER};
use crate::stamp::Stamp;

/// On whose behalf a request was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A client's request.
    Request(RequestId),
    /// A client's PUBLISH.
    Publish,
    /// The gateway registers a session at its user's shard. `first`: sent before any request of the client.
    Register {
        /// Whether the client's own SYNC comes behind it on the same link.
        first: bool,
    },
    /// The gateway renews a subscription.
    Renew,
}

/// One request under way.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    /// Whose; may be gone by the time the answer comes.
    pub(crate) session: Key,
    /// Where it was sent.
    pub(crate) node: NodeId,
    /// Generation of the shard when it was sent.
    pub(crate) generation: u32,
    /// When it is given up.
    pub(crate) deadline: Stamp,
    /// How often it was sent on.
    pub(crate) reroutes: u8,
    /// On whose behalf.
    pub(crate) purpose: Purpose,
    /// What is asked; kept to send it on, and because the answer does not repeat it.
    pub(crate) op: Op,
}

/// All requests under way, by link id. Ids rise, so the first is the oldest.
#[derive(Debug, Default)]
pub(crate) struct PendingTable {
    by_id: BTreeMap<u64, Pending>,
    next_id: u64,
    renewals: u32,
}

impl Purpose {
    pub(crate) fn is_client(self) -> bool {
        matches!(self, Self::Request(_) | Self::Publish)
    }

    /// Whether it counts against what the gateway itself may have under way. First registrations do not: they come
    /// no faster than clients connect.
    fn is_renewal(self) -> bool {
        matches!(self, Self::Renew | Self::Register { first: false })
    }
}

impl PendingTable {
    /// Whether clients may ask for more.
    pub(crate) fn has_room(&self) -> bool {
        self.by_id.len() < PENDING_PER_LOOP
    }

    /// Whether the gateway itself may ask for more. It has places of its own, so clients cannot keep it from healing.
    pub(crate) fn may_renew(&self) -> bool {
        self.renewals < RENEWALS_IN_FLIGHT
    }

    /// Adds a request and draws its id.
    pub(crate) fn insert(&mut self, pending: Pending) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.renewals += u32::from(pending.purpose.is_renewal());
        self.by_id.insert(id, pending);
        id
    }

    /// Takes the request that `node` answers.
    pub(crate) fn take(&mut self, node: NodeId, id: u64) -> Option<Pending> {
        if self.by_id.get(&id)?.node != node {
            return None;
        }
        self.remove(id)
    }

    /// Takes the oldest request if its time is up.
    pub(crate) fn take_overdue(&mut self, now: Stamp) -> Option<Pending> {
        let (&id, _) = self.by_id.first_key_value().filter(|(_, pending)| pending.deadline <= now)?;
        self.remove(id)
    }

    /// Takes all requests sent to a node, oldest first.
    pub(crate) fn take_all_of(&mut self, node: NodeId) -> Vec<Pending> {
        let ids: Vec<u64> = self.by_id.iter().filter(|(_, p)| p.node == node).map(|(&id, _)| id).collect();
        ids.into_iter().filter_map(|id| self.remove(id)).collect()
    }

    /// Requests that a choice picks, oldest first, with what it says of them.
    pub(crate) fn select<T>(&self, choose: impl Fn(&Pending) -> Option<T>) -> Vec<(u64, T)> {
        self.by_id.iter().filter_map(|(&id, pending)| Some((id, choose(pending)?))).collect()
    }

    /// Takes one that [`Self::select`] has found.
    pub(crate) fn take_id(&mut self, id: u64) -> Option<Pending> {
        self.remove(id)
    }

    /// When the oldest request is given up.
    pub(crate) fn next_deadline(&self) -> Option<Stamp> {
        self.by_id.first_key_value().map(|(_, pending)| pending.deadline)
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    fn remove(&mut self, id: u64) -> Option<Pending> {
        let pending = self.by_id.remove(&id)?;
        self.renewals -= u32::from(pending.purpose.is_renewal());
        Some(pending)
    }
}

/// Bytes to keep free in the outbox for the answer to `op`.
pub(crate) fn answer_size(op: &Op, frame_max: usize) -> usize {
    match op {
        Op::Fetch { .. } => frame_max,
        Op::Members { .. } => MEMBERS_ANSWER,
        Op::Sync { .. } => SYNC_ANSWER,
        Op::Publish { .. }
        | Op::Create { .. }
        | Op::Join { .. }
        | Op::Leave { .. }
        | Op::Subscribe { .. }
        | Op::Register { .. } => SMALL_ANSWER,
    }
}
