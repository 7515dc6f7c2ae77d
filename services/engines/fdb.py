"""The production engine: FoundationDB 7.3.

A stored value is a 10-byte versionstamp and the value, written by SET_VERSIONSTAMPED_VALUE: what is stored is
the record that goes out, and versions grow with the database's commits. An append is SET_VERSIONSTAMPED_KEY;
one mutation cannot stamp key and value, so zeros stand for the version in its value, and a range puts the key's
stamp there.

The `fdb` package opens the database and does everything that happens seldom. The two calls of the hot path,
get and range, go to libfdb_c by cffi: a call costs about half of one through ctypes, and the wait blocks in
the library rather than on a semaphore that a callback, which needs the interpreter's lock in the network's
thread, releases.
"""

import ctypes
import itertools
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import cffi

from services.config import Fdb
from services.control import Control
from services.engines.base import (
    ABSENT,
    VERSION_BYTES,
    VERSION_PLACE,
    Conflict,
    EngineError,
    Unavailable,
    appended_prefix,
    check_key,
    check_transaction,
)

STAMP_PLACE = bytes(VERSION_BYTES)
STAMP_OFFSET = bytes(4)  # little-endian: the stamp goes to the value's first byte
NOT_COMMITTED, COMMIT_UNKNOWN_RESULT = 1020, 1021
CLUSTER_VERSION_CHANGED = 1039
UNLIMITED = -1
UNLIMITED_BYTES = UNLIMITED.to_bytes(8, "little", signed=True)
OPTION_RETRY_LIMIT = 501  # FDB_TR_OPTION_RETRY_LIMIT, 8 bytes little-endian
OPTION_TIMEOUT = 500  # FDB_TR_OPTION_TIMEOUT, milliseconds, 8 bytes little-endian
STREAMING_MODE_EXACT = 1
CERTIFICATES_SECONDS = 5  # how often the client looks for other certificates; it would only twice a day

_ffi = cffi.FFI()
_ffi.cdef(
    """
typedef struct FDB_future FDBFuture;
typedef struct FDB_transaction FDBTransaction;
typedef struct { const uint8_t *key; int key_length; const uint8_t *value; int value_length; } FDBKeyValue;
int fdb_future_block_until_ready(FDBFuture *);
int fdb_future_get_error(FDBFuture *);
int fdb_future_get_value(FDBFuture *, int *present, uint8_t const **value, int *length);
int fdb_future_get_keyvalue_array(FDBFuture *, FDBKeyValue const **, int *count, int *more);
void fdb_future_destroy(FDBFuture *);
void fdb_transaction_reset(FDBTransaction *);
int fdb_transaction_set_option(FDBTransaction *, int option, uint8_t const *value, int length);
FDBFuture *fdb_transaction_get(FDBTransaction *, uint8_t const *key, int length, int snapshot);
FDBFuture *fdb_transaction_get_range(FDBTransaction *,
    uint8_t const *begin, int begin_length, int begin_or_equal, int begin_offset,
    uint8_t const *end, int end_length, int end_or_equal, int end_offset,
    int limit, int target_bytes, int mode, int iteration, int snapshot, int reverse);
FDBFuture *fdb_transaction_on_error(FDBTransaction *, int error);
const char *fdb_get_error(int error);
""",
    pack=4,
)


