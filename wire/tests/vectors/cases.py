"""What the vectors contain; the bytes come from make.py."""

import hashlib

NIL = "00" * 16


def files(m):
    return {
        "varint.json": m.dump(varints(m)),
        "valid.json": m.dump(valid(m)),
        "malformed.json": m.dump(malformed(m)),
        "unknown.json": m.dump(unknown(m)),
        "ids.json": m.dump(ids()),
        **{f"traces/{name}.json": trace(m, *content) for name, content in traces(m).items()},
    }


# ---- numbers --------------------------------------------------------------------------------------------------------

def varints(m):
    rows = []
    for value in (0, 1, 37, 63, 64, 15293, 16383, 16384, 494878333, 2**30 - 1, 2**30, 151288809941952652, 2**62 - 1):
        rows.append({"spec": "W-VAR-1", "value": value, "hex": m.spaced(m.varint(value))})
    for value, size in ((37, 2), (63, 4), (0, 8), (16383, 4), (2**30 - 1, 8)):
        rows.append({"spec": "W-VAR-2", "error": "PROTOCOL", "hex": m.spaced(m.long_varint(value, size))})
    return rows


# ---- valid frames ---------------------------------------------------------------------------------------------------

def valid(m):
    rows = []

    def add(name, spec, kind, /, raw=None, **fields):
        raw = m.frame(kind, **fields) if raw is None else raw
        rows.append({"name": name, "spec": spec, "type": kind, "hex": m.spaced(raw), "fields": fields})

    hello = {"version_min": 1, "version_max": 1, "client": "demo/10"}
    add("hello", "W-ORD-1", "HELLO", **hello)
    add("hello-versions", "W-VER-1", "HELLO", version_min=1, version_max=65535, client="")
    add("auth", "W-ORD-1", "AUTH", token=b"jwt".hex(), ticket="")
    add("auth-ticket", "W-AUTH-3", "AUTH", token=b"jwt".hex(), ticket="0102ff")
    add("welcome", "W-ORD-2", "WELCOME", **welcome(m))
    add("welcome-large", "W-LIM-1", "WELCOME", **{
        **welcome(m), "device": "ffffffffffffffff", "heartbeat_ms": 2**32 - 1, "body_max": 1048576,
        "frame_max": 1052672, "epoch": 2**62 - 1, "time_ms": 2**48 - 1, "ticket": "77" * 256})
    add("ping", "W-HB-1", "PING", wants_answer=False, nonce=0)
    add("ping-answer", "W-HB-3", "PING", wants_answer=True, nonce=42)
    add("pong", "W-HB-3", "PONG", nonce=42)

    body = b"hello".hex()
    sent = {"channel": m.CHANNEL, "client_msg_id": 1, "kind": 0, "body": body}
    add("publish", "W-FRAME-1", "PUBLISH", **sent)
    add("publish-empty", "W-FRAME-1", "PUBLISH", **{**sent, "client_msg_id": 2**62 - 1, "body": ""})
    add("publish-kind-14", "W-EV-1", "PUBLISH", **{**sent, "kind": 14})
    add("publish-kind-15", "W-EV-1", "PUBLISH", **{**sent, "kind": 15})
    add("publish-kind-255", "W-EV-2", "PUBLISH", **{**sent, "kind": 255})
    ack = {"channel": m.CHANNEL, "client_msg_id": 1, "seq": 7, "ts": m.TS}
    add("ack", "W-PUB-2", "ACK", duplicate=False, **ack)
    add("ack-duplicate", "W-PUB-4", "ACK", duplicate=True, **ack)

    event = {"kind": 0, "sender": 3, "ts": m.TS, "origin": None, "body": body}
    own = {"device": "0000000000000007", "client_msg_id": 4}
    add("deliver", "W-DEL-1", "DELIVER", channel=m.CHANNEL, seq=7, **event)
    add("deliver-origin", "W-DEL-3", "DELIVER", channel=m.CHANNEL, seq=7, **{**event, "origin": own})
    add("deliver-joined", "W-EV-3", "DELIVER", channel=m.CHANNEL, seq=1,
        **{**event, "kind": 1, "sender": 1, "body": m.USER_B + "00000002"})
    add("deliver-unknown-kind", "W-EV-2", "DELIVER", channel=m.CHANNEL, seq=8, **{**event, "kind": 200, "origin": own})
    add("lagged-channel", "W-LAG-1", "LAGGED", channel=m.CHANNEL, head=9)
    add("lagged-all", "W-LAG-1", "LAGGED", user_seq=100)
    add("reset-channel", "W-RST-1", "RESET", channel=m.CHANNEL, epoch=2, floor=5, head=9)
    add("reset-inbox", "W-RST-1", "RESET", epoch=2, user_seq=100)

    asked = {"request": 3, "channel": m.CHANNEL, "after": 7, "epoch": 1, "limit": 200}
    add("fetch-stale", "W-FETCH-2", "FETCH", freshness="stale", **asked)
    add("fetch-at-least", "W-FETCH-2", "FETCH", freshness={"at_least": 9}, **asked)
    add("fetch-linearizable", "W-FETCH-2", "FETCH", freshness="linearizable", **asked)
    events = [
        {**event, "body": b"hi".hex()},
        {**event, "sender": 1, "ts": m.TS + 256, "origin": own, "body": b"bye".hex()},
    ]
    found = {"request": 3, "channel": m.CHANNEL, "head": 9}
    add("page", "W-FETCH-1", "PAGE", first=8, events=events, **found)
    add("page-empty", "W-FETCH-3", "PAGE", first=0, events=[], **found)
    add("page-last-numbers", "W-FETCH-3", "PAGE", **{**found, "head": 2**62 - 1}, first=2**62 - 2, events=events)

    add("sync", "W-SYNC-1", "SYNC", request=4, after=0, epoch=1, limit=50)
    moved = {"channel": m.CHANNEL, "head": 9, "count": 6, "user_seq": 8}
    add("synced", "W-SYNC-1", "SYNCED", request=4, cursor=8, more=True, entries=[moved])
    add("synced-empty", "W-SYNC-2", "SYNCED", request=4, cursor=8, more=False, entries=[])
    add("subscribe", "W-SUB-1", "SUBSCRIBE", request=2, channel=m.CHANNEL, after=7, epoch=1)
    add("subscribed", "W-SUB-1", "SUBSCRIBED", request=2, channel=m.CHANNEL, head=9, member=3)
    add("unsubscribe", "W-FRAME-1", "UNSUBSCRIBE", channel=m.CHANNEL)

    add("create", "W-CH-1", "CREATE", **{"request": 5, "channel": m.GROUP, "class": "group", "members": [m.USER_B]})
    add("create-full", "W-FIELD-4", "CREATE",
        **{"request": 5, "channel": m.GROUP, "class": "open", "members": [f"{n:032x}" for n in range(1, 201)]})
    add("open", "W-CH-2", "OPEN", request=6, peer=m.USER_B)
    add("join", "W-CH-3", "JOIN", request=7, channel=m.GROUP, user=m.USER_B)
    add("leave-oneself", "W-CH-3", "LEAVE", request=7, channel=m.GROUP, user=NIL)
    add("channel", "W-CH-1", "CHANNEL", **{"request": 5, "channel": m.GROUP, "class": "group", "head": 2, "member": 1})
    add("members", "W-MEM-1", "MEMBERS", request=8, channel=m.CHANNEL, after=0, limit=200)
    listed = {"member": 3, "user": m.USER_A, "role": "owner"}
    add("members-page", "W-MEM-1", "MEMBERS_PAGE", request=8, channel=m.CHANNEL, more=False, members=[listed])

    add("goaway", "W-GO-1", "GOAWAY", after_ms=3000, endpoints=["wss://b.example/v1/ws"], ticket="746b")
    add("goaway-bare", "W-GO-1", "GOAWAY", after_ms=0, endpoints=[], ticket="")
    add("close", "W-CLOSE-1", "CLOSE", code=1, retry_after_ms=0, reason="bye")
    add("close-later-code", "W-ERR-3", "CLOSE", code=999, retry_after_ms=60000, reason="Grüße")
    add("error-session", "W-ERR-1", "ERROR", scope="session", code=61, retry_after_ms=0, detail="")
    add("error-request", "W-ERR-1", "ERROR", scope={"request": 3}, code=41, retry_after_ms=100, detail="")
    add("error-publish", "W-PUB-10", "ERROR", scope={"channel": m.CHANNEL, "client_msg_id": 1}, code=62,
        retry_after_ms=0, detail="")

    # What a later version may add (the fields are those of version 1, the bytes are not what version 1 would write).
    extended = m.payload("PUBLISH", sent)
    extended = m.framed(bytes([extended[0], extended[1] | 0x80]) + m.data(b"\xff\x00new") + extended[2:])
    add("later-publish-extension", "W-FRAME-7", "PUBLISH", raw=extended, **sent)
    empty = m.payload("PONG", {"nonce": 42})
    add("later-pong-empty-extension", "W-FRAME-7", "PONG", raw=m.framed(bytes([empty[0], 0x80, 0]) + empty[2:]), nonce=42)
    add("later-hello-trailing", "W-FRAME-8", "HELLO", raw=m.framed(m.payload("HELLO", hello) + b"\x01new"), **hello)
    add("later-page-trailing", "W-FRAME-8", "PAGE",
        raw=m.framed(m.payload("PAGE", {"first": 8, "events": events, **found}) + b"\x00"), first=8, events=events, **found)
    return rows


