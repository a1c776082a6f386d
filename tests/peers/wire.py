"""The frames of `throng.v1.bin`, written from wire/SPEC.md alone: no line here was taken from Throng's own codec.

A frame is a `Frame`: name, flags and fields by their names in the specification. `encode` and `decode` are strict in
both directions, so that a server that sends what the specification forbids fails the test that receives it.
"""

import hashlib
import os
from types import SimpleNamespace

VARINT_MAX = (1 << 62) - 1
NIL = bytes(16)

EXTENSION = 0x80  # W-FRAME-7, on every type
ORIGIN = 0x10  # §5, on events
KIND_BITS = 0x0F
KIND_IS_FIELD = 15

MESSAGE, JOINED, LEFT = 0, 1, 2  # event kinds, §5
DIRECT, GROUP, OPEN = 0, 1, 2  # channel classes, §12
ANSWER_ME = 0x01  # PING
DUPLICATE = 0x01  # ACK
MORE = 0x01  # SYNCED, MEMBERS_PAGE
ALL = 0x01  # LAGGED, RESET
STALE, AT_LEAST, LINEARIZABLE = 0, 1, 2  # FETCH
SCOPE_SESSION, SCOPE_REQUEST, SCOPE_PUBLISH = 0, 1, 2  # ERROR


class Malformed(Exception):
    """Bytes that the specification does not allow."""


# §2 Ids


def user_id(issuer, subject):
    """W-ID-1."""
    return hashlib.sha256(b"throng-user\0" + issuer.encode() + b"\0" + subject.encode()).digest()[:16]


def direct_channel(one, other):
    """W-ID-2."""
    hashed = hashlib.sha256(b"throng-direct\0" + min(one, other) + max(one, other)).digest()[:16]
    return bytes([hashed[0] | 0x80]) + hashed[1:]


def drawn_channel():
    """W-ID-2: an id for a group or open channel."""
    drawn = os.urandom(16)
    return bytes([drawn[0] & 0x7F]) + drawn[1:]


# §4 Framing, §5 Fields


class Reader:
    """Bytes of one frame and how far they have been read."""

    def __init__(self, data):
        self.data = data
        self.at = 0

    def take(self, count):
        """W-FIELD-1."""
        if self.at + count > len(self.data):
            raise Malformed("a field runs beyond its frame (W-FIELD-1)")
        part = self.data[self.at : self.at + count]
        self.at += count
        return part

    def rest(self):
        return self.take(len(self.data) - self.at)


def put_varint(value):
    """W-VAR-1 and W-VAR-2."""
    assert 0 <= value <= VARINT_MAX, value
    for prefix, size in ((0, 1), (1, 2), (2, 4)):
        if value < 1 << (8 * size - 2):
            return (value | prefix << (8 * size - 2)).to_bytes(size, "big")
    return (value | 3 << 62).to_bytes(8, "big")


def get_varint(reader):
    first = reader.take(1)
    size = 1 << (first[0] >> 6)
    raw = int.from_bytes(first + reader.take(size - 1), "big")
    value = raw & ((1 << (8 * size - 2)) - 1)
    if len(put_varint(value)) != size:
        raise Malformed(f"{value} in {size} bytes is not its shortest form (W-VAR-2)")
    return value


def _bounded(maximum):
    def put(value):
        assert value <= maximum, value
        return put_varint(value)

    def get(reader):
        value = get_varint(reader)
        if value > maximum:
            raise Malformed(f"{value} is above {maximum} (W-FIELD-2)")
        return value

    return put, get


def _fixed(size):
    def put(value):
        assert len(value) == size, value
        return value

    return put, lambda reader: reader.take(size)


def _number(size):
    return lambda value: value.to_bytes(size, "big"), lambda reader: int.from_bytes(reader.take(size), "big")


def _bytes(maximum):
    def get(reader):
        size = get_varint(reader)
        if size > maximum:
            raise Malformed(f"{size} bytes are above {maximum} (W-FIELD-4)")
        return reader.take(size)

    return lambda value: put_varint(len(value)) + value, get


def _text(maximum):
    put, get = _bytes(maximum)
    return lambda value: put(value.encode()), lambda reader: get(reader).decode("utf-8", "strict")


def _list(maximum, item):
    put_item, get_item = item

    def get(reader):
        count = get_varint(reader)
        if count > maximum:
            raise Malformed(f"{count} items are above {maximum} (W-FIELD-4)")
        return [get_item(reader) for _ in range(count)]

    return lambda items: put_varint(len(items)) + b"".join(map(put_item, items)), get


def _record(*layout):
    """Fields one after the other, as a namespace."""

    def put(record):
        return b"".join(codec[0](getattr(record, name)) for name, codec in layout)

    return put, lambda reader: SimpleNamespace(**{name: codec[1](reader) for name, codec in layout})


VARINT = (put_varint, get_varint)
VARINT16 = _bounded((1 << 16) - 1)
VARINT32 = _bounded((1 << 32) - 1)
U8, U48, DEVICE = _number(1), _number(6), _number(8)
ID = _fixed(16)
REST = (bytes, Reader.rest)
TEXT = _text(256)
TICKET = _bytes(256)


