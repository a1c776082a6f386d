//! Frames as short text, so that a scenario reads as what the client saw.

use throng_wire::Frame;
use throng_wire::frame::{ErrorScope, Lagged, Reset};

/// One received frame.
pub(crate) fn show(payload: &[u8]) -> String {
    match Frame::decode(payload).expect("a gateway sends well-formed frames").expect("of known types") {
        Frame::Welcome(f) => format!("WELCOME {}", f.server),
        Frame::Ack(f) => {
            format!("ACK {} is {}{}", f.client_msg_id, f.seq, if f.duplicate { " again" } else { "" })
        }
        Frame::Error(f) => match f.scope {
            ErrorScope::Session => format!("ERROR {}", f.code),
            ErrorScope::Request(request) => format!("ERROR {} for {request}", f.code),
            ErrorScope::Publish(_, client_msg_id) => format!("ERROR {} for send {client_msg_id}", f.code),
        },
        Frame::Deliver(f) => {
            let body = String::from_utf8_lossy(f.body);
            let origin =
                f.origin.map_or(String::new(), |o| format!(" from {}/{}", o.device, o.client_msg_id));
            match f.kind.0 {
                0 => format!("DELIVER {}.{} {body}{origin}", f.channel.0[0], f.seq),
                kind => format!("DELIVER {}.{} kind {kind}{origin}", f.channel.0[0], f.seq),
            }
        }
        Frame::Lagged(Lagged::Channel { channel, head }) => format!("LAGGED {}.{head}", channel.0[0]),
        Frame::Lagged(Lagged::All { user_seq }) => format!("LAGGED all {user_seq}"),
        Frame::Reset(Reset::Channel { channel, floor, head, .. }) => {
            format!("RESET {} {floor}..{head}", channel.0[0])
        }
        Frame::Reset(Reset::Inbox { user_seq, .. }) => format!("RESET inbox {user_seq}"),
        Frame::Page(f) => format!("PAGE {} of {} events to {}", f.request, f.events.len(), f.head),
        Frame::Synced(f) => format!("SYNCED {} to {}", f.request, f.cursor),
        Frame::Channel(f) => format!("CHANNEL {} {:?} member {}", f.request, f.class, f.member),
        Frame::MembersPage(f) => format!("MEMBERS_PAGE {} of {}", f.request, f.members.len()),
        Frame::Subscribed(f) => format!("SUBSCRIBED {} at {}", f.request, f.head),
        Frame::Pong(f) => format!("PONG {}", f.nonce),
        Frame::Goaway(f) => format!("GOAWAY in {} to {:?}", f.after_ms, f.endpoints),
        Frame::Close(f) => format!("CLOSE {}", f.code),
        other => panic!("{} is not a server's", other.type_name()),
    }
}