def welcome(m):
    return {
        "version": 1, "version_max": 1, "server": "node-1a", "user": m.USER_A, "device": "0000000000000007",
        "heartbeat_ms": 5000, "body_max": 65536, "frame_max": 69632, "inflight_max": 16, "epoch": 1, "time_ms": m.TS,
        "ticket": ""}


# ---- malformed frames -----------------------------------------------------------------------------------------------

def malformed(m):
    rows = []

    def add(name, spec, code, raw, **more):
        rows.append({"name": name, "spec": spec, "code": code, "hex": m.spaced(raw), **more})

    def bad(name, spec, code, body, **more):
        add(name, spec, code, m.framed(body), **more)

    channel = bytes.fromhex(m.CHANNEL)
    add("length-0", "W-FRAME-2", "PROTOCOL", b"\x00")
    add("length-1", "W-FRAME-2", "PROTOCOL", b"\x01\x08")
    add("length-long-form", "W-VAR-2", "PROTOCOL", b"\x40\x03\x09\x00\x2a")
    add("length-above-limit", "W-FRAME-4", "FRAME_TOO_LARGE", m.varint(69633) + b"\x03\x00", frame_max=69632)
    add("length-2-62", "W-FRAME-4", "FRAME_TOO_LARGE", b"\xff" * 8, frame_max=69632)
    add("length-above-limit-before-welcome", "W-FRAME-5", "FRAME_TOO_LARGE", m.varint(4097) + b"\x01\x00", frame_max=4096)
    bad("type-0", "W-FRAME-3", "PROTOCOL", b"\x00\x00")
    bad("pong-flag", "W-FRAME-6", "PROTOCOL", b"\x09\x01\x2a")
    bad("publish-origin-flag", "W-FRAME-6", "PROTOCOL", b"\x03\x10" + channel + b"\x01")
    bad("deliver-flag-40", "W-FRAME-6", "PROTOCOL", b"\x43\x40" + channel + b"\x01\x01" + m.u48(m.TS))
    bad("fetch-freshness-3", "W-FRAME-6", "PROTOCOL", b"\x10\x03\x01" + channel + b"\x00\x01\x01\x01", request=1)
    bad("error-scope-3", "W-FRAME-6", "PROTOCOL", b"\x42\x03\x01\x00\x00")
    bad("extension-cut", "W-FRAME-7", "PROTOCOL", b"\x09\x80\x05\x01\x02")
    bad("publish-cut-in-channel", "W-FIELD-1", "PROTOCOL", b"\x03\x00" + channel[:15])
    bad("publish-without-id", "W-FIELD-1", "PROTOCOL", b"\x03\x00" + channel)
    bad("ping-cut-in-varint", "W-FIELD-1", "PROTOCOL", b"\x08\x00\x40")
    bad("ping-long-varint", "W-VAR-2", "PROTOCOL", b"\x08\x00\x40\x2a")
    bad("ack-cut-in-time", "W-FIELD-1", "PROTOCOL", b"\x41\x00" + channel + b"\x01\x07\x01\x02\x03")
    bad("auth-token-beyond-end", "W-FIELD-1", "PROTOCOL", b"\x02\x00\x09jwt\x00")
    bad("hello-version-range", "W-FIELD-2", "PROTOCOL", b"\x01\x00\x02\x01\x00")
    bad("hello-version-65536", "W-FIELD-2", "PROTOCOL", b"\x01\x00\x01" + m.varint(65536) + b"\x00")
    bad("hello-client-not-utf8", "W-FIELD-3", "BAD_UTF8", b"\x01\x00\x01\x01\x02\xc3\x28")
    bad("hello-client-surrogate", "W-FIELD-3", "BAD_UTF8", b"\x01\x00\x01\x01\x03\xed\xa0\x80")
    bad("hello-client-257", "W-FIELD-4", "LIMIT", b"\x01\x00\x01\x01" + m.data(b"x" * 257))
    bad("auth-token-2049", "W-FIELD-4", "LIMIT", b"\x02\x00" + m.data(b"x" * 2049) + b"\x00")
    bad("auth-ticket-257", "W-FIELD-4", "LIMIT", b"\x02\x00\x00" + m.data(b"x" * 257))
    bad("close-code-65536", "W-FIELD-2", "PROTOCOL", b"\x0a\x00" + m.varint(65536) + b"\x00\x00")
    bad("close-reason-not-utf8", "W-FIELD-3", "BAD_UTF8", b"\x0a\x00\x00\x00\x01\xff")
    bad("deliver-kind-below-15", "W-EV-1", "PROTOCOL", b"\x43\x0f\x0e" + channel + b"\x01\x01" + m.u48(m.TS))
    bad("deliver-sender-2-32", "W-FIELD-2", "PROTOCOL", b"\x43\x00" + channel + b"\x01" + m.varint(2**32) + m.u48(m.TS))
    bad("create-class-3", "W-FIELD-2", "PROTOCOL", b"\x13\x00\x05" + channel + b"\x03\x00", request=5)
    bad("create-201", "W-FIELD-4", "LIMIT", b"\x13\x00\x05" + channel + b"\x01" + m.varint(201) + bytes(16 * 201),
        request=5)
    bad("create-count-beyond-end", "W-FIELD-1", "PROTOCOL", b"\x13\x00\x05" + channel + b"\x01\x02" + bytes(31), request=5)
    bad("fetch-limit-0", "W-FIELD-4", "LIMIT", b"\x10\x00\x03" + channel + b"\x07\x01\x00", request=3)
    bad("fetch-limit-201", "W-FIELD-4", "LIMIT", b"\x10\x00\x03" + channel + b"\x07\x01" + m.varint(201), request=3)
    bad("sync-limit-201", "W-FIELD-4", "LIMIT", b"\x11\x00\x04\x00\x01" + m.varint(201), request=4)
    bad("members-limit-0", "W-FIELD-4", "LIMIT", b"\x17\x00\x08" + channel + b"\x00\x00", request=8)
    bad("members-page-role-2", "W-FIELD-2", "PROTOCOL", b"\x57\x00\x08" + channel + b"\x01\x03" + bytes(16) + b"\x02")
    bad("page-201", "W-FIELD-4", "LIMIT", b"\x50\x00\x03" + channel + b"\x09\x01" + m.varint(201) + bytes(9 * 201))
    bad("page-huge-count", "W-FIELD-4", "LIMIT", b"\x50\x00\x03" + channel + b"\x09\x01" + m.varint(2**62 - 1))
    bad("page-first-without-events", "W-FETCH-3", "PROTOCOL", b"\x50\x00\x03" + channel + b"\x09\x08\x00")
    bad("page-events-without-first", "W-FETCH-3", "PROTOCOL", b"\x50\x00\x03" + channel + b"\x09\x00\x01" + bytes(9))
    events = b"\x02" + bytes(18)
    bad("page-last-above-2-62", "W-FETCH-3", "PROTOCOL", b"\x50\x00\x03" + channel + b"\x09" + m.varint(2**62 - 1) + events)
    bad("page-event-flag", "W-FRAME-6", "PROTOCOL", b"\x50\x00\x03" + channel + b"\x09\x01\x01\x20" + bytes(8))
    bad("synced-201", "W-FIELD-4", "LIMIT", b"\x51\x00\x04\x08" + m.varint(201) + bytes(19 * 201))
    bad("goaway-9", "W-FIELD-4", "LIMIT", b"\x46\x00\x00\x09" + bytes(10))
    return rows


