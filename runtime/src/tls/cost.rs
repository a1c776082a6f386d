//! What TLS costs a link. A measurement, run alone:
//! `cargo test --release -p throng-runtime --lib -- --ignored --nocapture cost`.

use std::time::{Duration, Instant};

use bytes::BytesMut;

use super::testing::{Authority, Odd};
use super::tests::{NODE_2, frame, links, member};
use crate::FrameLink;

/// One way over loopback, both ends on this thread: bytes are written and read as fast as they go.
fn carry(near: &mut FrameLink, far: &mut FrameLink, payload: &[u8], lasting: Duration) -> (u64, Duration) {
    let (mut frames, start) = (0u64, Instant::now());
    while start.elapsed() < lasting {
        for _ in 0..64 {
            let wire: &dyn Fn(&mut BytesMut) = &|out| frame(payload)(out);
            near.queue(wire).expect("both ends are driven");
            near.flush().expect("open");
            while near.wants_write() {
                far.read(|_| frames += 1).expect("open");
                near.flush().expect("open");
            }
        }
        far.read(|_| frames += 1).expect("open");
    }
    (frames, start.elapsed())
}

fn shake_hands(near: &mut FrameLink, far: &mut FrameLink) {
    while near.peer_name().is_none() || far.peer_name().is_none() {
        near.flush().and_then(|()| far.read(|_| {})).expect("open");
        far.flush().and_then(|()| near.read(|_| {})).expect("open");
    }
}

#[test]
#[ignore = "a measurement: cargo test -p throng-runtime --lib -- --ignored --nocapture cost"]
fn cost_of_tls_on_a_link() {
    let (dir, authority) = (tempfile::tempdir().expect("a directory"), Authority::new());
    let [one, two] = ["node-1", "node-2"].map(|who| member(dir.path(), &authority, who, Odd::default()));
    let start = Instant::now();
    for _ in 0..200 {
        let sessions = (one.dial(NODE_2).expect("made"), two.accept().expect("made"));
        let (mut near, mut far) = links(Some(sessions.0), Some(sessions.1));
        shake_hands(&mut near, &mut far);
    }
    println!("handshake, both sides: {:?}", start.elapsed() / 200);
    for size in [256usize, 4096, 65_536, 1 << 20] {
        for is_secure in [false, true] {
            let [dialled, accepted] = match is_secure {
                true => [Some(one.dial(NODE_2).expect("made")), Some(two.accept().expect("made"))],
                false => [None, None],
            };
            let (mut near, mut far) = links(dialled, accepted);
            if is_secure {
                shake_hands(&mut near, &mut far);
            }
            let payload = vec![0x80; size];
            carry(&mut near, &mut far, &payload, Duration::from_millis(300));
            let (frames, took) = carry(&mut near, &mut far, &payload, Duration::from_secs(3));
            let each = took.as_secs_f64() * 1e6 / frames as f64;
            let rate = frames as f64 * size as f64 / took.as_secs_f64() / f64::from(1 << 20);
            let kind = if is_secure { "TLS  " } else { "clear" };
            println!("{kind} {size:>8} B a write: {each:>8.2} µs each, both ends; {rate:>7.0} MiB/s");
        }
    }
}
