"""/v1/openapi.json: what the front answers, from the same tables that it checks requests by."""

from services import message, profile
from services.fields import ITEM_CHARACTERS, Fields
from services.http import json_bytes

VERSION = "1.0.0"
_ID = {"type": "string", "pattern": f"^{profile.ID_PATTERN}$"}
_TEXTS = {
    400: "A part of the request is malformed; `field` names it",
    404: "There is no such profile",
    405: "The resource has no such method",
    411: "The body has no Content-Length",
    412: "The profile has another version, or none",
    413: "The body is too large",
    422: "A field of the body is wrong; `field` names it",
    503: "The store does not answer; nothing can be said of a write",
    507: "The store has no room for more: nothing was written, and reads go on",
}
_JSON, _PROBLEM = "application/json", "application/problem+json"


def document(value_limit_bytes: int) -> bytes:
    """The OpenAPI 3.1 document as JSON."""
    profile_id = {"$ref": "#/components/parameters/id"}
    at_id = "/v1/profiles/{id}"
    return json_bytes(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "Profiles of a community site",
                "version": VERSION,
                "description": (
                    "Reads are never cached: each asks the store. A body has a Content-Length, and at most "
                    f"{value_limit_bytes} bytes. An answer of 503 may be tried again after Retry-After; a write "
                    "with If-Match, or a message with its Idempotency-Key, is then still done once. Preconditions "
                    "by date do not count, for nothing here has one. A method that only other resources have is "
                    "405 with Allow, one that none has 501."
                ),
            },
            "paths": {
                at_id: {
                    "parameters": [profile_id],
                    "get": _operation(
                        "getProfile", _read("Profile", etag=True), 304, 400, 404, 412, 503, tag="read"
                    ),
                    "head": _operation("headProfile", _bare(200, etag=True), 304, 400, 404, 412, 503, tag="read"),
                    "put": _operation(
                        "putProfile", _bare(204, etag=True), 400, 411, 412, 413, 422, 503, 507,
                        body="ProfileFields", tag="both",
                    ),
                    "delete": _operation("deleteProfile", _bare(204), 400, 404, 412, 503, 507, tag="match"),
                },
                at_id + "/messages": {
                    "parameters": [profile_id],
                    "post": _operation(
                        "postMessage", _read("Message", 201), 400, 404, 411, 413, 422, 503, 507,
                        body="MessageFields",
                        parameters=[{
                            "name": message.KEY_HEADER, "in": "header", "required": True,
                            "description": "New for each message; a message sent again is answered as at first",
                            "schema": {"type": "string", "pattern": f"^{message.KEY_PATTERN}$"},
                        }],
                    ),
                },
                at_id + "/feed": {
                    "parameters": [profile_id, *_page()],
                    "get": _operation("getFeed", _read("Feed"), 400, 503),
                    "head": _operation("headFeed", _bare(200), 400, 503),
                },
                "/healthz": _plain("healthz", "Status"),
                "/readyz": _plain("readyz", "Status", 503, 507),
                "/version": _plain("version", "Version"),
                "/v1/openapi.json": _plain("openapi", "Document"),
            },
            "components": {
                "parameters": {"id": {"name": "id", "in": "path", "required": True, "schema": _ID}},
                "schemas": _schemas(),
            },
        }
    )  # fmt: skip


def _operation(
    name: str, good: dict, *others: int, body: str = "", tag: str = "", parameters: list | None = None
) -> dict:
    operation: dict = {"operationId": name, "responses": {**good, **{str(s): _other(s) for s in (*others, 405)}}}
    given = list(parameters or ())
    if tag:
        given.append(_header("If-Match", "* or a list of entity tags: write, or read, only what is known"))
    if tag in ("read", "both"):
        given.append(_header("If-None-Match", "A read: what is known. A write: *, create only"))
    if given:
        operation["parameters"] = given
    if body:
        schema = {"$ref": f"#/components/schemas/{body}"}
        operation["requestBody"] = {"required": True, "content": {_JSON: {"schema": schema}}}
    return operation


def _plain(name: str, schema: str, *others: int) -> dict:
    return {
        "get": _operation(name, _read(schema), *others),
        "head": _operation(f"{name}Head", _bare(200), *others),
    }


def _header(name: str, description: str) -> dict:
    return {"name": name, "in": "header", "description": description, "schema": {"type": "string"}}


def _page() -> list[dict]:
    limit = {"type": "integer", "minimum": 1, "maximum": message.LIMIT_MOST, "default": message.LIMIT_DEFAULT}
    before = {"type": "string", "pattern": f"^{message.CURSOR_PATTERN}$"}
    return [
        {"name": "limit", "in": "query", "schema": limit},
        {"name": "before", "in": "query", "description": "`next` of an earlier page", "schema": before},
    ]


def _read(schema: str, status: int = 200, *, etag: bool = False) -> dict:
    answer = _bare(status, etag=etag)
    answer[str(status)]["content"] = {_JSON: {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    return answer


def _bare(status: int, *, etag: bool = False) -> dict:
    answer: dict = {"description": "Done"}
    if etag:
        answer["headers"] = {"ETag": {"required": True, "schema": {"type": "string"}}}
    return {str(status): answer}


def _other(status: int) -> dict:
    if status == 304:
        return {"description": "The profile is what If-None-Match names"}
    headers = {503: "Retry-After", 405: "Allow"}
    answer: dict = {
        "description": _TEXTS[status],
        "content": {_PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    if status in headers:
        answer["headers"] = {headers[status]: {"required": True, "schema": {"type": "string"}}}
    return answer


def _object(fields: Fields, **more: dict) -> dict:
    kinds = {
        str: lambda limit: {"type": "string", "minLength": 1, "maxLength": limit},
        int: lambda limit: {"type": "integer", "minimum": 0, "maximum": limit},
        list: lambda limit: {
            "type": "array",
            "maxItems": limit,
            "items": {"type": "string", "minLength": 1, "maxLength": ITEM_CHARACTERS},
        },
    }
    return {
        "type": "object",
        "additionalProperties": False,
        "required": [*more, *(name for name, (_, _, required) in fields.items() if required)],
        "properties": {**more, **{name: kinds[kind](limit) for name, (kind, limit, _) in fields.items()}},
    }


def _schemas() -> dict:
    text = {"type": "string"}
    message_fields = _object(message.FIELDS)
    message_fields["properties"]["from"] = _ID
    sent_message = _object(
        message.FIELDS, id={"type": "string", "pattern": "^[0-9a-f]{32}$"}, to=_ID,
        sent={"type": "string", "format": "date-time"},
    )  # fmt: skip
    feed = {
        "items": {"type": "array", "items": {"$ref": "#/components/schemas/Message"}},
        "next": {"type": ["string", "null"]},
    }
    problem = {"type": text, "title": text, "status": {"type": "integer"}, "detail": text, "field": text}
    return {
        "ProfileFields": _object(profile.FIELDS),
        "Profile": _object(profile.FIELDS, id=_ID),
        "MessageFields": message_fields,
        "Message": sent_message,
        "Feed": {"type": "object", "required": [*feed], "properties": feed},
        "Problem": {"type": "object", "required": ["type", "title", "status"], "properties": problem},
        "Status": {"type": "object", "required": ["status"], "properties": {"status": text}},
        "Version": {
            "type": "object",
            "required": ["release", "host", "engine"],
            "properties": {"release": text, "host": text, "engine": text},
        },
        "Document": {"type": "object", "required": ["openapi", "paths"]},
    }
