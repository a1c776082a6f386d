//! The HTTP upgrade (RFC 6455 §4.2) on `/v1/ws` with subprotocol `throng.v1.bin`.

use bytes::{Bytes, BytesMut};
use throng_base::{Instant, Key};
use throng_wire::Code;
use throng_ws::handshake::{Rejection, accept, parse_request, reject};

use crate::gateway::Gateway;
use crate::{Origins, Phase};

/// Where the gateway listens for upgrades.
pub const PATH: &str = "/v1/ws";

/// The subprotocol of the binary form (SPEC W-WS-1).
pub const SUBPROTOCOL: &str = "throng.v1.bin";

impl Gateway {
    /// Reads the head of the request; the bytes it took, or `None` until it is whole. A refusal takes everything.
    pub(crate) fn upgrade(&mut self, now: Instant, key: Key, input: &[u8]) -> Option<usize> {
        match answer(input, &self.config.origins) {
            Ok(None) => None,
            Ok(Some((consumed, response))) => {
                let deadline = self.clock.deadline(now, self.config.auth_timeout);
                if let Some(session) = self.sessions.get_mut(key) {
                    session.phase = Phase::Hello;
                    // The timer stands at the earlier deadline and is set again when it fires.
                    session.deadline = deadline;
                }
                self.push(now, key, response);
                Some(consumed)
            }
            Err(rejection) => {
                let elsewhere = rejection == Rejection::UpgradeRequired && !asks_for_path(input);
                let rejection = if elsewhere { Rejection::NotFound } else { rejection };
                self.close_http(now, key, rejected(rejection));
                Some(input.len())
            }
        }
    }
}

/// The response to a whole request that may become a session, and the length of its head.
fn answer(input: &[u8], origins: &Origins) -> Result<Option<(usize, Bytes)>, Rejection> {
    let Some(parsed) = parse_request(input)? else { return Ok(None) };
    let request = parsed.request;
    if request.path() != PATH {
        return Err(Rejection::NotFound);
    }
    // Cross-site hijack: a page elsewhere must not use a browser's session (RFC 6455 §10.2).
    if !origins.allow(request.origin().map(str::as_bytes)) {
        return Err(Rejection::Forbidden);
    }
    if !request.offers(SUBPROTOCOL) {
        return Err(Rejection::BadRequest);
    }
    let mut response = BytesMut::with_capacity(192);
    accept(&mut response, &request.key(), Some(SUBPROTOCOL));
    Ok(Some((parsed.consumed, response.freeze())))
}

/// Whether the target of a request line is [`PATH`], with or without a query.
fn asks_for_path(input: &[u8]) -> bool {
    let target = input.split(|&byte| byte == b' ').nth(1).unwrap_or_default();
    target.split(|&byte| byte == b'?').next() == Some(PATH.as_bytes())
}

/// What a connection is told that is closed before its request was whole.
pub(crate) fn refusal_of(code: Code) -> Bytes {
    if code == Code::HANDSHAKE_TIMEOUT {
        let response = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
        return Bytes::from_static(response);
    }
    let is_full = matches!(code, Code::GOING_AWAY | Code::OVERLOADED);
    rejected(if is_full { Rejection::Unavailable } else { Rejection::BadRequest })
}

fn rejected(rejection: Rejection) -> Bytes {
    let mut response = BytesMut::with_capacity(192);
    reject(&mut response, rejection);
    response.freeze()
}
