//! HELLO, AUTH and WELCOME.

use super::codec::Layout;
use super::fields::{Reader, Writer};
use crate::error::DecodeError;
use crate::ids::{DeviceId, Epoch, UserId};
use crate::limits::{TEXT_MAX, TICKET_MAX, TOKEN_MAX};

/// HELLO: the client's first frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello<'a> {
    /// Lowest protocol version the client speaks.
    pub version_min: u16,
    /// Highest protocol version the client speaks.
    pub version_max: u16,
    /// Client name and version, for logs.
    pub client: &'a str,
}

/// AUTH: follows HELLO in the same flight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auth<'a> {
    /// The token (a JWT), at most 2 KiB.
    pub token: &'a [u8],
    /// A ticket from WELCOME or GOAWAY, or empty.
    pub ticket: &'a [u8],
}

/// WELCOME: the server's first frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome<'a> {
    /// The version both will speak.
    pub version: u16,
    /// Highest version the server speaks.
    pub version_max: u16,
    /// Name of the server, for logs and support.
    pub server: &'a str,
    /// The authenticated user.
    pub user: UserId,
    /// The authenticated device.
    pub device: DeviceId,
    /// The client says something at least this often, milliseconds.
    pub heartbeat_ms: u32,
    /// Body limit, bytes.
    pub body_max: u32,
    /// Frame limit, bytes after the length field.
    pub frame_max: u32,
    /// Unacknowledged sends allowed per channel.
    pub inflight_max: u16,
    /// History epoch.
    pub epoch: Epoch,
    /// Server time, Unix milliseconds.
    pub time_ms: u64,
    /// Resume ticket, or empty.
    pub ticket: &'a [u8],
}

impl<'a> Layout<'a> for Hello<'a> {
    fn write(&self, out: &mut impl Writer) {
        out.varint(self.version_min.into());
        out.varint(self.version_max.into());
        out.text(self.client);
    }

    fn read(_flags: u8, fields: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let hello = Self {
            version_min: fields.u16("version_min")?,
            version_max: fields.u16("version_max")?,
            client: fields.text(TEXT_MAX, "client")?,
        };
        if hello.version_min > hello.version_max {
            return Err(DecodeError::BadValue("version_min"));
        }
        Ok(hello)
    }
}

impl<'a> Layout<'a> for Auth<'a> {
    fn write(&self, out: &mut impl Writer) {
        out.bytes(self.token);
        out.bytes(self.ticket);
    }

    fn read(_flags: u8, fields: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            token: fields.bytes_max(TOKEN_MAX, "token")?,
            ticket: fields.bytes_max(TICKET_MAX, "ticket")?,
        })
    }
}

impl<'a> Layout<'a> for Welcome<'a> {
    fn write(&self, out: &mut impl Writer) {
        out.varint(self.version.into());
        out.varint(self.version_max.into());
        out.text(self.server);
        out.raw(&self.user.0);
        out.raw(&self.device.0.to_be_bytes());
        out.varint(self.heartbeat_ms.into());
        out.varint(self.body_max.into());
        out.varint(self.frame_max.into());
        out.varint(self.inflight_max.into());
        out.varint(self.epoch.0);
        out.u48(self.time_ms);
        out.bytes(self.ticket);
    }

    fn read(_flags: u8, fields: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Ok(Self {
            version: fields.u16("version")?,
            version_max: fields.u16("version_max")?,
            server: fields.text(TEXT_MAX, "server")?,
            user: fields.user()?,
            device: fields.device()?,
            heartbeat_ms: fields.u32("heartbeat_ms")?,
            body_max: fields.u32("body_max")?,
            frame_max: fields.u32("frame_max")?,
            inflight_max: fields.u16("inflight_max")?,
            epoch: fields.epoch()?,
            time_ms: fields.u48()?,
            ticket: fields.bytes_max(TICKET_MAX, "ticket")?,
        })
    }
}
