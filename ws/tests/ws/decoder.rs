//! Every rule of RFC 6455 §5 that a decoder enforces, and that no way of cutting the bytes changes what comes out.

use super::peer::{Event, LIMITS, Peer, frame, masked};
use throng_ws::{Decoder, Item, Kind, Limits, Opcode, ProtocolError, Role};

fn events(bytes: &[u8]) -> Vec<Event> {
    Peer::server().feed_all(bytes)
}

fn fails(bytes: &[u8], error: ProtocolError) {
    assert_eq!(events(bytes).last(), Some(&Event::Failed(error)), "{bytes:x?}");
}

#[test]
fn the_masked_hello_of_section_5_7() {
    let bytes = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    assert_eq!(events(&bytes), [Event::Text("Hello".into())]);
}

#[test]
fn a_client_takes_only_unmasked_frames_and_a_server_only_masked_ones() {
    let (plain, hidden) = (frame(true, Opcode::Text, b"hi", None), masked(true, Opcode::Text, b"hi"));
    assert_eq!(Peer::client().feed_all(&plain), [Event::Text("hi".into())]);
    assert_eq!(Peer::client().feed_all(&hidden), [Event::Failed(ProtocolError::Masked)]);
    fails(&plain, ProtocolError::Unmasked);
}

#[test]
fn reserved_bits_and_opcodes() {
    for bit in [0x40, 0x20, 0x10] {
        let mut bytes = masked(true, Opcode::Binary, b"x");
        bytes[0] |= bit;
        fails(&bytes, ProtocolError::ReservedBit);
    }
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        fails(&[0x80 | opcode, 0x80, 0, 0, 0, 0], ProtocolError::ReservedOpcode);
    }
}

#[test]
fn control_frames_are_short_and_whole() {
    fails(&[0x89, 0xfe, 0, 126], ProtocolError::OversizedControl);
    fails(&[0x09, 0x80, 0, 0, 0, 0], ProtocolError::FragmentedControl);
    let longest = [7u8; 125];
    assert_eq!(events(&masked(true, Opcode::Ping, &longest)), [Event::Ping(longest.to_vec())]);
    assert_eq!(events(&masked(true, Opcode::Pong, b"")), [Event::Pong(vec![])]);
}

#[test]
fn lengths_in_their_shortest_form_only() {
    fails(&[0x82, 0xfe, 0, 125], ProtocolError::BadLength);
    fails(&[0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff], ProtocolError::BadLength);
    fails(&[0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0], ProtocolError::BadLength);
}

#[test]
fn too_large_is_found_in_the_header() {
    // Not a byte of payload, not even the key, has come.
    fails(&[0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], ProtocolError::TooLarge);
    let at_limit = masked(true, Opcode::Binary, &vec![1; LIMITS.message_max as usize]);
    assert_eq!(events(&at_limit).len(), 1);
    fails(&masked(true, Opcode::Binary, &vec![1; LIMITS.message_max as usize + 1]), ProtocolError::TooLarge);
    // The limit is the message's, not the frame's.
    let half = vec![1; LIMITS.message_max as usize / 2 + 1];
    let halves = [masked(false, Opcode::Binary, &half), masked(true, Opcode::Continuation, &half)].concat();
    fails(&halves, ProtocolError::TooLarge);
}

#[test]
fn fragments_are_counted() {
    let empty = masked(false, Opcode::Continuation, b"");
    let mut bytes = masked(false, Opcode::Text, b"");
    for _ in 1..LIMITS.fragments_max {
        bytes.extend_from_slice(&empty);
    }
    assert_eq!(events(&bytes), []);
    bytes.extend_from_slice(&empty);
    fails(&bytes, ProtocolError::TooManyFragments);
}

#[test]
fn any_number_of_fragments_if_so_configured() {
    let limits = Limits { message_max: 1 << 20, fragments_max: u16::MAX };
    let mut decoder = Decoder::new(Role::Client);
    let mut decode =
        |mut bytes: Vec<u8>| decoder.decode(&mut bytes, &limits).expect("legal").expect("whole").1;
    decode(frame(false, Opcode::Binary, b"x", None));
    for _ in 0..70_000 {
        decode(frame(false, Opcode::Continuation, b"x", None));
    }
    let item = decode(frame(true, Opcode::Continuation, b"", None));
    assert_eq!(item, Item::Data { kind: Kind::Binary, payload: 2..2, end: true });
}