def unknown(m):
    """Types of later versions: skipped, or answered by UNSUPPORTED if they are requests."""
    return [
        {"name": "server-type", "spec": "W-TYPE-3", "hex": m.spaced(m.framed(b"\x7f\x55\x01\x02")), "request": None},
        {"name": "client-type", "spec": "W-TYPE-3", "hex": m.spaced(m.framed(b"\x0f\x00")), "request": None},
        {"name": "reserved-read", "spec": "W-TYPE-3", "hex": m.spaced(m.framed(b"\x05\x00\x01")), "request": None},
        {"name": "request", "spec": "W-TYPE-3", "hex": m.spaced(m.framed(b"\x3f\x01\x25\xff")), "request": 37},
        {"name": "request-extended", "spec": "W-TYPE-2",
         "hex": m.spaced(m.framed(b"\x3f\x80\x02\xff\xff\x25")), "request": 37},
        {"name": "reserved-presence", "spec": "W-TYPE-3", "hex": m.spaced(m.framed(b"\x18\x00\x40\x64")), "request": 100},
    ]


# ---- ids ------------------------------------------------------------------------------------------------------------

def user_id(issuer, subject):
    return hashlib.sha256(b"throng-user\0" + issuer.encode() + b"\0" + subject.encode()).digest()[:16]


