#!/usr/bin/env python3
"""Makes the golden vectors from SPEC.md, independently of the Rust codec (standard library only).

    python3 make.py           write the files beside this script
    python3 make.py --check   exit 1 if they would change

The layouts below are SPEC.md's field tables written down once more. tests/vectors.rs compares the files with the Rust
codec, so a mistake in either shows.
"""

import hashlib
import json
import pathlib
import sys

HERE = pathlib.Path(__file__).parent
USER_A, USER_B = "a1" * 16, "b2" * 16
CHANNEL, GROUP = "41" * 16, "42" * 16  # first bit 0: drawn, not direct (W-ID-2)
TS = 1_700_000_000_000
SAFE = 2**53 - 1  # larger numbers are written as strings, for readers whose numbers are doubles


# ---- primitive fields (SPEC §4, §5) ---------------------------------------------------------------------------------

def varint(value):
    for size, prefix in ((1, 0), (2, 1), (4, 2), (8, 3)):
        if value < 1 << (8 * size - 2):
            return (value | prefix << (8 * size - 2)).to_bytes(size, "big")
    raise ValueError(value)


def long_varint(value, size):
    """Not the shortest form."""
    return (value | {2: 1, 4: 2, 8: 3}[size] << (8 * size - 2)).to_bytes(size, "big")


def u48(value):
    return value.to_bytes(6, "big")


def data(value):
    return varint(len(value)) + value


def text(value):
    return data(value.encode())


WRITE = {
    "varint": varint,
    "u8": lambda value: bytes([value]),
    "u48": u48,
    "id": bytes.fromhex,
    "device": bytes.fromhex,
    "bytes": lambda value: data(bytes.fromhex(value)),
    "text": text,
    "rest": bytes.fromhex,
    "class": lambda value: bytes([["direct", "group", "open"].index(value)]),
    "role": lambda value: bytes([["member", "owner"].index(value)]),
    "ids": lambda value: varint(len(value)) + b"".join(map(bytes.fromhex, value)),
    "texts": lambda value: varint(len(value)) + b"".join(map(text, value)),
    "members": lambda value: items(value, [("member", "varint"), ("user", "id"), ("role", "role")]),
    "entries": lambda value: items(value, [("channel", "id"), ("head", "varint"), ("count", "varint"), ("user_seq", "varint")]),
    "events": lambda value: varint(len(value)) + b"".join(map(event, value)),
}


def layout(fields, table):
    return b"".join(WRITE[kind](fields[name]) for name, kind in table)


def items(value, table):
    return varint(len(value)) + b"".join(layout(item, table) for item in value)


# ---- events (SPEC §5) -----------------------------------------------------------------------------------------------

def event_head(fields):
    """Flags and kind field."""
    kind = fields["kind"]
    flags = min(kind, 15) | (0x10 if fields.get("origin") else 0)
    return flags, bytes([kind]) if kind >= 15 else b""


def origin(fields):
    known = fields.get("origin")
    return bytes.fromhex(known["device"]) + varint(known["client_msg_id"]) if known else b""


def event(fields):
    flags, kind = event_head(fields)
    head = bytes([flags]) + kind + varint(fields["sender"]) + u48(fields["ts"])
    return head + origin(fields) + data(bytes.fromhex(fields["body"]))


# ---- frames (SPEC §6 to §14) ----------------------------------------------------------------------------------------

REQUEST = ("request", "varint")
ID = ("channel", "id")
PLAIN = {  # types whose flags are 0 and whose fields stand in a row
    "HELLO": (0x01, [("version_min", "varint"), ("version_max", "varint"), ("client", "text")]),
    "AUTH": (0x02, [("token", "bytes"), ("ticket", "bytes")]),
    "UNSUBSCRIBE": (0x04, [ID]),
    "PONG": (0x09, [("nonce", "varint")]),
    "CLOSE": (0x0A, [("code", "varint"), ("retry_after_ms", "varint"), ("reason", "text")]),
    "SYNC": (0x11, [REQUEST, ("after", "varint"), ("epoch", "varint"), ("limit", "varint")]),
    "SUBSCRIBE": (0x12, [REQUEST, ID, ("after", "varint"), ("epoch", "varint")]),
    "CREATE": (0x13, [REQUEST, ID, ("class", "class"), ("members", "ids")]),
    "OPEN": (0x14, [REQUEST, ("peer", "id")]),
    "JOIN": (0x15, [REQUEST, ID, ("user", "id")]),
    "LEAVE": (0x16, [REQUEST, ID, ("user", "id")]),
    "MEMBERS": (0x17, [REQUEST, ID, ("after", "varint"), ("limit", "varint")]),
    "WELCOME": (0x40, [
        ("version", "varint"), ("version_max", "varint"), ("server", "text"), ("user", "id"), ("device", "device"),
        ("heartbeat_ms", "varint"), ("body_max", "varint"), ("frame_max", "varint"), ("inflight_max", "varint"),
        ("epoch", "varint"), ("time_ms", "u48"), ("ticket", "bytes")]),
    "GOAWAY": (0x46, [("after_ms", "varint"), ("endpoints", "texts"), ("ticket", "bytes")]),
    "SUBSCRIBED": (0x52, [REQUEST, ID, ("head", "varint"), ("member", "varint")]),
    "CHANNEL": (0x53, [REQUEST, ID, ("class", "class"), ("head", "varint"), ("member", "varint")]),
}
FLAGGED = {  # types with one flag, 0x01, that is a field of its own
    "PING": (0x08, "wants_answer", [("nonce", "varint")]),
    "ACK": (0x41, "duplicate", [ID, ("client_msg_id", "varint"), ("seq", "varint"), ("ts", "u48")]),
    "SYNCED": (0x51, "more", [REQUEST, ("cursor", "varint"), ("entries", "entries")]),
    "MEMBERS_PAGE": (0x57, "more", [REQUEST, ID, ("members", "members")]),
}


