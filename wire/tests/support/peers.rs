//! Random peer frames.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use throng_wire::frame::{ChannelClass, Freshness, Member, Role, SyncEntry};
use throng_wire::link::*;
use throng_wire::peer::*;
use throng_wire::*;

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0u64..64, 0u64..1 << 30, 0..=varint::MAX]
}

fn bytes() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..100).prop_map(Bytes::from)
}

fn channel() -> impl Strategy<Value = ChannelId> {
    any::<[u8; 16]>().prop_map(ChannelId)
}

fn user() -> impl Strategy<Value = UserId> {
    any::<[u8; 16]>().prop_map(UserId)
}

fn seq() -> impl Strategy<Value = Seq> {
    number().prop_map(Seq)
}

fn user_seq() -> impl Strategy<Value = UserSeq> {
    number().prop_map(UserSeq)
}

fn epoch() -> impl Strategy<Value = Epoch> {
    number().prop_map(Epoch)
}

fn member() -> impl Strategy<Value = MemberNo> {
    any::<u32>().prop_map(MemberNo)
}

fn shard() -> impl Strategy<Value = ShardId> {
    (0..SLOTS).prop_map(ShardId)
}

fn class() -> impl Strategy<Value = ChannelClass> {
    prop_oneof![Just(ChannelClass::Direct), Just(ChannelClass::Group), Just(ChannelClass::Open)]
}

fn event() -> impl Strategy<Value = Event> {
    let origin = proptest::option::of((any::<u64>(), number())).prop_map(|origin| {
        let (device, id) = origin?;
        Some(Origin { device: DeviceId(device), client_msg_id: ClientMsgId(id) })
    });
    (seq(), any::<u8>(), member(), 0u64..1 << 48, origin, bytes()).prop_map(
        |(seq, kind, sender, ts, origin, body)| Event {
            seq,
            kind: EventKind(kind),
            sender,
            ts: ServerTs(ts),
            origin,
            body,
        },
    )
}

fn op() -> impl Strategy<Value = Op> {
    let freshness = prop_oneof![
        Just(Freshness::Stale),
        seq().prop_map(Freshness::AtLeast),
        Just(Freshness::Linearizable)
    ];
    prop_oneof![
        (channel(), number(), any::<u8>(), bytes()).prop_map(|(channel, id, kind, body)| Op::Publish {
            channel,
            client_msg_id: ClientMsgId(id),
            kind: EventKind(kind),
            body
        }),
        (channel(), class(), vec(user(), 0..5)).prop_map(|(channel, class, members)| Op::Create {
            channel,
            class,
            members
        }),
        (channel(), user()).prop_map(|(channel, user)| Op::Join { channel, user }),
        (channel(), user()).prop_map(|(channel, user)| Op::Leave { channel, user }),
        (channel(), member(), 1u16..=200).prop_map(|(channel, after, limit)| Op::Members {
            channel,
            after,
            limit
        }),
        (channel(), seq(), epoch(), 1u16..=200, freshness).prop_map(
            |(channel, after, epoch, limit, freshness)| {
                Op::Fetch { channel, after, epoch, limit, freshness }
            }
        ),
        (channel(), seq(), epoch()).prop_map(|(channel, after, epoch)| Op::Subscribe {
            channel,
            after,
            epoch
        }),
        (user_seq(), epoch(), 1u16..=200).prop_map(|(after, epoch, limit)| Op::Sync { after, epoch, limit }),
        any::<u64>().prop_map(|session| Op::Register { session: SessionRef(session) }),
    ]
}

fn to_router() -> impl Strategy<Value = ToRouter> {
    prop_oneof![
        4 => (any::<u64>(), user(), any::<u64>(), op())
            .prop_map(|(id, user, device, op)| ToRouter::Request(Request { id, user, device: DeviceId(device), op })),
        1 => channel().prop_map(|channel| ToRouter::Unsubscribe { channel }),
        1 => (user(), any::<u64>())
            .prop_map(|(user, session)| ToRouter::Unregister { user, session: SessionRef(session) }),
    ]
}

