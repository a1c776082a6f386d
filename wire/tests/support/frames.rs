//! Random frames. Texts and bodies are leaked: frames borrow, and a test run needs a few hundred of them.

use proptest::collection::vec;
use proptest::prelude::*;
use throng_wire::frame::*;
use throng_wire::limits::*;
use throng_wire::*;

/// A varint, each length as likely as the others.
pub(crate) fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0u64..64, 0u64..1 << 14, 0u64..1 << 30, 0..=varint::MAX, Just(varint::MAX)]
}

fn bytes(max: usize) -> impl Strategy<Value = &'static [u8]> {
    vec(any::<u8>(), 0..=max).prop_map(|bytes| &*bytes.leak())
}

fn text() -> impl Strategy<Value = &'static str> {
    "\\PC{0,64}".prop_map(|text| &*text.leak())
}

fn channel() -> impl Strategy<Value = ChannelId> {
    any::<[u8; 16]>().prop_map(ChannelId)
}

fn user() -> impl Strategy<Value = UserId> {
    any::<[u8; 16]>().prop_map(UserId)
}

fn request() -> impl Strategy<Value = RequestId> {
    number().prop_map(RequestId)
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

fn client_msg_id() -> impl Strategy<Value = ClientMsgId> {
    number().prop_map(ClientMsgId)
}

fn member() -> impl Strategy<Value = MemberNo> {
    prop_oneof![0u32..64, any::<u32>()].prop_map(MemberNo)
}

fn ts() -> impl Strategy<Value = ServerTs> {
    (0u64..1 << 48).prop_map(ServerTs)
}

fn kind() -> impl Strategy<Value = EventKind> {
    prop_oneof![Just(0u8), 0u8..20, any::<u8>()].prop_map(EventKind)
}

fn code() -> impl Strategy<Value = Code> {
    any::<u16>().prop_map(Code)
}

fn origin() -> impl Strategy<Value = Option<Origin>> {
    proptest::option::of((any::<u64>(), client_msg_id())).prop_map(|origin| {
        origin.map(|(device, client_msg_id)| Origin { device: DeviceId(device), client_msg_id })
    })
}

fn class() -> impl Strategy<Value = ChannelClass> {
    prop_oneof![Just(ChannelClass::Direct), Just(ChannelClass::Group), Just(ChannelClass::Open)]
}

fn freshness() -> impl Strategy<Value = Freshness> {
    prop_oneof![Just(Freshness::Stale), seq().prop_map(Freshness::AtLeast), Just(Freshness::Linearizable)]
}

fn limit() -> impl Strategy<Value = u16> {
    1u16..=200
}

/// Any frame of any type.
pub(crate) fn any_frame() -> impl Strategy<Value = Frame<'static>> {
    prop_oneof![session_frame(), publish_frame(), read_frame(), channel_frame(), control_frame()]
}

fn session_frame() -> impl Strategy<Value = Frame<'static>> {
    let hello = (any::<u16>(), any::<u16>(), text()).prop_map(|(a, b, client)| {
        Frame::Hello(Hello { version_min: a.min(b), version_max: a.max(b), client })
    });
    let auth =
        (bytes(TOKEN_MAX), bytes(TICKET_MAX)).prop_map(|(token, ticket)| Frame::Auth(Auth { token, ticket }));
    let facts = (any::<[u16; 3]>(), any::<[u32; 3]>(), any::<u64>(), 0u64..1 << 48);
    let welcome = (facts, user(), epoch(), text(), bytes(TICKET_MAX)).prop_map(
        |((small, large, device, time_ms), user, epoch, server, ticket)| {
            Frame::Welcome(Welcome {
                version: small[0],
                version_max: small[1],
                server,
                user,
                device: DeviceId(device),
                heartbeat_ms: large[0],
                body_max: large[1],
                frame_max: large[2],
                inflight_max: small[2],
                epoch,
                time_ms,
                ticket,
            })
        },
    );
    prop_oneof![hello, auth, welcome]
}

