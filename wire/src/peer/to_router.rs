//! [`ToRouter`] to protobuf and back.

use super::proto::{self, RouterOp};
use crate::error::DecodeError;
use crate::event::EventKind;
use crate::frame::{ChannelClass, Freshness};
use crate::ids::{ChannelId, ClientMsgId, DeviceId, Epoch, UserId};
use crate::limits::{CREATE_MEMBERS_MAX, MEMBERS_PAGE_MAX, PAGE_EVENTS_MAX, SYNC_ENTRIES_MAX};
use crate::link::{Op, Request, SessionRef, ToRouter};

impl From<&ToRouter> for proto::ToRouter {
    fn from(message: &ToRouter) -> Self {
        match message {
            ToRouter::Request(request) => Self {
                id: request.id,
                user: request.user.0.into(),
                device: request.device.0,
                op: Some((&request.op).into()),
            },
            ToRouter::Unsubscribe { channel } => {
                Self { op: Some(RouterOp::Unsubscribe(channel.0.into())), ..Self::default() }
            }
            ToRouter::Unregister { user, session } => {
                Self { user: user.0.into(), op: Some(RouterOp::Unregister(session.0)), ..Self::default() }
            }
        }
    }
}

impl From<&Op> for RouterOp {
    fn from(op: &Op) -> Self {
        match op {
            Op::Publish { channel, client_msg_id, kind, body } => Self::Publish(proto::Publish {
                channel: channel.0.into(),
                client_msg_id: client_msg_id.0,
                kind: kind.0.into(),
                body: body.clone(),
            }),
            Op::Create { channel, class, members } => Self::Create(proto::Create {
                channel: channel.0.into(),
                class: class.number().into(),
                members: members.iter().map(|user| user.0.into()).collect(),
            }),
            Op::Join { channel, user } => {
                Self::Join(proto::ChannelUser { channel: channel.0.into(), user: user.0.into() })
            }
            Op::Leave { channel, user } => {
                Self::Leave(proto::ChannelUser { channel: channel.0.into(), user: user.0.into() })
            }
            Op::Members { channel, after, limit } => Self::Members(proto::Members {
                channel: channel.0.into(),
                after: after.0,
                limit: (*limit).into(),
            }),
            Op::Fetch { channel, after, epoch, limit, freshness } => Self::Fetch(proto::Fetch {
                channel: channel.0.into(),
                after: after.0,
                epoch: epoch.0,
                limit: (*limit).into(),
                freshness: Some((*freshness).into()),
            }),
            Op::Subscribe { channel, after, epoch } => Self::Subscribe(proto::Subscribe {
                channel: channel.0.into(),
                after: after.0,
                epoch: epoch.0,
            }),
            Op::Sync { after, epoch, limit } => {
                Self::Sync(proto::Sync { after: after.0, epoch: epoch.0, limit: (*limit).into() })
            }
            Op::Register { session } => Self::Register(session.0),
        }
    }
}

impl From<Freshness> for proto::Freshness {
    fn from(freshness: Freshness) -> Self {
        match freshness {
            Freshness::Stale => Self::Stale(proto::Empty {}),
            Freshness::AtLeast(seq) => Self::AtLeast(seq.0),
            Freshness::Linearizable => Self::Linearizable(proto::Empty {}),
        }
    }
}

impl TryFrom<proto::ToRouter> for ToRouter {
    type Error = DecodeError;

    fn try_from(message: proto::ToRouter) -> Result<Self, DecodeError> {
        let user = UserId(message.user.into());
        Ok(match message.op.ok_or(DecodeError::BadValue("op"))? {
            RouterOp::Unsubscribe(channel) => Self::Unsubscribe { channel: ChannelId(channel.into()) },
            RouterOp::Unregister(session) => Self::Unregister { user, session: SessionRef(session) },
            op => Self::Request(Request {
                id: message.id,
                user,
                device: DeviceId(message.device),
                op: op.try_into()?,
            }),
        })
    }
}

impl TryFrom<RouterOp> for Op {
    type Error = DecodeError;

    fn try_from(op: RouterOp) -> Result<Self, DecodeError> {
        Ok(match op {
            RouterOp::Publish(publish) => Self::Publish {
                channel: ChannelId(publish.channel.into()),
                client_msg_id: ClientMsgId(proto::number(publish.client_msg_id, "client_msg_id")?),
                kind: kind(publish.kind)?,
                body: publish.body,
            },
            RouterOp::Create(create) => Self::Create {
                channel: ChannelId(create.channel.into()),
                class: class(create.class)?,
                members: proto::list(create.members, CREATE_MEMBERS_MAX, "members", |id| {
                    Ok(UserId(id.into()))
                })?,
            },
            RouterOp::Join(join) => {
                Self::Join { channel: ChannelId(join.channel.into()), user: UserId(join.user.into()) }
            }
            RouterOp::Leave(leave) => {
                Self::Leave { channel: ChannelId(leave.channel.into()), user: UserId(leave.user.into()) }
            }
            RouterOp::Members(members) => Self::Members {
                channel: ChannelId(members.channel.into()),
                after: proto::member(members.after),
                limit: limit(members.limit, MEMBERS_PAGE_MAX)?,
            },
            RouterOp::Fetch(fetch) => Self::Fetch {
                channel: ChannelId(fetch.channel.into()),
                after: proto::seq(fetch.after)?,
                epoch: epoch(fetch.epoch)?,
                limit: limit(fetch.limit, PAGE_EVENTS_MAX)?,
                freshness: match fetch.freshness.ok_or(DecodeError::BadValue("freshness"))? {
                    proto::Freshness::Stale(_) => Freshness::Stale,
                    proto::Freshness::AtLeast(seq) => Freshness::AtLeast(proto::seq(seq)?),
                    proto::Freshness::Linearizable(_) => Freshness::Linearizable,
                },
            },
            RouterOp::Subscribe(subscribe) => Self::Subscribe {
                channel: ChannelId(subscribe.channel.into()),
                after: proto::seq(subscribe.after)?,
                epoch: epoch(subscribe.epoch)?,
            },
            RouterOp::Sync(sync) => Self::Sync {
                after: proto::user_seq(sync.after)?,
                epoch: epoch(sync.epoch)?,
                limit: limit(sync.limit, SYNC_ENTRIES_MAX)?,
            },
            RouterOp::Register(session) => Self::Register { session: SessionRef(session) },
            RouterOp::Unsubscribe(_) | RouterOp::Unregister(_) => return Err(DecodeError::BadValue("op")),
        })
    }
}

pub(super) fn kind(value: u32) -> Result<EventKind, DecodeError> {
    u8::try_from(value).map(EventKind).map_err(|_| DecodeError::BadValue("kind"))
}

pub(super) fn class(value: u32) -> Result<ChannelClass, DecodeError> {
    u8::try_from(value).ok().and_then(ChannelClass::from_number).ok_or(DecodeError::BadValue("class"))
}

pub(super) fn epoch(value: u64) -> Result<Epoch, DecodeError> {
    proto::number(value, "epoch").map(Epoch)
}

fn limit(value: u32, max: usize) -> Result<u16, DecodeError> {
    match u16::try_from(value) {
        Ok(limit) if limit > 0 && usize::from(limit) <= max => Ok(limit),
        _ => Err(DecodeError::OverLimit("limit")),
    }
}
