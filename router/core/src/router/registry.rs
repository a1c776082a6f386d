//! Which sessions a user has: soft state of the leader of the user's shard.

use throng_wire::ids::UserId;
use throng_wire::link::{GatewayId, SessionRef};

use crate::few::Few;
use crate::hash::{Keyed, Table};
use crate::limits::SESSIONS_PER_USER_MAX;

/// A session and the gateway that holds it.
pub(super) type Session = (GatewayId, SessionRef);

/// Sessions of one shard's users. An entry takes 16 bytes for the user and 24 for the session, and a table is at
/// least 7/16 full when it has just grown, so a session costs about 47 to 94 bytes (measured by a test).
#[derive(Debug)]
pub(super) struct Registry {
    sessions: Table<UserId, Few<Session>>,
}

/// A user has too many sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooMany;

const _: () = assert!(size_of::<(UserId, Few<Session>)>() <= 40, "a session's entry");

impl Registry {
    pub(super) fn new(keyed: Keyed) -> Self {
        Self { sessions: Table::with_hasher(keyed) }
    }

    /// Registers a session; true if it is new.
    pub(super) fn add(&mut self, user: UserId, session: Session) -> Result<bool, TooMany> {
        let Some(known) = self.sessions.get_mut(&user) else {
            self.sessions.insert(user, Few::One(session));
            return Ok(true);
        };
        if known.contains(&session) {
            return Ok(false);
        }
        if known.len() >= SESSIONS_PER_USER_MAX {
            return Err(TooMany);
        }
        known.add(session);
        Ok(true)
    }

    /// Forgets a session; true if it was known.
    pub(super) fn remove(&mut self, user: &UserId, session: Session) -> bool {
        let Some(known) = self.sessions.get_mut(user) else { return false };
        let gone = known.retain(|other| *other != session);
        if known.is_empty() {
            self.sessions.remove(user);
        }
        gone > 0
    }

    /// Sessions of a user.
    pub(super) fn of(&self, user: &UserId) -> &[Session] {
        self.sessions.get(user).map_or(&[], Few::as_slice)
    }

    /// Forgets all sessions of a gateway; returns how many. (A table is walked here, but nothing sees the order.)
    pub(super) fn drop_gateway(&mut self, gateway: GatewayId) -> usize {
        let mut gone = 0;
        self.sessions.retain(|_, sessions| {
            gone += sessions.retain(|(other, _)| *other != gateway);
            !sessions.is_empty()
        });
        gone
    }

    /// Forgets everything; returns how many sessions that were.
    pub(super) fn clear(&mut self) -> usize {
        let all = self.sessions.values().map(Few::len).sum();
        self.sessions.clear();
        self.sessions.shrink_to_fit();
        all
    }

    /// Bytes the table takes, without the lists of users with several sessions.
    pub(super) fn table_bytes(&self) -> usize {
        // hashbrown: buckets are a power of two of which 7/8 may be used, each with one control byte.
        let buckets = (self.sessions.capacity() * 8 / 7).next_power_of_two();
        buckets * (size_of::<(UserId, Few<Session>)>() + 1)
    }
}

#[cfg(test)]
mod tests {
    use throng_base::Rng;

    use super::*;

    fn user(n: u64) -> UserId {
        let mut rng = Rng::new(n);
        let mut id = [0u8; 16];
        id[..8].copy_from_slice(&rng.next_u64().to_le_bytes());
        id[8..].copy_from_slice(&rng.next_u64().to_le_bytes());
        UserId(id)
    }

    #[test]
    fn a_session_costs_less_than_300_bytes_at_any_size() {
        let mut registry = Registry::new(Keyed::new(1));
        let mut worst = 0;
        for n in 0..200_000u64 {
            assert_eq!(registry.add(user(n), (GatewayId(n % 7), SessionRef(n))), Ok(true));
            if n >= 1_000 {
                worst = worst.max(registry.table_bytes() as u64 / (n + 1));
            }
        }
        assert!(worst <= 100, "{worst} bytes per session");
    }

    #[test]
    fn sessions_come_and_go() {
        let mut registry = Registry::new(Keyed::new(1));
        let session = |gateway, session| (GatewayId(gateway), SessionRef(session));
        assert_eq!(registry.add(user(1), session(1, 1)), Ok(true));
        assert_eq!(registry.add(user(1), session(1, 1)), Ok(false), "renewed");
        assert_eq!(registry.add(user(1), session(2, 1)), Ok(true));
        assert_eq!(registry.of(&user(1)), [session(1, 1), session(2, 1)]);
        assert!(!registry.remove(&user(1), session(3, 1)));
        assert_eq!(registry.drop_gateway(GatewayId(1)), 1);
        assert_eq!(registry.of(&user(1)), [session(2, 1)]);
        assert!(registry.remove(&user(1), session(2, 1)));
        assert_eq!(registry.of(&user(1)), []);
    }

    #[test]
    fn a_user_has_a_limit() {
        let mut registry = Registry::new(Keyed::new(1));
        for n in 0..SESSIONS_PER_USER_MAX as u64 {
            assert_eq!(registry.add(user(1), (GatewayId(1), SessionRef(n))), Ok(true));
        }
        assert_eq!(registry.add(user(1), (GatewayId(2), SessionRef(0))), Err(TooMany));
        assert_eq!(registry.clear(), SESSIONS_PER_USER_MAX);
    }
}