fn publish_frame() -> impl Strategy<Value = Frame<'static>> {
    let publish =
        (channel(), client_msg_id(), kind(), bytes(300)).prop_map(|(channel, client_msg_id, kind, body)| {
            Frame::Publish(Publish { channel, client_msg_id, kind, body })
        });
    let ack = (channel(), client_msg_id(), seq(), ts(), any::<bool>()).prop_map(
        |(channel, client_msg_id, seq, ts, duplicate)| {
            Frame::Ack(Ack { channel, client_msg_id, seq, ts, duplicate })
        },
    );
    let deliver = (channel(), seq(), kind(), member(), ts(), origin(), bytes(300)).prop_map(
        |(channel, seq, kind, sender, ts, origin, body)| {
            Frame::Deliver(Deliver { channel, seq, kind, sender, ts, origin, body })
        },
    );
    let lagged = prop_oneof![
        (channel(), seq()).prop_map(|(channel, head)| Frame::Lagged(Lagged::Channel { channel, head })),
        user_seq().prop_map(|user_seq| Frame::Lagged(Lagged::All { user_seq })),
    ];
    let reset = prop_oneof![
        (channel(), epoch(), seq(), seq()).prop_map(|(channel, epoch, floor, head)| {
            Frame::Reset(Reset::Channel { channel, epoch, floor, head })
        }),
        (epoch(), user_seq()).prop_map(|(epoch, user_seq)| Frame::Reset(Reset::Inbox { epoch, user_seq })),
    ];
    prop_oneof![publish, ack, deliver, lagged, reset]
}

fn page_events() -> impl Strategy<Value = Vec<PageEvent<'static>>> {
    let event = (kind(), member(), ts(), origin(), bytes(40));
    (1u64..1 << 40, vec(event, 0..12)).prop_map(|(first, events)| {
        let event = |(at, (kind, sender, ts, origin, body))| PageEvent {
            seq: Seq(first + at as u64),
            kind,
            sender,
            ts,
            origin,
            body,
        };
        events.into_iter().enumerate().map(event).collect()
    })
}

fn read_frame() -> impl Strategy<Value = Frame<'static>> {
    let fetch = (request(), channel(), seq(), epoch(), limit(), freshness()).prop_map(
        |(request, channel, after, epoch, limit, freshness)| {
            Frame::Fetch(Fetch { request, channel, after, epoch, limit, freshness })
        },
    );
    let page = (request(), channel(), seq(), page_events())
        .prop_map(|(request, channel, head, events)| Frame::Page(Page { request, channel, head, events }));
    let sync = (request(), user_seq(), epoch(), limit())
        .prop_map(|(request, after, epoch, limit)| Frame::Sync(Sync { request, after, epoch, limit }));
    let entry = (channel(), seq(), number(), user_seq())
        .prop_map(|(channel, head, count, user_seq)| SyncEntry { channel, head, count, user_seq });
    let synced = (request(), user_seq(), any::<bool>(), vec(entry, 0..8)).prop_map(
        |(request, cursor, more, entries)| Frame::Synced(Synced { request, cursor, more, entries }),
    );
    let subscribe = (request(), channel(), seq(), epoch()).prop_map(|(request, channel, after, epoch)| {
        Frame::Subscribe(Subscribe { request, channel, after, epoch })
    });
    let subscribed = (request(), channel(), seq(), member()).prop_map(|(request, channel, head, member)| {
        Frame::Subscribed(Subscribed { request, channel, head, member })
    });
    let unsubscribe = channel().prop_map(|channel| Frame::Unsubscribe(Unsubscribe { channel }));
    prop_oneof![fetch, page, sync, synced, subscribe, subscribed, unsubscribe]
}

