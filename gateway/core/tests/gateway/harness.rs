//! A gateway, its driver, a router that keeps channels in memory, and clients.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use throng_base::Instant;
use throng_gateway_core::{Claims, Gateway, GatewayConfig, Output, SessionKey, Transport};
use throng_wire::event::{EventKind, Membership};
use throng_wire::frame::{Auth, Frame, Hello, Split, Subscribe, split};
use throng_wire::link::{Answer, Op, Refusal, Reply, Request, SessionRef, ToGateway, ToRouter};
use throng_wire::{
    ChannelId, ClientMsgId, Code, DeviceId, Epoch, Event, MemberNo, NodeId, Origin, RequestId, Seq, ServerTs,
    ShardId, UserId, UserSeq,
};
use throng_ws::{Decoder, Header, Item, Limits, Opcode, Role, apply_mask, encode_header};

use crate::show::show;

pub(crate) const NODE: NodeId = NodeId(1);
pub(crate) const OTHER: NodeId = NodeId(2);
pub(crate) const SHARDS: u32 = 4;
pub(crate) const WALL_MS: u64 = 1_700_000_000_000;
pub(crate) const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A channel named by a number.
pub(crate) fn channel(n: u8) -> ChannelId {
    ChannelId([n; 16])
}

pub(crate) fn user(name: &str) -> UserId {
    UserId::of("test", name)
}

/// What a scenario sees of one client.
pub(crate) struct Client {
    pub(crate) transport: Transport,
    decoder: Decoder,
    raw: Vec<u8>,
    stream: Vec<u8>,
    /// HTTP response, once it is there.
    pub(crate) http: Option<String>,
    /// Close code of the WebSocket.
    pub(crate) websocket_close: Option<u16>,
    pub(crate) pongs: Vec<Vec<u8>>,
    frames: Vec<String>,
}

