//! Properties of the codec: every frame survives the wire, and no bytes make it panic.

#[path = "support/frames.rs"]
mod frames;
#[path = "support/peers.rs"]
mod peers;

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use throng_wire::frame::{Deliver, FRAME_TYPES, Frame, Split, Unknown, request_of, split};
use throng_wire::limits::{BODY_MAX_FLOOR, FRAME_OVERHEAD_MAX, PEER_FRAME_MAX};
use throng_wire::{
    ChannelId, ClientMsgId, DecodeError, DeviceId, EventKind, MemberNo, Origin, PeerFrame, Seq, ServerTs,
    varint,
};

/// The payload of the only frame in `bytes`.
fn payload(bytes: &[u8]) -> &[u8] {
    match split(bytes, PEER_FRAME_MAX) {
        Ok(Split::Frame { consumed, payload }) if consumed == bytes.len() => &bytes[payload],
        other => panic!("one whole frame expected, found {other:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn varints_survive(value in frames::number()) {
        let mut out = Vec::new();
        varint::encode(value, &mut out);
        let mut input = &out[..];
        prop_assert_eq!(varint::decode(&mut input), Ok(value));
        prop_assert_eq!((input.len(), out.len()), (0, varint::len(value)));
    }

    // SPEC W-VAR-2, W-FRAME-1.
    #[test]
    fn every_frame_survives(frame in frames::any_frame()) {
        let bytes = frame.encoded();
        let payload = payload(&bytes);
        prop_assert_eq!(payload.len(), frame.payload_len());
        prop_assert_eq!(payload[0], frame.type_number());
        prop_assert_eq!(Frame::decode(payload), Ok(Some(frame.clone())));
        prop_assert_eq!(request_of(payload), frame.request());
    }

    // SPEC W-FRAME-7, W-FRAME-8: what a later version adds is skipped, and a body is never mistaken for it.
    #[test]
    fn extensions_and_trailing_fields_are_skipped(
        frame in frames::any_frame(),
        extension in proptest::collection::vec(any::<u8>(), 0..80),
        trailing in proptest::collection::vec(any::<u8>(), 0..20),
    ) {
        let bytes = frame.encoded();
        let payload = payload(&bytes);
        let mut later = vec![payload[0], payload[1] | 0x80];
        varint::encode(extension.len() as u64, &mut later);
        later.extend(&extension);
        later.extend(&payload[2..]);
        if !matches!(frame, Frame::Publish(_) | Frame::Deliver(_)) {
            later.extend(&trailing);
        }
        prop_assert_eq!(Frame::decode(&later), Ok(Some(frame.clone())));
        prop_assert_eq!(request_of(&later), frame.request());
    }

    #[test]
    fn a_stream_splits_the_same_however_it_is_cut(
        frames in proptest::collection::vec(frames::any_frame(), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut stream = BytesMut::new();
        frames.iter().for_each(|frame| frame.encode(&mut stream));
        let seen_at = cut.index(stream.len() + 1);
        let (mut at, mut found) = (0, Vec::new());
        for end in [seen_at, stream.len()] {
            loop {
                match split(&stream[at..end], PEER_FRAME_MAX).expect("valid frames") {
                    Split::Frame { consumed, payload } => {
                        found.push(Frame::decode(&stream[at..][payload]).expect("valid").expect("known"));
                        at += consumed;
                    }
                    Split::NeedMore { at_least } => {
                        prop_assert!(at_least > end - at);
                        break;
                    }
                }
            }
        }
        prop_assert_eq!(found, frames);
    }

    #[test]
    fn every_peer_frame_survives(frame in peers::any_peer_frame()) {
        let mut out = BytesMut::new();
        frame.encode(&mut out);
        let bytes = out.freeze();
        let start = bytes.len() - payload(&bytes).len();
        prop_assert_eq!(PeerFrame::decode(bytes.slice(start..)), Ok(Some(frame.clone())));
        prop_assert_eq!(PeerFrame::decode(&bytes[start..]), Ok(Some(frame)));
    }

    #[test]
    fn no_bytes_make_a_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), max in 0usize..400) {
        let _ = split(&bytes, max);
        check_decoders(&bytes)?;
    }

    // Random bytes rarely get past the type: damage valid frames, too.
    #[test]
    fn no_damaged_frame_makes_a_decoder_panic(frame in frames::any_frame(), damage in frames::damage()) {
        let bytes = frame.encoded();
        check_decoders(&damage.apply(payload(&bytes)))?;
    }

    #[test]
    fn no_damaged_peer_frame_makes_a_decoder_panic(frame in peers::any_peer_frame(), damage in frames::damage()) {
        let mut out = BytesMut::new();
        frame.encode(&mut out);
        check_decoders(&damage.apply(payload(&out)))?;
    }
}

