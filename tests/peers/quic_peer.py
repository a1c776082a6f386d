"""Clients over QUIC, by the Python library `aioquic`, with each other and with clients over WebSocket."""

import runner
import scenarios
import session
import wire
from server import Server
from transports import ALPN, Closed, QuicTransport, WsTransport

QuicOnly = scenarios.two_by_two(QuicTransport, QuicTransport)
QuicToWebSocket = scenarios.two_by_two(QuicTransport, WsTransport)


class Quic(scenarios.Case):
    """What only QUIC has."""

    async def test_another_protocol_is_refused_in_the_handshake(self):
        """W-QUIC-1."""
        self.assertEqual(ALPN, "throng/1")
        with self.assertRaises((ConnectionError, Closed)):
            await QuicTransport.connect(self.server, alpn="h3")

    async def test_a_client_that_ends_its_stream_is_done(self):
        """W-QUIC-4."""
        alice = await self.open(scenarios.Client(self.server, QuicTransport, scenarios.fresh_user("alice")))
        alice.transport.finish()
        await self.closed(alice, wire.Code.NORMAL)

    async def test_frames_may_be_cut_anywhere(self):
        """W-QUIC-3: one byte at a time."""
        client = scenarios.Client(self.server, QuicTransport, scenarios.fresh_user("alice"))
        alice = await self.connect(QuicTransport)
        flight = session.hello() + session.auth(self.server.token(client.name, 1))
        for byte in flight:
            await alice.send_raw(bytes([byte]))
        self.assertEqual((await alice.first_frame()).name, "WELCOME")


def setUpModule():
    scenarios.Case.server = Server()


def tearDownModule():
    scenarios.Case.server.stop()


if __name__ == "__main__":
    runner.main()
