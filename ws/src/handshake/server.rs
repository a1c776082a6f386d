//! The server's half of the handshake (RFC 6455 §4.2).

use bytes::BufMut;

use super::Key;
use super::head::{Head, HeadError};

/// A request whose head was read.
#[derive(Debug)]
pub struct Parsed<'a> {
    /// Length of the head; what follows belongs to the frames.
    pub consumed: usize,
    /// The request.
    pub request: Request<'a>,
}

/// A well-formed upgrade to WebSocket, version 13.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    head: Head<'a>,
    path: &'a str,
    key: Key,
}

impl<'a> Request<'a> {
    /// The path, without the query.
    pub fn path(&self) -> &'a str {
        self.path.split_once('?').map_or(self.path, |(path, _)| path)
    }

    /// Host, as the client knows it. Never empty: a request without one is refused.
    pub fn host(&self) -> &'a str {
        self.head.values("host").next().unwrap_or_default()
    }

    /// Origin, which browsers send always and others hardly ever (§10.2).
    pub fn origin(&self) -> Option<&'a str> {
        self.head.values("origin").next()
    }

    /// The key to answer.
    pub fn key(&self) -> Key {
        self.key
    }

    /// The subprotocols on offer, the client's favourite first.
    pub fn protocols(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.head.elements("sec-websocket-protocol")
    }

    /// Whether this subprotocol is on offer; names are case-sensitive.
    pub fn offers(&self, protocol: &str) -> bool {
        self.protocols().any(|offer| offer == protocol)
    }
}

/// Why a request is not answered with 101.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// Not HTTP, or a field that the handshake needs is missing, repeated or wrong: 400.
    BadRequest,
    /// The origin is not allowed (the caller's rule): 403.
    Forbidden,
    /// No such path (the caller's rule): 404.
    NotFound,
    /// A method other than GET: 405.
    MethodNotAllowed,
    /// Well-formed HTTP that does not ask for WebSocket, or for a version other than 13: 426 (§4.2.2).
    UpgradeRequired,
    /// Too many bytes or fields: 431.
    HeadTooLarge,
    /// No room for another session (the caller's rule): 503.
    Unavailable,
    /// Not HTTP/1.1: 505.
    HttpVersion,
}

impl From<HeadError> for Rejection {
    fn from(error: HeadError) -> Self {
        match error {
            HeadError::TooLarge => Self::HeadTooLarge,
            HeadError::Malformed => Self::BadRequest,
        }
    }
}

impl Rejection {
    /// HTTP status.
    pub fn status(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::UpgradeRequired => 426,
            Self::HeadTooLarge => 431,
            Self::Unavailable => 503,
            Self::HttpVersion => 505,
        }
    }

    fn phrase(self) -> &'static str {
        match self {
            Self::BadRequest => "Bad Request",
            Self::Forbidden => "Forbidden",
            Self::NotFound => "Not Found",
            Self::MethodNotAllowed => "Method Not Allowed",
            Self::UpgradeRequired => "Upgrade Required",
            Self::HeadTooLarge => "Request Header Fields Too Large",
            Self::Unavailable => "Service Unavailable",
            Self::HttpVersion => "HTTP Version Not Supported",
        }
    }

    /// Fields that the status asks for (RFC 9110 §15.5.6, §15.5.22; RFC 6455 §4.4).
    fn fields(self) -> &'static str {
        match self {
            Self::MethodNotAllowed => "Allow: GET\r\n",
            Self::UpgradeRequired => "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
            _ => "",
        }
    }
}

/// Reads a request; `None` if its end is not there yet. Parse again with the same bytes and more behind them; at most
/// [`crate::limits::HEAD_MAX`] bytes have to be kept.
///
/// # Errors
/// It is no upgrade to WebSocket as RFC 6455 §4.2.1 wants it: answer with [`reject`] and close. Extensions on offer are
/// ignored (§9.1 allows it).
pub fn parse_request(input: &[u8]) -> Result<Option<Parsed<'_>>, Rejection> {
    let Some(head) = Head::parse(input)? else { return Ok(None) };
    let path = parse_start(head.start)?;
    if head.value("host")?.is_none_or(str::is_empty) || has_body(&head)? {
        return Err(Rejection::BadRequest);
    }
    if !head.has_element("upgrade", "websocket") || !head.has_element("connection", "upgrade") {
        return Err(Rejection::UpgradeRequired);
    }
    match head.value("sec-websocket-version")? {
        None => return Err(Rejection::BadRequest),
        Some("13") => {}
        Some(_) => return Err(Rejection::UpgradeRequired),
    }
    let key = head.value("sec-websocket-key")?.and_then(Key::parse).ok_or(Rejection::BadRequest)?;
    head.value("origin")?; // two origins are one attack
    Ok(Some(Parsed { consumed: head.len, request: Request { head, path, key } }))
}

/// Method, target and version, each in its turn.
fn parse_start(line: &str) -> Result<&str, Rejection> {
    let mut words = line.split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(Rejection::BadRequest);
    };
    match version {
        "HTTP/1.1" => {}
        other if other.starts_with("HTTP/") => return Err(Rejection::HttpVersion),
        _ => return Err(Rejection::BadRequest),
    }
    if method != "GET" {
        return Err(Rejection::MethodNotAllowed);
    }
    // Origin form only: an absolute target is for proxies, and no gateway is one.
    if target.starts_with('/') { Ok(target) } else { Err(Rejection::BadRequest) }
}

/// A body would be read as frames: request smuggling.
fn has_body(head: &Head<'_>) -> Result<bool, HeadError> {
    let announced = head.value("content-length")?.is_some_and(|length| length != "0");
    Ok(announced || head.values("transfer-encoding").next().is_some())
}

/// Appends the answer 101. `protocol` must be one the client offers.
pub fn accept(out: &mut impl BufMut, key: &Key, protocol: Option<&str>) {
    out.put_slice(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n");
    out.put_slice(b"Sec-WebSocket-Accept: ");
    out.put_slice(&key.accept());
    if let Some(protocol) = protocol {
        out.put_slice(b"\r\nSec-WebSocket-Protocol: ");
        out.put_slice(protocol.as_bytes());
    }
    out.put_slice(b"\r\n\r\n");
}

/// Appends an answer other than 101; the connection is closed after it.
pub fn reject(out: &mut impl BufMut, rejection: Rejection) {
    let status = [
        b'0' + (rejection.status() / 100) as u8,
        b'0' + (rejection.status() / 10 % 10) as u8,
        b'0' + (rejection.status() % 10) as u8,
    ];
    for part in [b"HTTP/1.1 ".as_slice(), &status, b" ", rejection.phrase().as_bytes(), b"\r\n"] {
        out.put_slice(part);
    }
    out.put_slice(rejection.fields().as_bytes());
    out.put_slice(b"Connection: close\r\nContent-Length: 0\r\n\r\n");
}