fn channel_frame() -> impl Strategy<Value = Frame<'static>> {
    let create =
        (request(), channel(), class(), vec(user(), 0..6)).prop_map(|(request, channel, class, members)| {
            Frame::Create(Create { request, channel, class, members })
        });
    let open = (request(), user()).prop_map(|(request, peer)| Frame::Open(Open { request, peer }));
    let join = (request(), channel(), user())
        .prop_map(|(request, channel, user)| Frame::Join(Join { request, channel, user }));
    let leave = (request(), channel(), user())
        .prop_map(|(request, channel, user)| Frame::Leave(Leave { request, channel, user }));
    let state = (request(), channel(), class(), seq(), member()).prop_map(
        |(request, channel, class, head, member)| {
            Frame::Channel(Channel { request, channel, class, head, member })
        },
    );
    let members = (request(), channel(), member(), limit()).prop_map(|(request, channel, after, limit)| {
        Frame::Members(Members { request, channel, after, limit })
    });
    let role = prop_oneof![Just(Role::Member), Just(Role::Owner)];
    let listed = (member(), user(), role).prop_map(|(member, user, role)| Member { member, user, role });
    let page = (request(), channel(), any::<bool>(), vec(listed, 0..8)).prop_map(
        |(request, channel, more, members)| {
            Frame::MembersPage(MembersPage { request, channel, more, members })
        },
    );
    prop_oneof![create, open, join, leave, state, members, page]
}

fn control_frame() -> impl Strategy<Value = Frame<'static>> {
    let scope = prop_oneof![
        Just(ErrorScope::Session),
        request().prop_map(ErrorScope::Request),
        (channel(), client_msg_id()).prop_map(|(channel, id)| ErrorScope::Publish(channel, id)),
    ];
    let error = (scope, code(), any::<u32>(), text()).prop_map(|(scope, code, retry_after_ms, detail)| {
        Frame::Error(ErrorFrame { scope, code, retry_after_ms, detail })
    });
    let ping =
        (any::<bool>(), number()).prop_map(|(wants_answer, nonce)| Frame::Ping(Ping { wants_answer, nonce }));
    let pong = number().prop_map(|nonce| Frame::Pong(Pong { nonce }));
    let goaway = (any::<u32>(), vec(text(), 0..=ENDPOINTS_MAX), bytes(TICKET_MAX))
        .prop_map(|(after_ms, endpoints, ticket)| Frame::Goaway(Goaway { after_ms, endpoints, ticket }));
    let close = (code(), any::<u32>(), text())
        .prop_map(|(code, retry_after_ms, reason)| Frame::Close(Close { code, retry_after_ms, reason }));
    prop_oneof![error, ping, pong, goaway, close]
}

/// What happens to bytes on a bad day.
#[derive(Clone, Debug)]
pub(crate) struct Damage {
    flips: Vec<(prop::sample::Index, u8)>,
    keep: Option<prop::sample::Index>,
    append: Vec<u8>,
}

impl Damage {
    /// The damaged bytes.
    pub(crate) fn apply(&self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        for (at, flip) in &self.flips {
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
        }
        if let Some(keep) = &self.keep {
            bytes.truncate(keep.index(bytes.len() + 1));
        }
        bytes.extend(&self.append);
        bytes
    }
}

/// Flipped, cut and appended bytes.
pub(crate) fn damage() -> impl Strategy<Value = Damage> {
    let flips = vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    (flips, proptest::option::of(any::<prop::sample::Index>()), vec(any::<u8>(), 0..4))
        .prop_map(|(flips, keep, append)| Damage { flips, keep, append })
}

const CHANNEL: ChannelId = ChannelId([0xcc; 16]);
const USER: UserId = UserId([0xaa; 16]);
const REQUEST: RequestId = RequestId(varint::MAX);