# §7 to §14: the layout of each frame, as a function of its flags where they change it


def _same(*layout):
    return lambda flags: layout


def _kind(flags):
    return (("kind", U8),) if flags & KIND_BITS == KIND_IS_FIELD else ()


def _origin(flags):
    return (("device", DEVICE), ("client_msg_id", VARINT)) if flags & ORIGIN else ()


def _put_event(event):
    layout = _event_layout(event.flags)
    return bytes([event.flags]) + b"".join(codec[0](getattr(event, name)) for name, codec in layout)


def _get_event(reader):
    flags = reader.take(1)[0]
    if flags & ~(ORIGIN | KIND_BITS):
        raise Malformed(f"event flags {flags:#x}")
    event = SimpleNamespace(flags=flags, kind=flags & KIND_BITS)
    for name, codec in _event_layout(flags):
        setattr(event, name, codec[1](reader))
    return event


def _event_layout(flags):
    return (*_kind(flags), ("sender", VARINT32), ("ts", U48), *_origin(flags), ("body", _bytes(1 << 30)))


def _lagged(flags):
    return (("user_seq", VARINT),) if flags & ALL else (("channel", ID), ("head", VARINT))


def _reset(flags):
    if flags & ALL:
        return ("epoch", VARINT), ("user_seq", VARINT)
    return ("channel", ID), ("epoch", VARINT), ("floor", VARINT), ("head", VARINT)


def _fetch(flags):
    at_least = (("at_least", VARINT),) if flags & 3 == AT_LEAST else ()
    fields = ("request", VARINT), ("channel", ID), ("after", VARINT), ("epoch", VARINT), ("limit", VARINT16)
    return fields + at_least


def _error(flags):
    scope = {
        SCOPE_SESSION: (),
        SCOPE_REQUEST: (("request", VARINT),),
        SCOPE_PUBLISH: (("channel", ID), ("client_msg_id", VARINT)),
    }
    return scope[flags & 3] + (("code", VARINT16), ("retry_after_ms", VARINT32), ("detail", TEXT))


_SYNC_ENTRY = _record(("channel", ID), ("head", VARINT), ("count", VARINT), ("user_seq", VARINT))
_MEMBER = _record(("member", VARINT32), ("user", ID), ("role", U8))

# type: (name, flags that exist besides the extension, layout)
FRAMES = {
    0x01: ("HELLO", 0, _same(("version_min", VARINT16), ("version_max", VARINT16), ("client", TEXT))),
    0x02: ("AUTH", 0, _same(("token", _bytes(2048)), ("ticket", TICKET))),
    0x03: (
        "PUBLISH",
        KIND_BITS,
        lambda flags: (*_kind(flags), ("channel", ID), ("client_msg_id", VARINT), ("body", REST)),
    ),
    0x04: ("UNSUBSCRIBE", 0, _same(("channel", ID))),
    0x08: ("PING", ANSWER_ME, _same(("nonce", VARINT))),
    0x09: ("PONG", 0, _same(("nonce", VARINT))),
    0x0A: ("CLOSE", 0, _same(("code", VARINT16), ("retry_after_ms", VARINT32), ("reason", TEXT))),
    0x10: ("FETCH", 3, _fetch),
    0x11: (
        "SYNC",
        0,
        _same(("request", VARINT), ("after", VARINT), ("epoch", VARINT), ("limit", VARINT16)),
    ),
    0x12: (
        "SUBSCRIBE",
        0,
        _same(("request", VARINT), ("channel", ID), ("after", VARINT), ("epoch", VARINT)),
    ),
    0x13: (
        "CREATE",
        0,
        _same(("request", VARINT), ("channel", ID), ("class_", U8), ("members", _list(200, ID))),
    ),
    0x14: ("OPEN", 0, _same(("request", VARINT), ("peer", ID))),
    0x15: ("JOIN", 0, _same(("request", VARINT), ("channel", ID), ("user", ID))),
    0x16: ("LEAVE", 0, _same(("request", VARINT), ("channel", ID), ("user", ID))),
    0x17: (
        "MEMBERS",
        0,
        _same(("request", VARINT), ("channel", ID), ("after", VARINT32), ("limit", VARINT16)),
    ),
    0x40: (
        "WELCOME",
        0,
        _same(
            ("version", VARINT16),
            ("version_max", VARINT16),
            ("server", TEXT),
            ("user", ID),
            ("device", DEVICE),
            ("heartbeat_ms", VARINT32),
            ("body_max", VARINT32),
            ("frame_max", VARINT32),
            ("inflight_max", VARINT16),
            ("epoch", VARINT),
            ("time_ms", U48),
            ("ticket", TICKET),
        ),
    ),
    0x41: (
        "ACK",
        DUPLICATE,
        _same(("channel", ID), ("client_msg_id", VARINT), ("seq", VARINT), ("ts", U48)),
    ),
    0x42: ("ERROR", 3, _error),
    0x43: (
        "DELIVER",
        ORIGIN | KIND_BITS,
        lambda flags: (
            *_kind(flags),
            ("channel", ID),
            ("seq", VARINT),
            ("sender", VARINT32),
            ("ts", U48),
            *_origin(flags),
            ("body", REST),
        ),
    ),
    0x44: ("LAGGED", ALL, _lagged),
    0x45: ("RESET", ALL, _reset),
    0x46: (
        "GOAWAY",
        0,
        _same(("after_ms", VARINT32), ("endpoints", _list(8, TEXT)), ("ticket", TICKET)),
    ),
    0x50: (
        "PAGE",
        0,
        _same(
            ("request", VARINT),
            ("channel", ID),
            ("head", VARINT),
            ("first", VARINT),
            ("events", _list(200, (_put_event, _get_event))),
        ),
    ),
    0x51: (
        "SYNCED",
        MORE,
        _same(("request", VARINT), ("cursor", VARINT), ("entries", _list(200, _SYNC_ENTRY))),
    ),
    0x52: (
        "SUBSCRIBED",
        0,
        _same(("request", VARINT), ("channel", ID), ("head", VARINT), ("member", VARINT32)),
    ),
    0x53: (
        "CHANNEL",
        0,
        _same(("request", VARINT), ("channel", ID), ("class_", U8), ("head", VARINT), ("member", VARINT32)),
    ),
    0x57: (
        "MEMBERS_PAGE",
        MORE,
        _same(("request", VARINT), ("channel", ID), ("members", _list(200, _MEMBER))),
    ),
}
TYPES = {name: number for number, (name, _, _) in FRAMES.items()}


