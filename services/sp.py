"""SP, the nanomsg wire protocol, and Griddle's request and reply on top of it. nginx/lua/sp.lua writes the same.

SP itself (nanomsg RFC "sp-tcp-mapping", "sp-request-reply"): on connect, each side sends 8 bytes: 00 'S' 'P' 00,
the protocol number (REQ 0x0030, REP 0x0031), 00 00. Then messages: a 64-bit big-endian length, and the payload;
over ipc a byte 01 precedes the length. A REQ's payload begins with a 32-bit request ID whose top bit is set; the
reply begins with the same ID. What follows the ID is ours (integers big-endian):

request, version 1                                  reply, version 1
  0  1  magic 'G'                                     0  1  magic 'G'
  1  1  version                                       1  1  version
  2  1  operation                                     2  1  status; bit 7: this worker is leaving, use another
  3  1  reserved, 0                                   3  1  r, length of the release
  4  2  deadline budget in ms, 0: the worker's own    4  r  release that answered
  6  1  r, length of the release                      .. .. body, by status
  7  1  reserved, 0
  8  2  v, length of the variants
 10  r  release that the caller was assigned, or empty
 .. v   variants, as the proxy evaluated them, or empty
 .. ..  body, by operation

A worker answers a version or operation that it does not know with UNSUPPORTED. The first four bytes of a
reply, and UNSUPPORTED, keep their meaning in every version: that is what makes such a refusal readable to a
newer caller.

A *version* of a value is 10 bytes that only grow; ABSENT (ten zero bytes) stands for "no value". A *record*
is a value's version followed by the value.

operation   request body                                            body of an OK reply
GET       key                                                       record
RANGE     flags (bit 0: from the end), u32 limit, u16 length        u16 length + key, u32 length + record, for each
          of begin, begin, end (not included)
TRANSACT  u16 checks, each: u16 length + key, version it must have  the new version of all that was written
          u16 writes, each: u16 length + key, u32 length + value
          (length DELETE: no value follows)
PING      empty                                                     empty; the store was read for it, and takes
                                                                    writes, else FULL

A written key that ends with VERSION_PLACE is an *append*: the store puts 10 bytes in its place, which grow with
each append in the order of the commits. One transaction appends once at most.

The body of any other reply is a line of UTF-8 for people.
"""

import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

HELLO_REQ = b"\0SP\0\x00\x30\0\0"
HELLO_REP = b"\0SP\0\x00\x31\0\0"

MAGIC = 0x47
VERSION = 1
ABSENT = bytes(10)
VERSION_BYTES = len(ABSENT)
VERSION_PLACE = b"\xff{version}"

GET, RANGE, TRANSACT, PING = 1, 2, 3, 4

OK, NOT_FOUND, CONFLICT, EXPIRED, UNAVAILABLE, INVALID, TOO_LARGE, UNSUPPORTED, FAILED, FULL = range(10)
STATUS_NAMES = (
    "ok", "not_found", "conflict", "expired", "unavailable", "invalid", "too_large", "unsupported", "failed",
    "full",
)  # fmt: skip
LEAVING = 0x80

DELETE = 0xFFFFFFFF
REQUEST_HEADER = struct.Struct(">BBBBHBBH")
REPLY_HEADER = struct.Struct(">BBBB")
_U16 = struct.Struct(">H")
_U32 = struct.Struct(">I")
_RANGE = struct.Struct(">BIH")


class Malformed(ValueError):
    """A payload that breaks the layout above."""


class Unsupported(Malformed):
    """A payload of a version that this worker does not know."""


class Request(NamedTuple):
    """A request, taken apart; `budget_ms` 0: the worker's own deadline."""

    operation: int
    budget_ms: int
    release: bytes
    variants: bytes
    body: bytes


class Reply(NamedTuple):
    """A reply, taken apart; `leaving`: ask another worker next time."""

    status: int
    leaving: bool
    release: str
    body: bytes


def request(
    operation: int, body: bytes, *, budget_ms: int = 0, release: bytes = b"", variants: bytes = b""
) -> bytes:
    """The payload of a request, without the SP request ID."""
    header = REQUEST_HEADER.pack(MAGIC, VERSION, operation, 0, budget_ms, len(release), 0, len(variants))
    return header + release + variants + body


def message_limit(value_limit_bytes: int) -> int:
    """The longest message that a worker takes: four of the largest values, and the keys of a full transaction."""
    return 4 * value_limit_bytes + 262_144


