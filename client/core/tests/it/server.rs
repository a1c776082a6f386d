//! A server that keeps the contract of channels (one sequence, C3's record per device) and breaks everything else on
//! demand: it refuses, drops pushes, forgets answers. It shares no code with the client but the frame codec.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Bytes, BytesMut};
use throng_base::Rng;
use throng_wire::frame::*;
use throng_wire::*;
use throng_ws::handshake;
use throng_ws::{Decoder, Header, Item, Limits, Opcode, Role, encode_header};

/// How often things go wrong, per million.
#[derive(Clone, Copy, Default)]
pub(crate) struct Mood {
    pub(crate) refuse: u32,
    pub(crate) drop_push: u32,
    pub(crate) drop_answer: u32,
    pub(crate) short_page: u32,
}

#[derive(Default)]
pub(crate) struct History {
    pub(crate) events: Vec<Event>,
    /// Everything up to here is gone.
    pub(crate) floor: u64,
    /// C3: what the channel remembers of the device.
    record: BTreeMap<u64, u64>,
    forgotten: u64,
}

pub(crate) struct Server {
    pub(crate) mood: Mood,
    pub(crate) rng: Rng,
    pub(crate) epoch: Epoch,
    pub(crate) heartbeat_ms: u32,
    pub(crate) channels: BTreeMap<ChannelId, History>,
    pub(crate) inbox: Vec<(ChannelId, u64)>,
    /// Frame names in the order they came.
    pub(crate) log: Vec<String>,
    /// What AUTH is answered with instead of WELCOME.
    pub(crate) refuse_login: Option<Code>,
    /// Answers no PING.
    pub(crate) silent: bool,
    /// Takes everything and does nothing.
    pub(crate) dead: bool,
    pub(crate) conn: Option<Conn>,
}

/// One connection.
pub(crate) struct Conn {
    websocket: Option<Decoder>,
    upgraded: bool,
    welcomed: bool,
    input: Vec<u8>,
    frames: Vec<u8>,
    subscribed: BTreeSet<ChannelId>,
    out: BytesMut,
}

