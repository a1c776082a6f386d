//! Frames as the vectors write them: field names are SPEC.md's, ids and bytes hexadecimal, numbers above 2^53 - 1
//! strings.

use serde_json::{Map, Value, json};
use throng_wire::Origin;
use throng_wire::frame::*;

/// The fields of a frame.
pub(crate) fn fields(frame: &Frame<'_>) -> Value {
    match frame {
        Frame::Hello(f) => {
            json!({"version_min": f.version_min, "version_max": f.version_max, "client": f.client})
        }
        Frame::Auth(f) => json!({"token": hex(f.token), "ticket": hex(f.ticket)}),
        Frame::Welcome(f) => welcome(f),
        Frame::Publish(f) => json!({"channel": hex(&f.channel.0), "client_msg_id": num(f.client_msg_id.0),
            "kind": f.kind.0, "body": hex(f.body)}),
        Frame::Ack(f) => json!({"channel": hex(&f.channel.0), "client_msg_id": num(f.client_msg_id.0),
            "seq": num(f.seq.0), "ts": f.ts.0, "duplicate": f.duplicate}),
        Frame::Error(f) => json!({"scope": scope(f.scope), "code": f.code.0,
            "retry_after_ms": f.retry_after_ms, "detail": f.detail}),
        Frame::Deliver(f) => json!({"channel": hex(&f.channel.0), "seq": num(f.seq.0), "kind": f.kind.0,
            "sender": f.sender.0, "ts": f.ts.0, "origin": origin(&f.origin), "body": hex(f.body)}),
        Frame::Lagged(Lagged::Channel { channel, head }) => {
            json!({"channel": hex(&channel.0), "head": num(head.0)})
        }
        Frame::Lagged(Lagged::All { user_seq }) => json!({"user_seq": num(user_seq.0)}),
        Frame::Reset(Reset::Channel { channel, epoch, floor, head }) => json!({"channel": hex(&channel.0),
            "epoch": num(epoch.0), "floor": num(floor.0), "head": num(head.0)}),
        Frame::Reset(Reset::Inbox { epoch, user_seq }) => {
            json!({"epoch": num(epoch.0), "user_seq": num(user_seq.0)})
        }
        Frame::Ping(f) => json!({"wants_answer": f.wants_answer, "nonce": num(f.nonce)}),
        Frame::Pong(f) => json!({"nonce": num(f.nonce)}),
        Frame::Goaway(f) => {
            json!({"after_ms": f.after_ms, "endpoints": f.endpoints, "ticket": hex(f.ticket)})
        }
        Frame::Close(f) => {
            json!({"code": f.code.0, "retry_after_ms": f.retry_after_ms, "reason": f.reason})
        }
        Frame::Unsubscribe(f) => json!({"channel": hex(&f.channel.0)}),
        request => exchange(request),
    }
}

/// Requests and their answers: all begin with the request id.
fn exchange(frame: &Frame<'_>) -> Value {
    let (request, mut fields) = match frame {
        Frame::Fetch(f) => (
            f.request,
            json!({"channel": hex(&f.channel.0), "after": num(f.after.0),
            "epoch": num(f.epoch.0), "limit": f.limit, "freshness": freshness(f.freshness)}),
        ),
        Frame::Page(f) => (f.request, page(f)),
        Frame::Sync(f) => {
            (f.request, json!({"after": num(f.after.0), "epoch": num(f.epoch.0), "limit": f.limit}))
        }
        Frame::Synced(f) => (f.request, synced(f)),
        Frame::Create(f) => (f.request, create(f)),
        Frame::Open(f) => (f.request, json!({"peer": hex(&f.peer.0)})),
        Frame::Join(f) => (f.request, json!({"channel": hex(&f.channel.0), "user": hex(&f.user.0)})),
        Frame::Leave(f) => (f.request, json!({"channel": hex(&f.channel.0), "user": hex(&f.user.0)})),
        Frame::Channel(f) => (
            f.request,
            json!({"channel": hex(&f.channel.0), "class": class(f.class),
            "head": num(f.head.0), "member": f.member.0}),
        ),
        Frame::Members(f) => {
            (f.request, json!({"channel": hex(&f.channel.0), "after": f.after.0, "limit": f.limit}))
        }
        Frame::MembersPage(f) => (f.request, members(f)),
        Frame::Subscribe(f) => (
            f.request,
            json!({"channel": hex(&f.channel.0), "after": num(f.after.0), "epoch": num(f.epoch.0)}),
        ),
        Frame::Subscribed(f) => {
            (f.request, json!({"channel": hex(&f.channel.0), "head": num(f.head.0), "member": f.member.0}))
        }
        other => panic!("{} is no exchange", other.type_name()),
    };
    fields["request"] = num(request.0);
    fields
}