def payload(name, fields):
    """Type, flags and fields."""
    if name in PLAIN:
        number, table = PLAIN[name]
        return bytes([number, 0]) + layout(fields, table)
    if name in FLAGGED:
        number, flag, table = FLAGGED[name]
        return bytes([number, int(fields[flag])]) + layout(fields, table)
    return globals()[name.lower()](fields)


def publish(fields):
    flags, kind = event_head(fields)
    table = [ID, ("client_msg_id", "varint"), ("body", "rest")]
    return bytes([0x03, flags]) + kind + layout(fields, table)


def deliver(fields):
    flags, kind = event_head(fields)
    head = layout(fields, [ID, ("seq", "varint"), ("sender", "varint"), ("ts", "u48")])
    return bytes([0x43, flags]) + kind + head + origin(fields) + bytes.fromhex(fields["body"])


def lagged(fields):
    if "user_seq" in fields:
        return bytes([0x44, 1]) + varint(fields["user_seq"])
    return bytes([0x44, 0]) + layout(fields, [ID, ("head", "varint")])


def reset(fields):
    if "user_seq" in fields:
        return bytes([0x45, 1]) + layout(fields, [("epoch", "varint"), ("user_seq", "varint")])
    return bytes([0x45, 0]) + layout(fields, [ID, ("epoch", "varint"), ("floor", "varint"), ("head", "varint")])


def fetch(fields):
    fresh = fields["freshness"]
    flags = {"stale": 0, "linearizable": 2}.get(fresh, 1) if isinstance(fresh, str) else 1
    table = [REQUEST, ID, ("after", "varint"), ("epoch", "varint"), ("limit", "varint")]
    tail = varint(fresh["at_least"]) if flags == 1 else b""
    return bytes([0x10, flags]) + layout(fields, table) + tail


def page(fields):
    return bytes([0x50, 0]) + layout(fields, [REQUEST, ID, ("head", "varint"), ("first", "varint"), ("events", "events")])


def error(fields):
    scope = fields["scope"]
    if scope == "session":
        head = bytes([0x42, 0])
    elif "request" in scope:
        head = bytes([0x42, 1]) + varint(scope["request"])
    else:
        head = bytes([0x42, 2]) + layout(scope, [ID, ("client_msg_id", "varint")])
    return head + layout(fields, [("code", "varint"), ("retry_after_ms", "varint"), ("detail", "text")])


def framed(body):
    return varint(len(body)) + body


def frame(kind, /, **fields):
    return framed(payload(kind, fields))


# ---- output ---------------------------------------------------------------------------------------------------------

def spaced(raw):
    return raw.hex(" ")


def jsonable(value):
    if isinstance(value, bool) or not isinstance(value, (int, dict, list)):
        return value
    if isinstance(value, int):
        return str(value) if value > SAFE else value
    if isinstance(value, dict):
        return {key: jsonable(item) for key, item in value.items()}
    return [jsonable(item) for item in value]


def dump(rows):
    return "[\n" + ",\n".join("  " + json.dumps(jsonable(row)) for row in rows) + "\n]\n"


def main():
    sys.path.insert(0, str(HERE))
    import cases
    files = cases.files(sys.modules[__name__])
    stale = [name for name, content in files.items()
             if not (HERE / name).exists() or (HERE / name).read_text() != content]
    if "--check" in sys.argv:
        print("\n".join(f"{name} is stale: run make.py" for name in stale))
        sys.exit(bool(stale))
    for name in stale:
        (HERE / name).write_text(files[name])
    print(f"{len(files)} files, {len(stale)} written")


if __name__ == "__main__":
    main()
