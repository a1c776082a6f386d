//! Client frames: any byte stream is split and decoded without a panic, and what was accepted has one encoding, which
//! decodes to the same and is no longer than what came.

#![no_main]

use libfuzzer_sys::fuzz_target;
use throng_wire::Frame;
use throng_wire::frame::{Split, Unknown, request_of, split};

/// The frame limit with the default body limit.
const FRAME_MAX: usize = 68 * 1024;

fuzz_target!(|data: &[u8]| {
    // As a payload: most inputs get past the length this way.
    check(data);
    let mut rest = data;
    loop {
        match split(rest, FRAME_MAX) {
            Ok(Split::Frame { consumed, payload }) => {
                assert!(payload.end == consumed && payload.len() <= FRAME_MAX);
                check(&rest[payload]);
                rest = &rest[consumed..];
            }
            Ok(Split::NeedMore { at_least }) => {
                assert!(at_least > rest.len() && at_least <= FRAME_MAX + 8);
                break;
            }
            Err(error) => {
                let _ = error.code();
                break;
            }
        }
    }
});

fn check(payload: &[u8]) {
    let request = request_of(payload);
    match Frame::decode(payload) {
        Ok(Some(frame)) => {
            if frame.request().is_some() {
                assert_eq!(frame.request(), request);
            }
            let bytes = frame.encoded();
            let Ok(Split::Frame { consumed, payload: again }) = split(&bytes, usize::MAX) else {
                panic!("an encoded frame is whole");
            };
            assert_eq!(consumed, bytes.len());
            assert!(again.len() <= payload.len());
            assert_eq!(Frame::decode(&bytes[again]), Ok(Some(frame)));
        }
        Ok(None) => {
            let _ = Unknown::read(payload);
        }
        Err(error) => assert!(error.code().info().is_some(), "every fault has a code of the table"),
    }
}