fn welcome(f: &Welcome<'_>) -> Value {
    json!({"version": f.version, "version_max": f.version_max, "server": f.server, "user": hex(&f.user.0),
        "device": hex(&f.device.0.to_be_bytes()), "heartbeat_ms": f.heartbeat_ms, "body_max": f.body_max,
        "frame_max": f.frame_max, "inflight_max": f.inflight_max, "epoch": num(f.epoch.0), "time_ms": f.time_ms,
        "ticket": hex(f.ticket)})
}

fn page(f: &Page<'_>) -> Value {
    let event = |event: &PageEvent<'_>| {
        json!({"kind": event.kind.0, "sender": event.sender.0, "ts": event.ts.0,
            "origin": origin(&event.origin), "body": hex(event.body)})
    };
    let first = f.events.first().map_or(0, |event| event.seq.0);
    let events: Vec<Value> = f.events.iter().map(event).collect();
    json!({"channel": hex(&f.channel.0), "head": num(f.head.0), "first": num(first), "events": events})
}

fn synced(f: &Synced) -> Value {
    let entry = |entry: &SyncEntry| {
        json!({"channel": hex(&entry.channel.0), "head": num(entry.head.0), "count": num(entry.count),
            "user_seq": num(entry.user_seq.0)})
    };
    let entries: Vec<Value> = f.entries.iter().map(entry).collect();
    json!({"cursor": num(f.cursor.0), "more": f.more, "entries": entries})
}

fn create(f: &Create) -> Value {
    let members: Vec<String> = f.members.iter().map(|user| hex(&user.0)).collect();
    json!({"channel": hex(&f.channel.0), "class": class(f.class), "members": members})
}

fn members(f: &MembersPage) -> Value {
    let member = |member: &Member| {
        let role = match member.role {
            Role::Member => "member",
            Role::Owner => "owner",
        };
        json!({"member": member.member.0, "user": hex(&member.user.0), "role": role})
    };
    let members: Vec<Value> = f.members.iter().map(member).collect();
    json!({"channel": hex(&f.channel.0), "more": f.more, "members": members})
}

fn origin(origin: &Option<Origin>) -> Value {
    origin.map_or(Value::Null, |origin| {
        json!({"device": hex(&origin.device.0.to_be_bytes()), "client_msg_id": num(origin.client_msg_id.0)})
    })
}

fn freshness(freshness: Freshness) -> Value {
    match freshness {
        Freshness::Stale => json!("stale"),
        Freshness::AtLeast(seq) => json!({"at_least": num(seq.0)}),
        Freshness::Linearizable => json!("linearizable"),
    }
}

fn scope(scope: ErrorScope) -> Value {
    match scope {
        ErrorScope::Session => json!("session"),
        ErrorScope::Request(request) => json!({"request": num(request.0)}),
        ErrorScope::Publish(channel, id) => json!({"channel": hex(&channel.0), "client_msg_id": num(id.0)}),
    }
}

fn class(class: ChannelClass) -> &'static str {
    match class {
        ChannelClass::Direct => "direct",
        ChannelClass::Group => "group",
        ChannelClass::Open => "open",
    }
}

/// A number as the vectors write it.
pub(crate) fn num(value: u64) -> Value {
    if value < 1 << 53 { json!(value) } else { json!(value.to_string()) }
}

/// Bytes without spaces.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes with spaces.
pub(crate) fn unhex(text: &str) -> Vec<u8> {
    let byte = |pair: &str| u8::from_str_radix(pair, 16).unwrap_or_else(|_| panic!("{pair:?} is no byte"));
    text.split_whitespace().map(byte).collect()
}

/// A text field of a vector.
pub(crate) fn str<'a>(row: &'a Map<String, Value>, key: &str) -> &'a str {
    row.get(key).and_then(Value::as_str).unwrap_or_else(|| panic!("{row:?} has no text {key}"))
}