def direct_id(a, b):
    raw = hashlib.sha256(b"throng-direct\0" + min(a, b) + max(a, b)).digest()[:16]
    return bytes([raw[0] | 0x80]) + raw[1:]


def slot(raw):
    value = 0xCBF29CE484222325
    for byte in raw:
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return (value ^ value >> 16 ^ value >> 32 ^ value >> 48) & 0xFFFF


def ids():
    rows = []
    for issuer, subject in (("throng", "alice"), ("throng", "bob"), ("https://id.example", "üser 7"), ("", "")):
        raw = user_id(issuer, subject)
        rows.append({"spec": "W-ID-1", "issuer": issuer, "subject": subject, "user": raw.hex()})
    alice, bob = user_id("throng", "alice"), user_id("throng", "bob")
    erin = user_id("throng", "erin")  # hashes of her pairs have the first bit 0 or 1
    for a, b in ((alice, bob), (bob, alice), (alice, alice), (bob, erin), (erin, alice), (erin, erin)):
        rows.append({"spec": "W-ID-2", "users": [a.hex(), b.hex()], "channel": direct_id(a, b).hex()})
    for raw in (bytes(16), alice, bob, direct_id(alice, bob), bytes(range(16)), b"\xff" * 16):
        shards = {str(n): slot(raw) * n // 65536 for n in (1, 64, 65536)}
        rows.append({"spec": "W-ID-3", "id": raw.hex(), "slot": slot(raw), "shard": shards})
    return rows


# ---- state traces ---------------------------------------------------------------------------------------------------

def trace(m, about, spec, steps):
    rows = []
    for side, kind, fields in steps:
        raw = fields if isinstance(fields, bytes) else m.frame(kind, **fields)
        rows.append({"from": side, "type": kind, "hex": m.spaced(raw)})
    import json
    body = ",\n".join("    " + json.dumps(row) for row in rows)
    return f'{{\n  "about": {json.dumps(about)},\n  "spec": {json.dumps(spec)},\n  "steps": [\n{body}\n  ]\n}}\n'


def traces(m):
    client, server = "client", "server"
    opening = [
        (client, "HELLO", {"version_min": 1, "version_max": 1, "client": "demo/10"}),
        (client, "AUTH", {"token": b"jwt".hex(), "ticket": ""}),
        (server, "WELCOME", welcome(m)),
    ]
    event = {"kind": 0, "sender": 3, "ts": m.TS, "origin": None, "body": b"hello".hex()}
    sent = {"channel": m.CHANNEL, "client_msg_id": 1, "kind": 0, "body": b"hello".hex()}
    ack = {"channel": m.CHANNEL, "client_msg_id": 1, "seq": 8, "ts": m.TS}

    def close(code, reason=""):
        return (server, "CLOSE", {"code": code, "retry_after_ms": 0, "reason": reason})

    def publish_error(number, code):
        scope = {"channel": m.CHANNEL, "client_msg_id": number}
        return (server, "ERROR", {"scope": scope, "code": code, "retry_after_ms": 0, "detail": ""})

    subscribing = [
        (client, "SUBSCRIBE", {"request": 2, "channel": m.CHANNEL, "after": 5, "epoch": 1}),
        (server, "SUBSCRIBED", {"request": 2, "channel": m.CHANNEL, "head": 7, "member": 3}),
    ]
    fetching = [
        (client, "FETCH", {"request": 3, "channel": m.CHANNEL, "after": 5, "epoch": 1, "limit": 2,
                           "freshness": {"at_least": 7}}),
        (server, "PAGE", {"request": 3, "channel": m.CHANNEL, "head": 7, "first": 6, "events": [event, event]}),
    ]
    own = {**event, "origin": {"device": "0000000000000007", "client_msg_id": 1}}
    return {
        "send-and-receive": ("A session subscribes, closes its gap, sends, and sees its own event.",
                             ["W-ORD-1", "W-ORD-2", "W-SUB-1", "W-PUB-2", "W-DEL-2", "W-DEL-3"],
                             [*opening, *subscribing, *fetching,
                              (client, "PUBLISH", sent),
                              (server, "DELIVER", {"channel": m.CHANNEL, "seq": 8, **own}),
                              (server, "ACK", {"duplicate": False, **ack}),
                              (client, "CLOSE", {"code": 0, "retry_after_ms": 0, "reason": ""})]),
        "retry": ("The answer to a send was lost: the retry gets the original number; another body is a conflict; an id "
                  "that is forgotten has an unknown outcome.",
                  ["W-PUB-3", "W-PUB-4", "W-PUB-5", "W-PUB-6"],
                  [*opening,
                   (client, "PUBLISH", {**sent, "client_msg_id": 20}),
                   (server, "ACK", {"duplicate": True, **{**ack, "client_msg_id": 20}}),
                   (client, "PUBLISH", {**sent, "client_msg_id": 20, "body": b"other".hex()}),
                   publish_error(20, 63),
                   (client, "PUBLISH", {**sent, "client_msg_id": 1}),
                   publish_error(1, 64)]),
        "lagged": ("Deliveries were dropped: LAGGED says so, and FETCH closes the gap.",
                   ["W-LAG-1", "W-LAG-2", "W-DEL-4"],
                   [*opening, *subscribing,
                    (server, "LAGGED", {"channel": m.CHANNEL, "head": 7}),
                    *fetching,
                    (server, "DELIVER", {"channel": m.CHANNEL, "seq": 8, **event})]),
        "reset": ("A cursor of an older epoch cannot be continued: start over with the new epoch.",
                  ["W-RST-1", "W-RST-2"],
                  [*opening,
                   (client, "SUBSCRIBE", {"request": 2, "channel": m.CHANNEL, "after": 5, "epoch": 0}),
                   (server, "RESET", {"channel": m.CHANNEL, "epoch": 1, "floor": 1, "head": 7}),
                   (client, "SUBSCRIBE", {"request": 3, "channel": m.CHANNEL, "after": 0, "epoch": 1}),
                   (server, "SUBSCRIBED", {"request": 3, "channel": m.CHANNEL, "head": 7, "member": 3}),
                   (client, "SYNC", {"request": 4, "after": 9, "epoch": 0, "limit": 50}),
                   (server, "RESET", {"epoch": 1, "user_seq": 3}),
                   (client, "SYNC", {"request": 5, "after": 0, "epoch": 1, "limit": 50}),
                   (server, "SYNCED", {"request": 5, "cursor": 3, "more": False, "entries": [
                       {"channel": m.CHANNEL, "head": 7, "count": 5, "user_seq": 3}]})]),
        "channels": ("Open a direct channel twice (harmless), create a group, add, list, remove; two ids that CREATE refuses.",
                     ["W-CH-1", "W-CH-2", "W-CH-3", "W-CH-6", "W-MEM-1"],
                     [*opening,
                      (client, "OPEN", {"request": 1, "peer": m.USER_B}),
                      (server, "CHANNEL", {"request": 1, "channel": direct(m), "class": "direct", "head": 2, "member": 1}),
                      (client, "OPEN", {"request": 2, "peer": m.USER_B}),
                      (server, "CHANNEL", {"request": 2, "channel": direct(m), "class": "direct", "head": 2, "member": 1}),
                      (client, "CREATE", {"request": 3, "channel": m.GROUP, "class": "direct", "members": [m.USER_B]}),
                      (server, "ERROR", {"scope": {"request": 3}, "code": 61, "retry_after_ms": 0, "detail": ""}),
                      (client, "CREATE", {"request": 4, "channel": m.GROUP, "class": "group", "members": []}),
                      (server, "CHANNEL", {"request": 4, "channel": m.GROUP, "class": "group", "head": 1, "member": 1}),
                      (client, "JOIN", {"request": 5, "channel": m.GROUP, "user": m.USER_B}),
                      (server, "CHANNEL", {"request": 5, "channel": m.GROUP, "class": "group", "head": 2, "member": 2}),
                      (client, "MEMBERS", {"request": 6, "channel": m.GROUP, "after": 0, "limit": 200}),
                      (server, "MEMBERS_PAGE", {"request": 6, "channel": m.GROUP, "more": False, "members": [
                          {"member": 1, "user": m.USER_A, "role": "owner"},
                          {"member": 2, "user": m.USER_B, "role": "member"}]}),
                      (client, "LEAVE", {"request": 7, "channel": m.GROUP, "user": m.USER_B}),
                      (server, "CHANNEL", {"request": 7, "channel": m.GROUP, "class": "group", "head": 3, "member": 2}),
                      (client, "CREATE", {"request": 8, "channel": direct(m), "class": "group", "members": []}),
                      (server, "ERROR", {"scope": {"request": 8}, "code": 66, "retry_after_ms": 0, "detail": ""}),
                      (client, "CREATE", {"request": 9, "channel": "ff" * 16, "class": "open", "members": []}),
                      (server, "ERROR", {"scope": {"request": 9}, "code": 66, "retry_after_ms": 0, "detail": ""})]),
        "liveness": ("PING asks or does not ask; a drain announces itself.",
                     ["W-HB-1", "W-HB-3", "W-GO-1", "W-CLOSE-1"],
                     [*opening,
                      (client, "PING", {"wants_answer": False, "nonce": 0}),
                      (client, "PING", {"wants_answer": True, "nonce": 7}),
                      (server, "PONG", {"nonce": 7}),
                      (server, "PING", {"wants_answer": True, "nonce": 8}),
                      (client, "PONG", {"nonce": 8}),
                      (server, "GOAWAY", {"after_ms": 3000, "endpoints": ["wss://b.example/v1/ws"], "ticket": ""}),
                      (client, "PUBLISH", sent),
                      (server, "ACK", {"duplicate": False, **ack}),
                      (client, "CLOSE", {"code": 0, "retry_after_ms": 0, "reason": ""}),
                      close(0)]),
        "unknown-request": ("A request and a frame of later versions: one is refused, the other skipped.",
                            ["W-TYPE-2", "W-TYPE-3", "W-ERR-1"],
                            [*opening,
                             (client, None, m.framed(b"\x3f\x00\x25")),
                             (server, "ERROR", {"scope": {"request": 37}, "code": 61, "retry_after_ms": 0, "detail": ""}),
                             (client, None, m.framed(b"\x0f\x00")),
                             (client, "PING", {"wants_answer": True, "nonce": 1}),
                             (server, "PONG", {"nonce": 1})]),
        "limit-in-request": ("A list above its limit fails its request, not the session.", ["W-ERR-4", "W-FIELD-4"],
                             [*opening,
                              (client, None, m.framed(b"\x11\x00\x04\x00\x01" + m.varint(201))),
                              (server, "ERROR", {"scope": {"request": 4}, "code": 66, "retry_after_ms": 0, "detail": ""}),
                              (client, "PING", {"wants_answer": True, "nonce": 1}),
                              (server, "PONG", {"nonce": 1})]),
        "early-publish": ("Nothing but HELLO, AUTH and CLOSE before WELCOME.", ["W-ORD-3"],
                          [*opening[:1], (client, "PUBLISH", sent), close(20)]),
        "early-ping": ("A PING is too early, too.", ["W-ORD-3"],
                       [*opening[:2], (client, "PING", {"wants_answer": False, "nonce": 0}), close(20)]),
        "second-hello": ("HELLO twice.", ["W-ORD-1"], [opening[0], opening[0], close(2)]),
        "auth-first": ("AUTH before HELLO.", ["W-ORD-1"], [opening[1], close(2)]),
        "second-auth": ("AUTH twice.", ["W-ORD-4"], [*opening, opening[1], close(23)]),
        "wrong-side": ("A client sends a server's frame.", ["W-TYPE-4"],
                       [*opening, (client, "ACK", {"duplicate": False, **ack}), close(2)]),
        "no-version": ("No version in common.", ["W-VER-1"],
                       [(client, "HELLO", {"version_min": 2, "version_max": 3, "client": "demo/20"}), opening[1], close(5)]),
        "bad-varint": ("A broken frame ends the session with the code of its fault.", ["W-ERR-4", "W-VAR-2"],
                       [*opening, (client, None, m.framed(b"\x08\x00\x40\x2a")), close(2)]),
    }


def direct(m):
    return direct_id(bytes.fromhex(m.USER_A), bytes.fromhex(m.USER_B)).hex()
