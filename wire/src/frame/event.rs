//! The event head that PUBLISH, DELIVER and PAGE share: the kind in the low half of a flags byte (SPEC W-EV-1).

use super::fields::{Reader, Writer};
use crate::error::DecodeError;
use crate::event::{EventKind, Origin};

/// The bits of a flags byte that hold the kind.
pub(super) const KIND_MASK: u8 = 0x0f;

/// In [`KIND_MASK`]: the kind is a byte of its own, the first field.
const KIND_FOLLOWS: u8 = 0x0f;

/// An origin follows.
pub(super) const FLAG_ORIGIN: u8 = 0x10;

/// Everything a DELIVER or an event in a PAGE may carry.
pub(super) const EVENT_FLAGS: u8 = KIND_MASK | FLAG_ORIGIN;

pub(super) fn kind_flags(kind: EventKind) -> u8 {
    kind.0.min(KIND_FOLLOWS)
}

pub(super) fn write_kind(kind: EventKind, out: &mut impl Writer) {
    if kind.0 >= KIND_FOLLOWS {
        out.byte(kind.0);
    }
}

pub(super) fn read_kind(flags: u8, fields: &mut Reader<'_>) -> Result<EventKind, DecodeError> {
    let kind = flags & KIND_MASK;
    if kind != KIND_FOLLOWS {
        return Ok(EventKind(kind));
    }
    // One form for each kind, so that equal frames are equal bytes.
    match fields.byte()? {
        kind if kind < KIND_FOLLOWS => Err(DecodeError::BadValue("kind")),
        kind => Ok(EventKind(kind)),
    }
}

pub(super) fn origin_flag(origin: &Option<Origin>) -> u8 {
    if origin.is_some() { FLAG_ORIGIN } else { 0 }
}

pub(super) fn write_origin(origin: &Option<Origin>, out: &mut impl Writer) {
    if let Some(origin) = origin {
        out.raw(&origin.device.0.to_be_bytes());
        out.varint(origin.client_msg_id.0);
    }
}

pub(super) fn read_origin(flags: u8, fields: &mut Reader<'_>) -> Result<Option<Origin>, DecodeError> {
    if flags & FLAG_ORIGIN == 0 {
        return Ok(None);
    }
    Ok(Some(Origin { device: fields.device()?, client_msg_id: fields.client_msg_id()? }))
}