def parse_request(payload: bytes) -> Request:
    """Raises Unsupported for another version, Malformed for anything that is not a request."""
    if len(payload) < 2 or payload[0] != MAGIC:
        raise Malformed("not a Griddle request")
    if payload[1] != VERSION:
        raise Unsupported(f"request version {payload[1]}, this worker knows version {VERSION}")
    if len(payload) < 10:
        raise Malformed(f"request header of {len(payload)} bytes, 10 expected")
    _, _, operation, _, budget_ms, release_length, _, variants_length = REQUEST_HEADER.unpack_from(payload)
    if not release_length and not variants_length:
        return Request(operation, budget_ms, b"", b"", payload[10:])
    variants_at = 10 + release_length
    body_at = variants_at + variants_length
    if len(payload) < body_at:
        raise Malformed(f"request of {len(payload)} bytes, header promises at least {body_at}")
    return Request(operation, budget_ms, payload[10:variants_at], payload[variants_at:body_at], payload[body_at:])


def reply_prefix(status: int, release: bytes, *, leaving: bool = False) -> bytes:
    """What precedes the body in a reply."""
    return REPLY_HEADER.pack(MAGIC, VERSION, status | (LEAVING if leaving else 0), len(release)) + release


def parse_reply(payload: bytes) -> Reply:
    """Raises Malformed for anything that is not a reply."""
    if len(payload) < 4 or payload[0] != MAGIC:
        raise Malformed("not a Griddle reply")
    _, _, status, length = REPLY_HEADER.unpack_from(payload)
    if len(payload) < 4 + length:
        raise Malformed("truncated reply")
    release = payload[4 : 4 + length].decode("ascii", "replace")
    return Reply(status & ~LEAVING, bool(status & LEAVING), release, payload[4 + length :])


def range_body(begin: bytes, end: bytes, limit: int, *, reverse: bool = False) -> bytes:
    """The body of a RANGE request."""
    return _RANGE.pack(int(reverse), limit, len(begin)) + begin + end


def parse_range(body: bytes) -> tuple[bytes, bytes, int, bool]:
    """(begin, end, limit, reverse) of a RANGE request's body."""
    try:
        flags, limit, length = _RANGE.unpack_from(body)
    except struct.error:
        raise Malformed("truncated range") from None
    if flags & ~1 or len(body) < _RANGE.size + length:
        raise Malformed("range flags or lengths are wrong")
    return body[_RANGE.size : _RANGE.size + length], body[_RANGE.size + length :], limit, bool(flags & 1)


def range_reply(items: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The body of an OK reply to RANGE, from (key, record) pairs."""
    parts = []
    for key, record in items:
        parts += (_U16.pack(len(key)), key, _U32.pack(len(record)), record)
    return b"".join(parts)


def parse_range_reply(body: bytes) -> list[tuple[bytes, bytes]]:
    """[(key, record)] from the body of an OK reply to RANGE."""
    reader, items = _Reader(body), []
    while reader.at < len(body):
        items.append((reader.take(reader.u16()), reader.take(reader.u32())))
    return items


def transact_body(checks: Mapping[bytes, bytes], writes: Mapping[bytes, bytes | None]) -> bytes:
    """The body of a TRANSACT request: `checks` by key the version it must have, `writes` by key the new value."""
    parts = [_U16.pack(len(checks))]
    for key, version in checks.items():
        parts += (_U16.pack(len(key)), key, version)
    parts.append(_U16.pack(len(writes)))
    for key, value in writes.items():
        parts += (_U16.pack(len(key)), key)
        parts += (_U32.pack(DELETE),) if value is None else (_U32.pack(len(value)), value)
    return b"".join(parts)


def parse_transact(body: bytes) -> tuple[dict[bytes, bytes], dict[bytes, bytes | None]]:
    """(checks, writes) of a TRANSACT request's body."""
    reader = _Reader(body)
    checks = {reader.take(reader.u16()): reader.take(VERSION_BYTES) for _ in range(reader.u16())}
    writes: dict[bytes, bytes | None] = {}
    for _ in range(reader.u16()):
        key, length = reader.take(reader.u16()), reader.u32()
        writes[key] = None if length == DELETE else reader.take(length)
    if reader.at != len(body):
        raise Malformed("bytes left over after the last write")
    return checks, writes


class _Reader:
    """Takes a body apart from front to back."""

    def __init__(self, data: Sequence[int] | bytes) -> None:
        self.data, self.at = data, 0

    def take(self, length: int) -> bytes:
        end = self.at + length
        if end > len(self.data):
            raise Malformed("truncated body")
        piece, self.at = self.data[self.at : end], end
        return piece

    def u16(self) -> int:
        return _U16.unpack(self.take(2))[0]

    def u32(self) -> int:
        return _U32.unpack(self.take(4))[0]
