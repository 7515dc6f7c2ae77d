"""The contract that every store engine keeps. tests/unit/test_engines.py runs it against each of them.

- A key is 1 to 1,024 bytes and does not begin with 0xff; a value is bytes up to the configured limit. Keys
  are ordered as bytes.
- A version is 10 bytes; each transaction's is greater, as bytes, than that of any transaction that had ended
  before it began, and all that one transaction writes has the same. ABSENT is smaller than all.
- A record is a value's version followed by the value: what a read returns, and what goes out to the caller.
- A written key that ends with VERSION_PLACE is an append: 10 bytes stand in its place, greater than those of every
  earlier append under the same prefix, in the order of the commits; nobody who has read a range of them finds one
  before its end later. Its record's version is the transaction's. Such keys are read by range and deleted, not
  checked. A transaction appends once at most.
- Reads see everything that was acknowledged before they began, and all of one call at one moment.
- Every call ends within about `timeout_ms`, with Unavailable if the store has not answered. The engine
  recovers by itself when the store is back. An engine may be used from several threads.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from services.sp import ABSENT, VERSION_BYTES, VERSION_PLACE

__all__ = [
    "ABSENT", "KEY_LIMIT_BYTES", "OPERATIONS_LIMIT", "VERSION_BYTES", "VERSION_PLACE", "Conflict", "Engine",
    "EngineError", "Full", "Invalid", "TooLarge", "Unavailable", "appended_prefix", "check_key",
    "check_transaction",
]  # fmt: skip

KEY_LIMIT_BYTES = 1024
OPERATIONS_LIMIT = 128  # checks plus writes of one transaction: etcd's default --max-txn-ops


class EngineError(Exception):
    """One line for people."""


class Unavailable(EngineError):
    """The store did not answer in time. A transaction that ends so may or may not have happened."""


class Conflict(EngineError):
    """A checked key has another version by now. Nothing was written."""


class Full(EngineError):
    """The store has no room for more. Nothing was written; reads go on, and so does what only deletes."""


class Invalid(EngineError):
    """The caller's keys or numbers are wrong."""


class TooLarge(Invalid):
    """A key, a value or a transaction above its limit."""


class Engine(Protocol):
    def get_many(self, keys: Sequence[bytes], timeout_ms: int) -> list[bytes | None]:
        """The record of each key, or None; all read at one moment."""

    def range(
        self, begin: bytes, end: bytes, limit: int, timeout_ms: int, *, reverse: bool = False
    ) -> list[tuple[bytes, bytes]]:
        """Up to `limit` (key, record) with begin <= key < end, in key order; from the end if `reverse`."""

    def transact(
        self, checks: Mapping[bytes, bytes], writes: Mapping[bytes, bytes | None], timeout_ms: int
    ) -> bytes:
        """Write all (None deletes) if every checked key has its version (ABSENT: no value); the new version.

        Raises Conflict, Unavailable (the outcome is then unknown), Full, TooLarge.
        """

    def check_writable(self) -> None:
        """Raises Full where a transaction that writes would; asks nobody."""

    def close(self) -> None:
        """Give back connections and threads."""


def check_key(key: bytes) -> None:
    """Raises Invalid or TooLarge."""
    if not 1 <= len(key) <= KEY_LIMIT_BYTES:
        if key:
            raise TooLarge(f"key of {len(key)} bytes, limit {KEY_LIMIT_BYTES}")
        raise Invalid("empty key")
    if key[0] == 0xFF:
        raise Invalid("keys that begin with 0xff belong to the store")


def check_transaction(
    checks: Mapping[bytes, bytes], writes: Mapping[bytes, bytes | None], value_limit_bytes: int
) -> None:
    """Raises Invalid or TooLarge for a transaction that no engine may accept."""
    if not writes:
        raise Invalid("a transaction without writes")
    appends = [key for key in writes if key.endswith(VERSION_PLACE)]
    if len(appends) > 1:
        raise Invalid(f"{len(appends)} appends in one transaction, limit 1")
    if appends and writes[appends[0]] is None:
        raise Invalid("an append needs a value")
    if len(checks) + len(writes) + len(appends) > OPERATIONS_LIMIT:  # etcd needs one more for an append
        raise TooLarge(f"transaction of {len(checks) + len(writes)} checks and writes, limit {OPERATIONS_LIMIT}")
    for key, version in checks.items():
        check_key(key)
        if len(version) != VERSION_BYTES:
            raise Invalid(f"version of {len(version)} bytes, {VERSION_BYTES} expected")
    for key, value in writes.items():
        check_key(key.removesuffix(VERSION_PLACE) + ABSENT if key in appends else key)
        if value is not None and len(value) > value_limit_bytes:
            raise TooLarge(f"value of {len(value)} bytes, limit {value_limit_bytes}")


def appended_prefix(writes: Mapping[bytes, bytes | None]) -> bytes | None:
    """What stands before VERSION_PLACE in the transaction's append, if it has one."""
    for key in writes:
        if key.endswith(VERSION_PLACE):
            return key.removesuffix(VERSION_PLACE)
    return None
