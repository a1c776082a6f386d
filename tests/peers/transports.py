"""Two ways to reach a gateway, both as a stream of bytes: Python `websockets` and `aioquic`."""

import asyncio
import ssl

import websockets
from aioquic.asyncio import QuicConnectionProtocol
from aioquic.asyncio import connect as quic_connect
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, StreamDataReceived

SUBPROTOCOL = "throng.v1.bin"
ALPN = "throng/1"


class Closed(Exception):
    """The server ended the connection; `code` is the transport's own close code."""

    def __init__(self, code, reason=""):
        super().__init__(f"closed with {code} {reason!r}")
        self.code = code


class WsTransport:
    """Frames in binary messages of the subprotocol `throng.v1.bin`."""

    name = "WebSocket"

    @classmethod
    async def connect(cls, server):
        host, port = server.websocket_address
        self = cls()
        self.socket = await websockets.connect(
            f"ws://{host}:{port}/v1/ws",
            subprotocols=[SUBPROTOCOL],
            compression=None,
            ping_interval=None,
            proxy=None,
            max_size=None,
        )
        assert self.socket.subprotocol == SUBPROTOCOL, self.socket.subprotocol
        return self

    async def send(self, data):
        try:
            await self.socket.send(data)
        except websockets.ConnectionClosed as closed:
            raise self._closed(closed) from closed

    async def receive(self):
        try:
            return await self.socket.recv()
        except websockets.ConnectionClosed as closed:
            raise self._closed(closed) from closed

    @staticmethod
    def _closed(closed):
        frame = closed.rcvd
        return Closed(frame.code, frame.reason) if frame else Closed(None, "no close frame")

    async def close(self):
        await self.socket.close()

    async def abort(self):
        """Leaves without a word, as a lost network does."""
        self.socket.transport.abort()


class _Nowhere:
    """A datagram transport whose network is gone."""

    def sendto(self, *_):
        pass

    def close(self):
        pass


class _QuicProtocol(QuicConnectionProtocol):
    """Queues what arrives on the one stream, and how the connection ended."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.arrived = asyncio.Queue()

    def lose(self):
        """From here on nothing leaves and nothing arrives; the timers go on as they would."""
        self._transport.abort()
        self._transport = _Nowhere()

    def quic_event_received(self, event):
        if isinstance(event, StreamDataReceived):
            if event.data:
                self.arrived.put_nowait(event.data)
        elif isinstance(event, ConnectionTerminated):
            self.arrived.put_nowait(Closed(event.error_code, event.reason_phrase))


class QuicTransport:
    """Frames on one bidirectional stream, ALPN `throng/1`."""

    name = "QUIC"

    @classmethod
    async def connect(cls, server, alpn=ALPN):
        host, port = server.quic_address
        configuration = QuicConfiguration(is_client=True, alpn_protocols=[alpn], server_name="localhost")
        configuration.load_verify_locations(server.certificate)
        configuration.verify_mode = ssl.CERT_REQUIRED
        self = cls()
        self.context = quic_connect(host, port, configuration=configuration, create_protocol=_QuicProtocol)
        self.protocol = await self.context.__aenter__()
        self.stream = self.protocol._quic.get_next_available_stream_id(is_unidirectional=False)
        self.ended = None
        return self

    async def send(self, data):
        self.protocol._quic.send_stream_data(self.stream, data)
        self.protocol.transmit()
        await asyncio.sleep(0)

    def finish(self):
        """Ends our side of the stream."""
        self.protocol._quic.send_stream_data(self.stream, b"", end_stream=True)
        self.protocol.transmit()

    async def receive(self):
        if self.ended is None:
            item = await self.protocol.arrived.get()
            if not isinstance(item, Closed):
                return item
            self.ended = item
        raise self.ended

    async def close(self):
        await self.context.__aexit__(None, None, None)

    async def abort(self):
        """Leaves without a word, as a lost network does."""
        self.protocol.lose()
