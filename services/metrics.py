"""Counters and latency buckets, kept in the process and flushed each second to the host's StatsD daemon.

Names are in docs/metrics.md; ``reads;kind=x`` is the counter `reads` with a label. Buckets are cumulative
(``le=25`` counts all that took up to 25 ms), so that percentiles can be computed from the sum over hosts.

Nothing here waits. What is flushed while no daemon listens is lost, on purpose: sent later, at once, it would look
like a burst that never was.
"""

import bisect
import threading
import time

import statsd

BOUNDS_MS = (1, 2.5, 5, 10, 25, 50, 100, 250, 1000)  # nginx/lua/metrics.lua has the same
LES = (*(f"{bound:g}" for bound in BOUNDS_MS), "+Inf")
FLUSH_SECONDS = 1.0
DATAGRAM_BYTES = 1400  # one Ethernet frame


class Metrics:
    """The numbers of one process. May be counted into from any thread; a thread of its own does the sending."""

    def __init__(self, unit: str, slot: str, worker: int, release: str, host: str, port: int) -> None:
        """`unit`: store, front or feed, the first word of every name."""
        self._prefix = f"griddle.{unit}."
        self._labels = f";slot={slot};release={release}"
        self._alive = f"griddle.worker;unit={unit};worker={worker}{self._labels}"
        self._lock = threading.Lock()
        self._counts: dict[str, int] = {}
        self._timings: dict[str, list[float]] = {}  # one for each of LES, then the sum of milliseconds
        self._sent: dict[str, float] = {}
        self._client = statsd.StatsClient(host, port, maxudpsize=DATAGRAM_BYTES)
        self._client._sock.setblocking(False)

    def add(self, name: str, count: int = 1) -> None:
        """Count; `name` may carry labels: "answers;status=200"."""
        with self._lock:
            self._counts[name] = self._counts.get(name, 0) + count

    def observe(self, name: str, milliseconds: float, count: int = 1) -> None:
        """Count `count` events that took this long each."""
        at = bisect.bisect_left(BOUNDS_MS, milliseconds)
        with self._lock:
            timing = self._timings.get(name)
            if timing is None:
                timing = self._timings[name] = [0] * (len(LES) + 1)
            timing[at] += count
            timing[-1] += milliseconds * count

    def start(self) -> None:
        """Flush each second from now on. Call it after the last fork."""
        threading.Thread(target=self._run, name="metrics", daemon=True).start()

    def totals(self) -> dict[str, float]:
        """Everything counted so far, as it is sent: {name with labels: total}."""
        with self._lock:
            found: dict[str, float] = dict(self._counts)
            timings = {name: list(timing) for name, timing in self._timings.items()}
        for name, timing in timings.items():
            total = 0
            for le, count in zip(LES, timing, strict=False):
                total += count
                found[f"{name}_ms_bucket;le={le}"] = total
            found[f"{name}_ms_count"] = total
            found[f"{name}_ms_sum"] = timing[-1]
        return found

    def flush(self) -> None:
        """Send what has been counted since the last flush, and that this process lives."""
        with self._client.pipeline() as pipeline:
            pipeline.gauge(self._alive, 1)
            for name, total in self.totals().items():
                if name not in self._sent:
                    # The store sees growth between two totals: the first one has to be 0. What was counted goes
                    # with the next flush.
                    pipeline.incr(f"{self._prefix}{name}{self._labels}", 0)
                    self._sent[name] = 0
                elif new := total - self._sent[name]:
                    pipeline.incr(f"{self._prefix}{name}{self._labels}", round(new, 3))
                    self._sent[name] = total

    def _run(self) -> None:
        while True:
            time.sleep(FLUSH_SECONDS)
            self.flush()
