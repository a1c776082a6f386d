//! Peer frames: no bytes panic, shared and copied decoding agree, and what was accepted can be sent on.

#![no_main]

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use throng_wire::PeerFrame;
use throng_wire::frame::{Split, split};
use throng_wire::limits::PEER_FRAME_MAX;

fuzz_target!(|data: &[u8]| {
    let copied = PeerFrame::decode(data);
    assert_eq!(copied, PeerFrame::decode(Bytes::copy_from_slice(data)));
    let Ok(Some(frame)) = copied else { return };
    let mut out = BytesMut::new();
    frame.encode(&mut out);
    let Ok(Split::Frame { consumed, payload }) = split(&out, PEER_FRAME_MAX) else {
        panic!("an encoded frame is whole");
    };
    assert_eq!(consumed, out.len());
    assert_eq!(PeerFrame::decode(&out[payload]), Ok(Some(frame)));
});