#[test]
fn fragments_belong_to_one_message() {
    fails(&masked(true, Opcode::Continuation, b"x"), ProtocolError::UnexpectedContinuation);
    let nested = [masked(false, Opcode::Text, b"a"), masked(true, Opcode::Text, b"b")].concat();
    fails(&nested, ProtocolError::ExpectedContinuation);
    let after = [masked(true, Opcode::Text, b"a"), masked(true, Opcode::Continuation, b"b")].concat();
    fails(&after, ProtocolError::UnexpectedContinuation);
}

#[test]
fn control_frames_come_between_fragments() {
    let bytes = [
        masked(false, Opcode::Text, b"one "),
        masked(true, Opcode::Ping, b"p"),
        masked(false, Opcode::Continuation, b""),
        masked(true, Opcode::Pong, b"q"),
        masked(true, Opcode::Continuation, b"two"),
    ]
    .concat();
    let expected = [Event::Ping(b"p".to_vec()), Event::Pong(b"q".to_vec()), Event::Text("one two".into())];
    assert_eq!(events(&bytes), expected);
}

#[test]
fn text_is_checked_across_fragments_and_fails_at_the_first_bad_byte() {
    let (euro, split) = ("€".as_bytes(), 2);
    let good =
        [masked(false, Opcode::Text, &euro[..split]), masked(true, Opcode::Continuation, &euro[split..])]
            .concat();
    assert_eq!(events(&good), [Event::Text("€".into())]);
    fails(&masked(true, Opcode::Text, &euro[..split]), ProtocolError::BadUtf8);
    // A frame of 1,000 bytes of which only the first two have come.
    let mut begun = masked(true, Opcode::Text, &[&b"\xed\xa0"[..], &[b'x'; 998]].concat());
    begun.truncate(8 + 2);
    fails(&begun, ProtocolError::BadUtf8);
    // Bytes are never checked.
    assert_eq!(events(&masked(true, Opcode::Binary, b"\xff")), [Event::Binary(vec![0xff])]);
}

#[test]
fn close_frames() {
    let close = |payload: &[u8]| masked(true, Opcode::Close, payload);
    assert_eq!(events(&close(b"")), [Event::Close(None, String::new())]);
    assert_eq!(events(&close(b"\x03\xe8bye")), [Event::Close(Some(1000), "bye".into())]);
    fails(&close(b"\x03"), ProtocolError::TruncatedCloseCode);
    fails(&close(b"\x03\xee"), ProtocolError::BadCloseCode(1006));
    fails(&close(b"\x03\xe8\xff"), ProtocolError::BadUtf8);
}

#[test]
fn nothing_comes_after_close() {
    let bytes =
        [masked(true, Opcode::Close, b""), masked(true, Opcode::Text, b"late"), vec![0xff; 9]].concat();
    assert_eq!(events(&bytes), [Event::Close(None, String::new())]);
}

#[test]
fn pieces_are_handed_out_as_they_come() {
    let mut decoder = Decoder::new(Role::Client);
    let mut bytes = frame(true, Opcode::Binary, b"abcdef", None);
    let (head, tail) = bytes.split_at_mut(2 + 4);
    let first = decoder.decode(head, &LIMITS).expect("legal");
    assert_eq!(first, Some((6, Item::Data { kind: Kind::Binary, payload: 2..6, end: false })));
    let second = decoder.decode(tail, &LIMITS).expect("legal");
    assert_eq!(second, Some((2, Item::Data { kind: Kind::Binary, payload: 0..2, end: true })));
}

#[test]
fn close_codes_of_errors() {
    assert_eq!(ProtocolError::ReservedBit.close_code(), 1002);
    assert_eq!(ProtocolError::BadUtf8.close_code(), 1007);
    assert_eq!(ProtocolError::TooManyFragments.close_code(), 1008);
    assert_eq!(ProtocolError::TooLarge.close_code(), 1009);
}