/// Decodes as client and as peer frame. What was accepted can be encoded again and means the same: a later stage never
/// meets a value that it cannot send on.
fn check_decoders(payload: &[u8]) -> Result<(), TestCaseError> {
    let _ = Unknown::read(payload);
    let _ = request_of(payload);
    if let Ok(Some(frame)) = Frame::decode(payload) {
        let again = frame.encoded();
        prop_assert_eq!(Frame::decode(self::payload(&again)), Ok(Some(frame.clone())));
        prop_assert!(frame.payload_len() <= payload.len(), "no shorter form exists");
    }
    let shared = PeerFrame::decode(Bytes::copy_from_slice(payload));
    prop_assert_eq!(&PeerFrame::decode(payload), &shared);
    if let Ok(Some(frame)) = shared {
        let mut again = BytesMut::new();
        frame.encode(&mut again);
        prop_assert_eq!(PeerFrame::decode(self::payload(&again)), Ok(Some(frame)));
    }
    Ok(())
}

fn deliver(seq: u64, sender: u32, body: &[u8]) -> Deliver<'_> {
    Deliver {
        channel: ChannelId([7; 16]),
        seq: Seq(seq),
        kind: EventKind::MESSAGE,
        sender: MemberNo(sender),
        ts: ServerTs((1 << 48) - 1),
        origin: None,
        body,
    }
}

#[test]
fn an_ordinary_deliver_spends_at_most_32_bytes_beside_the_body() {
    // SPEC W-DEL-1: the largest ordinary one, and a small one.
    let body = vec![b'x'; 16_383 - 30];
    assert_eq!(Frame::Deliver(deliver((1 << 30) - 1, (1 << 14) - 1, &body)).encoded().len(), body.len() + 32);
    assert_eq!(Frame::Deliver(deliver(1, 1, b"hello")).encoded().len(), 5 + 27);
    let with_origin = Deliver {
        origin: Some(Origin { device: DeviceId(u64::MAX), client_msg_id: ClientMsgId(1 << 29) }),
        ..deliver(1, 1, b"hello")
    };
    assert_eq!(Frame::Deliver(with_origin).encoded().len(), 5 + 27 + 12);
}

#[test]
fn a_full_page_member_list_or_inbox_fits_the_smallest_frame_limit() {
    // SPEC W-LIM-2: the lists without bodies always fit.
    for frame in frames::largest_lists() {
        assert!(frame.payload_len() <= BODY_MAX_FLOOR + FRAME_OVERHEAD_MAX, "{}", frame.type_name());
    }
}

#[test]
fn a_peer_batch_shares_the_memory_of_its_frame_when_it_may() {
    let body = Bytes::from(vec![b'x'; 1000]);
    let frame = peers::deliver(body.clone());
    let mut out = BytesMut::new();
    frame.encode(&mut out);
    let bytes = out.freeze();
    let start = bytes.len() - payload(&bytes).len();
    let found = PeerFrame::decode(bytes.slice(start..)).expect("valid").expect("known");
    let body = peers::body(&found);
    assert!(bytes.as_ptr_range().contains(&body.as_ptr()), "shared, not copied");
    let copied = PeerFrame::decode(&bytes[start..]).expect("valid").expect("known");
    assert!(!bytes.as_ptr_range().contains(&peers::body(&copied).as_ptr()), "copied, not shared");
}

#[test]
fn frame_types_are_unique_and_only_requests_stand_in_the_request_range() {
    // SPEC W-TYPE-1, W-TYPE-2.
    let numbers: Vec<u8> = FRAME_TYPES.iter().map(|row| row.number).collect();
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "by number, each once");
    for frame in frames::one_of_each() {
        let in_range = throng_wire::frame::REQUEST_TYPES.contains(&frame.type_number());
        assert_eq!(
            frame.request().is_some() && matches!(frame.sender(), throng_wire::frame::Sender::Client),
            in_range
        );
    }
    assert_eq!(frames::one_of_each().len(), FRAME_TYPES.len());
}

#[test]
fn unknown_types_are_skipped_and_unknown_requests_can_be_answered() {
    // SPEC W-TYPE-3.
    assert_eq!(Frame::decode(&[0x7f, 0x55, 1, 2, 3]), Ok(None));
    assert_eq!(Unknown::read(&[0x7f, 0x55, 1]), Ok(Unknown { type_: 0x7f, request: None }));
    assert_eq!(Frame::decode(&[0x3f, 0x01, 37, 9]), Ok(None));
    let unknown = Unknown::read(&[0x3f, 0x01, 37, 9]).expect("well-formed");
    assert_eq!((unknown.type_, unknown.request.map(|id| id.0)), (0x3f, Some(37)));
    // The extension block stands before the id.
    assert_eq!(request_of(&[0x3f, 0x80, 2, 0xff, 0xff, 37]).map(|id| id.0), Some(37));
    assert_eq!(Unknown::read(&[0x3f, 0x00]), Err(DecodeError::Truncated));
    assert_eq!(Frame::decode(&[0x00, 0x00]), Err(DecodeError::TypeZero));
}