/// The whole scene.
pub(crate) struct World {
    pub(crate) gateway: Gateway,
    pub(crate) now: Instant,
    pub(crate) router: FakeRouter,
    /// Whether requests are answered by `router` at once; otherwise they wait in `asked`.
    pub(crate) is_answering: bool,
    pub(crate) asked: Vec<(NodeId, ToRouter)>,
    pub(crate) clients: BTreeMap<SessionKey, Client>,
    /// Sessions whose transport takes nothing.
    pub(crate) stuck: BTreeSet<SessionKey>,
    pub(crate) closed: Vec<(SessionKey, Code)>,
    pub(crate) aborted: Vec<SessionKey>,
    /// What the next tokens are good for, by token text.
    tokens: BTreeMap<Vec<u8>, Result<Claims, Code>>,
    next_device: u64,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(GatewayConfig { shards: SHARDS, ..GatewayConfig::default() })
    }

    /// A gateway whose only node leads all shards.
    pub(crate) fn with(config: GatewayConfig) -> Self {
        let mut world = Self::without_router(config);
        world.gateway.handle_router_up(world.now, NODE);
        world.lead_all(NODE, 1);
        world
    }

    pub(crate) fn without_router(config: GatewayConfig) -> Self {
        let now = Instant::from_millis(1_000);
        let mut gateway = Gateway::new(config, 7, now);
        gateway.handle_wall_clock(now, WALL_MS);
        Self {
            gateway,
            now,
            router: FakeRouter::default(),
            is_answering: true,
            asked: Vec::new(),
            clients: BTreeMap::new(),
            stuck: BTreeSet::new(),
            closed: Vec::new(),
            aborted: Vec::new(),
            tokens: BTreeMap::new(),
            next_device: 1,
        }
    }

    pub(crate) fn lead_all(&mut self, node: NodeId, term: u64) {
        let shards = (0..SHARDS).map(|shard| (ShardId(shard), Some(node), term)).collect();
        self.router_says(node, ToGateway::Leads { shards });
    }

    pub(crate) fn router_says(&mut self, node: NodeId, message: ToGateway) {
        self.gateway.handle_router(self.now, node, message);
        self.pump();
    }

    pub(crate) fn connect(&mut self, transport: Transport) -> SessionKey {
        let key = self.gateway.handle_connect(self.now, transport, LOCALHOST).expect("room");
        self.clients.insert(key, Client::new(transport));
        key
    }

    /// An authenticated session on a stream.
    pub(crate) fn login(&mut self, name: &str) -> SessionKey {
        let key = self.connect(Transport::Stream);
        self.log_in(key, name);
        assert_eq!(self.received(key), ["WELCOME throng"]);
        key
    }

    /// An authenticated session on a WebSocket.
    pub(crate) fn login_websocket(&mut self, name: &str) -> SessionKey {
        let key = self.connect(Transport::WebSocket);
        self.bytes(key, UPGRADE.as_bytes());
        self.log_in(key, name);
        assert_eq!(self.received(key), ["WELCOME throng"]);
        key
    }

    /// HELLO and AUTH in one flight.
    pub(crate) fn log_in(&mut self, key: SessionKey, name: &str) {
        let token = self.token(name, 3_600_000);
        let hello = Frame::Hello(Hello { version_min: 1, version_max: 1, client: "test" });
        let auth = Frame::Auth(Auth { token: &token, ticket: &[] });
        self.send_all(key, &[hello, auth]);
    }

    /// A token that is good for `left_ms` from now.
    pub(crate) fn token(&mut self, name: &str, left_ms: u64) -> Vec<u8> {
        let device = DeviceId(self.next_device);
        self.next_device += 1;
        let wall_ms = WALL_MS + self.now.as_millis() - 1_000;
        let claims = Claims { user: user(name), device, expires_ms: wall_ms + left_ms };
        let token = format!("{name}/{device}").into_bytes();
        self.tokens.insert(token.clone(), Ok(claims));
        token
    }

    /// A token that the driver refuses.
    pub(crate) fn bad_token(&mut self, code: Code) -> Vec<u8> {
        let token = format!("bad {code}").into_bytes();
        self.tokens.insert(token.clone(), Err(code));
        token
    }

    pub(crate) fn send(&mut self, key: SessionKey, frame: Frame<'_>) {
        self.send_all(key, &[frame]);
    }

    /// Several frames in one message.
    pub(crate) fn send_all(&mut self, key: SessionKey, frames: &[Frame<'_>]) {
        let mut bytes = BytesMut::new();
        frames.iter().for_each(|frame| frame.encode(&mut bytes));
        self.payload(key, &bytes);
    }

    /// Bytes as the payload of one message.
    pub(crate) fn payload(&mut self, key: SessionKey, payload: &[u8]) {
        match self.clients[&key].transport {
            Transport::Stream => self.bytes(key, payload),
            Transport::WebSocket => self.bytes(key, &masked(Opcode::Binary, true, payload)),
        }
    }

    /// Bytes as they are.
    pub(crate) fn bytes(&mut self, key: SessionKey, bytes: &[u8]) {
        self.gateway.handle_bytes(self.now, key, &mut bytes.to_vec());
        self.pump();
    }

    /// What the client received since the last look.
    pub(crate) fn received(&mut self, key: SessionKey) -> Vec<String> {
        std::mem::take(&mut self.clients.get_mut(&key).expect("a client").frames)
    }

    pub(crate) fn disconnect(&mut self, key: SessionKey) {
        self.gateway.handle_disconnect(self.now, key);
        self.pump();
    }

    /// Lets time pass, with everything that is due on the way.
    pub(crate) fn pass(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some(due) = self.gateway.poll_timeout().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.gateway.handle_timeout(self.now);
            self.pump();
        }
        self.now = end;
        self.gateway.handle_timeout(end);
        self.pump();
    }

    /// Lets time pass while the client says something often enough.
    pub(crate) fn pass_alive(&mut self, key: SessionKey, duration: Duration) {
        let end = self.now + duration;
        while self.now < end {
            self.pass(Duration::from_secs(1).min(end - self.now));
            self.send(key, Frame::Ping(throng_wire::frame::Ping { wants_answer: false, nonce: 0 }));
        }
    }

    /// The driver: carries out outputs until there are none.
    pub(crate) fn pump(&mut self) {
        while let Some(output) = self.gateway.poll_output() {
            match output {
                Output::Write { session } => self.write(session),
                Output::Close { session, code } => {
                    self.closed.push((session, code));
                    self.write(session);
                }
                Output::Abort { session } => self.aborted.push(session),
                Output::Authenticate { session, token } => {
                    let verdict = self.tokens.get(&token).copied().unwrap_or(Err(Code::TOKEN_INVALID));
                    self.gateway.handle_authenticated(self.now, session, verdict);
                }
                Output::ToRouter { node, message } if self.is_answering => {
                    for message in self.router.handle(message) {
                        self.gateway.handle_router(self.now, node, message);
                    }
                }
                Output::ToRouter { node, message } => self.asked.push((node, message)),
            }
        }
    }

    /// Lets a stuck client read again.
    pub(crate) fn unstick(&mut self, key: SessionKey) {
        self.stuck.remove(&key);
        self.write(key);
        self.pump();
    }

    /// A stuck client reads this many bytes.
    pub(crate) fn read_some(&mut self, key: SessionKey, bytes: usize) {
        let mut out = Vec::new();
        self.gateway.pull(self.now, key, &mut out, bytes);
        self.clients.get_mut(&key).expect("a client").receive(&out);
        self.pump();
    }

    fn write(&mut self, key: SessionKey) {
        if self.stuck.contains(&key) {
            return;
        }
        let client = self.clients.get_mut(&key).expect("a client");
        loop {
            let mut out = Vec::new();
            // An odd size, so that writes end anywhere.
            let taken = self.gateway.pull(self.now, key, &mut out, 997);
            if taken == 0 {
                break;
            }
            client.receive(&out);
        }
    }

    /// Takes what was asked of routers since the last look.
    pub(crate) fn asked(&mut self) -> Vec<(NodeId, ToRouter)> {
        std::mem::take(&mut self.asked)
    }

    /// Takes the requests asked since the last look.
    pub(crate) fn requests(&mut self) -> Vec<(NodeId, Request)> {
        let requests = self.asked().into_iter().filter_map(|(node, message)| match message {
            ToRouter::Request(request) => Some((node, request)),
            _ => None,
        });
        requests.collect()
    }

    pub(crate) fn reply(&mut self, node: NodeId, id: u64, result: Result<Answer, Refusal>) {
        self.router_says(node, ToGateway::Reply(Reply { id, result }));
    }

    /// Answers what waits in `asked`, and everything from here on.
    pub(crate) fn answer_all(&mut self) {
        self.is_answering = true;
        for (node, message) in self.asked() {
            for message in self.router.handle(message) {
                self.gateway.handle_router(self.now, node, message);
            }
        }
        self.pump();
    }

    pub(crate) fn subscribe(&mut self, key: SessionKey, request: u64, n: u8) {
        let subscribe =
            Subscribe { request: RequestId(request), channel: channel(n), after: Seq(0), epoch: Epoch(1) };
        self.send(key, Frame::Subscribe(subscribe));
    }

    /// An event as if somebody elsewhere had sent it.
    pub(crate) fn event(&mut self, n: u8, text: &str) {
        let message = self.router.event(n, EventKind::MESSAGE, Bytes::copy_from_slice(text.as_bytes()), None);
        self.router_says(NODE, message);
    }
}

