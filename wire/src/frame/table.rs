//! The frame types: one row each, from which numbers, names, directions and dispatch are made. SPEC.md's table of
//! types is compared with [`FRAME_TYPES`] by a test.

use super::codec::{FrameType, Layout, read};
use super::fields::{Reader, Writer};
use super::*;
use crate::error::DecodeError;
use crate::ids::RequestId;

/// Who sends a frame type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sender {
    /// Clients only.
    Client,
    /// Servers only.
    Server,
    /// Both.
    Both,
}

macro_rules! frame_types {
    ($($number:literal $variant:ident $name:literal $sender:ident;)*) => {
        /// All frame types of this version, by number.
        pub const FRAME_TYPES: &[FrameType] =
            &[$(FrameType { number: $number, name: $name, sender: Sender::$sender },)*];

        impl<'a> Frame<'a> {
            /// The type's number.
            pub fn type_number(&self) -> u8 {
                match self { $(Self::$variant(_) => $number,)* }
            }

            /// The type's name in SPEC.md.
            pub fn type_name(&self) -> &'static str {
                match self { $(Self::$variant(_) => $name,)* }
            }

            /// Who sends it; a frame from the wrong side is `PROTOCOL` (SPEC W-TYPE-4).
            pub fn sender(&self) -> Sender {
                match self { $(Self::$variant(_) => Sender::$sender,)* }
            }

            pub(super) fn flags(&self) -> u8 {
                match self { $(Self::$variant(frame) => Layout::flags(frame),)* }
            }

            pub(super) fn write(&self, out: &mut impl Writer) {
                match self { $(Self::$variant(frame) => Layout::write(frame, out),)* }
            }

            pub(super) fn read(type_: u8, flags: u8, fields: Reader<'a>) -> Result<Option<Self>, DecodeError> {
                Ok(Some(match type_ {
                    $($number => Self::$variant(read(flags, fields)?),)*
                    _ => return Ok(None),
                }))
            }
        }
    };
}

frame_types! {
    0x01 Hello       "HELLO"        Client;
    0x02 Auth        "AUTH"         Client;
    0x03 Publish     "PUBLISH"      Client;
    0x04 Unsubscribe "UNSUBSCRIBE"  Client;
    0x08 Ping        "PING"         Both;
    0x09 Pong        "PONG"         Both;
    0x0a Close       "CLOSE"        Both;
    0x10 Fetch       "FETCH"        Client;
    0x11 Sync        "SYNC"         Client;
    0x12 Subscribe   "SUBSCRIBE"    Client;
    0x13 Create      "CREATE"       Client;
    0x14 Open        "OPEN"         Client;
    0x15 Join        "JOIN"         Client;
    0x16 Leave       "LEAVE"        Client;
    0x17 Members     "MEMBERS"      Client;
    0x40 Welcome     "WELCOME"      Server;
    0x41 Ack         "ACK"          Server;
    0x42 Error       "ERROR"        Server;
    0x43 Deliver     "DELIVER"      Server;
    0x44 Lagged      "LAGGED"       Server;
    0x45 Reset       "RESET"        Server;
    0x46 Goaway      "GOAWAY"       Server;
    0x50 Page        "PAGE"         Server;
    0x51 Synced      "SYNCED"       Server;
    0x52 Subscribed  "SUBSCRIBED"   Server;
    0x53 Channel     "CHANNEL"      Server;
    0x57 MembersPage "MEMBERS_PAGE" Server;
}

/// Numbers kept for what this version does not have; skipped (or, in the request range, refused) like any unknown type.
pub const RESERVED_TYPES: &[FrameType] = &[
    FrameType { number: 0x05, name: "READ", sender: Sender::Client },
    FrameType { number: 0x06, name: "TYPING", sender: Sender::Client },
    FrameType { number: 0x18, name: "PRESENCE", sender: Sender::Client },
    FrameType { number: 0x47, name: "READ_UPDATE", sender: Sender::Server },
    FrameType { number: 0x48, name: "TYPING_UPDATE", sender: Sender::Server },
    FrameType { number: 0x58, name: "PRESENCE_UPDATE", sender: Sender::Server },
    FrameType { number: 0x7b, name: "JSON", sender: Sender::Both },
];

impl Frame<'_> {
    /// The request id of a request (SPEC W-TYPE-2).
    pub fn request(&self) -> Option<RequestId> {
        match self {
            Self::Fetch(frame) => Some(frame.request),
            Self::Sync(frame) => Some(frame.request),
            Self::Subscribe(frame) => Some(frame.request),
            Self::Create(frame) => Some(frame.request),
            Self::Open(frame) => Some(frame.request),
            Self::Join(frame) => Some(frame.request),
            Self::Leave(frame) => Some(frame.request),
            Self::Members(frame) => Some(frame.request),
            Self::Hello(_) | Self::Auth(_) | Self::Publish(_) | Self::Unsubscribe(_) => None,
            Self::Ping(_) | Self::Pong(_) | Self::Close(_) => None,
            Self::Welcome(_) | Self::Ack(_) | Self::Error(_) | Self::Deliver(_) | Self::Lagged(_) => None,
            Self::Reset(_) | Self::Goaway(_) | Self::Page(_) | Self::Synced(_) | Self::Subscribed(_) => None,
            Self::Channel(_) | Self::MembersPage(_) => None,
        }
    }
}
