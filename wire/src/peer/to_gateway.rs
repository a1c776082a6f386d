//! [`ToGateway`] to protobuf and back.

use core::net::SocketAddr;

use super::proto::{self, GatewayWhat};
use super::to_router::{class, epoch, kind};
use crate::error::DecodeError;
use crate::event::{Event, Origin};
use crate::frame::{Member, Role, SyncEntry};
use crate::ids::{ChannelId, ClientMsgId, DeviceId, NodeId, Seq, ServerTs, ShardId, UserId};
use crate::limits::{MEMBERS_PAGE_MAX, PAGE_EVENTS_MAX, PEER_NODES_MAX, PEER_ROWS_MAX, SYNC_ENTRIES_MAX};
use crate::link::{Answer, Refusal, Reply, SessionRef, ToGateway};

impl From<&ToGateway> for proto::ToGateway {
    fn from(message: &ToGateway) -> Self {
        let push = |what| Self { id: 0, what: Some(what) };
        match message {
            ToGateway::Reply(reply) => Self { id: reply.id, what: Some((&reply.result).into()) },
            ToGateway::Deliver { channel, event, sender } => push(GatewayWhat::Deliver(proto::Deliver {
                channel: channel.0.into(),
                sender: sender.0.into(),
                event: event.into(),
            })),
            ToGateway::Lagged { channel, head } => {
                push(GatewayWhat::Lagged(proto::Lagged { channel: channel.0.into(), head: head.0 }))
            }
            ToGateway::Hint { session, channel, head, user_seq } => push(GatewayWhat::Hint(proto::Hint {
                session: session.0,
                channel: channel.0.into(),
                head: head.0,
                user_seq: user_seq.0,
            })),
            ToGateway::Leads { shards } => {
                let lead = |(shard, leader, term): &(ShardId, Option<NodeId>, u64)| proto::Lead {
                    shard: shard.0,
                    leader: leader.map(|node| node.0),
                    term: *term,
                };
                push(GatewayWhat::Leads(proto::Leads { shards: shards.iter().map(lead).collect() }))
            }
            ToGateway::Nodes { nodes } => {
                let address = |(node, address): &(NodeId, SocketAddr)| proto::NodeAddress {
                    node: node.0,
                    address: address.to_string(),
                };
                push(GatewayWhat::Nodes(proto::Nodes { nodes: nodes.iter().map(address).collect() }))
            }
        }
    }
}

impl From<&Result<Answer, Refusal>> for GatewayWhat {
    fn from(result: &Result<Answer, Refusal>) -> Self {
        let answer = match result {
            Ok(answer) => answer,
            Err(refusal) => {
                return Self::Refusal(proto::Refusal {
                    code: refusal.code.0.into(),
                    retry_after_ms: refusal.retry_after_ms,
                    leader: refusal.leader.map(|node| node.0),
                });
            }
        };
        match answer {
            Answer::Published { seq, ts, duplicate } => {
                Self::Published(proto::Published { seq: seq.0, ts: ts.0, duplicate: *duplicate })
            }
            Answer::Channel { class, head, member } => {
                Self::Channel(proto::Channel { class: class.number().into(), head: head.0, member: member.0 })
            }
            Answer::Members { more, members } => Self::Members(proto::MembersPage {
                more: *more,
                members: members.iter().map(proto::Member::from).collect(),
            }),
            Answer::Page { head, events } => Self::Page(proto::Page {
                head: head.0,
                events: events.iter().map(proto::Event::from).collect(),
            }),
            Answer::ResetChannel { epoch, floor, head } => {
                Self::ResetChannel(proto::ResetChannel { epoch: epoch.0, floor: floor.0, head: head.0 })
            }
            Answer::Subscribed { head, member } => {
                Self::Subscribed(proto::Subscribed { head: head.0, member: member.0 })
            }
            Answer::Synced { cursor, more, entries } => Self::Synced(proto::Synced {
                cursor: cursor.0,
                more: *more,
                entries: entries.iter().map(proto::SyncEntry::from).collect(),
            }),
            Answer::ResetInbox { epoch, user_seq } => {
                Self::ResetInbox(proto::ResetInbox { epoch: epoch.0, user_seq: user_seq.0 })
            }
            Answer::Registered { user_seq } => Self::Registered(user_seq.0),
        }
    }
}

