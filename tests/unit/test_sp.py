"""The request and reply on the wire, byte for byte: nginx/lua/sp.lua writes the same."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services import sp

KEYS = st.binary(min_size=1, max_size=50)
VERSIONS = st.binary(min_size=10, max_size=10)


def test_a_request_is_these_bytes() -> None:
    payload = sp.request(sp.GET, b"profile/p1", budget_ms=250, release=b"r-1", variants=b"a=b")
    assert payload == b"G\x01\x01\x00" + b"\x00\xfa" + b"\x03\x00" + b"\x00\x03" + b"r-1a=bprofile/p1"


def test_a_reply_is_these_bytes() -> None:
    assert sp.reply_prefix(sp.OK, b"r-1") + b"body" == b"G\x01\x00\x03r-1body"
    assert sp.reply_prefix(sp.EXPIRED, b"", leaving=True) == b"G\x01\x83\x00"


@given(
    st.sampled_from([sp.GET, sp.RANGE, sp.TRANSACT, sp.PING]), st.integers(0, 65535),
    st.binary(max_size=255), st.binary(max_size=300), st.binary(max_size=300),
)  # fmt: skip
def test_a_request_is_read_as_it_was_written(
    operation: int, budget: int, release: bytes, variants: bytes, body: bytes
) -> None:
    payload = sp.request(operation, body, budget_ms=budget, release=release, variants=variants)
    assert sp.parse_request(payload) == (operation, budget, release, variants, body)


@given(
    st.sampled_from(range(9)), st.booleans(), st.text("r-0123456789abcdef", max_size=255), st.binary(max_size=99)
)
def test_a_reply_is_read_as_it_was_written(status: int, leaving: bool, release: str, body: bytes) -> None:
    payload = sp.reply_prefix(status, release.encode(), leaving=leaving) + body
    assert sp.parse_reply(payload) == (status, leaving, release, body)


@given(st.binary(max_size=40))
def test_garbage_is_refused_and_nothing_else_happens(payload: bytes) -> None:
    for parse in (sp.parse_request, sp.parse_reply, sp.parse_transact, sp.parse_range, sp.parse_range_reply):
        with contextlib.suppress(sp.Malformed):
            parse(payload)


def test_another_version_is_told_from_garbage() -> None:
    with pytest.raises(sp.Unsupported, match="request version 2, this worker knows version 1"):
        sp.parse_request(b"G\x02")
    with pytest.raises(sp.Malformed) as refused:
        sp.parse_request(b"X\x02")
    assert not isinstance(refused.value, sp.Unsupported)


def test_lengths_beyond_the_payload_are_refused() -> None:
    payload = bytearray(sp.request(sp.GET, b"k"))
    payload[6] = 200
    with pytest.raises(sp.Malformed, match="promises at least 210"):
        sp.parse_request(bytes(payload))


@given(
    st.dictionaries(KEYS, VERSIONS, max_size=5),
    st.dictionaries(KEYS, st.none() | st.binary(max_size=99), max_size=5),
)
def test_a_transaction_is_read_as_it_was_written(
    checks: dict[bytes, bytes], writes: dict[bytes, bytes | None]
) -> None:
    body = sp.transact_body(checks, writes)
    assert sp.parse_transact(body) == (checks, writes)
    for cut in range(len(body)):
        with pytest.raises(sp.Malformed):
            sp.parse_transact(body[:cut])


@given(KEYS, KEYS, st.integers(0, 2**32 - 1), st.booleans())
def test_a_range_is_read_as_it_was_written(begin: bytes, end: bytes, limit: int, reverse: bool) -> None:
    assert sp.parse_range(sp.range_body(begin, end, limit, reverse=reverse)) == (begin, end, limit, reverse)


@given(st.lists(st.tuples(KEYS, st.binary(min_size=10, max_size=99)), max_size=5))
def test_a_range_reply_is_read_as_it_was_written(items: list[tuple[bytes, bytes]]) -> None:
    assert sp.parse_range_reply(sp.range_reply(items)) == items
