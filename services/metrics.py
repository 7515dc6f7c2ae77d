"""Counters and latency buckets, kept in the process and flushed each second to the host's StatsD daemon.

Buckets are cumulative (`le_25` counts all that took up to 25 ms), so that percentiles can be computed from the sum
over hosts. Nothing here waits: a datagram that cannot be sent is lost, and its counts go with the next one.
"""

import bisect
import threading
import time

import statsd

BOUNDS_MS = (1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000)
BUCKETS = tuple(f"le_{bound:g}".replace(".", "_") for bound in (*BOUNDS_MS, float("inf")))
FLUSH_SECONDS = 1.0
DATAGRAM_BYTES = 1400  # one Ethernet frame


class Metrics:
    """May be counted into from any thread; a thread of its own does the sending."""

    def __init__(self, prefix: str, host: str, port: int) -> None:
        self.counts: dict[str, int] = {}
        self._lock = threading.Lock()
        self._sent: dict[str, int] = {}
        self._client = statsd.StatsClient(host, port, prefix=prefix, maxudpsize=DATAGRAM_BYTES)
        self._client._sock.setblocking(False)

    def add(self, name: str, count: int = 1) -> None:
        with self._lock:
            self.counts[name] = self.counts.get(name, 0) + count

    def observe(self, name: str, milliseconds: float, count: int = 1) -> None:
        """Count `count` events that took this long each."""
        self.add(f"{name}.{BUCKETS[bisect.bisect_left(BOUNDS_MS, milliseconds)]}", count)

    def start(self) -> None:
        """Flush each second from now on. Call it after the last fork."""
        threading.Thread(target=self._run, name="metrics", daemon=True).start()

    def flush(self) -> None:
        """Send what has been counted since the last flush."""
        with self._client.pipeline() as pipeline:
            for name, count in list(self.counts.items()):  # a copy: counting goes on
                if new := count - self._sent.get(name, 0):
                    pipeline.incr(name, new)
                    self._sent[name] = count

    def _run(self) -> None:
        while True:
            time.sleep(FLUSH_SECONDS)
            self.flush()
