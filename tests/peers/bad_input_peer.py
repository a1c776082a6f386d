"""What a server must refuse, how it says so, and that nobody else notices (W-ERR-4, W-ERR-5)."""

import asyncio
import os
import random

import runner
import scenarios
import session
import spec_peer
import wire
from raw_ws import FIN, OPCODE_TEXT, RSV1, RawWebSocket, frame
from server import Server
from transports import Closed, QuicTransport, WsTransport
from wire import Code, put_varint, raw_frame

GARBAGE_ROUNDS = 40


class Beside(scenarios.Case):
    """A case that runs while two bystanders talk over both transports."""

    async def asyncSetUp(self):
        await super().asyncSetUp()
        self.bystander, _, self.speaker, self.listener, self.channel = await self.pair(WsTransport, QuicTransport)
        await self.listener.subscribe(self.channel)

    async def asyncTearDown(self):
        await self.bystanders_are_well()
        await super().asyncTearDown()

    async def bystanders_are_well(self):
        ack = await self.speaker.publish(self.channel, self.bystander.next_id(), os.urandom(64))
        delivered = lambda: self.listener.delivered.get(self.channel, [])
        await self.listener.until(lambda: delivered() and delivered()[-1].seq == ack.seq)


class BadFrames:
    """Mixed into `Beside` with a `transport`."""

    transport = None

    async def mallory(self):
        return await self.open(scenarios.Client(self.server, self.transport, scenarios.fresh_user("mallory")))

    async def lives(self, opened):
        """The session answers still."""
        pongs = lambda: [f for f in opened.others if f.name == "PONG" and f.nonce == 99]
        await opened.send("PING", wire.ANSWER_ME, nonce=99)
        await opened.until(pongs)

    async def test_frames_that_end_the_session(self):
        ping = wire.TYPES["PING"]
        publish = wire.TYPES["PUBLISH"]
        cases = {
            "truncated: a field runs beyond its frame (W-FIELD-1)": (raw_frame(publish, 0, bytes(4)), Code.PROTOCOL),
            "oversized: above the frame limit (W-FRAME-4)": (None, Code.FRAME_TOO_LARGE),
            "no room for type and flags (W-FRAME-2)": (b"\x01\x08", Code.PROTOCOL),
            "type 0 (W-FRAME-3)": (raw_frame(0, 0, b""), Code.PROTOCOL),
            "a flag that does not exist (W-FRAME-6)": (raw_frame(ping, 0x02, b"\x01"), Code.PROTOCOL),
            "bad varint: a field not in its shortest form (W-VAR-2)": (raw_frame(ping, 0, b"\x40\x01"), Code.PROTOCOL),
            "bad varint: a length not in its shortest form (W-VAR-2)": (b"\x40\x03\x08\x00\x01", Code.PROTOCOL),
            "a class that does not exist (W-FIELD-2)": (
                raw_frame(wire.TYPES["CREATE"], 0, b"\x01" + os.urandom(16) + b"\x09\x00"),
                Code.PROTOCOL,
            ),
            "bad UTF-8 (W-FIELD-3)": (
                raw_frame(wire.TYPES["CLOSE"], 0, b"\x00\x00\x02\xc3\x28"),
                Code.BAD_UTF8,
            ),
            "a frame that only servers send (W-TYPE-4)": (
                wire.encode("ACK", channel=bytes(16), client_msg_id=1, seq=1, ts=1),
                Code.PROTOCOL,
            ),
            "a second HELLO (W-ORD-1)": (session.hello(), Code.PROTOCOL),
            "a second AUTH (W-ORD-4)": (session.auth(b"again"), Code.ALREADY_AUTHENTICATED),
            "a kind in a field that belongs into the flags (W-EV-1)": (
                raw_frame(publish, wire.KIND_IS_FIELD, b"\x03" + bytes(16) + b"\x01x"),
                Code.PROTOCOL,
            ),
        }
        for name, (data, code) in cases.items():
            with self.subTest(name):
                opened = await self.mallory()
                oversized = put_varint(opened.welcome.frame_max + 1) + bytes([publish, 0])
                await opened.send_raw(oversized if data is None else data)
                await self.closed(opened, code)
                await self.bystanders_are_well()

    async def test_every_malformed_vector_is_refused_as_it_says(self):
        """The golden bytes of `wire/tests/vectors/malformed.json` that a client can send after WELCOME."""
        opened = await self.mallory()
        server_types = {number for number in wire.FRAMES if number >= 0x40}
        for row in spec_peer.vectors("malformed.json"):
            data = bytes.fromhex(row["hex"])
            size = 1 << (data[0] >> 6)
            type_ = data[size] if len(data) > size else None
            if type_ in server_types or type_ in (wire.TYPES["HELLO"], wire.TYPES["AUTH"]):
                continue  # refused for whoever sends them (W-TYPE-4, W-ORD-1), whatever their fields
            if row.get("frame_max", opened.welcome.frame_max) != opened.welcome.frame_max:
                continue
            with self.subTest(row["name"]):
                code = getattr(Code, row["code"])
                over = await self.mallory()
                if code == Code.LIMIT and row.get("request") is not None:  # W-ERR-4
                    answer = over._expect(row["request"])
                    await over.send_raw(data)
                    await self.refused(over._answer(answer), code)
                else:
                    await over.send_raw(data)
                    await self.closed(over, code)
        await self.bystanders_are_well()

    async def test_frames_that_are_refused_before_welcome(self):
        token = self.server.token(scenarios.fresh_user("mallory"), 1)
        tampered = token[:-6] + (b"AAAAAA" if token[-6:] != b"AAAAAA" else b"BBBBBB")
        expired = self.server.token(scenarios.fresh_user("mallory"), 1, "--ttl=-60")
        ping = wire.encode("PING", nonce=1)
        bad_utf8 = raw_frame(wire.TYPES["HELLO"], 0, b"\x01\x01\x02\xff\xfe")
        cases = {
            "no common version (W-VER-1)": (session.hello(2, 3) + session.auth(token), Code.VERSION),
            "versions the wrong way round (W-FIELD-2)": (session.hello(2, 1) + session.auth(token), Code.PROTOCOL),
            "AUTH before HELLO (W-ORD-1)": (session.auth(token), Code.PROTOCOL),
            "a frame before AUTH (W-ORD-3)": (session.hello() + ping, Code.AUTH_REQUIRED),
            "an empty token (W-AUTH-1)": (session.hello() + session.auth(b""), Code.TOKEN_INVALID),
            "a token that is none (W-AUTH-1)": (session.hello() + session.auth(b"a.b.c"), Code.TOKEN_INVALID),
            "a tampered token (W-AUTH-1)": (session.hello() + session.auth(tampered), Code.TOKEN_INVALID),
            "an expired token (W-AUTH-1)": (session.hello() + session.auth(expired), Code.TOKEN_EXPIRED),
            "bad UTF-8 (W-FIELD-3)": (bad_utf8, Code.BAD_UTF8),
            "above 4,096 bytes (W-FRAME-5)": (put_varint(4097) + b"\x01\x00", Code.FRAME_TOO_LARGE),
            "a token above its limit (W-FIELD-4)": (
                session.hello() + raw_frame(wire.TYPES["AUTH"], 0, put_varint(2049) + bytes(2049) + b"\x00"),
                Code.LIMIT,
            ),
        }
        for name, (data, code) in cases.items():
            with self.subTest(name):
                opened = await self.connect(self.transport)
                await opened.send_raw(data)
                await self.closed(opened, code)
                self.assertEqual((await opened.first_frame()).name, "CLOSE")  # W-ORD-2
                await self.bystanders_are_well()

    async def test_whoever_stops_in_the_middle_is_sent_away(self):
        """W-ORD-5."""
        opened = await self.connect(self.transport)
        await opened.send_raw(session.hello())
        await self.closed(opened, Code.HANDSHAKE_TIMEOUT)

    async def test_whoever_says_nothing_is_sent_away(self):
        """W-ORD-5, W-WS-6, W-QUIC-4: on QUIC no stream is open yet, so the connection's code says it alone."""
        opened = await self.connect(self.transport)
        ended = await opened.ended()
        code = Code.HANDSHAKE_TIMEOUT
        on_websocket = self.transport is WsTransport
        self.assertEqual(ended.transport.code, wire.websocket_code(code) if on_websocket else code)

    async def test_what_is_refused_while_the_session_goes_on(self):
        opened = await self.mallory()
        body_max = opened.welcome.body_max
        not_mine = self.channel
        unknown = wire.drawn_channel()
        strangers = wire.direct_channel(os.urandom(16), os.urandom(16))
        epoch = opened.welcome.epoch
        mine = (await opened.open_direct(opened.welcome.user)).channel
        publish = lambda channel, number, body: opened.publish(channel, number, body)
        fetch = lambda channel: opened.fetch(channel)
        cases = {
            "a body above its limit (W-PUB-8)": (publish(mine, 1, bytes(body_max + 1)), Code.BODY_TOO_LARGE),
            "a channel one is not in (W-PUB-10)": (publish(not_mine, 2, b"x"), Code.NOT_FOUND),
            "an unknown channel (W-PUB-10)": (publish(unknown, 3, b"x"), Code.NOT_FOUND),
            "reading a channel one is not in (W-FETCH-4)": (fetch(not_mine), Code.NOT_FOUND),
            "reading an unknown channel (W-FETCH-4)": (fetch(unknown), Code.NOT_FOUND),
            "subscribing where one is not (W-SUB-2)": (opened.subscribe(not_mine), Code.NOT_FOUND),
            "a limit of 0 (W-FIELD-4)": (
                opened.request("FETCH", channel=mine, after=0, epoch=epoch, limit=0),
                Code.LIMIT,
            ),
            "a direct channel by CREATE (W-CH-2)": (
                opened.request("CREATE", channel=unknown, class_=wire.DIRECT, members=[]),
                Code.UNSUPPORTED,
            ),
            "a group under a direct channel's id (W-CH-6)": (
                opened.request("CREATE", channel=not_mine, class_=wire.GROUP, members=[]),
                Code.LIMIT,
            ),
            "an open channel where two users may yet meet (W-CH-6)": (
                opened.request("CREATE", channel=strangers, class_=wire.OPEN, members=[]),
                Code.LIMIT,
            ),
            "joining a group by oneself (W-CH-4)": (
                opened.request("JOIN", channel=not_mine, user=wire.NIL),
                Code.NOT_FOUND,
            ),
        }
        for name, (answer, code) in cases.items():
            with self.subTest(name):
                await self.refused(answer, code)
                await self.lives(opened)
        self.assertEqual((await opened.publish(mine, 9, bytes(body_max))).name, "ACK")

    async def test_a_channel_one_is_not_in_looks_like_none(self):
        """W-PUB-10, W-SUB-2: the answers differ in nothing but the id."""
        opened = await self.mallory()
        answers = []
        for channel in (self.channel, os.urandom(16)):
            errors = []
            for request in (opened.publish(channel, len(answers) + 1, b"x"), opened.subscribe(channel)):
                with self.assertRaises(session.Refused) as caught:
                    await request
                errors.append(caught.exception.error)
            answers.append([(error.flags, error.code, error.retry_after_ms, error.detail) for error in errors])
        self.assertEqual(*answers)

    async def test_lists_above_their_limit(self):
        """W-FIELD-4, W-ERR-4."""
        opened = await self.mallory()
        answer = opened._expect(1000)
        members = put_varint(201) + os.urandom(201 * 16)
        await opened.send_raw(raw_frame(wire.TYPES["CREATE"], 0, put_varint(1000) + wire.drawn_channel() + b"\x01" + members))
        await self.refused(opened._answer(answer), Code.LIMIT)
        await self.lives(opened)

    async def test_what_a_later_version_may_send(self):
        """W-TYPE-3, W-FRAME-7, W-FRAME-8: skipped, and an unknown request is answered."""
        opened = await self.mallory()
        answer = opened._expect(1000)
        await opened.send_raw(raw_frame(0x3F, 0, put_varint(1000) + b"of a later version"))
        await self.refused(opened._answer(answer), Code.UNSUPPORTED)
        await opened.send_raw(raw_frame(0x0F, 0, b"of a later version"))
        extended = wire.EXTENSION | wire.ANSWER_ME
        await opened.send_raw(raw_frame(wire.TYPES["PING"], extended, put_varint(3) + b"abc" + put_varint(41)))
        await opened.send_raw(raw_frame(wire.TYPES["PING"], wire.ANSWER_ME, put_varint(42) + b"a new field"))
        pongs = lambda: [f.nonce for f in opened.others if f.name == "PONG"]
        await opened.until(lambda: len(pongs()) >= 2)
        self.assertEqual(pongs(), [41, 42])

    async def test_other_event_kinds_are_refused(self):
        """W-PUB-9."""
        opened = await self.mallory()
        mine = (await opened.open_direct(opened.welcome.user)).channel
        for number, kind in enumerate((1, 3, 14), start=1):
            answer = opened._expect((mine, number))
            await opened.send("PUBLISH", kind, channel=mine, client_msg_id=number, body=b"x")
            await self.refused(opened._answer(answer), Code.UNSUPPORTED)

    async def test_garbage_ends_only_its_own_session(self):
        """W-ERR-5: seeded, so that a failure can be repeated."""
        randomness = random.Random(7)
        for _ in range(GARBAGE_ROUNDS):
            opened = await self.connect(self.transport)
            try:
                await opened.send_raw(randomness.randbytes(randomness.randint(1, 300)))
            except Closed:
                pass
            await opened.abort()
        await self.bystanders_are_well()


