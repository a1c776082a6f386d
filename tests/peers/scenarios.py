"""What a client must be able to rely on, as scenarios for any pair of transports."""

import asyncio
import base64
import itertools
import json
import os
import unittest

import session
import wire
from session import Refused, Session
from transports import Closed, WsTransport

MESSAGES = 1_000
WINDOW = 16  # W-PUB-7
TEST_SECONDS_MAX = 180

_names = itertools.count(1)


def fresh_user(name):
    """A user that no other test knows."""
    return f"{name}-{next(_names)}"


class Client:
    """A user's device that opens sessions."""

    def __init__(self, server, transport, name, device=1):
        self.server = server
        self.transport = transport
        self.name = name
        self.device = device
        claims = _claims(server.token(name, device))
        self.user = wire.user_id(claims["iss"], claims["sub"])
        self._ids = itertools.count(1)

    def next_id(self):
        """W-PUB-1: one rising counter for all channels."""
        return next(self._ids)

    async def open(self):
        return await Session.open(self.server, self.transport, self.name, self.device)


def _claims(token):
    """The middle part of a JWT (RFC 7519 §3)."""
    part = token.split(b".")[1]
    return json.loads(base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4)))


class Case(unittest.IsolatedAsyncioTestCase):
    """A test with a time limit that closes what it opened."""

    server = None  # set by setUpModule of the script

    async def asyncSetUp(self):
        # unittest switches it on, and it makes every callback several times slower.
        asyncio.get_running_loop().set_debug(False)
        self.sessions = []

    async def asyncTearDown(self):
        for opened in self.sessions:
            await opened.abort()
        self.assertTrue(self.server.is_alive(), "the server must survive every client")

    def _callTestMethod(self, method):
        async def bounded():
            await asyncio.wait_for(method(), TEST_SECONDS_MAX)

        super()._callTestMethod(bounded)

    async def open(self, client):
        opened = await client.open()
        self.sessions.append(opened)
        return opened

    async def connect(self, transport):
        opened = await Session.connect(self.server, transport)
        self.sessions.append(opened)
        return opened

    async def pair(self, first, second):
        """Two users, their sessions and their direct channel."""
        alice = Client(self.server, first, fresh_user("alice"))
        bob = Client(self.server, second, fresh_user("bob"))
        at_alice, at_bob = await self.open(alice), await self.open(bob)
        channel = (await at_alice.open_direct(bob.user)).channel
        self.assertEqual(channel, wire.direct_channel(alice.user, bob.user))
        return alice, bob, at_alice, at_bob, channel

    async def refused(self, awaitable, code):
        """The answer is ERROR with `code`."""
        with self.assertRaises(Refused) as caught:
            await awaitable
        self.assertEqual(caught.exception.code, code)

    async def closed(self, over, code):
        """The session ends with CLOSE, and its transport with the number that stands for it (W-WS-6, W-QUIC-4)."""
        ended = await over.ended()
        self.assertIsNotNone(ended.close, f"no CLOSE: {ended}")
        self.assertEqual(ended.close.code, code, ended.close)
        self.assertIsInstance(ended.transport, Closed)
        on_websocket = isinstance(over.transport, WsTransport)
        self.assertEqual(ended.transport.code, wire.websocket_code(code) if on_websocket else code)


