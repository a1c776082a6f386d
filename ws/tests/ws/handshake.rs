//! The opening handshake of RFC 6455 §4, rule by rule, and both halves against each other.

use throng_ws::handshake::{
    Key, Rejection, RequestOptions, ResponseError, accept, parse_request, parse_response, reject, request,
};

const EXAMPLE: &str = "GET /chat HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: http://example.com\r\n\
    Sec-WebSocket-Protocol: chat, superchat\r\nSec-WebSocket-Version: 13\r\n\r\n";

/// The example with a line replaced ("" = left out) or, if no line begins like that, added.
fn with(line_start: &str, replacement: &str) -> String {
    let (mut lines, mut replaced) = (vec![], false);
    for line in EXAMPLE.trim_end().split("\r\n") {
        if line.starts_with(line_start) {
            replaced = true;
            lines.extend((!replacement.is_empty()).then_some(replacement));
        } else {
            lines.push(line);
        }
    }
    if !replaced {
        lines.push(replacement);
    }
    lines.join("\r\n") + "\r\n\r\n"
}

fn rejection(text: &str) -> Option<Rejection> {
    parse_request(text.as_bytes()).err()
}

#[test]
fn the_example_of_section_1_2() {
    let input = [EXAMPLE.as_bytes(), b"\x81\x85"].concat();
    let parsed = parse_request(&input).expect("legal").expect("whole");
    let request = parsed.request;
    assert_eq!(parsed.consumed, EXAMPLE.len());
    assert_eq!((request.path(), request.host()), ("/chat", "server.example.com"));
    assert_eq!(request.origin(), Some("http://example.com"));
    assert_eq!(request.protocols().collect::<Vec<_>>(), ["chat", "superchat"]);
    assert!(request.offers("chat") && !request.offers("Chat"));
    let mut out = vec![];
    accept(&mut out, &request.key(), Some("chat"));
    let answer = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: chat\r\n\r\n";
    assert_eq!(String::from_utf8(out).as_deref(), Ok(answer));
}

#[test]
fn a_request_is_complete_at_its_empty_line_and_not_before() {
    for cut in 0..EXAMPLE.len() {
        assert!(matches!(parse_request(&EXAMPLE.as_bytes()[..cut]), Ok(None)), "{cut}");
    }
}

#[test]
fn tolerated_variants() {
    for text in [
        with("Connection", "connection: keep-alive, UPGRADE"),
        with("Upgrade", "Upgrade: h2c, WebSocket"),
        with("Origin", ""),
        with("Sec-WebSocket-Protocol", ""),
        with(
            "Sec-WebSocket-Extensions",
            "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
        ),
        with("Content-Length", "Content-Length: 0"),
        with("GET", "GET /v1/ws?token=x HTTP/1.1"),
    ] {
        assert_eq!(rejection(&text), None, "{text}");
    }
}

#[test]
fn rejected_requests() {
    use Rejection::*;
    for (text, expected) in [
        (with("GET", "POST /chat HTTP/1.1"), MethodNotAllowed),
        (with("GET", "GET /chat HTTP/1.0"), HttpVersion),
        (with("GET", "GET /chat HTTP/2"), HttpVersion),
        (with("GET", "GET /chat"), BadRequest),
        (with("GET", "GET  /chat HTTP/1.1"), BadRequest),
        (with("GET", "GET http://a/chat HTTP/1.1"), BadRequest),
        (with("Host", ""), BadRequest),
        (with("Host", "Host: "), BadRequest),
        (with("Host", "Host: a\r\nHost: b"), BadRequest),
        (with("Upgrade", ""), UpgradeRequired),
        (with("Upgrade", "Upgrade: h2c"), UpgradeRequired),
        (with("Connection", "Connection: keep-alive"), UpgradeRequired),
        (with("Sec-WebSocket-Version", "Sec-WebSocket-Version: 8"), UpgradeRequired),
        (with("Sec-WebSocket-Version", ""), BadRequest),
        (with("Sec-WebSocket-Key", ""), BadRequest),
        (with("Sec-WebSocket-Key", "Sec-WebSocket-Key: c2hvcnQ="), BadRequest),
        (with("X", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="), BadRequest),
        (with("X", "Origin: http://two.example"), BadRequest),
        (with("X", "Content-Length: 5"), BadRequest),
        (with("X", "Transfer-Encoding: chunked"), BadRequest),
        (with("X", &format!("X: {}", "x".repeat(8 * 1024))), HeadTooLarge),
        (with("X", &"X: y\r\n".repeat(60)[..60 * 6 - 2]), HeadTooLarge),
    ] {
        assert_eq!(rejection(&text), Some(expected), "{text}");
    }
}

#[test]
fn rejections_are_http() {
    let mut out = vec![];
    reject(&mut out, Rejection::UpgradeRequired);
    let answer = "HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
        Connection: close\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(String::from_utf8(out).as_deref(), Ok(answer));
}

#[test]
fn both_halves_agree() {
    let key = Key::from_nonce([9; 16]);
    let protocols = ["throng.v1.bin", "other"];
    let mut bytes = vec![];
    let options =
        RequestOptions { host: "localhost:4400", path: "/v1/ws", protocols: &protocols, origin: None };
    request(&mut bytes, &key, &options);
    let parsed = parse_request(&bytes).expect("legal").expect("whole");
    assert_eq!((parsed.consumed, parsed.request.path()), (bytes.len(), "/v1/ws"));
    assert!(parsed.request.offers("throng.v1.bin"));
    let mut answer = vec![];
    accept(&mut answer, &parsed.request.key(), Some("throng.v1.bin"));
    let whole = answer.len();
    for cut in 0..whole {
        assert_eq!(parse_response(&answer[..cut], &key, &protocols), Ok(None));
    }
    answer.extend_from_slice(b"\x82\x00");
    let response = parse_response(&answer, &key, &protocols).expect("legal").expect("whole");
    assert_eq!((response.consumed, response.protocol), (whole, Some("throng.v1.bin")));
}

#[test]
fn answers_a_client_refuses() {
    use ResponseError::*;
    let key = Key::from_nonce([9; 16]);
    let mut good = vec![];
    accept(&mut good, &key, Some("a"));
    let good = String::from_utf8(good).expect("ASCII");
    let result = |text: &str| parse_response(text.as_bytes(), &key, &["a"]).map(|_| ());
    assert_eq!(result(&good), Ok(()));
    assert_eq!(result(&good.replace("101", "503")), Err(Status(503)));
    assert_eq!(result(&good.replace("HTTP/1.1", "HTTP/1.0")), Err(Malformed));
    assert_eq!(result(&good.replace("Accept: ", "Accept: x")), Err(NotWebSocket));
    assert_eq!(result(&good.replace("websocket", "h2c")), Err(NotWebSocket));
    assert_eq!(result(&good.replace("Connection: Upgrade\r\n", "")), Err(NotWebSocket));
    assert_eq!(result(&good.replace("Protocol: a", "Protocol: b")), Err(NotOffered));
    let extended = good.replace("\r\n\r\n", "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n");
    assert_eq!(result(&extended), Err(NotOffered));
}