impl Server {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            mood: Mood::default(),
            rng: Rng::new(seed),
            epoch: Epoch(1),
            heartbeat_ms: 5000,
            channels: BTreeMap::new(),
            inbox: Vec::new(),
            log: Vec::new(),
            refuse_login: None,
            silent: false,
            dead: false,
            conn: None,
        }
    }

    pub(crate) fn accept(&mut self, websocket: bool) {
        self.conn = Some(Conn {
            websocket: websocket.then(|| Decoder::new(Role::Server)),
            upgraded: !websocket,
            welcomed: false,
            input: Vec::new(),
            frames: Vec::new(),
            subscribed: BTreeSet::new(),
            out: BytesMut::new(),
        });
    }

    /// Appends an event of somebody else.
    pub(crate) fn append(&mut self, channel: ChannelId, body: &str) {
        let seq = self.store(channel, None, Bytes::copy_from_slice(body.as_bytes()));
        self.push(channel, seq);
    }

    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        if self.dead {
            return;
        }
        let Some(mut conn) = self.conn.take() else { return };
        conn.input.extend_from_slice(bytes);
        if !conn.upgraded {
            let answer = match handshake::parse_request(&conn.input).expect("an upgrade") {
                None => None,
                Some(parsed) => {
                    assert!(parsed.request.offers("throng.v1.bin"));
                    let mut out = BytesMut::new();
                    handshake::accept(&mut out, &parsed.request.key(), Some("throng.v1.bin"));
                    Some((parsed.consumed, out))
                }
            };
            if let Some((consumed, out)) = answer {
                conn.input.drain(..consumed);
                conn.out = out;
                conn.upgraded = true;
            }
        }
        if conn.upgraded {
            conn.unwrap_frames();
        }
        let frames = core::mem::take(&mut conn.frames);
        self.conn = Some(conn);
        let mut rest = &frames[..];
        while let Split::Frame { consumed, payload } = split(rest, 1 << 21).expect("well-formed") {
            let frame = Frame::decode(&rest[payload]).expect("well-formed").expect("known");
            self.handle(frame);
            rest = &rest[consumed..];
        }
        if let Some(conn) = &mut self.conn {
            conn.frames = rest.to_vec();
        }
    }

    pub(crate) fn take_output(&mut self) -> BytesMut {
        self.conn.as_mut().map(|conn| core::mem::take(&mut conn.out)).unwrap_or_default()
    }

    pub(crate) fn send(&mut self, frame: &Frame<'_>) {
        let Some(conn) = &mut self.conn else { return };
        let bytes = frame.encoded();
        if conn.websocket.is_some() {
            let header = Header { fin: true, opcode: Opcode::Binary, len: bytes.len(), mask: None };
            encode_header(&mut conn.out, header);
        }
        conn.out.extend_from_slice(&bytes);
    }

    fn handle(&mut self, frame: Frame<'_>) {
        self.log.push(frame.type_name().into());
        let welcomed = self.conn.as_ref().is_some_and(|conn| conn.welcomed);
        match &frame {
            Frame::Hello(_) => return assert!(!welcomed),
            Frame::Auth(auth) => return self.auth(auth),
            Frame::Close(_) => return self.conn = None,
            _ => assert!(welcomed, "{} before WELCOME", frame.type_name()),
        }
        if self.rng.chance(self.mood.drop_answer) && !matches!(frame, Frame::Publish(_)) {
            return;
        }
        match frame {
            Frame::Publish(publish) => self.publish(&publish),
            Frame::Subscribe(subscribe) => self.subscribe(subscribe),
            Frame::Fetch(fetch) => self.fetch(fetch),
            Frame::Sync(sync) => self.sync(sync),
            Frame::Unsubscribe(Unsubscribe { channel }) => {
                self.conn.as_mut().expect("open").subscribed.remove(&channel);
            }
            Frame::Open(open) if self.refuses() => self.error(ErrorScope::Request(open.request), Code::BUSY),
            Frame::Open(open) => {
                let (channel, class) = (ChannelId::direct(open.peer, UserId::NIL), ChannelClass::Direct);
                let head = self.head(channel);
                self.send(&Frame::Channel(Channel {
                    request: open.request,
                    channel,
                    class,
                    head,
                    member: MemberNo(1),
                }));
            }
            Frame::Ping(Ping { wants_answer, nonce }) if wants_answer && !self.silent => {
                self.send(&Frame::Pong(Pong { nonce }));
            }
            Frame::Ping(_) | Frame::Pong(_) => {}
            other => panic!("not scripted: {other:?}"),
        }
    }

    fn auth(&mut self, auth: &Auth<'_>) {
        assert_eq!(auth.token, b"token");
        if let Some(code) = self.refuse_login {
            return self.send(&Frame::Close(Close { code, retry_after_ms: 0, reason: "no" }));
        }
        self.conn.as_mut().expect("open").welcomed = true;
        self.send(&Frame::Welcome(Welcome {
            version: 1,
            version_max: 1,
            server: "fake",
            user: UserId::NIL,
            device: DeviceId(1),
            heartbeat_ms: self.heartbeat_ms,
            body_max: 65536,
            frame_max: 69632,
            inflight_max: 16,
            epoch: self.epoch,
            time_ms: 0,
            ticket: b"ticket",
        }));
    }

    fn publish(&mut self, publish: &Publish<'_>) {
        let (channel, id) = (publish.channel, publish.client_msg_id);
        if self.refuses() {
            return self.error(ErrorScope::Publish(channel, id), Code::UNAVAILABLE);
        }
        let history = self.channels.entry(channel).or_default();
        let known = history.record.get(&id.0).copied();
        let (seq, duplicate) = match known {
            Some(seq) => (seq, true),
            None if id.0 <= history.forgotten => {
                return self.error(ErrorScope::Publish(channel, id), Code::UNKNOWN_OUTCOME);
            }
            None => (self.store(channel, Some(id), Bytes::copy_from_slice(publish.body)), false),
        };
        if !self.rng.chance(self.mood.drop_answer) {
            let ack = Ack { channel, client_msg_id: id, seq: Seq(seq), ts: ServerTs(0), duplicate };
            self.send(&Frame::Ack(ack));
        }
        if !duplicate {
            self.push(channel, seq);
        }
    }

    fn store(&mut self, channel: ChannelId, id: Option<ClientMsgId>, body: Bytes) -> u64 {
        let history = self.channels.entry(channel).or_default();
        let seq = history.events.len() as u64 + 1;
        if let Some(id) = id {
            history.record.insert(id.0, seq);
            if history.record.len() > 16 {
                history.forgotten = history.record.pop_first().expect("17 of them").0;
            }
        }
        let origin = id.map(|client_msg_id| Origin { device: DeviceId(1), client_msg_id });
        history.events.push(Event {
            seq: Seq(seq),
            kind: EventKind::MESSAGE,
            sender: MemberNo(1),
            ts: ServerTs(0),
            origin,
            body,
        });
        self.inbox.push((channel, seq));
        seq
    }

    fn push(&mut self, channel: ChannelId, seq: u64) {
        if self.conn.as_ref().is_none_or(|conn| !conn.subscribed.contains(&channel)) {
            return;
        }
        if self.rng.chance(self.mood.drop_push) {
            return self.send(&Frame::Lagged(Lagged::Channel { channel, head: Seq(seq) }));
        }
        let event = self.channels[&channel].events[seq as usize - 1].clone();
        let Event { seq, kind, sender, ts, origin, body } = event;
        self.send(&Frame::Deliver(Deliver { channel, seq, kind, sender, ts, origin, body: &body }));
    }

    fn subscribe(&mut self, subscribe: Subscribe) {
        let Subscribe { request, channel, after, epoch } = subscribe;
        if self.refuses() {
            return self.error(ErrorScope::Request(request), Code::UNAVAILABLE);
        }
        if self.resets(channel, after, epoch) {
            return;
        }
        self.conn.as_mut().expect("open").subscribed.insert(channel);
        let head = self.head(channel);
        self.send(&Frame::Subscribed(Subscribed { request, channel, head, member: MemberNo(1) }));
    }

    fn fetch(&mut self, fetch: Fetch) {
        if self.refuses() {
            return self.error(ErrorScope::Request(fetch.request), Code::BUSY);
        }
        if self.resets(fetch.channel, fetch.after, fetch.epoch) {
            return;
        }
        let mut limit = u64::from(fetch.limit);
        assert!((1..=200).contains(&limit));
        if self.rng.chance(self.mood.short_page) {
            limit = self.rng.between(1, limit);
        }
        let head = self.head(fetch.channel);
        let history = self.channels.entry(fetch.channel).or_default();
        let events: Vec<_> =
            history.events.iter().skip(fetch.after.0 as usize).take(limit as usize).cloned().collect();
        let events = events.iter().map(PageEvent::from).collect();
        self.send(&Frame::Page(Page { request: fetch.request, channel: fetch.channel, head, events }));
    }

    fn sync(&mut self, sync: Sync) {
        let skip = sync.after.0 as usize;
        let entries: Vec<_> = (self.inbox.iter().enumerate().skip(skip).take(usize::from(sync.limit)))
            .map(|(i, &(channel, head))| SyncEntry {
                channel,
                head: Seq(head),
                count: head,
                user_seq: UserSeq(i as u64 + 1),
            })
            .collect();
        let cursor = entries.last().map_or(sync.after, |entry| entry.user_seq);
        let more = (cursor.0 as usize) < self.inbox.len();
        self.send(&Frame::Synced(Synced { request: sync.request, cursor, more, entries }));
    }

    /// Whether the cursor cannot be continued, which is told.
    fn resets(&mut self, channel: ChannelId, after: Seq, epoch: Epoch) -> bool {
        let head = self.head(channel);
        let floor = self.channels.entry(channel).or_default().floor + 1;
        if epoch == self.epoch && after.0 + 1 >= floor && after <= head {
            return false;
        }
        self.send(&Frame::Reset(Reset::Channel { channel, epoch: self.epoch, floor: Seq(floor), head }));
        true
    }

    pub(crate) fn head(&self, channel: ChannelId) -> Seq {
        Seq(self.channels.get(&channel).map_or(0, |history| history.events.len() as u64))
    }

    fn refuses(&mut self) -> bool {
        self.rng.chance(self.mood.refuse)
    }

    fn error(&mut self, scope: ErrorScope, code: Code) {
        self.send(&Frame::Error(ErrorFrame { scope, code, retry_after_ms: 0, detail: "" }));
    }
}

impl Conn {
    /// Moves whole WebSocket payloads from `input` to `frames`.
    fn unwrap_frames(&mut self) {
        let Some(decoder) = &mut self.websocket else {
            self.frames.append(&mut self.input);
            return;
        };
        let mut used = 0;
        while let Some((consumed, item)) =
            decoder.decode(&mut self.input[used..], &Limits::new(1 << 21)).expect("well-formed")
        {
            if let Item::Data { payload, .. } = item {
                self.frames.extend_from_slice(&self.input[used..][payload]);
            }
            used += consumed;
        }
        self.input.drain(..used);
    }
}