fn answer() -> impl Strategy<Value = Answer> {
    let role = prop_oneof![Just(Role::Member), Just(Role::Owner)];
    let listed = (member(), user(), role).prop_map(|(member, user, role)| Member { member, user, role });
    let entry = (channel(), seq(), number(), user_seq())
        .prop_map(|(channel, head, count, user_seq)| SyncEntry { channel, head, count, user_seq });
    let events = (1u64..1 << 40, vec(event(), 0..5)).prop_map(|(first, mut events)| {
        events.iter_mut().zip(first..).for_each(|(event, seq)| event.seq = Seq(seq));
        events
    });
    prop_oneof![
        (seq(), 0u64..1 << 48, any::<bool>()).prop_map(|(seq, ts, duplicate)| Answer::Published {
            seq,
            ts: ServerTs(ts),
            duplicate
        }),
        (class(), seq(), member()).prop_map(|(class, head, member)| Answer::Channel { class, head, member }),
        (any::<bool>(), vec(listed, 0..5)).prop_map(|(more, members)| Answer::Members { more, members }),
        (seq(), events).prop_map(|(head, events)| Answer::Page { head, events }),
        (epoch(), seq(), seq()).prop_map(|(epoch, floor, head)| Answer::ResetChannel { epoch, floor, head }),
        (seq(), member()).prop_map(|(head, member)| Answer::Subscribed { head, member }),
        (user_seq(), any::<bool>(), vec(entry, 0..5)).prop_map(|(cursor, more, entries)| Answer::Synced {
            cursor,
            more,
            entries
        }),
        (epoch(), user_seq()).prop_map(|(epoch, user_seq)| Answer::ResetInbox { epoch, user_seq }),
        user_seq().prop_map(|user_seq| Answer::Registered { user_seq }),
    ]
}

fn node() -> impl Strategy<Value = Option<NodeId>> {
    proptest::option::of(any::<u64>().prop_map(NodeId))
}

fn address() -> impl Strategy<Value = SocketAddr> {
    (any::<IpAddr>(), any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip, port))
}

fn to_gateway() -> impl Strategy<Value = ToGateway> {
    let refusal = (any::<u16>(), any::<u32>(), node()).prop_map(|(code, retry_after_ms, leader)| Refusal {
        code: Code(code),
        retry_after_ms,
        leader,
    });
    let result = prop_oneof![4 => answer().prop_map(Ok), 1 => refusal.prop_map(Err)];
    prop_oneof![
        4 => (any::<u64>(), result).prop_map(|(id, result)| ToGateway::Reply(Reply { id, result })),
        2 => (channel(), event(), user())
            .prop_map(|(channel, event, sender)| ToGateway::Deliver { channel, event, sender }),
        1 => (channel(), seq()).prop_map(|(channel, head)| ToGateway::Lagged { channel, head }),
        1 => (any::<u64>(), channel(), seq(), user_seq()).prop_map(|(session, channel, head, user_seq)| {
            ToGateway::Hint { session: SessionRef(session), channel, head, user_seq }
        }),
        1 => vec((shard(), node(), any::<u64>()), 0..5).prop_map(|shards| ToGateway::Leads { shards }),
        1 => vec((any::<u64>().prop_map(NodeId), address()), 0..5).prop_map(|nodes| ToGateway::Nodes { nodes }),
    ]
}

fn raft() -> impl Strategy<Value = RaftMessage> {
    let entry = (any::<u32>(), any::<u64>(), any::<u64>(), bytes(), bytes())
        .prop_map(|(kind, term, index, data, context)| RaftEntry { kind, term, index, data, context });
    let numbers = (shard(), any::<u32>(), any::<[u64; 10]>(), any::<bool>(), any::<i64>());
    (numbers, vec(entry, 0..4), bytes()).prop_map(|((shard, kind, n, reject, priority), entries, context)| {
        RaftMessage {
            shard,
            kind,
            to: n[0],
            from: n[1],
            term: n[2],
            log_term: n[3],
            index: n[4],
            entries,
            commit: n[5],
            commit_term: n[6],
            request_snapshot: n[7],
            reject,
            reject_hint: n[8],
            context,
            priority,
            suspect: n[9],
        }
    })
}

fn router_message() -> impl Strategy<Value = RouterMessage> {
    let row = (user(), channel(), seq(), number()).prop_map(|(user, channel, head, count)| InboxRow {
        user,
        channel,
        head,
        count,
    });
    prop_oneof![
        (shard(), shard(), any::<u64>(), vec(row, 0..5)).prop_map(|(from_shard, to_shard, batch, rows)| {
            RouterMessage::InboxUpdate { from_shard, to_shard, batch, rows }
        }),
        (shard(), shard(), any::<u64>()).prop_map(|(from_shard, to_shard, batch)| {
            RouterMessage::InboxStored { from_shard, to_shard, batch }
        }),
        (shard(), any::<u64>())
            .prop_map(|(shard, leader)| RouterMessage::LeaderIs { shard, leader: NodeId(leader) }),
        (any::<u64>(), bytes()).prop_map(|(ticket, command)| RouterMessage::Meta { ticket, command }),
        (any::<u64>(), bytes()).prop_map(|(ticket, answer)| RouterMessage::MetaAnswer { ticket, answer }),
    ]
}

