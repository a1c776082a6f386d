"""A WebSocket client by hand (RFC 6455), for frames that no library would send."""

import base64
import os
import socket
import struct

from transports import SUBPROTOCOL

OPCODE_CONTINUATION = 0x0
OPCODE_TEXT = 0x1
OPCODE_BINARY = 0x2
OPCODE_CLOSE = 0x8

FIN = 0x80
RSV1 = 0x40  # what permessage-deflate sets (RFC 7692 §7)


def frame(payload, opcode=OPCODE_BINARY, first_bits=FIN, masked=True):
    """One WebSocket frame (RFC 6455 §5.2)."""
    head = bytes([first_bits | opcode])
    mask_bit = 0x80 if masked else 0
    if len(payload) < 126:
        head += bytes([mask_bit | len(payload)])
    elif len(payload) < 1 << 16:
        head += struct.pack(">BH", mask_bit | 126, len(payload))
    else:
        head += struct.pack(">BQ", mask_bit | 127, len(payload))
    if not masked:
        return head + payload
    key = os.urandom(4)
    return head + key + bytes(byte ^ key[index % 4] for index, byte in enumerate(payload))


class RawWebSocket:
    """A blocking socket after the opening handshake. Every wait is bounded."""

    def __init__(self, address, request=None):
        self.socket = socket.create_connection(address, timeout=10)
        self.rest = b""
        self.socket.sendall(request or self.request(address))
        self.response = self._until(b"\r\n\r\n")

    @staticmethod
    def request(address, **changes):
        """The opening handshake (RFC 6455 §4.1); `changes` replace headers, None leaves one out."""
        headers = {
            "Host": f"{address[0]}:{address[1]}",
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Protocol": SUBPROTOCOL,
        }
        headers.update({name.replace("_", "-"): value for name, value in changes.items()})
        lines = ["GET /v1/ws HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in headers.items() if value is not None]
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    @property
    def status(self):
        """Status of the HTTP response."""
        return int(self.response.split(b" ", 2)[1])

    def send(self, data):
        self.socket.sendall(data)

    def read_close(self):
        """Reads frames until the close frame and returns its code; None if the server just hung up."""
        while True:
            opcode, payload = self._read_frame()
            if opcode is None:
                return None
            if opcode == OPCODE_CLOSE:
                return struct.unpack(">H", payload[:2])[0] if len(payload) >= 2 else 1005

    def read_message(self):
        """The payload of the next data frame."""
        opcode, payload = self._read_frame()
        assert opcode == OPCODE_BINARY, opcode
        return payload

    def _read_frame(self):
        head = self._exactly(2)
        if head is None:
            return None, b""
        assert not head[1] & 0x80, "a server masks nothing (RFC 6455 §5.1)"
        length = head[1] & 0x7F
        if length == 126:
            length = struct.unpack(">H", self._exactly(2))[0]
        elif length == 127:
            length = struct.unpack(">Q", self._exactly(8))[0]
        return head[0] & 0x0F, self._exactly(length)

    def _exactly(self, count):
        while len(self.rest) < count:
            try:
                data = self.socket.recv(65536)
            except ConnectionResetError:
                data = b""
            if not data:
                return None
            self.rest += data
        data, self.rest = self.rest[:count], self.rest[count:]
        return data

    def _until(self, mark):
        while mark not in self.rest:
            data = self.socket.recv(65536)
            if not data:
                raise ConnectionError("the server hung up during the handshake")
            self.rest += data
        data, self.rest = self.rest.split(mark, 1)
        return data + mark

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
