"""The little of HTTP that handlers need: a request, answers, RFC 9457 problem documents, entity tags."""

import json
import re
from base64 import b64decode, b64encode
from http import HTTPStatus
from typing import NamedTuple

from services.sp import VERSION_BYTES

RETRY_SECONDS = 1
FIELD_CHARACTERS = 100  # of a client's own field name, in a problem document
TAG = re.compile(r'(W/)?"[\x21\x23-\x7e\x80-\xff]*"')


class Answer(NamedTuple):
    """What a handler returns: HTTP status, headers in order, body."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


class Problem(Exception):
    """Ends a request with a problem document. `detail` is for the client; `field` names what is wrong with it."""

    def __init__(self, status: int, detail: str, *, field: str | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.field = status, detail, field

    def answer(self) -> Answer:
        document = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
        }
        if self.field is not None:
            # the client's own text, which may be long or half a surrogate pair
            document["field"] = self.field[:FIELD_CHARACTERS].encode("utf-8", "replace").decode()
        headers = [("Content-Type", "application/problem+json")]
        if self.status == HTTPStatus.SERVICE_UNAVAILABLE:
            headers.append(("Retry-After", str(RETRY_SECONDS)))
        return Answer(self.status, headers, json_bytes(document))


class Request:
    """One WSGI request; what costs something is looked at only when asked for."""

    __slots__ = ("environ", "method", "path")

    def __init__(self, environ: dict) -> None:
        self.environ = environ
        self.method: str = environ["REQUEST_METHOD"]
        self.path: str = environ["PATH_INFO"]

    def header(self, name: str) -> str | None:
        """By its CGI name: "IF_MATCH"."""
        return self.environ.get("HTTP_" + name)

    def body(self, limit_bytes: int) -> bytes:
        """The whole body; 411, 400 or 413 where its length is missing, not a number or above the limit."""
        text = self.environ.get("CONTENT_LENGTH") or ""
        if not text:
            raise Problem(411, "Content-Length is required", field="Content-Length")
        if not text.isascii() or not text.isdigit():
            raise Problem(400, "Content-Length is not a number", field="Content-Length")
        if len(text) > 18 or int(text) > limit_bytes:
            raise Problem(413, f"body of {int(text[:20])} bytes, limit {limit_bytes}", field="body")
        body = self.environ["wsgi.input"].read(int(text))
        if len(body) != int(text):
            raise Problem(400, "the body is shorter than Content-Length", field="body")
        return body


def json_bytes(document: object) -> bytes:
    """The one JSON form that is stored and sent: compact, UTF-8."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def json_answer(document: object, status: int = 200) -> Answer:
    """A document as application/json."""
    return Answer(status, [("Content-Type", "application/json")], json_bytes(document))


def entity_tag(version: bytes) -> str:
    """A version as a strong entity tag; nginx/lua/profile.lua makes the same."""
    return '"' + b64encode(version).decode("ascii").rstrip("=") + '"'


def version_of(tag: str) -> bytes | None:
    """The version of an entity tag of ours; None if it is not one."""
    if len(tag) < 2 or tag[0] != '"' or tag[-1] != '"':
        return None
    text = tag[1:-1]
    try:
        version = b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        return None
    return version if len(version) == VERSION_BYTES else None


def matches(header: str, tag: str | None) -> bool:
    """Whether an If-None-Match header holds `tag`, None: there is none (weak comparison)."""
    return header.strip() == "*" or any(part.strip().removeprefix("W/") == tag for part in header.split(","))


def tags_of(header: str, name: str) -> list[str]:
    """The entity tags of an If-Match header; raises a 400 that names it where it is no list of tags."""
    tags = [part.strip() for part in header.split(",")]
    if not all(TAG.fullmatch(tag) for tag in tags):
        raise Problem(400, "must be * or a list of entity tags", field=name)
    return tags
