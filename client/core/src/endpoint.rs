//! Where to connect: `ws://host:port/path`, `wss://…` or `quic://host:port`.

use core::fmt;
use core::str::FromStr;

/// Client port unless the URL names one.
const PORT: u16 = 4400;

/// Path of the WebSocket endpoint unless the URL names one.
const PATH: &str = "/v1/ws";

/// How bytes travel to an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    /// WebSocket over TCP.
    Ws,
    /// WebSocket over TLS.
    Wss,
    /// Frames on one bidirectional QUIC stream.
    Quic,
}

impl Scheme {
    /// The URL scheme.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ws => "ws",
            Self::Wss => "wss",
            Self::Quic => "quic",
        }
    }
}

/// A parsed endpoint URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// How bytes travel.
    pub scheme: Scheme,
    /// Host name or address, an IPv6 address without its brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Path of the WebSocket upgrade.
    pub path: String,
}

/// Why a URL is no endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointError(String);

impl fmt::Display for EndpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not an endpoint: {:?} (expected ws://, wss:// or quic:// and host[:port])", self.0)
    }
}

impl core::error::Error for EndpointError {}

impl Endpoint {
    /// `host:port` as sockets and the Host header want it, IPv6 addresses in brackets.
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.as_str(), self.authority())?;
        match self.scheme {
            Scheme::Quic => Ok(()),
            Scheme::Ws | Scheme::Wss => f.write_str(&self.path),
        }
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(url: &str) -> Result<Self, EndpointError> {
        parse(url).ok_or_else(|| EndpointError(url.into()))
    }
}

fn parse(url: &str) -> Option<Endpoint> {
    let (scheme, rest) = url.split_once("://")?;
    let scheme = match scheme {
        "ws" => Scheme::Ws,
        "wss" => Scheme::Wss,
        "quic" => Scheme::Quic,
        _ => return None,
    };
    let (authority, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            (host, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    // What ends up in a request line and a Host header must not be able to end them.
    let clean = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'@');
    if host.is_empty() || !clean(host) || !clean(path) {
        return None;
    }
    Some(Endpoint {
        scheme,
        host: host.into(),
        port: port.map_or(Some(PORT), |port| port.parse().ok())?,
        path: if path.len() > 1 { path.into() } else { PATH.into() },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_parse_with_defaults_and_print_back() {
        for (url, back) in [
            ("ws://localhost", "ws://localhost:4400/v1/ws"),
            ("wss://example.org:443/", "wss://example.org:443/v1/ws"),
            ("ws://127.0.0.1:9/other", "ws://127.0.0.1:9/other"),
            ("quic://[::1]:4400", "quic://[::1]:4400"),
            ("quic://[::1]", "quic://[::1]:4400"),
        ] {
            assert_eq!(url.parse::<Endpoint>().expect(url).to_string(), back);
        }
    }

    #[test]
    fn other_urls_are_refused() {
        for url in [
            "",
            "localhost",
            "http://x",
            "ws://",
            "ws://:1",
            "ws://a:b",
            "ws://a:70000",
            "ws://[::1",
            "ws://a b",
        ] {
            assert!(url.parse::<Endpoint>().is_err(), "{url}");
        }
        assert!("ws://a/\r\nX: y".parse::<Endpoint>().is_err());
    }
}