pub(crate) const UPGRADE: &str = "GET /v1/ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Protocol: throng.v1.bin\r\n\r\n";

/// A client's WebSocket frame.
pub(crate) fn masked(opcode: Opcode, fin: bool, payload: &[u8]) -> Vec<u8> {
    let key = [0x11, 0x22, 0x33, 0x44];
    let mut out = Vec::new();
    encode_header(&mut out, Header { fin, opcode, len: payload.len(), mask: Some(key) });
    let at = out.len();
    out.extend_from_slice(payload);
    let _ = apply_mask(&mut out[at..], key);
    out
}

impl Client {
    fn new(transport: Transport) -> Self {
        Self {
            transport,
            decoder: Decoder::new(Role::Client),
            raw: Vec::new(),
            stream: Vec::new(),
            http: None,
            websocket_close: None,
            pongs: Vec::new(),
            frames: Vec::new(),
        }
    }

    fn receive(&mut self, bytes: &[u8]) {
        match self.transport {
            Transport::Stream => self.stream.extend_from_slice(bytes),
            Transport::WebSocket => {
                self.raw.extend_from_slice(bytes);
                self.receive_websocket();
            }
        }
        while let Split::Frame { consumed, payload } = split(&self.stream, 4 << 20).expect("well formed") {
            self.frames.push(show(&self.stream[payload]));
            self.stream.drain(..consumed);
        }
    }

    fn receive_websocket(&mut self) {
        if self.http.is_none() {
            let Some(end) = self.raw.windows(4).position(|four| four == b"\r\n\r\n") else { return };
            let head: Vec<u8> = self.raw.drain(..end + 4).collect();
            self.http = Some(String::from_utf8(head).expect("ASCII"));
        }
        let limits = Limits::new(4 << 20);
        while let Some((consumed, item)) =
            self.decoder.decode(&mut self.raw, &limits).expect("a legal server")
        {
            match item {
                Item::Data { payload, .. } => self.stream.extend_from_slice(&self.raw[payload]),
                Item::Pong(payload) => self.pongs.push(self.raw[payload].to_vec()),
                Item::Ping(_) => panic!("a gateway does not ping"),
                Item::Close { code, .. } => self.websocket_close = code,
            }
            self.raw.drain(..consumed);
        }
    }
}

