"""The WSGI application against a store worker's possible answers, and with a real one."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services import profile, sp
from services.client import StoreAway
from services.config import parse
from services.front import Front
from services.http import Problem, entity_tag, matches, version_of
from tests.unit.test_services_config import GOOD

VERSION = b"\0" * 8 + b"\1\2"
TAG = entity_tag(VERSION)


class Client:
    """A store worker that answers each request with the next of `replies`."""

    def __init__(self) -> None:
        self.replies: list[sp.Reply | Exception] = []
        self.asked: list[tuple[int, bytes]] = []

    def ask(self, operation: int, body: bytes, deadline_ms: int, **_: Any) -> sp.Reply:
        self.asked.append((operation, body))
        reply = self.replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply


class NoMetrics:
    def add(self, *_: object) -> None: ...

    def observe(self, *_: object) -> None: ...


@pytest.fixture
def client() -> Client:
    return Client()


@pytest.fixture
def front(client: Client) -> Front:
    return Front(parse(GOOD), client, "r-test", NoMetrics())


def reply(status: int, body: bytes = b"") -> sp.Reply:
    return sp.Reply(status, False, "r-test", body)


def call(
    front: Front, method: str, path: str, body: bytes | None = None, **environ: str
) -> tuple[int, dict, bytes]:
    seen: dict[str, Any] = {}

    def start_response(status: str, headers: list[tuple[str, str]]) -> None:
        seen["status"], seen["headers"] = int(status.split()[0]), dict(headers)

    given_ = {"REQUEST_METHOD": method, "PATH_INFO": path, "wsgi.input": io.BytesIO(body or b""), **environ}
    if body is not None:
        given_.setdefault("CONTENT_LENGTH", str(len(body)))
    answer = b"".join(front(given_, start_response))
    assert seen["headers"]["X-Release"] == "r-test"
    return seen["status"], seen["headers"], answer


def test_a_read_is_the_stored_bytes(front: Front, client: Client) -> None:
    client.replies = [reply(sp.OK, VERSION + b'{"id":"p1"}')] * 2
    status, headers, body = call(front, "GET", "/v1/profiles/p1")
    assert (status, body) == (200, b'{"id":"p1"}')
    assert headers == {
        "Content-Type": "application/json", "ETag": TAG, "X-Release": "r-test", "Content-Length": "11",
    }  # fmt: skip
    assert client.asked == [(sp.GET, b"profile/p1")]
    status, head_headers, body = call(front, "HEAD", "/v1/profiles/p1")
    assert (status, head_headers, body) == (200, headers, b"")


@pytest.mark.parametrize("known", [TAG, f"W/{TAG}", f'"x", {TAG}', "*"])
def test_a_read_of_what_the_client_has_is_304(front: Front, client: Client, known: str) -> None:
    client.replies = [reply(sp.OK, VERSION + b"{}")]
    status, headers, body = call(front, "GET", "/v1/profiles/p1", HTTP_IF_NONE_MATCH=known)
    assert (status, body, headers["ETag"]) == (304, b"", TAG)
    assert "Content-Length" not in headers


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (reply(sp.NOT_FOUND), 404),
        (reply(sp.UNAVAILABLE, b"x"), 503),
        (reply(sp.EXPIRED, b"x"), 503),
        (reply(sp.UNSUPPORTED, b"x"), 503),
        (reply(sp.FAILED, b"x"), 500),
        (reply(sp.INVALID, b"x"), 500),
        (StoreAway("no worker"), 503),
        (RuntimeError("bug"), 500),
    ],
)
def test_what_goes_wrong_is_a_problem_document(front: Front, client: Client, answer: Any, status: int) -> None:
    client.replies = [answer]
    seen, headers, body = call(front, "GET", "/v1/profiles/p1")
    document = json.loads(body)
    assert seen == document["status"] == status
    assert headers["Content-Type"] == "application/problem+json"
    assert ("Retry-After" in headers) == (status == 503)
    assert "bug" not in body.decode()


def test_a_put_is_one_transaction_with_a_checked_value(front: Front, client: Client) -> None:
    client.replies = [reply(sp.OK, VERSION)]
    body = json.dumps({"name": "Åsa", "age": 30, "interests": ["jazz"]}).encode()
    status, headers, answer = call(front, "PUT", "/v1/profiles/p1", body)
    assert (status, headers["ETag"], answer) == (204, TAG, b"")
    assert "Content-Length" not in headers
    ((operation, sent),) = client.asked
    assert operation == sp.TRANSACT
    value = '{"id":"p1","name":"Åsa","age":30,"interests":["jazz"]}'.encode()
    assert sp.parse_transact(sent) == ({}, {b"profile/p1": value})


@pytest.mark.parametrize(
    ("header", "value", "checks"),
    [
        ("HTTP_IF_MATCH", TAG, {b"profile/p1": VERSION}),
        ("HTTP_IF_NONE_MATCH", "*", {b"profile/p1": sp.ABSENT}),
    ],
)
def test_a_condition_is_a_check_of_the_transaction(
    front: Front, client: Client, header: str, value: str, checks: dict
) -> None:
    client.replies = [reply(sp.CONFLICT), reply(sp.OK, VERSION + b"{}")]
    status, _, _ = call(front, "PUT", "/v1/profiles/p1", b'{"name":"x"}', **{header: value})
    assert status == 412
    assert sp.parse_transact(client.asked[0][1])[0] == checks


def test_a_put_that_has_been_done_already_is_answered_as_done(front: Front, client: Client) -> None:
    """nginx asks another front when one dies in the middle of an answer."""
    done, other = b'{"id":"p1","name":"x"}', b'{"id":"p1","name":"y"}'
    for found, status, tag in [
        (reply(sp.OK, VERSION + done), 204, TAG), (reply(sp.OK, VERSION + other), 412, None),
        (reply(sp.NOT_FOUND), 412, None), (reply(sp.UNAVAILABLE), 503, None),
    ]:  # fmt: skip
        client.replies = [reply(sp.CONFLICT), found]
        seen, headers, _ = call(front, "PUT", "/v1/profiles/p1", b'{"name":"x"}', HTTP_IF_MATCH='"AAAAAAAAAAAAAQ"')
        assert (seen, headers.get("ETag")) == (status, tag)
    client.replies = [reply(sp.CONFLICT)]  # who creates must know whether it was they
    assert call(front, "PUT", "/v1/profiles/p1", b'{"name":"x"}', HTTP_IF_NONE_MATCH="*")[0] == 412


def test_if_match_any_needs_a_profile_that_stays_as_it_was_read(front: Front, client: Client) -> None:
    client.replies = [reply(sp.OK, VERSION + b"{}"), reply(sp.OK, VERSION)]
    assert call(front, "PUT", "/v1/profiles/p1", b'{"name":"x"}', HTTP_IF_MATCH="*")[0] == 204
    assert sp.parse_transact(client.asked[1][1])[0] == {b"profile/p1": VERSION}
    client.replies = [reply(sp.NOT_FOUND)]
    assert call(front, "PUT", "/v1/profiles/p1", b'{"name":"x"}', HTTP_IF_MATCH="*")[0] == 412


@pytest.mark.parametrize(
    ("environ", "status", "field"),
    [
        ({"HTTP_IF_MATCH": f'"other", {TAG}'}, 204, None),
        ({"HTTP_IF_MATCH": f'"other", W/{TAG}'}, 412, None),  # compared strongly: a weak tag never matches
        ({"HTTP_IF_MATCH": '"other"'}, 412, None),
        ({"HTTP_IF_MATCH": "other"}, 400, "If-Match"),
        ({"HTTP_IF_MATCH": ""}, 400, "If-Match"),
        ({"HTTP_IF_NONE_MATCH": TAG}, 400, "If-None-Match"),
        ({"HTTP_IF_MATCH": TAG, "HTTP_IF_NONE_MATCH": "*"}, 400, "If-None-Match"),
    ],
)
@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_conditions_of_a_write(
    front: Front, client: Client, method: str, environ: dict, status: int, field: str | None
) -> None:
    client.replies = [reply(sp.OK, VERSION + b"{}"), reply(sp.OK, VERSION)]
    seen, _, body = call(front, method, "/v1/profiles/p1", b'{"name":"x"}', **environ)
    assert seen == status
    assert (json.loads(body).get("field") if body else None) == field
    if status == 204:
        assert sp.parse_transact(client.asked[1][1])[0] == {b"profile/p1": VERSION}


def test_a_delete_takes_away_what_it_saw(front: Front, client: Client) -> None:
    client.replies = [reply(sp.OK, VERSION + b"{}"), reply(sp.CONFLICT)] * 2
    client.replies += [reply(sp.OK, VERSION + b"{}"), reply(sp.OK, VERSION)]
    status, headers, body = call(front, "DELETE", "/v1/profiles/p1")
    assert (status, body, "Content-Length" in headers) == (204, b"", False)
    checks, writes = sp.parse_transact(client.asked[-1][1])
    assert (checks, writes[b"profile/p1"]) == ({b"profile/p1": VERSION}, None)
    client.replies = [reply(sp.NOT_FOUND)]
    assert call(front, "DELETE", "/v1/profiles/p1")[0] == 404


def test_a_delete_with_if_match_is_tried_once(front: Front, client: Client) -> None:
    client.replies = [reply(sp.CONFLICT)]
    assert call(front, "DELETE", "/v1/profiles/p1", HTTP_IF_MATCH=TAG)[0] == 412
    assert sp.parse_transact(client.asked[0][1])[0] == {b"profile/p1": VERSION}
    assert call(front, "DELETE", "/v1/profiles/p1", HTTP_IF_NONE_MATCH="*")[0] == 400
    client.replies = [reply(sp.OK, VERSION + b"{}"), reply(sp.CONFLICT)] * 10
    assert call(front, "DELETE", "/v1/profiles/p1")[0] == 503


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        (b"{", 400, "body"),
        (b"\xff", 400, "body"),
        (b'{"name":NaN}', 400, "body"),
        (b"[" * 100_000, 413, "body"),
        (b"[" * 60_000, 400, "body"),
        (b"[]", 422, "body"),
        (b'{"name":"x","name":"y"}', 422, "name"),
        (b'{"name":"x","\\ud800":1}', 422, "?"),
        (b'{"name":"x","%s":1}' % (b"n" * 200), 422, "n" * 100),
        (b'{"name":"x","age":1%s}' % (b"0" * 5000), 400, "body"),
        (b"{}", 422, "name"),
        (b'{"name":1}', 422, "name"),
        (b'{"name":""}', 422, "name"),
        (b'{"name":"x","nmae":1}', 422, "nmae"),
        (b'{"name":"x","id":"other"}', 422, "id"),
        (b'{"name":"x","age":-1}', 422, "age"),
        (b'{"name":"x","age":true}', 422, "age"),
        (b'{"name":"x","age":1.5}', 422, "age"),
        (b'{"name":"x","interests":"jazz"}', 422, "interests"),
        (b'{"name":"x","interests":["a",2]}', 422, "interests[1]"),
        (b'{"name":"x","interests":' + json.dumps(["a"] * 51).encode() + b"}", 422, "interests"),
        (b'{"name":"\\ud800"}', 422, "name"),
    ],
)
def test_a_bad_profile_is_refused_and_the_field_named(
    front: Front, client: Client, body: bytes, status: int, field: str | None
) -> None:
    seen, _, answer = call(front, "PUT", "/v1/profiles/p1", body)
    assert (seen, json.loads(answer).get("field")) == (status, field)
    assert not client.asked


@pytest.mark.parametrize(
    ("length", "status"), [("", 411), ("x", 400), ("-1", 400), ("²", 400), ("9", 400), ("99999", 413)]
)
def test_a_body_of_another_length_is_refused(front: Front, length: str, status: int) -> None:
    assert call(front, "PUT", "/v1/profiles/p1", b"{}", CONTENT_LENGTH=length)[0] == status


@pytest.mark.parametrize("name", ["", "-x", "a b", "/", "../a", "å", "x" * 65, "a\n", ".", "a%20b", "a\0"])
def test_a_bad_id_is_refused(front: Front, client: Client, name: str) -> None:
    status, _, body = call(front, "GET", f"/v1/profiles/{name}")
    assert (status, json.loads(body)["field"]) == (400, "id")
    assert not client.asked


def test_other_paths_and_methods(front: Front, client: Client) -> None:
    assert call(front, "GET", "/nothing")[0] == 404
    assert call(front, "GET", "/v1/profiles/p1/nothing")[0] == 404
    assert call(front, "GET", "/v1/profiles/p1/messages")[1]["Allow"] == "POST"
    assert call(front, "POST", "/v1/profiles/p1/feed")[1]["Allow"] == "GET, HEAD"
    status, headers, _ = call(front, "PATCH", "/v1/profiles/p1")
    assert (status, headers["Allow"]) == (405, "GET, HEAD, PUT, DELETE")
    assert call(front, "POST", "/healthz")[0] == 405
    assert call(front, "GET", "/healthz")[0] == 200
    document = json.loads(call(front, "GET", "/version")[2])
    assert document == {"release": "r-test", "host": "app1", "engine": "etcd"}
    client.replies = [reply(sp.OK), reply(sp.UNAVAILABLE, b"x"), StoreAway("x"), reply(sp.FULL, b"x")]
    assert [call(front, "GET", "/readyz")[0] for _ in range(4)] == [200, 503, 503, 507]


@pytest.mark.parametrize(("method", "path"), [("PUT", "/v1/profiles/p1"), ("POST", "/v1/profiles/p1/messages")])
def test_a_full_store_is_said_to_the_client(front: Front, client: Client, method: str, path: str) -> None:
    known = [reply(sp.NOT_FOUND), reply(sp.OK, VERSION + b"{}")] if method == "POST" else []
    client.replies = [*known, reply(sp.FULL, b"etcd on 10.0.0.1 uses 96% of its quota")]
    body = {"PUT": b'{"name":"Ada"}', "POST": HELLO}[method]
    status, headers, answer = call(front, method, path, body, HTTP_IDEMPOTENCY_KEY="k1")
    document = json.loads(answer)
    assert (status, document["status"], document["title"]) == (507, 507, "Insufficient Storage")
    assert "the store is full" in document["detail"] and "10.0.0.1" not in document["detail"]
    assert "Retry-After" not in headers  # by itself it does not get better in a second


# --- messages and feeds

HELLO = b'{"from":"p2","text":"hello"}'


def post(front: Front, body: bytes = HELLO, key: str | None = "k1") -> tuple[int, dict]:
    environ = {} if key is None else {"HTTP_IDEMPOTENCY_KEY": key}
    status, _, answer = call(front, "POST", "/v1/profiles/p1/messages", body, **environ)
    return status, json.loads(answer)


def test_a_message_is_row_record_and_event_in_one_transaction(front: Front, client: Client) -> None:
    nudges: list[int] = []
    front._nudge = lambda: nudges.append(1)
    client.replies = [reply(sp.NOT_FOUND), reply(sp.OK, VERSION + b"{}"), reply(sp.OK, VERSION)]
    status, answer = post(front)
    assert (status, answer["from"], answer["to"], answer["text"]) == (201, "p2", "p1", "hello")
    checks, writes = sp.parse_transact(client.asked[-1][1])
    assert checks == {b"idempotency/p1/k1": sp.ABSENT, b"profile/p1": VERSION}
    row, record, event = (writes[key] for key in sorted(writes, reverse=True))  # message, idempotency, event
    assert sorted(writes)[::2] == [b"event/" + sp.VERSION_PLACE, b"message/p1/" + answer["id"].encode()]
    assert json.loads(row) == json.loads(record[64:]) == json.loads(event)["message"] == answer
    assert nudges == [1]

    client.replies = [reply(sp.OK, VERSION + record)] * 2  # sent again; and with another body
    assert post(front) == (201, answer)
    assert post(front, HELLO.replace(b"hello", b"other"))[0] == 422
    assert nudges == [1]


def test_a_message_that_meets_another_request_with_its_key_is_answered_by_what_is_there(
    front: Front, client: Client
) -> None:
    client.replies = [reply(sp.NOT_FOUND), reply(sp.OK, VERSION + b"{}"), reply(sp.OK, VERSION)]
    _, answer = post(front)
    record = sp.parse_transact(client.asked[-1][1])[1][b"idempotency/p1/k1"]
    client.replies = [
        reply(sp.NOT_FOUND), reply(sp.OK, VERSION + b"{}"), reply(sp.CONFLICT), reply(sp.OK, VERSION + record)
    ]  # fmt: skip
    assert post(front) == (201, answer)


@pytest.mark.parametrize(
    ("body", "key", "status", "field"),
    [
        (HELLO, None, 400, "Idempotency-Key"),
        (HELLO, "", 400, "Idempotency-Key"),
        (HELLO, "k" * 65, 400, "Idempotency-Key"),
        (HELLO, "\u00e5", 400, "Idempotency-Key"),
        (b'{"from":"p2"}', "k", 422, "text"),
        (b'{"from":"-","text":"x"}', "k", 422, "from"),
        (b'{"from":"p2","text":"%s"}' % (b"x" * 1001), "k", 422, "text"),
        (b'{"from":"p2","text":"x","to":"p1"}', "k", 422, "to"),
        (b"x" * 70_000, "k", 413, "body"),
    ],
)
def test_a_bad_message_is_refused_and_the_field_named(
    front: Front, client: Client, body: bytes, key: str | None, status: int, field: str
) -> None:
    seen, answer = post(front, body, key)
    assert (seen, answer["field"]) == (status, field)
    assert not client.asked


def test_a_message_to_nobody_is_404(front: Front, client: Client) -> None:
    client.replies = [reply(sp.NOT_FOUND)] * 2
    assert post(front)[0] == 404


def test_a_feed_is_read_from_its_end_and_continued(front: Front, client: Client) -> None:
    rows = [(b"feed/p1/" + VERSION[:-1] + bytes([i]), VERSION + b"%d" % i) for i in (9, 8)]
    client.replies = [reply(sp.OK, sp.range_reply(rows))] * 2
    first = json.loads(call(front, "GET", "/v1/profiles/p1/feed", QUERY_STRING="limit=2")[2])
    assert first["items"] == [9, 8]
    assert sp.parse_range(client.asked[0][1]) == (b"feed/p1/", b"feed/p10", 2, True)
    query = f"before={first['next']}"
    assert json.loads(call(front, "GET", "/v1/profiles/p1/feed", QUERY_STRING=query)[2])["next"] is None
    assert sp.parse_range(client.asked[1][1]) == (b"feed/p1/", rows[-1][0], 20, True)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=-1", "limit"), ("limit=0", "limit"), ("limit=101", "limit"), ("limit=", "limit"),
        ("limit", "limit"), ("limit=1e1", "limit"), ("limit=%C2%B2", "limit"), ("limit=1&limit=2", "limit"),
        ("limit=007", "limit"),
        ("before=x", "before"), ("before=AAAAAAAAAAAAAB", "before"), ("after=1", "after"), ("%FF=1", "\xff"),
    ],
)  # fmt: skip
def test_a_bad_page_is_refused_and_the_field_named(front: Front, client: Client, query: str, field: str) -> None:
    status, _, body = call(front, "GET", "/v1/profiles/p1/feed", QUERY_STRING=query)
    assert (status, json.loads(body)["field"]) == (400, field)
    assert not client.asked


@given(st.binary(min_size=10, max_size=10))
def test_an_entity_tag_is_a_version(version: bytes) -> None:
    tag = entity_tag(version)
    assert version_of(tag) == version
    assert matches(f'"a" , W/{tag}', tag)


@pytest.mark.parametrize(
    "tag", ["", '"', '""', "abc", '"AAAA"', '"!!!!!!!!!!!!!!"', f"W/{TAG}", '"AAAAAAAAAAAAAAAAAAAA"']
)
def test_what_is_no_entity_tag_of_ours(tag: str) -> None:
    assert version_of(tag) is None


def fields() -> Iterator[st.SearchStrategy]:
    yield st.dictionaries(st.text(max_size=10), st.none() | st.integers() | st.text(), max_size=4)
    yield st.recursive(st.none() | st.floats() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x))


@given(st.one_of(*fields()))
def test_whatever_json_comes_it_is_stored_or_refused(document: Any) -> None:
    try:
        value = profile.stored("p1", json.dumps(document).encode())
    except Problem as problem:
        assert 400 <= problem.status < 500
    else:
        assert json.loads(value)["id"] == "p1"