class FdbEngine:
    """One database handle for the process; one read transaction per thread, reset for each call."""

    def __init__(self, config: Fdb, value_limit_bytes: int, control: Control | None = None) -> None:
        self._value_limit_bytes = value_limit_bytes
        self._retry_limit = config.transaction_retry_limit
        self._longest_ms = config.transaction_timeout_ms
        self._control = control or Control()
        # `fdb` looks for the name libfdb_c.so; loaded here by its path, it is found by that name afterwards
        ctypes.CDLL(config.client_library, mode=ctypes.RTLD_GLOBAL)
        import fdb

        fdb.api_version(config.api_version)
        self._fdb = fdb
        self._lib = _ffi.dlopen(config.client_library)
        try:
            # without further libraries the client bypasses its multi-version part, which is cheaper
            if any(Path(config.external_client_directory or "/nowhere").glob("*.so")):
                fdb.options.set_external_client_directory(config.external_client_directory)
            if config.cert:
                fdb.options.set_tls_ca_path(config.ca)
                fdb.options.set_tls_cert_path(config.cert)
                fdb.options.set_tls_key_path(config.key)
                fdb.options.set_knob(f"tls_cert_refresh_delay_seconds={CERTIFICATES_SECONDS}")
            self._database = fdb.open(config.cluster_file)  # starts the network: one bad library and it does not
        except fdb.FDBError as error:
            raise EngineError(f"FoundationDB's client does not start: {_text(error)} ({error.code})") from None
        self._database.options.set_transaction_timeout(config.transaction_timeout_ms)
        self._database.options.set_transaction_retry_limit(config.transaction_retry_limit)
        self._threads = threading.local()

    def get_many(self, keys: Sequence[bytes], timeout_ms: int) -> list[bytes | None]:
        lib = self._lib
        get, destroy, take = lib.fdb_transaction_get, lib.fdb_future_destroy, self._value
        for transaction in self._attempts(timeout_ms):
            futures = [get(transaction, key, len(key), 1) for key in keys]  # all issued before the first wait
            try:
                return [take(future) for future in futures]
            except _FdbError as error:
                self._recover(transaction, error)
            finally:
                for future in futures:
                    destroy(future)
        raise Unavailable("FoundationDB: no answer in time")

    def range(
        self, begin: bytes, end: bytes, limit: int, timeout_ms: int, *, reverse: bool = False
    ) -> list[tuple[bytes, bytes]]:
        check_key(begin)
        if begin >= end or limit <= 0:
            return []
        for transaction in self._attempts(timeout_ms):
            try:
                return self._range(transaction, begin, end, limit, reverse)
            except _FdbError as error:
                self._recover(transaction, error)
        raise Unavailable("FoundationDB: no answer in time")

    def transact(
        self, checks: Mapping[bytes, bytes], writes: Mapping[bytes, bytes | None], timeout_ms: int
    ) -> bytes:
        check_transaction(checks, writes, self._value_limit_bytes)
        repeatable = not checks and appended_prefix(writes) is None
        transaction = self._database.create_transaction()
        transaction.options.set_timeout(self._bounded(timeout_ms))
        if self._control.wait_ms:
            transaction.options.set_retry_limit(UNLIMITED)
        while True:
            try:
                return self._transact(transaction, checks, writes)
            except self._fdb.FDBError as error:
                if error.code == NOT_COMMITTED and checks:
                    raise Conflict("a checked key has changed") from None
                if error.code in (COMMIT_UNKNOWN_RESULT, CLUSTER_VERSION_CHANGED) and not repeatable:
                    # repeated, it would meet its own writes and call that a conflict, or append again
                    raise Unavailable(f"FoundationDB: {_text(error)}; the outcome is unknown") from None
                try:
                    transaction.on_error(error).wait()
                except self._fdb.FDBError as last:
                    raise _translated(last.code, _text(last)) from None

    def check_writable(self) -> None:
        """Never: FoundationDB's own limits answer as Unavailable."""

    def close(self) -> None:
        """The client's network thread ends with the process: it cannot be started twice."""

    def _transact(self, transaction, checks: Mapping, writes: Mapping) -> bytes:
        seen = [(transaction[key], key, version) for key, version in checks.items()]
        for value, key, version in seen:
            current = bytes(value)[:VERSION_BYTES] if value.present() else ABSENT
            if current != version:
                raise Conflict(f"{key!r} has changed")
        for key, value in writes.items():
            if value is None:
                del transaction[key]
            elif key.endswith(VERSION_PLACE):
                prefix = key.removesuffix(VERSION_PLACE)
                place = prefix + STAMP_PLACE + len(prefix).to_bytes(4, "little")
                transaction.set_versionstamped_key(place, ABSENT + value)
            else:
                transaction.set_versionstamped_value(key, STAMP_PLACE + value + STAMP_OFFSET)
        if all(value is None for value in writes.values()):
            # without a versionstamped write there is no stamp; the commit version is its first 8 bytes
            transaction.commit().wait()
            return transaction.get_committed_version().to_bytes(8, "big") + STAMP_PLACE[8:]
        stamp = transaction.get_versionstamp()
        transaction.commit().wait()
        return bytes(stamp.wait())

    def _range(self, transaction, begin: bytes, end: bytes, limit: int, reverse: bool) -> list:
        lib, items = self._lib, []
        pairs, count, more = _ffi.new("FDBKeyValue const **"), _ffi.new("int *"), _ffi.new("int *")
        while True:
            future = lib.fdb_transaction_get_range(
                transaction, begin, len(begin), 0, 1, end, len(end), 0, 1,
                limit - len(items), 0, STREAMING_MODE_EXACT, 1, 1, int(reverse),
            )  # fmt: skip
            try:
                self._check(lib.fdb_future_block_until_ready(future))
                self._check(lib.fdb_future_get_keyvalue_array(future, pairs, count, more))
                for i in range(count[0]):
                    pair = pairs[0][i]
                    key = _ffi.buffer(pair.key, pair.key_length)[:]
                    record = _ffi.buffer(pair.value, pair.value_length)[:]
                    if record.startswith(ABSENT):  # an append
                        record = key[-VERSION_BYTES:] + record[VERSION_BYTES:]
                    items.append((key, record))
            finally:
                lib.fdb_future_destroy(future)
            if not more[0] or len(items) >= limit:
                return items
            if reverse:
                end = items[-1][0]
            else:
                begin = items[-1][0] + b"\0"

    def _value(self, future) -> bytes | None:
        lib, out = self._lib, self._threads.out
        error = lib.fdb_future_block_until_ready(future) or lib.fdb_future_get_value(future, *out)
        if error:
            raise _FdbError(error)
        present, value, length = out
        return _ffi.buffer(value[0], length[0])[:] if present[0] else None

    def _attempts(self, timeout_ms: int) -> Iterator:
        """This thread's transaction, reset and with its time limit; again after each _recover."""
        threads, lib = self._threads, self._lib
        if not hasattr(threads, "transaction"):
            threads.owner = self._database.create_transaction()
            threads.transaction = _ffi.cast("FDBTransaction *", threads.owner.tpointer)
            threads.out = _ffi.new("int *"), _ffi.new("uint8_t const **"), _ffi.new("int *")
        timeout_ms = self._bounded(timeout_ms)
        lib.fdb_transaction_reset(threads.transaction)
        # counts from the reset, and on_error keeps it: all attempts together end in time
        limit = timeout_ms.to_bytes(8, "little")
        self._check(lib.fdb_transaction_set_option(threads.transaction, OPTION_TIMEOUT, limit, 8))
        retries = range(self._retry_limit)
        if self._control.wait_ms:
            option = OPTION_RETRY_LIMIT, UNLIMITED_BYTES, 8
            self._check(lib.fdb_transaction_set_option(threads.transaction, *option))
            retries = itertools.count()
        deadline = time.monotonic() + timeout_ms / 1000
        yield threads.transaction
        for _ in retries:
            if time.monotonic() >= deadline:
                return
            yield threads.transaction

    def _recover(self, transaction, error: "_FdbError") -> None:
        """Wait as the client library advises, or raise what the caller understands."""
        lib = self._lib
        future = lib.fdb_transaction_on_error(transaction, error.code)
        try:
            code = lib.fdb_future_block_until_ready(future) or lib.fdb_future_get_error(future)
        finally:
            lib.fdb_future_destroy(future)
        if code:
            raise _translated(code, _ffi.string(lib.fdb_get_error(code)).decode()) from None

    def _check(self, code: int) -> None:
        if code:
            raise _FdbError(code)

    def _bounded(self, timeout_ms: int) -> int:
        return max(1, min(timeout_ms, max(self._longest_ms, self._control.wait_ms)))


class _FdbError(Exception):
    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def _translated(code: int, text: str) -> EngineError:
    return (EngineError if 2000 <= code < 2100 else Unavailable)(f"FoundationDB: {text} ({code})")


def _text(error) -> str:
    return error.description.decode() if isinstance(error.description, bytes) else str(error.description)