class Conversation:
    """Two users who talk. Mixed into a `Case` with `first` and `second`, the transports of the two."""

    first = None
    second = None

    async def test_welcome_says_who_and_how_much(self):
        """W-ORD-1, W-VER-1, W-ID-1, W-LIM-1."""
        alice = Client(self.server, self.first, fresh_user("alice"), device=77)
        welcome = (await self.open(alice)).welcome
        self.assertEqual(welcome.version, 1)
        self.assertEqual(welcome.user, alice.user)
        self.assertEqual(welcome.device, 77)
        self.assertEqual(welcome.frame_max, welcome.body_max + 4096)
        self.assertEqual(welcome.inflight_max, WINDOW)
        self.assertGreater(welcome.heartbeat_ms, 0)

    async def test_a_direct_channel_is_the_same_from_both_sides(self):
        """W-ID-2, W-CH-1."""
        alice, bob, at_alice, at_bob, channel = await self.pair(self.first, self.second)
        answer = await at_bob.open_direct(alice.user)
        again = await at_bob.open_direct(alice.user)
        self.assertEqual((answer.channel, answer.class_), (channel, wire.DIRECT))
        self.assertEqual((again.channel, again.head, again.member), (channel, answer.head, answer.member))
        members = (await at_alice.request("MEMBERS", channel=channel, after=0, limit=200)).members
        self.assertEqual({member.user for member in members}, {alice.user, bob.user})
        self.assertEqual(len({member.member for member in members}), 2)

    async def test_a_thousand_messages_are_numbered_without_a_gap(self):
        """C1, C2, W-SUB-1, W-DEL-2, W-DEL-3, W-FETCH-1, W-EV-4: half of them from each side, at the same time."""
        alice, bob, at_alice, at_bob, channel = await self.pair(self.first, self.second)
        start = (await at_alice.subscribe(channel)).head
        await at_bob.subscribe(channel)
        acked = await asyncio.gather(
            self._send(alice, at_alice, channel, MESSAGES // 2),
            self._send(bob, at_bob, channel, MESSAGES // 2),
        )
        body_by_seq = {ack.seq: body for side in acked for ack, body in side}
        end = start + MESSAGES
        self.assertEqual(sorted(body_by_seq), list(range(start + 1, end + 1)))
        for reader in (at_alice, at_bob):
            await self._catch_up(reader, channel, start, end)
            bodies = {event.seq: event.body for event in reader.delivered[channel]}
            self.assertLessEqual(bodies.items(), body_by_seq.items())
        history = await at_bob.fetch_all(channel)
        self.assertEqual([seq for seq, _ in history], list(range(1, end + 1)))
        self.assertEqual({seq: event.body for seq, event in history[start:]}, body_by_seq)
        times = [event.ts for _, event in history]
        self.assertEqual(times, sorted(times))

    async def _send(self, client, sender, channel, count):
        """Sends with a full window; returns (ACK, body) of each."""
        open_sends, acked = [], []
        for number in range(count):
            if len(open_sends) == WINDOW:
                answer, body = open_sends.pop(0)
                acked.append((await asyncio.wait_for(answer, session.ANSWER_SECONDS_MAX), body))
            body = f"{client.name} {number}".encode() + os.urandom(number % 200)
            open_sends.append((await sender.start_publish(channel, client.next_id(), body), body))
        acked += [(await asyncio.wait_for(answer, session.ANSWER_SECONDS_MAX), body) for answer, body in open_sends]
        for ack, _ in acked:
            self.assertEqual((ack.name, ack.flags), ("ACK", 0), ack)
        self.assertEqual([ack.seq for ack, _ in acked], sorted(ack.seq for ack, _ in acked))  # W-PUB-11
        return acked

    async def _catch_up(self, reader, channel, start, end):
        """Waits for everything up to `end`; what a LAGGED announced may be fetched instead (W-LAG-2)."""
        lagged = lambda: [frame for frame in reader.others if frame.name == "LAGGED"]
        seen = lambda: reader.delivered.get(channel, [])
        await reader.until(lambda: (seen() and seen()[-1].seq == end) or lagged())
        if not lagged():
            self.assertEqual([event.seq for event in seen()], list(range(start + 1, end + 1)))

    async def test_only_the_senders_own_devices_learn_the_origin(self):
        """W-DEL-3."""
        alice, bob, at_alice, at_bob, channel = await self.pair(self.first, self.second)
        phone = Client(self.server, self.second, alice.name, device=2)
        on_phone = await self.open(phone)
        for reader in (at_alice, at_bob, on_phone):
            await reader.subscribe(channel)
        ack = await at_alice.publish(channel, alice.next_id(), b"from the desk")
        for reader, is_own in ((at_alice, True), (on_phone, True), (at_bob, False)):
            await reader.until(lambda: reader.delivered.get(channel))
            event = reader.delivered[channel][-1]
            self.assertEqual((event.seq, event.body, event.kind), (ack.seq, b"from the desk", wire.MESSAGE))
            self.assertEqual(bool(event.flags & wire.ORIGIN), is_own)
            if is_own:
                self.assertEqual((event.device, event.client_msg_id), (1, 1))

    async def test_a_client_resumes_from_cursors_alone(self):
        """C5, W-SYNC-1, W-SYNC-2, W-SUB-4: bob's connection is lost without a word while alice goes on."""
        alice, bob, at_alice, at_bob, channel = await self.pair(self.first, self.second)
        first = await at_alice.publish(channel, alice.next_id(), b"before")
        _, inbox = await self._inbox_with(at_bob, channel, first.seq)
        cursor = (await at_bob.fetch_all(channel))[-1][0]
        await at_bob.abort()
        acks = [await at_alice.publish(channel, alice.next_id(), f"while away {n}".encode()) for n in range(50)]
        at_bob = await self.open(bob)
        entry, _ = await self._inbox_with(at_bob, channel, acks[-1].seq, inbox)
        self.assertEqual(entry.count, 51)
        missed = await at_bob.fetch_all(channel, cursor)
        self.assertEqual([seq for seq, _ in missed], [ack.seq for ack in acks])
        await at_bob.subscribe(channel, after=acks[-1].seq)
        last = await at_alice.publish(channel, alice.next_id(), b"and on")
        await at_bob.until(lambda: at_bob.delivered.get(channel))
        self.assertEqual([event.seq for event in at_bob.delivered[channel]], [last.seq])

    async def _inbox_with(self, reader, channel, head, after=0):
        """The inbox entry of a channel once it shows `head`: the inbox follows the channel a moment later (§11)."""
        for _ in range(100):
            entries, cursor = await reader.sync(after)
            self.assertEqual([entry.user_seq for entry in entries], sorted(entry.user_seq for entry in entries))
            found = [entry for entry in entries if entry.channel == channel and entry.head >= head]
            if found:
                self.assertEqual(len([entry for entry in entries if entry.channel == channel]), 1)
                return found[0], cursor
            await asyncio.sleep(0.1)
        self.fail("the inbox never showed the channel's head")

    async def test_a_retry_gets_the_original_number(self):
        """C3, W-PUB-4: on the same session, on another one, and over the other transport."""
        alice, _, at_alice, _, channel = await self.pair(self.first, self.second)
        original = await at_alice.publish(channel, 7, b"once")
        self.assertEqual(original.flags, 0)
        await at_alice.publish(channel, 8, b"another")
        other_way = Client(self.server, self.second, alice.name)
        again = [await at_alice.publish(channel, 7, b"once")]
        await at_alice.abort()
        again.append(await (await self.open(alice)).publish(channel, 7, b"once"))
        reader = await self.open(other_way)
        again.append(await reader.publish(channel, 7, b"once"))
        for ack in again:
            self.assertEqual((ack.flags, ack.seq, ack.ts), (wire.DUPLICATE, original.seq, original.ts))
        bodies = [event.body for _, event in await reader.fetch_all(channel)]
        self.assertEqual(bodies.count(b"once"), 1)

    async def test_the_same_id_with_another_body_is_a_conflict(self):
        """W-PUB-5."""
        _, _, at_alice, _, channel = await self.pair(self.first, self.second)
        original = await at_alice.publish(channel, 7, b"one")
        await self.refused(at_alice.publish(channel, 7, b"other"), wire.Code.CONFLICT)
        self.assertEqual((await at_alice.publish(channel, 7, b"one")).seq, original.seq)

    async def test_an_id_that_is_forgotten_has_an_unknown_outcome(self):
        """W-PUB-6: the channel remembers 16 ids of a device."""
        _, _, at_alice, _, channel = await self.pair(self.first, self.second)
        for number in range(10, 10 + 17):
            await at_alice.publish(channel, number, b"x")
        head = (await at_alice.fetch_all(channel))[-1][0]
        for forgotten in (10, 3):
            await self.refused(at_alice.publish(channel, forgotten, b"x"), wire.Code.UNKNOWN_OUTCOME)
        self.assertEqual((await at_alice.publish(channel, 11, b"x")).flags, wire.DUPLICATE)
        self.assertEqual((await at_alice.fetch_all(channel))[-1][0], head)

    async def test_a_member_who_is_not_subscribed_learns_the_head(self):
        """C4, W-LAG-2, §9: LAGGED for the channel, or for all."""
        alice, _, at_alice, at_bob, channel = await self.pair(self.first, self.second)
        ack = await at_alice.publish(channel, alice.next_id(), b"look")

        def announced():
            lagged = [frame for frame in at_bob.others if frame.name == "LAGGED"]
            return any(f.flags & wire.ALL or (f.channel == channel and f.head >= ack.seq) for f in lagged)

        await at_bob.until(announced)
        self.assertEqual((await at_bob.fetch_all(channel))[-1][0], ack.seq)
        self.assertFalse(at_bob.delivered)

    async def test_a_group_and_those_who_leave_it(self):
        """C7, W-CH-1, W-CH-3, W-CH-5, W-FETCH-4, W-MEM-1."""
        alice, bob, at_alice, at_bob, _ = await self.pair(self.first, self.second)
        channel = wire.drawn_channel()
        create = {"channel": channel, "class_": wire.GROUP, "members": [bob.user]}
        made = await at_alice.request("CREATE", **create)
        self.assertEqual((made.channel, made.class_), (channel, wire.GROUP))
        self.assertEqual((await at_alice.request("CREATE", **create)).head, made.head)
        await at_bob.subscribe(channel)
        before = await at_alice.publish(channel, alice.next_id(), b"all here")
        await at_bob.until(lambda: at_bob.delivered.get(channel))
        await at_alice.request("LEAVE", channel=channel, user=bob.user)
        after = await at_alice.publish(channel, alice.next_id(), b"among us")
        readable = await at_bob.fetch_all(channel)
        self.assertEqual([event.kind for _, event in readable][-1], wire.LEFT)
        self.assertEqual(readable[-1][0], after.seq - 1)
        self.assertEqual(readable[-1][1].body[:16], bob.user)
        self.assertIn(before.seq, [seq for seq, _ in readable])
        self.assertLess(at_bob.delivered[channel][-1].seq, after.seq)
        await self.refused(at_bob.publish(channel, bob.next_id(), b"still?"), wire.Code.NOT_FOUND)
        members = (await at_alice.request("MEMBERS", channel=channel, after=0, limit=200)).members
        self.assertEqual([(member.user, member.role) for member in members], [(alice.user, 1)])
        await self.refused(at_bob.request("MEMBERS", channel=channel, after=0, limit=1), wire.Code.NOT_FOUND)

    async def test_a_cursor_of_another_epoch_is_reset(self):
        """W-RST-1, W-RST-2."""
        alice, _, at_alice, _, channel = await self.pair(self.first, self.second)
        ack = await at_alice.publish(channel, alice.next_id(), b"history")
        epoch = at_alice.welcome.epoch
        for name, flags, fields in (
            ("FETCH", wire.STALE, {"channel": channel, "limit": 10}),
            ("SUBSCRIBE", 0, {"channel": channel}),
        ):
            at_alice.others.clear()
            pending = asyncio.ensure_future(at_alice.request(name, flags, after=1, epoch=epoch + 1, **fields))
            await at_alice.until(lambda: any(frame.name == "RESET" for frame in at_alice.others))
            reset = next(frame for frame in at_alice.others if frame.name == "RESET")
            self.assertEqual((reset.channel, reset.epoch, reset.head), (channel, epoch, ack.seq))
            self.assertFalse(pending.done(), "RESET ends the request, without another answer")
            pending.cancel()

    async def test_reads_are_as_fresh_as_they_ask(self):
        """C6, W-FETCH-2."""
        alice, _, at_alice, at_bob, channel = await self.pair(self.first, self.second)
        ack = await at_alice.publish(channel, alice.next_id(), b"fresh")
        page = await at_bob.fetch(channel, after=ack.seq - 1)
        self.assertEqual([event.body for event in page.events], [b"fresh"])
        page = await at_bob.fetch(channel, after=ack.seq - 1, flags=wire.AT_LEAST, at_least=ack.seq)
        self.assertEqual([event.body for event in page.events], [b"fresh"])
        stale = await at_bob.fetch(channel, after=0, flags=wire.STALE, limit=1)
        self.assertLessEqual(len(stale.events), 1)

    async def test_a_ping_is_answered_only_if_it_asks(self):
        """W-HB-3."""
        alice = await self.open(Client(self.server, self.first, fresh_user("alice")))
        await alice.send("PING", nonce=5)
        await alice.send("PING", wire.ANSWER_ME, nonce=6)
        pongs = lambda: [frame.nonce for frame in alice.others if frame.name == "PONG"]
        await alice.until(pongs)
        await alice.send("PING", wire.ANSWER_ME, nonce=7)
        await alice.until(lambda: len(pongs()) >= 2)
        self.assertEqual(pongs(), [6, 7])

    async def test_a_client_that_says_goodbye_is_let_go(self):
        """W-CLOSE-1."""
        alice = await self.open(Client(self.server, self.first, fresh_user("alice")))
        await alice.send("CLOSE", code=wire.Code.NORMAL, retry_after_ms=0, reason="done")
        ended = await alice.ended()
        self.assertIn(ended.code, (None, wire.Code.NORMAL))


def two_by_two(first_transport, second_transport):
    """A `Case` in which the two users come over these transports."""
    name = f"{first_transport.name}_to_{second_transport.name}"
    fields = {"first": first_transport, "second": second_transport, "__module__": "__main__"}
    return type(name, (Conversation, Case), fields)
