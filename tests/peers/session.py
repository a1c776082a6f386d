"""One session of a client: sends frames, waits for answers, keeps what was delivered."""

import asyncio
import contextlib

import wire
from transports import Closed

ANSWER_SECONDS_MAX = 30
CLIENT = "peers/1"


class Refused(Exception):
    """An ERROR frame."""

    def __init__(self, error):
        super().__init__(f"ERROR {error.code} {error.detail!r}")
        self.error = error
        self.code = error.code


class Ended(Exception):
    """The session is over: `close` is the CLOSE frame, `transport` what the transport said, either may be None."""

    def __init__(self, close, transport):
        super().__init__(f"{close} {transport}")
        self.close = close
        self.transport = transport

    @property
    def code(self):
        return self.close.code if self.close else None


class Session:
    """Frames over a transport. Build it with `open` or, to misbehave before WELCOME, with `connect`."""

    def __init__(self, transport):
        self.transport = transport
        self.welcome = None
        self.delivered = {}  # by channel: DELIVER frames in the order they came
        self.others = []  # LAGGED, PONG, GOAWAY, RESET without a request …
        self.news = asyncio.Event()
        self._answers = {}
        self._requests = 0
        self._close_frame = None
        self._splitter = wire.Splitter()
        self._first = asyncio.get_running_loop().create_future()
        self._over = asyncio.get_running_loop().create_future()
        self._tasks = [asyncio.ensure_future(self._receive())]

    @classmethod
    async def connect(cls, server, transport):
        """A transport connection that has said nothing yet."""
        return cls(await asyncio.wait_for(transport.connect(server), ANSWER_SECONDS_MAX))

    @classmethod
    async def open(cls, server, transport, user, device):
        """Connects, sends HELLO and AUTH in one flight and waits for WELCOME (W-ORD-1)."""
        self = await cls.connect(server, transport)
        await self.send_raw(hello() + auth(server.token(user, device)))
        self.welcome = await self.first_frame()
        assert self.welcome.name == "WELCOME", self.welcome  # W-ORD-2
        self._tasks.append(asyncio.ensure_future(self._heartbeat()))
        return self

    async def first_frame(self):
        """WELCOME or CLOSE (W-ORD-2)."""
        return await asyncio.wait_for(asyncio.shield(self._first), ANSWER_SECONDS_MAX)

    async def ended(self):
        """Waits until the session is over and says how."""
        return await asyncio.wait_for(asyncio.shield(self._over), ANSWER_SECONDS_MAX)

    # Sending

    async def send_raw(self, data):
        await self.transport.send(data)

    async def send(self, name, flags=0, **fields):
        await self.send_raw(wire.encode(name, flags, **fields))

    async def request(self, name, flags=0, **fields):
        """Sends a request and waits for its one answer (W-ORD-6); an ERROR is raised."""
        self._requests += 1
        number = self._requests
        answer = self._expect(number)
        await self.send(name, flags, request=number, **fields)
        return await self._answer(answer)

    async def publish(self, channel, client_msg_id, body):
        """Sends a message and waits for its ACK."""
        return await self._answer(await self.start_publish(channel, client_msg_id, body))

    async def start_publish(self, channel, client_msg_id, body):
        """Sends a message; the future ends with its ACK."""
        answer = self._expect((channel, client_msg_id))
        await self.send("PUBLISH", channel=channel, client_msg_id=client_msg_id, body=body)
        return answer

    async def close(self):
        """Says CLOSE NORMAL and leaves."""
        with contextlib.suppress(Closed):
            await self.send("CLOSE", code=wire.Code.NORMAL, retry_after_ms=0, reason="")
            await self.ended()
        await self._leave(self.transport.close())

    async def abort(self):
        """Leaves without a word."""
        await self._leave(self.transport.abort())

    async def _leave(self, leaving):
        for task in self._tasks:
            task.cancel()
        with contextlib.suppress(Exception):
            await asyncio.wait_for(leaving, ANSWER_SECONDS_MAX)
        self._finish(None)

    # Requests of §9 to §12

    async def open_direct(self, peer):
        return await self.request("OPEN", peer=peer)

    async def subscribe(self, channel, after=0):
        return await self.request("SUBSCRIBE", channel=channel, after=after, epoch=self.welcome.epoch)

    async def fetch(self, channel, after=0, limit=200, flags=wire.LINEARIZABLE, **fields):
        fields.setdefault("epoch", self.welcome.epoch)
        return await self.request("FETCH", flags, channel=channel, after=after, limit=limit, **fields)

    async def fetch_all(self, channel, after=0):
        """Every event above `after`, as (seq, event); checks W-FETCH-1 on the way."""
        events = []
        while True:
            page = await self.fetch(channel, after)
            if not page.events:
                assert page.first == 0, page.first  # W-FETCH-3
                return events
            assert page.first == after + 1, (page.first, after)
            events += [(page.first + index, event) for index, event in enumerate(page.events)]
            after = events[-1][0]

    async def sync(self, after=0):
        """The whole inbox above `after`: its entries and the new cursor."""
        entries = []
        while True:
            synced = await self.request("SYNC", after=after, epoch=self.welcome.epoch, limit=200)
            entries += synced.entries
            after = synced.cursor
            if not synced.flags & wire.MORE:
                return entries, after

    async def until(self, condition):
        """Waits until `condition()` holds; it is asked again whenever something arrives."""

        async def wait():
            while not condition():
                self.news.clear()
                await self.news.wait()

        await asyncio.wait_for(wait(), ANSWER_SECONDS_MAX)

    # Receiving

    def _expect(self, key):
        answer = asyncio.get_running_loop().create_future()
        assert key not in self._answers, key
        if self._over.done():
            answer.set_exception(self._over.result())
        else:
            self._answers[key] = answer
        return answer

    async def _answer(self, answer):
        frame = await asyncio.wait_for(answer, ANSWER_SECONDS_MAX)
        if frame.name == "ERROR":
            raise Refused(frame)
        return frame

    async def _receive(self):
        try:
            while True:
                data = await self.transport.receive()
                for payload in self._splitter.feed(data):
                    self._take(wire.decode(payload))
        except Closed as closed:
            self._finish(closed)
        except Exception as error:  # a server that breaks the specification ends the session with the reason
            self._finish(error)

    def _take(self, frame):
        assert self._close_frame is None, f"{frame} after CLOSE (W-CLOSE-1)"
        if not self._first.done():
            self._first.set_result(frame)
        if frame.name == "DELIVER":
            self._take_delivery(frame)
        elif frame.name == "CLOSE":
            self._close_frame = frame
        elif frame.name == "PING" and frame.flags & wire.ANSWER_ME:
            asyncio.ensure_future(self.send("PONG", nonce=frame.nonce))
        elif (key := self._key(frame)) is not None:
            answer = self._answers.pop(key, None)
            assert answer is not None, f"{frame} answers nothing that is open (W-ORD-6)"
            answer.set_result(frame)
        else:
            self.others.append(frame)
        self.news.set()

    def _take_delivery(self, frame):
        events = self.delivered.setdefault(frame.channel, [])
        assert not events or frame.seq > events[-1].seq, f"{frame.seq} after {events[-1].seq} (W-DEL-2)"
        events.append(frame)

    @staticmethod
    def _key(frame):
        """What an answer answers: a request id, or channel and client_msg_id."""
        if frame.name == "ACK" or (frame.name == "ERROR" and frame.flags & 3 == wire.SCOPE_PUBLISH):
            return frame.channel, frame.client_msg_id
        return getattr(frame, "request", None)

    async def _heartbeat(self):
        """W-HB-1."""
        while True:
            await asyncio.sleep(self.welcome.heartbeat_ms / 2000)
            await self.send("PING", nonce=0)

    def _finish(self, cause):
        ended = Ended(self._close_frame, cause)
        if not self._over.done():
            self._over.set_result(ended)
        if not self._first.done():
            self._first.set_exception(ended)
            self._first.exception()  # nobody may be waiting for it
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(ended)
                answer.exception()
        self._answers.clear()
        self.news.set()


def hello(version_min=1, version_max=1, client=CLIENT):
    return wire.encode("HELLO", version_min=version_min, version_max=version_max, client=client)


def auth(token, ticket=b""):
    return wire.encode("AUTH", token=token, ticket=ticket)
