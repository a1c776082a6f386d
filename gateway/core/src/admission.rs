//! Who may connect: bounds on sessions that have shown no token yet, in all and by address.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

/// Sessions without a token.
#[derive(Debug, Default)]
pub(crate) struct Admission {
    address_by_session: BTreeMap<u32, IpAddr>,
    count_by_address: BTreeMap<IpAddr, u32>,
}

impl Admission {
    /// Whether one more from `peer` fits.
    pub(crate) fn has_room(&self, peer: IpAddr, total_max: u32, per_ip_max: u32) -> bool {
        let from_address = self.count_by_address.get(&network(peer)).copied().unwrap_or(0);
        self.address_by_session.len() < total_max as usize && from_address < per_ip_max
    }

    /// A session connected.
    pub(crate) fn enter(&mut self, session: u32, peer: IpAddr) {
        let peer = network(peer);
        let before = self.address_by_session.insert(session, peer);
        assert!(before.is_none(), "a session enters once");
        *self.count_by_address.entry(peer).or_insert(0) += 1;
    }

    /// A session showed its token or went; harmless to repeat.
    pub(crate) fn leave(&mut self, session: u32) {
        let Some(peer) = self.address_by_session.remove(&session) else { return };
        let count = self.count_by_address.get_mut(&peer).expect("counted when it entered");
        *count -= 1;
        if *count == 0 {
            self.count_by_address.remove(&peer);
        }
    }
}

/// What one subscriber of a network controls: an IPv4 address, or a /64 of IPv6.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_by_address_and_by_ipv6_network() {
        let mut admission = Admission::default();
        let peer = |text: &str| text.parse::<IpAddr>().expect("an address");
        admission.enter(1, peer("2001:db8::1"));
        assert!(!admission.has_room(peer("2001:db8::2"), 10, 1));
        assert!(admission.has_room(peer("2001:db8:0:1::2"), 10, 1));
        assert!(!admission.has_room(peer("127.0.0.1"), 1, 1));
        admission.enter(2, peer("::ffff:127.0.0.1"));
        assert!(!admission.has_room(peer("127.0.0.1"), 10, 1));
        admission.leave(1);
        admission.leave(1);
        admission.leave(2);
        assert!(admission.has_room(peer("127.0.0.1"), 1, 1));
        assert!(admission.count_by_address.is_empty());
    }
}
