"""Messages to a profile, and the feed that they end up in. Replace this with your own.

A message is three writes of one transaction: its row, the record of its Idempotency-Key, and an event in the log.
services/feed.py takes events from the log to feeds.

key                             value
message/<profile>/<message>     the message's JSON
idempotency/<profile>/<key>     64 hex digits of what was asked, and the JSON that repetitions are answered with
event/<place in the log>        {"type": "message", "profile", "message"} or {"type": "deleted", "profile"}
feed/<profile>/<version>        the message's JSON, under the version of the transaction that wrote it
"""

import hashlib
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import UTC, datetime
from urllib.parse import parse_qsl

from services import sp
from services.fields import Fields, checked, object_of
from services.http import Problem, json_bytes
from services.profile import checked_id

FIELDS: Fields = {"from": (str, 64, True), "text": (str, 1000, True)}
KEY_HEADER = "Idempotency-Key"
KEY_PATTERN = "[!-~]{1,64}"
CURSOR_PATTERN = "[A-Za-z0-9_-]{13}[AQgw]"  # 10 bytes; nginx/lua/feed.lua checks the same
LIMIT_DEFAULT, LIMIT_MOST = 20, 100
EVENTS = b"event/"
APPEND = EVENTS + sp.VERSION_PLACE
FINGERPRINT_BYTES = 64
PER_PROFILE = ("feed", "message", "idempotency")  # what goes with a profile


def key_of(kind: str, profile_id: str, name: bytes = b"") -> bytes:
    """A key below a profile; without a name what all of that kind begin with."""
    return f"{kind}/{profile_id}/".encode("ascii") + name


def feed_range(profile_id: str, before: bytes | None) -> tuple[bytes, bytes]:
    """(begin, end) of a profile's feed, up to a version, which is not included."""
    begin = key_of("feed", profile_id)
    return begin, begin[:-1] + b"0" if before is None else begin + before


def idempotency_key(text: str | None) -> bytes:
    """The checked Idempotency-Key of a request."""
    if text is None:
        raise Problem(400, "is required, and new for each message", field=KEY_HEADER)
    if not re.fullmatch(KEY_PATTERN, text):
        raise Problem(400, "must be 1 to 64 visible ASCII characters", field=KEY_HEADER)
    return text.encode("ascii")


def checked_body(body: bytes) -> dict[str, object]:
    """The checked fields of a POST's body."""
    fields = checked(object_of(body), FIELDS)
    checked_id(fields["from"], "from", 422)
    return fields


def fingerprint(fields: dict[str, object]) -> bytes:
    """What a repetition must be equal in; FINGERPRINT_BYTES long."""
    return hashlib.sha256(json_bytes(fields)).hexdigest().encode("ascii")


def writes(profile_id: str, key: bytes, fields: dict[str, object]) -> dict[bytes, bytes]:
    """The three writes of a message."""
    message_id = hashlib.sha256(profile_id.encode("ascii") + b"/" + key).hexdigest()[:32]
    sent = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    message = {"id": message_id, "to": profile_id, **fields, "sent": sent}
    stored = json_bytes(message)
    return {
        key_of("message", profile_id, message_id.encode("ascii")): stored,
        key_of("idempotency", profile_id, key): fingerprint(fields) + stored,
        APPEND: json_bytes({"type": "message", "profile": profile_id, "message": message}),
    }


def deleted_event(profile_id: str) -> bytes:
    """The event that lets a profile's feed and messages go, too."""
    return json_bytes({"type": "deleted", "profile": profile_id})


def page_of(query: str) -> tuple[int, bytes | None]:
    """(limit, before) of a feed's query string; raises a 400 that names the field."""
    given: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True, encoding="latin-1"):
        if name not in ("limit", "before"):
            raise Problem(400, "unknown query parameter", field=name)
        if name in given:
            raise Problem(400, "appears twice", field=name)
        given[name] = value
    limit = given.get("limit", str(LIMIT_DEFAULT))
    if not re.fullmatch("[1-9][0-9]{0,2}", limit) or int(limit) > LIMIT_MOST:
        raise Problem(400, f"must be 1 to {LIMIT_MOST}", field="limit")
    before = given.get("before")
    if before is None:
        return int(limit), None
    if not re.fullmatch(CURSOR_PATTERN, before):
        raise Problem(400, "must be the `next` of an earlier page", field="before")
    return int(limit), urlsafe_b64decode(before + "==")


def page(items: list[tuple[bytes, bytes]], limit: int) -> bytes:
    """A page of a feed from its (key, record) pairs; nginx/lua/feed.lua makes the same."""
    messages = b",".join(record[sp.VERSION_BYTES :] for _, record in items)
    if len(items) < limit:
        return b'{"items":[' + messages + b'],"next":null}'
    cursor = urlsafe_b64encode(items[-1][0][-sp.VERSION_BYTES :]).rstrip(b"=")
    return b'{"items":[' + messages + b'],"next":"' + cursor + b'"}'
