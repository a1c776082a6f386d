//! Peer frames: what processes of one cluster say to each other over the peer port.
//!
//! ```text
//!   length: varint │ type: 0x80… │ flags: 0 │ protobuf, delimited by lengths where there are several messages
//! ```
//!
//! The framing is that of client frames; the payload is protobuf, so that fields can be added while versions mix. The
//! prost types are private: only checked values come out of [`PeerFrame::decode`], so no later stage meets a number
//! that it could not send on to a client. Raft messages are our own types, converted to the raft crate's at the edge
//! of `storage-core`, so that crate's parser never sees bytes from the network.

mod hello;
mod proto;
mod raft;
mod router;
mod snapshot;
mod to_gateway;
mod to_router;

use bytes::{Buf, BufMut, BytesMut};
use prost::Message;

pub use hello::{PeerHello, PeerRefused, PeerRole};
pub use raft::{RaftBatch, RaftEntry, RaftMessage};
pub use router::{InboxRow, RouterMessage};
pub use snapshot::{RaftConf, SnapshotMessage, SnapshotRow};

use crate::error::DecodeError;
use crate::limits::PEER_BATCH_MESSAGES_MAX;
use crate::link::{ToGateway, ToRouter};
use crate::varint;

/// Version of the peer protocol, in every [`PeerHello`].
pub const PEER_PROTOCOL: u32 = 1;

const HELLO: u8 = 0x80;
const HELLO_ACK: u8 = 0x81;
const REFUSED: u8 = 0x82;
const PING: u8 = 0x83;
const PONG: u8 = 0x84;
const RAFT: u8 = 0x90;
const TO_ROUTER: u8 = 0x91;
const TO_GATEWAY: u8 = 0x92;
const ROUTER: u8 = 0x93;
const SNAPSHOT: u8 = 0x94;

/// One frame between processes of a cluster.
#[derive(Clone, Debug, PartialEq)]
pub enum PeerFrame {
    /// First frame of whoever connected.
    Hello(PeerHello),
    /// First frame of whoever accepted: the hello fits.
    HelloAck(PeerHello),
    /// The hello does not fit; the link is closed behind it.
    Refused(PeerRefused),
    /// Sign of life; answered by [`PeerFrame::Pong`] with the same number.
    Ping(u64),
    /// Answer to [`PeerFrame::Ping`].
    Pong(u64),
    /// Raft messages of all groups to one node.
    Raft(RaftBatch),
    /// Gateway to router, in order.
    ToRouter(Vec<ToRouter>),
    /// Router to gateway, in order.
    ToGateway(Vec<ToGateway>),
    /// Router to router.
    Router(RouterMessage),
    /// A step of carrying a snapshot of a shard.
    Snapshot(SnapshotMessage),
}

impl PeerFrame {
    /// Appends the frame, length first.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Hello(hello) => one(HELLO, &proto::Hello::from(hello), out),
            Self::HelloAck(hello) => one(HELLO_ACK, &proto::Hello::from(hello), out),
            Self::Refused(refused) => one(REFUSED, &proto::Refused::from(refused), out),
            Self::Ping(nonce) => one(PING, &proto::Nonce { nonce: *nonce }, out),
            Self::Pong(nonce) => one(PONG, &proto::Nonce { nonce: *nonce }, out),
            Self::Raft(batch) => many::<proto::Raft, _>(RAFT, &batch.messages, out),
            Self::ToRouter(batch) => many::<proto::ToRouter, _>(TO_ROUTER, batch, out),
            Self::ToGateway(batch) => many::<proto::ToGateway, _>(TO_GATEWAY, batch, out),
            Self::Router(message) => one(ROUTER, &proto::Router::from(message), out),
            Self::Snapshot(message) => one(SNAPSHOT, &proto::Snapshot::from(message), out),
        }
    }

    /// Decodes a payload (the bytes after the length field); `None` if the type is unknown: it is skipped. Bodies of a
    /// [`bytes::Bytes`] payload share its memory; of a `&[u8]` they are copied, each into memory of its own (better
    /// for what is kept: a shared body keeps its whole batch alive).
    ///
    /// # Errors
    /// [`DecodeError`]; the link is closed.
    pub fn decode(mut payload: impl Buf) -> Result<Option<Self>, DecodeError> {
        if payload.remaining() < 2 {
            return Err(DecodeError::ShortFrame);
        }
        let (type_, flags) = (payload.get_u8(), payload.get_u8());
        if flags != 0 {
            return Err(DecodeError::BadFlags(flags));
        }
        Ok(Some(match type_ {
            HELLO => Self::Hello(read::<proto::Hello>(payload)?.try_into()?),
            HELLO_ACK => Self::HelloAck(read::<proto::Hello>(payload)?.try_into()?),
            REFUSED => Self::Refused(read::<proto::Refused>(payload)?.try_into()?),
            PING => Self::Ping(read::<proto::Nonce>(payload)?.nonce),
            PONG => Self::Pong(read::<proto::Nonce>(payload)?.nonce),
            RAFT => Self::Raft(RaftBatch { messages: read_many::<proto::Raft, _>(payload)? }),
            TO_ROUTER => Self::ToRouter(read_many::<proto::ToRouter, _>(payload)?),
            TO_GATEWAY => Self::ToGateway(read_many::<proto::ToGateway, _>(payload)?),
            ROUTER => Self::Router(read::<proto::Router>(payload)?.try_into()?),
            SNAPSHOT => Self::Snapshot(read::<proto::Snapshot>(payload)?.try_into()?),
            0 => return Err(DecodeError::TypeZero),
            _ => return Ok(None),
        }))
    }
}

fn head(type_: u8, fields_len: usize, out: &mut BytesMut) {
    let length = 2 + fields_len;
    out.reserve(varint::len(length as u64) + length);
    varint::encode(length as u64, out);
    out.put_u8(type_);
    out.put_u8(0);
}

/// A frame with one message.
fn one(type_: u8, message: &impl Message, out: &mut BytesMut) {
    head(type_, message.encoded_len(), out);
    message.encode_raw(out);
}

/// A frame with any number of messages, each behind its length (protobuf's usual way of streaming, so a batch is read
/// message by message instead of being collected twice).
fn many<'a, P: Message + From<&'a T>, T>(type_: u8, batch: &'a [T], out: &mut BytesMut) {
    assert!(batch.len() <= PEER_BATCH_MESSAGES_MAX, "senders cut batches");
    let messages: Vec<(usize, P)> = batch
        .iter()
        .map(|value| {
            let message = P::from(value);
            (message.encoded_len(), message)
        })
        .collect();
    let fields_len = messages.iter().map(|(len, _)| prost::length_delimiter_len(*len) + len).sum();
    head(type_, fields_len, out);
    for (len, message) in &messages {
        prost::encoding::encode_varint(*len as u64, out);
        message.encode_raw(out);
    }
}

fn read<P: Message + Default>(payload: impl Buf) -> Result<P, DecodeError> {
    P::decode(payload).map_err(|_| DecodeError::Protobuf)
}

fn read_many<P, T>(mut payload: impl Buf) -> Result<Vec<T>, DecodeError>
where
    P: Message + Default,
    T: TryFrom<P, Error = DecodeError>,
{
    let mut batch = Vec::new();
    while payload.has_remaining() {
        if batch.len() == PEER_BATCH_MESSAGES_MAX {
            return Err(DecodeError::OverLimit("batch"));
        }
        let message = P::decode_length_delimited(&mut payload).map_err(|_| DecodeError::Protobuf)?;
        batch.push(message.try_into()?);
    }
    Ok(batch)
}
