//! The client's half of the handshake (RFC 6455 §4.1).

use core::fmt;

use bytes::BufMut;

use super::Key;
use super::head::Head;

/// What to ask for.
#[derive(Clone, Copy, Debug)]
pub struct RequestOptions<'a> {
    /// Host and, unless it is the scheme's own, port.
    pub host: &'a str,
    /// Path and query, beginning with a slash.
    pub path: &'a str,
    /// Subprotocols, favourite first.
    pub protocols: &'a [&'a str],
    /// For clients that speak in a browser's name.
    pub origin: Option<&'a str>,
}

/// The server agreed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Response<'a> {
    /// Length of the head; what follows belongs to the frames.
    pub consumed: usize,
    /// The subprotocol it chose.
    pub protocol: Option<&'a str>,
}

/// The server did not agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseError {
    /// It is not HTTP/1.1, or too large.
    Malformed,
    /// It answered with a status other than 101.
    Status(u16),
    /// Upgrade, Connection or Sec-WebSocket-Accept is missing or wrong.
    NotWebSocket,
    /// It chose an extension or a subprotocol that was not offered.
    NotOffered,
}

impl fmt::Display for ResponseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed => f.write_str("the answer is not HTTP/1.1"),
            Self::Status(status) => write!(f, "the server answered with HTTP status {status}"),
            Self::NotWebSocket => f.write_str("the answer does not accept the WebSocket handshake"),
            Self::NotOffered => f.write_str("the server chose something that was not offered"),
        }
    }
}

impl core::error::Error for ResponseError {}

/// Appends the request. The texts in `options` come from configuration, not from peers.
///
/// # Panics
/// If one of them holds a control character: it would end its line and begin another field.
pub fn request(out: &mut impl BufMut, key: &Key, options: &RequestOptions<'_>) {
    let texts = [options.host, options.path, options.origin.unwrap_or_default()];
    assert!(texts.iter().chain(options.protocols).all(|text| !text.contains(|c: char| c.is_ascii_control())));
    assert!(options.path.starts_with('/') && !options.path.contains(' '), "a request line has two spaces");
    for part in ["GET ", options.path, " HTTP/1.1\r\nHost: ", options.host] {
        out.put_slice(part.as_bytes());
    }
    out.put_slice(
        b"\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ",
    );
    out.put_slice(key.as_str().as_bytes());
    for (i, protocol) in options.protocols.iter().enumerate() {
        out.put_slice(if i == 0 { b"\r\nSec-WebSocket-Protocol: " } else { b", " });
        out.put_slice(protocol.as_bytes());
    }
    if let Some(origin) = options.origin {
        out.put_slice(b"\r\nOrigin: ");
        out.put_slice(origin.as_bytes());
    }
    out.put_slice(b"\r\n\r\n");
}

/// Reads the answer to a request with this key and these subprotocols; `None` if its end is not there yet.
///
/// # Errors
/// The connection cannot become a WebSocket; close it.
pub fn parse_response<'a>(
    input: &'a [u8],
    key: &Key,
    protocols: &[&str],
) -> Result<Option<Response<'a>>, ResponseError> {
    let Some(head) = Head::parse(input).map_err(|_| ResponseError::Malformed)? else { return Ok(None) };
    match parse_status(head.start).ok_or(ResponseError::Malformed)? {
        101 => {}
        status => return Err(ResponseError::Status(status)),
    }
    let accepts =
        head.value("sec-websocket-accept").is_ok_and(|value| value.map(str::as_bytes) == Some(&key.accept()));
    if !accepts || !head.has_element("upgrade", "websocket") || !head.has_element("connection", "upgrade") {
        return Err(ResponseError::NotWebSocket);
    }
    let protocol = head.value("sec-websocket-protocol").map_err(|_| ResponseError::NotOffered)?;
    let offered = protocol.is_none_or(|protocol| protocols.contains(&protocol));
    if !offered || head.values("sec-websocket-extensions").next().is_some() {
        return Err(ResponseError::NotOffered);
    }
    Ok(Some(Response { consumed: head.len, protocol }))
}

/// `HTTP/1.1 101 Switching Protocols`; the phrase may be missing.
fn parse_status(line: &str) -> Option<u16> {
    let rest = line.strip_prefix("HTTP/1.1 ")?;
    let digits = rest.split(' ').next()?;
    let is_status = digits.len() == 3 && digits.bytes().all(|digit| digit.is_ascii_digit());
    if is_status { digits.parse().ok() } else { None }
}