class Frame(SimpleNamespace):
    """A frame: `name`, `flags` and its fields."""


def encode(name, flags=0, **values):
    """The frame with its length (W-FRAME-1)."""
    number = TYPES[name]
    fields = b"".join(codec[0](values[field]) for field, codec in FRAMES[number][2](flags))
    return raw_frame(number, flags, fields)


def raw_frame(number, flags, fields):
    """Any type, flags and fields, framed."""
    payload = bytes([number, flags]) + fields
    return put_varint(len(payload)) + payload


def decode(payload):
    """What follows a length. None for a type that version 1 does not have (W-TYPE-3)."""
    reader = Reader(payload)
    number, flags = reader.take(2)
    if number not in FRAMES:
        return None
    name, known_flags, layout = FRAMES[number]
    if flags & EXTENSION:
        reader.take(get_varint(reader))
    flags &= ~EXTENSION
    if flags & ~known_flags:
        raise Malformed(f"{name} with flags {flags:#x} (W-FRAME-6)")
    frame = Frame(name=name, flags=flags)
    if name in ("PUBLISH", "DELIVER"):
        frame.kind = flags & KIND_BITS
    for field, codec in layout(flags):
        setattr(frame, field, codec[1](reader))
    # W-FRAME-8 allows more, but a server of version 1 has nothing more to say.
    if reader.at != len(payload):
        raise Malformed(f"{len(payload) - reader.at} bytes behind the last field of {name}")
    return frame


class Splitter:
    """Cuts a stream of bytes into frames."""

    def __init__(self):
        self.tail = b""

    def feed(self, data):
        """All frames that are complete now, as payloads."""
        self.tail += data
        payloads = []
        while self.tail:
            size = 1 << (self.tail[0] >> 6)
            if len(self.tail) < size:
                break
            length = get_varint(Reader(self.tail[:size]))
            if length < 2:
                raise Malformed("a frame without type and flags (W-FRAME-2)")
            if len(self.tail) < size + length:
                break
            payloads.append(self.tail[size : size + length])
            self.tail = self.tail[size + length :]
        return payloads


# §14 Errors and codes


class Code:
    """Numbers of §14."""

    NORMAL = 0
    GOING_AWAY = 1
    PROTOCOL = 2
    BAD_UTF8 = 3
    FRAME_TOO_LARGE = 4
    VERSION = 5
    HANDSHAKE_TIMEOUT = 6
    HEARTBEAT_TIMEOUT = 7
    OVERLOADED = 8
    INTERNAL = 9
    SLOW_CONSUMER = 10
    REPLACED = 11
    AUTH_REQUIRED = 20
    TOKEN_INVALID = 21
    TOKEN_EXPIRED = 22
    ALREADY_AUTHENTICATED = 23
    UNAVAILABLE = 40
    BUSY = 41
    RATE_LIMITED = 42
    BODY_TOO_LARGE = 60
    UNSUPPORTED = 61
    NOT_FOUND = 62
    CONFLICT = 63
    UNKNOWN_OUTCOME = 64
    TOO_MANY_INFLIGHT = 65
    LIMIT = 66
    STALE_EPOCH = 67


WEBSOCKET_CODES = {
    Code.NORMAL: 1000,
    Code.GOING_AWAY: 1001,
    Code.PROTOCOL: 1002,
    Code.BAD_UTF8: 1007,
    Code.FRAME_TOO_LARGE: 1009,
    Code.OVERLOADED: 1013,
    Code.INTERNAL: 1011,
}


def websocket_code(code):
    """The close code on WebSocket: one of RFC 6455's, or 4000 plus the number."""
    return WEBSOCKET_CODES.get(code, 4000 + code)