class OverWebSocket(BadFrames, Beside):
    transport = WsTransport


class OverQuic(BadFrames, Beside):
    transport = QuicTransport


class BadWebSocket(Beside):
    """What is wrong below our frames (RFC 6455)."""

    async def upgrade(self):
        """A hand-made client after WELCOME."""
        token = self.server.token(scenarios.fresh_user("mallory"), 1)

        def blocking():
            raw = RawWebSocket(self.server.websocket_address)
            self.assertEqual(raw.status, 101)
            raw.send(frame(session.hello() + session.auth(token)))
            payload = wire.Splitter().feed(raw.read_message())[0]
            self.assertEqual(wire.decode(payload).name, "WELCOME")
            return raw

        raw = await asyncio.to_thread(blocking)
        self.addCleanup(raw.close)
        return raw

    async def test_frames_that_end_the_connection(self):
        ping = wire.encode("PING", nonce=1)
        too_long = bytes([FIN | 2, 0x80 | 127]) + (1 << 40).to_bytes(8, "big") + bytes(4)
        cases = {
            "unmasked (RFC 6455 §5.1)": (frame(ping, masked=False), 1002),
            "compressed (W-WS-2)": (frame(ping, first_bits=FIN | RSV1), 1002),
            "a text message (W-WS-5)": (frame(ping, opcode=OPCODE_TEXT), 1002),
            "a reserved opcode (RFC 6455 §5.2)": (frame(ping, opcode=0x3), 1002),
            "a continuation of nothing (RFC 6455 §5.4)": (frame(ping, opcode=0x0), 1002),
            "a message that ends inside a frame (W-WS-3)": (frame(ping[:-1]), 1002),
            "a message above the limit (W-WS-4)": (too_long, 1009),
        }
        for name, (data, code) in cases.items():
            with self.subTest(name):
                raw = await self.upgrade()
                await asyncio.to_thread(raw.send, data)
                self.assertEqual(await asyncio.to_thread(raw.read_close), code)
                await self.bystanders_are_well()

    async def test_messages_may_hold_several_frames_or_none(self):
        """W-WS-3."""
        raw = await self.upgrade()
        pings = b"".join(wire.encode("PING", wire.ANSWER_ME, nonce=nonce) for nonce in (1, 2, 3))
        await asyncio.to_thread(raw.send, frame(b"") + frame(pings))

        def pongs():
            splitter, nonces = wire.Splitter(), []
            while len(nonces) < 3:
                nonces += [wire.decode(payload).nonce for payload in splitter.feed(raw.read_message())]
            return nonces

        self.assertEqual(await asyncio.to_thread(pongs), [1, 2, 3])

    async def test_a_message_in_fragments_is_one_message(self):
        """W-WS-3, RFC 6455 §5.4."""
        raw = await self.upgrade()
        data = wire.encode("PING", wire.ANSWER_ME, nonce=4)
        await asyncio.to_thread(raw.send, frame(data[:2], first_bits=0) + frame(data[2:], opcode=0x0))
        payload = wire.Splitter().feed(await asyncio.to_thread(raw.read_message))[0]
        self.assertEqual(wire.decode(payload).nonce, 4)

    async def test_a_connection_lost_inside_a_frame(self):
        raw = await self.upgrade()
        await asyncio.to_thread(raw.send, frame(bytes(200))[:50])
        raw.close()
        await self.bystanders_are_well()

    async def test_requests_that_are_no_upgrade(self):
        """W-WS-1, §3."""
        address = self.server.websocket_address
        request = RawWebSocket.request
        cases = {
            "another path": (request(address).replace(b"/v1/ws", b"/v1/nowhere"), 404),
            "no upgrade": (request(address, Upgrade=None, Connection=None), 426),
            "no subprotocol we know": (request(address, Sec_WebSocket_Protocol="chat"), 400),
            "no subprotocol at all": (request(address, Sec_WebSocket_Protocol=None), 400),
        }
        for name, (data, status) in cases.items():
            with self.subTest(name):
                raw = await asyncio.to_thread(RawWebSocket, address, data)
                raw.close()
                self.assertEqual(raw.status, status)

    async def test_no_extension_is_accepted(self):
        """W-WS-2."""
        address = self.server.websocket_address
        offer = RawWebSocket.request(address, Sec_WebSocket_Extensions="permessage-deflate")
        raw = await asyncio.to_thread(RawWebSocket, address, offer)
        raw.close()
        self.assertEqual(raw.status, 101)
        self.assertNotIn(b"sec-websocket-extensions", raw.response.lower())


def setUpModule():
    scenarios.Case.server = Server()


def tearDownModule():
    scenarios.Case.server.stop()


if __name__ == "__main__":
    runner.main()