/// Channels, members and registrations in memory; one node that leads everything.
#[derive(Default)]
pub(crate) struct FakeRouter {
    pub(crate) members: BTreeMap<ChannelId, Vec<UserId>>,
    pub(crate) heads: BTreeMap<ChannelId, Seq>,
    /// Channels the gateway is subscribed to.
    pub(crate) subscribed: BTreeSet<ChannelId>,
    pub(crate) registered: BTreeMap<SessionRef, UserId>,
    pub(crate) user_seq: UserSeq,
    pub(crate) renewed: u64,
}

impl FakeRouter {
    pub(crate) fn add(&mut self, n: u8, names: &[&str]) {
        self.members.entry(channel(n)).or_default().extend(names.iter().map(|name| user(name)));
    }

    /// What a leader that died no longer knows.
    pub(crate) fn forget_soft_state(&mut self) {
        self.subscribed.clear();
        self.registered.clear();
    }

    pub(crate) fn head(&self, n: u8) -> Seq {
        self.heads.get(&channel(n)).copied().unwrap_or_default()
    }

    /// The next event of a channel.
    pub(crate) fn event(
        &mut self,
        n: u8,
        kind: EventKind,
        body: Bytes,
        from: Option<(UserId, Origin)>,
    ) -> ToGateway {
        let id = channel(n);
        let head = self.heads.entry(id).or_default();
        *head = head.next();
        let sender = from.map_or(UserId::NIL, |(user, _)| user);
        let origin = from.map(|(_, origin)| origin);
        let event = Event { seq: *head, kind, sender: MemberNo(1), ts: ServerTs(1), origin, body };
        ToGateway::Deliver { channel: id, event, sender }
    }

    /// The event that somebody left; the member goes.
    pub(crate) fn leave(&mut self, n: u8, name: &str) -> ToGateway {
        let members = self.members.entry(channel(n)).or_default();
        members.retain(|member| *member != user(name));
        let body = Membership { user: user(name), member: MemberNo(1) }.encode();
        self.event(n, EventKind::LEFT, body, None)
    }

    pub(crate) fn handle(&mut self, message: ToRouter) -> Vec<ToGateway> {
        match message {
            ToRouter::Unsubscribe { channel } => {
                self.subscribed.remove(&channel);
                Vec::new()
            }
            ToRouter::Unregister { session, .. } => {
                self.registered.remove(&session);
                Vec::new()
            }
            ToRouter::Request(request) => self.request(request),
        }
    }

    fn request(&mut self, request: Request) -> Vec<ToGateway> {
        let mut out = Vec::new();
        let result = match request.op {
            Op::Register { session } => {
                self.registered.insert(session, request.user);
                Ok(Answer::Registered { user_seq: self.user_seq })
            }
            Op::Sync { .. } => Ok(Answer::Synced { cursor: self.user_seq, more: false, entries: Vec::new() }),
            op => self.channel_op(request.user, request.device, op, &mut out),
        };
        out.push(ToGateway::Reply(Reply { id: request.id, result }));
        out
    }

    fn channel_op(
        &mut self,
        user: UserId,
        device: DeviceId,
        op: Op,
        out: &mut Vec<ToGateway>,
    ) -> Result<Answer, Refusal> {
        let id = match &op {
            Op::Publish { channel, .. } | Op::Subscribe { channel, .. } | Op::Fetch { channel, .. } => {
                *channel
            }
            op => panic!("the fake router does not know {op:?}"),
        };
        if !self.members.get(&id).is_some_and(|members| members.contains(&user)) {
            return Err(Refusal { code: Code::NOT_FOUND, retry_after_ms: 0, leader: None });
        }
        let n = id.0[0];
        match op {
            Op::Publish { client_msg_id, body, kind, .. } => {
                let origin = Origin { device, client_msg_id };
                let event = self.event(n, kind, body, Some((user, origin)));
                out.extend(self.subscribed.contains(&id).then_some(event));
                Ok(Answer::Published { seq: self.head(n), ts: ServerTs(1), duplicate: false })
            }
            Op::Subscribe { .. } => {
                self.renewed += 1;
                self.subscribed.insert(id);
                Ok(Answer::Subscribed { head: self.head(n), member: MemberNo(1) })
            }
            _ => Ok(Answer::Page { head: self.head(n), events: Vec::new() }),
        }
    }
}

pub(crate) fn publish(n: u8, client_msg_id: u64, text: &str) -> Frame<'_> {
    Frame::Publish(throng_wire::frame::Publish {
        channel: channel(n),
        client_msg_id: ClientMsgId(client_msg_id),
        kind: EventKind::MESSAGE,
        body: text.as_bytes(),
    })
}
