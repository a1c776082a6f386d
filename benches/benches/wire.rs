//! What the wire costs per frame, beside copying the same bytes once.

use bytes::BytesMut;
use throng_benches::{nanos_per_call, opaque, report};
use throng_wire::frame::{Deliver, Publish, Split, split};
use throng_wire::{ChannelId, ClientMsgId, EventKind, Frame, MemberNo, Seq, ServerTs};

const CALLS: u32 = 20_000;
const FRAME_MAX: usize = 1 << 20;

fn main() {
    for size in [16, 128, 1024] {
        let body = vec![b'x'; size];
        let deliver = Frame::Deliver(Deliver {
            channel: ChannelId([7; 16]),
            seq: Seq(123_456),
            kind: EventKind::MESSAGE,
            sender: MemberNo(3),
            ts: ServerTs(1_800_000_000_000),
            origin: None,
            body: &body,
        });
        let publish = Frame::Publish(Publish {
            channel: ChannelId([7; 16]),
            client_msg_id: ClientMsgId(42),
            kind: EventKind::MESSAGE,
            body: &body,
        });
        bench("DELIVER", &deliver, size);
        bench("PUBLISH", &publish, size);
    }
}

fn bench(name: &str, frame: &Frame<'_>, size: usize) {
    let bytes = frame.encoded();
    let mut out = BytesMut::with_capacity(4096);
    let copy = nanos_per_call(CALLS, || {
        out.clear();
        out.extend_from_slice(opaque(&bytes));
        opaque(&out);
    });
    let encode = nanos_per_call(CALLS, || {
        out.clear();
        opaque(frame).encode(&mut out);
        opaque(&out);
    });
    let decode = nanos_per_call(CALLS, || {
        let Ok(Split::Frame { payload, .. }) = split(opaque(&bytes), FRAME_MAX) else {
            unreachable!("the frame is whole")
        };
        opaque(Frame::decode(&bytes[payload]).is_ok());
    });
    report(&format!("{name} of {size} bytes, encode"), encode, "copying it", copy);
    report(&format!("{name} of {size} bytes, split and decode"), decode, "copying it", copy);
}
