//! Who the sessions are and where they connect.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use throng_client::mint::Minter;
use throng_client_core::{Endpoint, Login};
use throng_wire::UserId;

use crate::cli::Common;
use crate::exit::Failure;
use crate::limits::SESSIONS_PER_SOURCE;

/// Tokens outlive the run by far.
const TOKEN_TTL: Duration = Duration::from_secs(24 * 3600);

/// Users of a run and the endpoints they share.
pub(crate) struct Identities {
    minter: Minter,
    run: String,
    /// One list per transport, in the order asked for.
    endpoints: Vec<Arc<[Arc<Endpoint>]>>,
}

impl Identities {
    pub(crate) fn new(common: &Common) -> Result<Self, Failure> {
        let minter = Minter::from_file(&common.key)
            .map_err(|error| Failure::usage(format!("--key {}: {error}", common.key.display())))?;
        let run = match &common.run_id {
            Some(run) => run.clone(),
            None => {
                format!("{:x}", throng_runtime::unix_millis() << 16 | u64::from(std::process::id() & 0xffff))
            }
        };
        let endpoints = by_transport(common)?;
        Ok(Self { minter, run, endpoints })
    }

    /// Transports in use.
    pub(crate) fn transports(&self) -> Vec<&'static str> {
        self.endpoints.iter().map(|list| list[0].scheme.as_str()).collect()
    }

    pub(crate) fn run_id(&self) -> &str {
        &self.run
    }

    /// The user's name.
    pub(crate) fn name(&self, user: usize) -> String {
        format!("lg-{}-{user}", self.run)
    }

    /// The user's id.
    pub(crate) fn user(&self, user: usize) -> UserId {
        UserId::of("throng", &self.name(user))
    }

    /// What the user logs in with, on the transport with this number (modulo how many there are).
    pub(crate) fn login(&self, user: usize, transport: usize) -> Login {
        let now_s = throng_runtime::unix_millis() / 1000;
        let token = self.minter.mint(&self.name(user), user as u64 + 1, now_s, TOKEN_TTL.as_secs());
        let endpoints = Arc::clone(&self.endpoints[transport % self.endpoints.len()]);
        Login { endpoints, token: Bytes::from(token) }
    }
}

/// Groups the targets by transport.
fn by_transport(common: &Common) -> Result<Vec<Arc<[Arc<Endpoint>]>>, Failure> {
    let targets: Result<Vec<Endpoint>, _> = common.targets.iter().map(|url| url.parse()).collect();
    let targets = targets.map_err(|error| Failure::usage(error.to_string()))?;
    let mut schemes: Vec<String> = common.transport.clone();
    if schemes.is_empty() {
        for target in &targets {
            let scheme = target.scheme.as_str().to_string();
            if !schemes.contains(&scheme) {
                schemes.push(scheme);
            }
        }
    }
    let list = |scheme: &String| {
        let mut endpoints: Vec<_> =
            targets.iter().filter(|target| target.scheme.as_str() == scheme).cloned().map(Arc::new).collect();
        if endpoints.is_empty() {
            let url = format!("{scheme}://{}", targets[0].authority());
            let derived: Endpoint =
                url.parse().map_err(|_| Failure::usage(format!("--transport {scheme}: ws, wss or quic")))?;
            endpoints.push(Arc::new(derived));
        }
        Ok(endpoints.into())
    };
    schemes.iter().map(list).collect()
}

/// Finds the address of an endpoint.
pub(crate) fn resolve(endpoint: &Endpoint) -> std::io::Result<SocketAddr> {
    let mut addresses = (endpoint.host.as_str(), endpoint.port).to_socket_addrs()?;
    addresses
        .next()
        .ok_or_else(|| std::io::Error::new(std::io::ErrorKind::NotFound, "the host has no address"))
}

/// The address that session number `index` connects from: on loopback a new one every [`SESSIONS_PER_SOURCE`]
/// sessions, elsewhere whichever the system picks.
pub(crate) fn source(target: SocketAddr, index: usize) -> Option<IpAddr> {
    let IpAddr::V4(target) = target.ip() else { return None };
    if !target.is_loopback() {
        return None;
    }
    let block = index / SESSIONS_PER_SOURCE;
    // 127.0.1.1, 127.0.1.2 … 127.0.1.250, 127.0.2.1 …
    Some(IpAddr::V4(Ipv4Addr::new(127, 0, (1 + block / 250 % 250) as u8, (1 + block % 250) as u8)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_source_address_every_thousand_sessions_and_only_on_loopback() {
        let loopback = "127.0.0.1:4400".parse().expect("an address");
        assert_eq!(source(loopback, 999), source(loopback, 0));
        assert_ne!(source(loopback, 1000), source(loopback, 999));
        assert_eq!(source(loopback, 250_000), Some("127.0.2.1".parse().expect("an address")));
        assert_eq!(source("192.0.2.1:1".parse().expect("an address"), 5), None);
    }
}
