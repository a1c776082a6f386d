//! What an idle session costs in heap bytes, counted by the allocator of this test binary.
#![allow(unsafe_code)] // a GlobalAlloc cannot be written without; it only counts and passes on

use std::alloc::{GlobalAlloc, Layout, System};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicUsize, Ordering};

use throng_base::Instant;
use throng_gateway_core::{Claims, Gateway, GatewayConfig, Output, SessionKey, Transport};
use throng_wire::frame::{Auth, Frame, Hello, Subscribe};
use throng_wire::link::{Answer, Op, Reply, ToGateway, ToRouter};
use throng_wire::{ChannelId, DeviceId, Epoch, MemberNo, NodeId, RequestId, Seq, ShardId, UserId, UserSeq};
use throng_ws::{Header, Opcode, apply_mask, encode_header};

struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to `System` with the same arguments; counting touches no memory that it manages.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const NODE: NodeId = NodeId(1);
const SESSIONS: usize = 10_000;
const SHARDS: u32 = 64;

/// Carries outputs out as a router and a driver would, keeping nothing.
fn pump(gateway: &mut Gateway, now: Instant, user: UserId) {
    while let Some(output) = gateway.poll_output() {
        match output {
            Output::Write { session } => {
                gateway.handle_written(now, session, gateway.outbox_len(session));
            }
            Output::Authenticate { session, .. } => {
                let claims = Claims { user, device: DeviceId(1), expires_ms: 1 << 40 };
                gateway.handle_authenticated(now, session, Ok(claims));
            }
            Output::ToRouter { node, message: ToRouter::Request(request) } => {
                let answer = match request.op {
                    Op::Register { .. } => Answer::Registered { user_seq: UserSeq(1) },
                    Op::Subscribe { .. } => Answer::Subscribed { head: Seq(1), member: MemberNo(1) },
                    op => panic!("nobody asked for {op:?}"),
                };
                gateway.handle_router(
                    now,
                    node,
                    ToGateway::Reply(Reply { id: request.id, result: Ok(answer) }),
                );
            }
            Output::ToRouter { .. } => {}
            Output::Close { code, .. } => panic!("closed: {code}"),
            Output::Abort { .. } => panic!("aborted"),
        }
    }
}

fn send(gateway: &mut Gateway, now: Instant, key: SessionKey, frames: &[Frame<'_>], user: UserId) {
    let payload: Vec<u8> = frames.iter().flat_map(|frame| frame.encoded().to_vec()).collect();
    let mask = [1, 2, 3, 4];
    let mut bytes = Vec::new();
    encode_header(
        &mut bytes,
        Header { fin: true, opcode: Opcode::Binary, len: payload.len(), mask: Some(mask) },
    );
    let at = bytes.len();
    bytes.extend_from_slice(&payload);
    let _ = apply_mask(&mut bytes[at..], mask);
    gateway.handle_bytes(now, key, &mut bytes);
    pump(gateway, now, user);
}

fn connect(gateway: &mut Gateway, now: Instant, user: UserId) -> SessionKey {
    let peer = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let key = gateway.handle_connect(now, Transport::WebSocket, peer).expect("room");
    let mut upgrade = b"GET /v1/ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
        Sec-WebSocket-Protocol: throng.v1.bin\r\n\r\n"
        .to_vec();
    gateway.handle_bytes(now, key, &mut upgrade);
    let hello = Frame::Hello(Hello { version_min: 1, version_max: 1, client: "x" });
    send(gateway, now, key, &[hello, Frame::Auth(Auth { token: b"t", ticket: b"" })], user);
    key
}

fn subscribe(gateway: &mut Gateway, now: Instant, key: SessionKey, channel: ChannelId, user: UserId) {
    let subscribe = Subscribe { request: RequestId(1), channel, after: Seq(0), epoch: Epoch(1) };
    send(gateway, now, key, &[Frame::Subscribe(subscribe)], user);
}

#[test]
fn an_idle_session_costs_at_most_400_bytes() {
    let now = Instant::from_millis(1);
    let config = GatewayConfig { shards: SHARDS, ..GatewayConfig::default() };
    let mut gateway = Gateway::new(config, 1, now);
    gateway.handle_router_up(now, NODE);
    let shards = (0..SHARDS).map(|shard| (ShardId(shard), Some(NODE), 1)).collect();
    gateway.handle_router(now, NODE, ToGateway::Leads { shards });
    pump(&mut gateway, now, UserId::NIL);
    let user = |n: usize| UserId((n as u128).to_be_bytes());

    let before = LIVE.load(Ordering::Relaxed);
    let keys: Vec<SessionKey> = (0..SESSIONS).map(|n| connect(&mut gateway, now, user(n))).collect();
    let of_keys = keys.capacity() * size_of::<SessionKey>();
    let idle = (LIVE.load(Ordering::Relaxed) - before - of_keys) / SESSIONS;

    // Pairs who talk: two sessions share a channel.
    for (n, key) in keys.iter().enumerate() {
        let pair = ChannelId(((n / 2) as u128 + 1).to_be_bytes());
        subscribe(&mut gateway, now, *key, pair, user(n));
    }
    let watching = (LIVE.load(Ordering::Relaxed) - before - of_keys) / SESSIONS;
    println!("heap bytes per session: {idle} idle, {watching} watching one channel of two");
    assert_eq!((gateway.channel_count(), gateway.pending_count()), (SESSIONS / 2, 0));
    assert!(idle <= 300, "{idle} bytes per idle session");
    assert!(watching <= 400, "{watching} bytes per session that watches a channel");

    for key in keys {
        gateway.handle_disconnect(now, key);
    }
    pump(&mut gateway, now, UserId::NIL);
    assert_eq!((gateway.session_count(), gateway.channel_count(), gateway.queued_bytes()), (0, 0, 0));
}
