"""The engine of unit tests, of `griddle dev` and of benchmarks of the path itself: a dictionary."""

import bisect
import threading
import time
from collections.abc import Mapping, Sequence

from services.engines.base import ABSENT, VERSION_BYTES, VERSION_PLACE, Conflict, check_key, check_transaction


class MemoryEngine:
    """Data live as long as the object. Versions go on from the clock, so that they also grow across restarts."""

    def __init__(self, value_limit_bytes: int) -> None:
        self._value_limit_bytes = value_limit_bytes
        self._lock = threading.Lock()
        self._records: dict[bytes, bytes] = {}
        self._keys: list[bytes] = []  # sorted
        self._version = time.time_ns()

    def get_many(self, keys: Sequence[bytes], timeout_ms: int) -> list[bytes | None]:
        with self._lock:
            return list(map(self._records.get, keys))

    def range(
        self, begin: bytes, end: bytes, limit: int, timeout_ms: int, *, reverse: bool = False
    ) -> list[tuple[bytes, bytes]]:
        check_key(begin)
        with self._lock:
            keys = self._keys[bisect.bisect_left(self._keys, begin) : bisect.bisect_left(self._keys, end)]
            keys = keys[::-1][:limit] if reverse else keys[:limit]
            return [(key, self._records[key]) for key in keys]

    def transact(
        self, checks: Mapping[bytes, bytes], writes: Mapping[bytes, bytes | None], timeout_ms: int
    ) -> bytes:
        check_transaction(checks, writes, self._value_limit_bytes)
        with self._lock:
            for key, version in checks.items():
                if self._records.get(key, ABSENT)[:VERSION_BYTES] != version:
                    raise Conflict(f"{key!r} has changed")
            self._version += 1
            version = self._version.to_bytes(VERSION_BYTES, "big")
            for written, value in writes.items():
                key = written
                if key.endswith(VERSION_PLACE):
                    key = key.removesuffix(VERSION_PLACE) + version
                if value is not None:
                    if key not in self._records:
                        bisect.insort(self._keys, key)
                    self._records[key] = version + value
                elif self._records.pop(key, None) is not None:
                    del self._keys[bisect.bisect_left(self._keys, key)]
            return version

    def check_writable(self) -> None:
        """Never: memory is all there is to fill."""

    def close(self) -> None:
        self._records.clear()
        self._keys.clear()