/// The lists without bodies, each at its limit and with its longest fields.
pub(crate) fn largest_lists() -> Vec<Frame<'static>> {
    let (channel, request) = (CHANNEL, REQUEST);
    let (seq, number) = (Seq(varint::MAX), varint::MAX);
    let entry = SyncEntry { channel, head: seq, count: number, user_seq: UserSeq(number) };
    let member = Member { member: MemberNo((1 << 30) - 1), user: USER, role: Role::Owner };
    let text: &str = "x".repeat(TEXT_MAX).leak();
    vec![
        Frame::Synced(Synced {
            request,
            cursor: UserSeq(number),
            more: true,
            entries: vec![entry; SYNC_ENTRIES_MAX],
        }),
        Frame::MembersPage(MembersPage {
            request,
            channel,
            more: true,
            members: vec![member; MEMBERS_PAGE_MAX],
        }),
        Frame::Create(Create {
            request,
            channel,
            class: ChannelClass::Group,
            members: vec![USER; CREATE_MEMBERS_MAX],
        }),
        Frame::Goaway(Goaway {
            after_ms: u32::MAX,
            endpoints: vec![text; ENDPOINTS_MAX],
            ticket: &[0; TICKET_MAX],
        }),
    ]
}

/// One frame of every type.
pub(crate) fn one_of_each() -> Vec<Frame<'static>> {
    let (channel, request, epoch, seq) = (CHANNEL, REQUEST, Epoch(1), Seq(7));
    let (user, member, ts) = (USER, MemberNo(3), ServerTs(1_700_000_000_000));
    let (client_msg_id, kind, body) = (ClientMsgId(9), EventKind::MESSAGE, b"hello".as_slice());
    vec![
        Frame::Hello(Hello { version_min: 1, version_max: 1, client: "test" }),
        Frame::Auth(Auth { token: b"token", ticket: b"" }),
        Frame::Publish(Publish { channel, client_msg_id, kind, body }),
        Frame::Unsubscribe(Unsubscribe { channel }),
        Frame::Ping(Ping { wants_answer: true, nonce: 5 }),
        Frame::Pong(Pong { nonce: 5 }),
        Frame::Close(Close { code: Code::NORMAL, retry_after_ms: 0, reason: "" }),
        Frame::Fetch(Fetch { request, channel, after: seq, epoch, limit: 200, freshness: Freshness::Stale }),
        Frame::Sync(Sync { request, after: UserSeq(1), epoch, limit: 200 }),
        Frame::Subscribe(Subscribe { request, channel, after: seq, epoch }),
        Frame::Create(Create { request, channel, class: ChannelClass::Group, members: vec![user] }),
        Frame::Open(Open { request, peer: user }),
        Frame::Join(Join { request, channel, user }),
        Frame::Leave(Leave { request, channel, user }),
        Frame::Members(Members { request, channel, after: member, limit: 1 }),
        Frame::Welcome(Welcome {
            version: 1,
            version_max: 1,
            server: "test",
            user,
            device: DeviceId(1),
            heartbeat_ms: 5000,
            body_max: 65536,
            frame_max: 69632,
            inflight_max: 16,
            epoch,
            time_ms: ts.0,
            ticket: b"",
        }),
        Frame::Ack(Ack { channel, client_msg_id, seq, ts, duplicate: false }),
        Frame::Error(ErrorFrame {
            scope: ErrorScope::Request(request),
            code: Code::BUSY,
            retry_after_ms: 100,
            detail: "",
        }),
        Frame::Deliver(Deliver { channel, seq, kind, sender: member, ts, origin: None, body }),
        Frame::Lagged(Lagged::Channel { channel, head: seq }),
        Frame::Reset(Reset::Channel { channel, epoch, floor: Seq(1), head: seq }),
        Frame::Goaway(Goaway { after_ms: 1000, endpoints: vec!["wss://b.example/v1/ws"], ticket: b"" }),
        Frame::Page(Page { request, channel, head: seq, events: Vec::new() }),
        Frame::Synced(Synced { request, cursor: UserSeq(1), more: false, entries: Vec::new() }),
        Frame::Subscribed(Subscribed { request, channel, head: seq, member }),
        Frame::Channel(Channel { request, channel, class: ChannelClass::Open, head: seq, member }),
        Frame::MembersPage(MembersPage { request, channel, more: false, members: Vec::new() }),
    ]
}