impl From<&Member> for proto::Member {
    fn from(member: &Member) -> Self {
        Self { member: member.member.0, user: member.user.0.into(), role: member.role.number().into() }
    }
}

impl From<&SyncEntry> for proto::SyncEntry {
    fn from(entry: &SyncEntry) -> Self {
        Self {
            channel: entry.channel.0.into(),
            head: entry.head.0,
            count: entry.count,
            user_seq: entry.user_seq.0,
        }
    }
}

impl From<&Event> for proto::Event {
    fn from(event: &Event) -> Self {
        Self {
            seq: event.seq.0,
            kind: event.kind.0.into(),
            sender: event.sender.0,
            ts: event.ts.0,
            origin: event.origin.map(|origin| proto::Origin {
                device: origin.device.0,
                client_msg_id: origin.client_msg_id.0,
            }),
            body: event.body.clone(),
        }
    }
}

impl TryFrom<proto::ToGateway> for ToGateway {
    type Error = DecodeError;

    fn try_from(message: proto::ToGateway) -> Result<Self, DecodeError> {
        Ok(match message.what.ok_or(DecodeError::BadValue("what"))? {
            GatewayWhat::Deliver(deliver) => Self::Deliver {
                channel: ChannelId(deliver.channel.into()),
                sender: UserId(deliver.sender.into()),
                event: deliver.event.try_into()?,
            },
            GatewayWhat::Lagged(lagged) => {
                Self::Lagged { channel: ChannelId(lagged.channel.into()), head: proto::seq(lagged.head)? }
            }
            GatewayWhat::Hint(hint) => Self::Hint {
                session: SessionRef(hint.session),
                channel: ChannelId(hint.channel.into()),
                head: proto::seq(hint.head)?,
                user_seq: proto::user_seq(hint.user_seq)?,
            },
            GatewayWhat::Leads(leads) => Self::Leads {
                shards: proto::list(leads.shards, PEER_ROWS_MAX, "shards", |lead| {
                    Ok((proto::shard(lead.shard)?, lead.leader.map(NodeId), lead.term))
                })?,
            },
            GatewayWhat::Nodes(nodes) => Self::Nodes {
                nodes: proto::list(nodes.nodes, PEER_NODES_MAX, "nodes", |node| {
                    let address = node.address.parse().map_err(|_| DecodeError::BadValue("address"))?;
                    Ok((NodeId(node.node), address))
                })?,
            },
            GatewayWhat::Refusal(refusal) => Self::Reply(Reply {
                id: message.id,
                result: Err(Refusal {
                    code: proto::code(refusal.code)?,
                    retry_after_ms: refusal.retry_after_ms,
                    leader: refusal.leader.map(NodeId),
                }),
            }),
            answer => Self::Reply(Reply { id: message.id, result: Ok(answer.try_into()?) }),
        })
    }
}

impl TryFrom<GatewayWhat> for Answer {
    type Error = DecodeError;

