//! ERROR, PING, PONG, GOAWAY and CLOSE.

use super::codec::Layout;
use super::fields::{Reader, Writer};
use crate::code::Code;
use crate::error::DecodeError;
use crate::ids::{ChannelId, ClientMsgId, RequestId};
use crate::limits::{ENDPOINTS_MAX, TEXT_MAX, TICKET_MAX};

/// What an ERROR is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorScope {
    /// The session as a whole (for instance a frame type the server does not know).
    Session,
    /// A request with a number.
    Request(RequestId),
    /// A PUBLISH.
    Publish(ChannelId, ClientMsgId),
}

/// ERROR: a request or send failed; the session goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorFrame<'a> {
    /// What it is about.
    pub scope: ErrorScope,
    /// What happened.
    pub code: Code,
    /// Wait this long before a retry, milliseconds; 0 = client's own backoff.
    pub retry_after_ms: u32,
    /// For people; never needed to decide.
    pub detail: &'a str,
}

/// PING: a sign of life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ping {
    /// Whether the receiver answers with PONG.
    pub wants_answer: bool,
    /// Echoed in PONG.
    pub nonce: u64,
}

/// PONG: answer to a PING that asked for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pong {
    /// From the PING.
    pub nonce: u64,
}

/// GOAWAY: open a session elsewhere within `after_ms`, then close this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Goaway<'a> {
    /// Milliseconds until the server closes.
    pub after_ms: u32,
    /// Where to go (URLs), best first; empty = the same address again.
    pub endpoints: Vec<&'a str>,
    /// Ticket for the new session, or empty.
    pub ticket: &'a [u8],
}

/// CLOSE: the sender's last frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Close<'a> {
    /// Why.
    pub code: Code,
    /// Wait this long before connecting again, milliseconds; 0 = client's own backoff.
    pub retry_after_ms: u32,
    /// For people.
    pub reason: &'a str,
}

fn read_code(fields: &mut Reader<'_>) -> Result<Code, DecodeError> {
    fields.u16("code").map(Code)
}

/// ERROR: the scope, whose fields come first.
const SCOPE_MASK: u8 = 0x03;
const SCOPE_SESSION: u8 = 0;
const SCOPE_REQUEST: u8 = 1;
const SCOPE_PUBLISH: u8 = 2;

impl<'a> Layout<'a> for ErrorFrame<'a> {
    const FLAGS: u8 = SCOPE_MASK;

    fn flags(&self) -> u8 {
        match self.scope {
            ErrorScope::Session => SCOPE_SESSION,
            ErrorScope::Request(_) => SCOPE_REQUEST,
            ErrorScope::Publish(..) => SCOPE_PUBLISH,
        }
    }

    fn write(&self, out: &mut impl Writer) {
        match self.scope {
            ErrorScope::Session => {}
            ErrorScope::Request(request) => out.varint(request.0),
            ErrorScope::Publish(channel, client_msg_id) => {
                out.raw(&channel.0);
                out.varint(client_msg_id.0);
            }
        }
        out.varint(self.code.0.into());
        out.varint(self.retry_after_ms.into());
        out.text(self.detail);
    }

    fn read(flags: u8, fields: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let scope = match flags {
            SCOPE_SESSION => ErrorScope::Session,
            SCOPE_REQUEST => ErrorScope::Request(fields.request()?),
            SCOPE_PUBLISH => ErrorScope::Publish(fields.channel()?, fields.client_msg_id()?),
            _ => return Err(DecodeError::BadFlags(flags)),
        };
        Ok(Self {
            scope,
            code: read_code(fields)?,
            retry_after_ms: fields.u32("retry_after_ms")?,
            detail: fields.text(TEXT_MAX, "detail")?,
        })
    }
}

/// PING: answer with PONG.
const FLAG_WANTS_ANSWER: u8 = 0x01;

impl<'a> Layout<'a> for Ping {
    const FLAGS: u8 = FLAG_WANTS_ANSWER;

    fn flags(&self) -> u8 {
        if self.wants_answer { FLAG_WANTS_ANSWER } else { 0 }
    }

    fn write(&self, out: &mut impl Writer) {
        out.varint(self.nonce);
    }

    fn read(flags: u8, fields: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self { wants_answer: flags & FLAG_WANTS_ANSWER != 0, nonce: fields.varint()? })
    }
}

impl<'a> Layout<'a> for Pong {
    fn write(&self, out: &mut impl Writer) {
        out.varint(self.nonce);
    }

    fn read(_flags: u8, fields: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self { nonce: fields.varint()? })
    }
}

impl<'a> Layout<'a> for Goaway<'a> {
    fn write(&self, out: &mut impl Writer) {
        out.varint(self.after_ms.into());
        out.varint(self.endpoints.len() as u64);
        self.endpoints.iter().for_each(|endpoint| out.text(endpoint));
        out.bytes(self.ticket);
    }

    fn read(_flags: u8, fields: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            after_ms: fields.u32("after_ms")?,
            endpoints: fields
                .list(ENDPOINTS_MAX, 1, "endpoints", |fields| fields.text(TEXT_MAX, "endpoint"))?,
            ticket: fields.bytes_max(TICKET_MAX, "ticket")?,
        })
    }
}

impl<'a> Layout<'a> for Close<'a> {
    fn write(&self, out: &mut impl Writer) {
        out.varint(self.code.0.into());
        out.varint(self.retry_after_ms.into());
        out.text(self.reason);
    }

    fn read(_flags: u8, fields: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            code: read_code(fields)?,
            retry_after_ms: fields.u32("retry_after_ms")?,
            reason: fields.text(TEXT_MAX, "reason")?,
        })
    }
}