fn hello() -> impl Strategy<Value = PeerHello> {
    let role = prop_oneof![
        any::<u64>().prop_map(|node| PeerRole::Node(NodeId(node))),
        any::<u64>().prop_map(|gateway| PeerRole::Gateway(GatewayId(gateway))),
    ];
    (any::<u32>(), role, any::<[u8; 16]>(), any::<u32>(), epoch(), "\\PC{0,30}").prop_map(
        |(protocol, role, cluster, shards, epoch, node_name)| PeerHello {
            protocol,
            role,
            cluster,
            shards,
            epoch,
            node_name,
        },
    )
}

fn conf() -> impl Strategy<Value = RaftConf> {
    let ids = || vec(any::<u64>(), 0..4);
    (ids(), ids(), ids(), ids(), any::<bool>()).prop_map(
        |(voters, learners, voters_outgoing, learners_next, auto_leave)| RaftConf {
            voters,
            learners,
            voters_outgoing,
            learners_next,
            auto_leave,
        },
    )
}

fn snapshot() -> impl Strategy<Value = SnapshotMessage> {
    let row =
        (any::<u8>(), bytes(), bytes()).prop_map(|(table, key, value)| SnapshotRow { table, key, value });
    let offer = (any::<u64>(), raft(), any::<u64>(), any::<u64>(), conf());
    prop_oneof![
        offer.prop_map(|(stream, message, index, log_term, conf)| SnapshotMessage::Offer {
            stream,
            message: Box::new(message),
            index,
            log_term,
            conf: Box::new(conf)
        }),
        (any::<u64>(), any::<u64>()).prop_map(|(stream, next)| SnapshotMessage::Accept { stream, next }),
        any::<u64>().prop_map(|stream| SnapshotMessage::Refuse { stream }),
        (any::<u64>(), any::<u64>(), vec(row, 0..5), any::<Option<u64>>()).prop_map(
            |(stream, number, rows, digest)| SnapshotMessage::Chunk { stream, number, rows, digest }
        ),
        (any::<u64>(), any::<u64>()).prop_map(|(stream, next)| SnapshotMessage::Ack { stream, next }),
        (any::<u64>(), any::<bool>()).prop_map(|(stream, ok)| SnapshotMessage::Done { stream, ok }),
    ]
}

/// Any peer frame.
pub(crate) fn any_peer_frame() -> impl Strategy<Value = PeerFrame> {
    prop_oneof![
        hello().prop_map(PeerFrame::Hello),
        hello().prop_map(PeerFrame::HelloAck),
        (any::<u16>(), "\\PC{0,30}")
            .prop_map(|(code, reason)| PeerFrame::Refused(PeerRefused { code: Code(code), reason })),
        any::<u64>().prop_map(PeerFrame::Ping),
        any::<u64>().prop_map(PeerFrame::Pong),
        vec(raft(), 0..4).prop_map(|messages| PeerFrame::Raft(RaftBatch { messages })),
        vec(to_router(), 0..6).prop_map(PeerFrame::ToRouter),
        vec(to_gateway(), 0..6).prop_map(PeerFrame::ToGateway),
        router_message().prop_map(PeerFrame::Router),
        snapshot().prop_map(PeerFrame::Snapshot),
    ]
}

/// A batch with one delivery.
pub(crate) fn deliver(body: Bytes) -> PeerFrame {
    let event = Event {
        seq: Seq(1),
        kind: EventKind::MESSAGE,
        sender: MemberNo(1),
        ts: ServerTs(1),
        origin: None,
        body,
    };
    PeerFrame::ToGateway(vec![ToGateway::Deliver {
        channel: ChannelId([1; 16]),
        event,
        sender: UserId([2; 16]),
    }])
}

/// The body of [`deliver`].
pub(crate) fn body(frame: &PeerFrame) -> &Bytes {
    match frame {
        PeerFrame::ToGateway(batch) => match &batch[..] {
            [ToGateway::Deliver { event, .. }] => &event.body,
            other => panic!("one delivery expected, found {other:?}"),
        },
        other => panic!("a batch to a gateway expected, found {other:?}"),
    }
}
