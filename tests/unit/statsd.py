"""A StatsD daemon for tests: it adds up what comes, as collectd does."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections import defaultdict


class Daemon:
    """Listens on loopback from the start; `counters` and `gauges` by full name, `longest` the largest datagram."""

    def __init__(self, port: int = 0) -> None:
        self.counters: dict[str, float] = defaultdict(float)
        self.gauges: dict[str, float] = {}
        self.longest = 0
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", port))
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def total(self, *parts: str) -> float:
        """The sum of all counters whose name holds all of these."""
        return sum(value for name, value in list(self.counters.items()) if all(part in name for part in parts))

    def stop(self) -> None:
        """From now on the port is closed."""
        with contextlib.suppress(OSError):  # not connected; it wakes the thread all the same
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()

    def _run(self) -> None:
        while True:
            try:
                datagram = self._socket.recv(65536)
            except OSError:
                return
            if not datagram:
                return
            self.longest = max(self.longest, len(datagram))
            for line in datagram.decode("ascii").splitlines():
                name, _, rest = line.rpartition(":")
                value, kind = rest.split("|")
                if kind == "c":
                    self.counters[name] += float(value)
                else:
                    self.gauges[name] = float(value)