    fn try_from(answer: GatewayWhat) -> Result<Self, DecodeError> {
        Ok(match answer {
            GatewayWhat::Published(published) => Self::Published {
                seq: proto::seq(published.seq)?,
                ts: ts(published.ts)?,
                duplicate: published.duplicate,
            },
            GatewayWhat::Channel(channel) => Self::Channel {
                class: class(channel.class)?,
                head: proto::seq(channel.head)?,
                member: proto::member(channel.member),
            },
            GatewayWhat::Members(page) => Self::Members {
                more: page.more,
                members: proto::list(page.members, MEMBERS_PAGE_MAX, "members", Member::try_from)?,
            },
            GatewayWhat::Page(page) => page.try_into()?,
            GatewayWhat::ResetChannel(reset) => Self::ResetChannel {
                epoch: epoch(reset.epoch)?,
                floor: proto::seq(reset.floor)?,
                head: proto::seq(reset.head)?,
            },
            GatewayWhat::Subscribed(subscribed) => Self::Subscribed {
                head: proto::seq(subscribed.head)?,
                member: proto::member(subscribed.member),
            },
            GatewayWhat::Synced(synced) => Self::Synced {
                cursor: proto::user_seq(synced.cursor)?,
                more: synced.more,
                entries: proto::list(synced.entries, SYNC_ENTRIES_MAX, "entries", SyncEntry::try_from)?,
            },
            GatewayWhat::ResetInbox(reset) => {
                Self::ResetInbox { epoch: epoch(reset.epoch)?, user_seq: proto::user_seq(reset.user_seq)? }
            }
            GatewayWhat::Registered(user_seq) => Self::Registered { user_seq: proto::user_seq(user_seq)? },
            GatewayWhat::Refusal(_)
            | GatewayWhat::Deliver(_)
            | GatewayWhat::Lagged(_)
            | GatewayWhat::Hint(_)
            | GatewayWhat::Leads(_)
            | GatewayWhat::Nodes(_) => return Err(DecodeError::BadValue("what")),
        })
    }
}

impl TryFrom<proto::Page> for Answer {
    type Error = DecodeError;

    fn try_from(page: proto::Page) -> Result<Self, DecodeError> {
        let events = proto::list(page.events, PAGE_EVENTS_MAX, "events", Event::try_from)?;
        // A PAGE frame cannot express a hole, so none may reach the gateway (contract C1).
        let consecutive = events.windows(2).all(|pair| pair[0].seq.next() == pair[1].seq);
        if !consecutive || events.first().is_some_and(|event| event.seq == Seq(0)) {
            return Err(DecodeError::BadValue("events"));
        }
        Ok(Self::Page { head: proto::seq(page.head)?, events })
    }
}

impl TryFrom<proto::Member> for Member {
    type Error = DecodeError;

    fn try_from(member: proto::Member) -> Result<Self, DecodeError> {
        let role = u8::try_from(member.role).ok().and_then(Role::from_number);
        Ok(Self {
            member: proto::member(member.member),
            user: UserId(member.user.into()),
            role: role.ok_or(DecodeError::BadValue("role"))?,
        })
    }
}

impl TryFrom<proto::SyncEntry> for SyncEntry {
    type Error = DecodeError;

    fn try_from(entry: proto::SyncEntry) -> Result<Self, DecodeError> {
        Ok(Self {
            channel: ChannelId(entry.channel.into()),
            head: proto::seq(entry.head)?,
            count: proto::number(entry.count, "count")?,
            user_seq: proto::user_seq(entry.user_seq)?,
        })
    }
}

impl TryFrom<proto::Event> for Event {
    type Error = DecodeError;

    fn try_from(event: proto::Event) -> Result<Self, DecodeError> {
        let origin = event.origin.map(|origin| {
            let client_msg_id = ClientMsgId(proto::number(origin.client_msg_id, "client_msg_id")?);
            Ok::<_, DecodeError>(Origin { device: DeviceId(origin.device), client_msg_id })
        });
        Ok(Self {
            seq: proto::seq(event.seq)?,
            kind: kind(event.kind)?,
            sender: proto::member(event.sender),
            ts: ts(event.ts)?,
            origin: origin.transpose()?,
            body: event.body,
        })
    }
}

fn ts(value: u64) -> Result<ServerTs, DecodeError> {
    if value >= 1 << 48 { Err(DecodeError::BadValue("ts")) } else { Ok(ServerTs(value)) }
}
