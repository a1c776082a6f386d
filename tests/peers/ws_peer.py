"""Two clients over WebSocket, by the Python library `websockets`."""

import runner
import scenarios
from server import Server
from transports import WsTransport

WebSocketOnly = scenarios.two_by_two(WsTransport, WsTransport)


def setUpModule():
    scenarios.Case.server = Server()


def tearDownModule():
    scenarios.Case.server.stop()


if __name__ == "__main__":
    runner.main()
