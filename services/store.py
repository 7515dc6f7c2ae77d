"""The store worker: takes all requests that wait, reads them in one transaction, answers each where it came from.

    python -m services.store --slot a --worker 0

One worker per core, pinned, so that the loop and the engine's threads feed each other from one cache. Reads never
wait behind a write's commit: transactions run on a few threads of their own.

SIGTERM: every answer from then on says that this worker is leaving, so that callers go elsewhere; when no
request has come for a moment, the worker exits with 0.
"""

import argparse
import gc
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from services import sp
from services.config import SLOTS, Config, ConfigError, load, slot_port
from services.control import Control
from services.engines.base import (
    KEY_LIMIT_BYTES,
    Conflict,
    Engine,
    EngineError,
    Full,
    Invalid,
    TooLarge,
    Unavailable,
)
from services.notify import notify
from services.release import running_release

PING_KEY = b"griddle/ping"
RANGE_LIMIT = 1000
WRITE_THREADS = 8
WRITES_HELD = 256  # more than this waiting or running: refused as unavailable
WRITE_LIMIT_MS = 5000
WAKE_MS = 200  # how often an idle worker looks at its stop flag
LEAVE_IDLE_SECONDS = 0.2
LEAVE_LIMIT_SECONDS = 3.0

log = logging.getLogger("store")


class Worker:
    """Serves one socket from one engine until told to leave."""

    def __init__(
        self, config: Config, engine: Engine, socket, release: str, metrics, control: Control | None = None
    ) -> None:  # fmt: skip
        self._engine, self._socket, self._metrics = engine, socket, metrics
        self._max_batch = config.store.max_batch
        self._deadline_ms = config.store.deadline_ms
        self._control = control or Control()
        self._release = release.encode("ascii")
        self._writers = ThreadPoolExecutor(WRITE_THREADS, thread_name_prefix="write")
        self._writes = 0
        self._writes_lock = threading.Lock()
        self._away = False
        self._leaving = False
        self._prefixes: list[bytes] = []
        self._set_prefixes()

    def leave(self) -> None:
        """Finish: see the module. Safe to call from a signal handler."""
        self._leaving = True

    def run(self) -> None:
        """Serve until told to leave and idle."""
        while not self._leaving:
            messages, waited_ms = self._socket.take(self._max_batch)
            if messages:
                self._serve(messages, waited_ms)
        self._run_out()

    def _run_out(self) -> None:
        notify("STOPPING=1")
        self._set_prefixes()
        end = time.monotonic() + LEAVE_LIMIT_SECONDS
        idle_since = time.monotonic()
        while time.monotonic() < min(end, idle_since + LEAVE_IDLE_SECONDS):
            messages, _ = self._socket.take(self._max_batch)
            if messages:
                self._serve(messages, 0.0)
                idle_since = time.monotonic()
        self._writers.shutdown(wait=True)
        self._socket.close()

    def _set_prefixes(self) -> None:
        statuses = range(len(sp.STATUS_NAMES))
        self._prefixes = [sp.reply_prefix(s, self._release, leaving=self._leaving) for s in statuses]

    def _serve(self, messages: list, waited_ms: float) -> None:
        """Answer a batch. Each message is replied to exactly once, whatever it holds."""
        asking, keys, others = [], [], []
        body_of = self._socket.body_of
        longest_ms = 0.0
        for message in messages:
            try:
                operation, budget_ms, _, _, body = sp.parse_request(body_of(message))
            except sp.Malformed as error:
                status = sp.UNSUPPORTED if isinstance(error, sp.Unsupported) else sp.INVALID
                self._refuse(message, status, str(error))
                continue
            left_ms = (budget_ms or self._deadline_ms) - waited_ms
            if left_ms <= 0:
                self._refuse(message, sp.EXPIRED, "the deadline has passed")
                continue
            if operation == sp.TRANSACT:
                self._write(message, body, left_ms)
                continue
            longest_ms = max(longest_ms, left_ms)
            if operation == sp.GET:
                if 0 < len(body) <= KEY_LIMIT_BYTES and body[0] != 0xFF:
                    asking.append(message)
                    keys.append(body)
                else:
                    self._refuse(message, sp.INVALID, f"key of {len(body)} bytes, or one of the store's own")
            elif operation == sp.RANGE:
                others.append((message, self._range, body))
            elif operation == sp.PING:
                others.append((message, self._ping, body))
            else:
                self._refuse(message, sp.UNSUPPORTED, f"operation {operation}")
        timeout_ms = max(1, int(min(longest_ms, max(self._deadline_ms, self._control.wait_ms))))
        if asking:
            self._get(asking, keys, timeout_ms)
        if others:
            self._socket.flush()
        for message, handler, body in others:
            self._attempt(message, handler, body, timeout_ms)
        self._metrics.add("requests", len(messages))
        self._metrics.add("batches")

    def _get(self, messages: list, keys: list[bytes], timeout_ms: int) -> None:
        started = time.monotonic()
        try:
            records = self._engine.get_many(keys, timeout_ms)
        except Exception as error:
            self._failed(messages, error)
            return
        if self._away:
            self._came_back()
        reply, found, missing = self._socket.reply, self._prefixes[sp.OK], self._prefixes[sp.NOT_FOUND]
        for message, record in zip(messages, records, strict=True):
            reply(message, missing if record is None else found + record)
        self._metrics.observe("read", (time.monotonic() - started) * 1000, len(messages))

    def _attempt(self, message, handler: Callable[[bytes, int], bytes], body: bytes, timeout_ms: int) -> None:
        try:
            answer = handler(body, timeout_ms)
        except Exception as error:
            self._failed([message], error)
        else:
            self._socket.reply(message, self._prefixes[sp.OK] + answer)

    def _ping(self, _: bytes, timeout_ms: int) -> bytes:
        self._engine.get_many([PING_KEY], timeout_ms)
        self._engine.check_writable()
        return b""

    def _range(self, body: bytes, timeout_ms: int) -> bytes:
        begin, end, limit, reverse = sp.parse_range(body)
        if limit > RANGE_LIMIT:
            raise TooLarge(f"range of up to {limit} items, limit {RANGE_LIMIT}")
        return sp.range_reply(self._engine.range(begin, end, limit, timeout_ms, reverse=reverse))

    def _transact(self, body: bytes, timeout_ms: int) -> bytes:
        checks, writes = sp.parse_transact(body)
        return self._engine.transact(checks, writes, timeout_ms)

    def _write(self, message, body: bytes, left_ms: float) -> None:
        """Hand a transaction to the writers; its time in their queue counts."""
        with self._writes_lock:
            held = self._writes
            self._writes += held < WRITES_HELD
        if held >= WRITES_HELD:
            self._refuse(message, sp.UNAVAILABLE, f"{held} writes are waiting already")
            return
        deadline = time.monotonic() + min(left_ms, WRITE_LIMIT_MS) / 1000
        self._writers.submit(self._write_now, message, body, deadline)

    def _write_now(self, message, body: bytes, deadline: float) -> None:
        started = time.monotonic()
        left_ms = int((deadline - started) * 1000)
        if left_ms <= 0:
            self._refuse(message, sp.EXPIRED, "the deadline has passed")
        else:
            self._attempt(message, self._transact, body, left_ms)
        self._metrics.observe("write", (time.monotonic() - started) * 1000)
        with self._writes_lock:
            self._writes -= 1

    def _failed(self, messages: list, error: Exception) -> None:
        status = _status_of(error)
        text = str(error)
        if status == sp.FAILED:
            log.error("request failed", exc_info=error)
            text = type(error).__name__
        elif status == sp.UNAVAILABLE and not self._away:
            self._away = True
            log.warning("the store is away: %s", error)
        for message in messages:
            self._refuse(message, status, text)

    def _came_back(self) -> None:
        self._away = False
        log.warning("the store answers again")

    def _refuse(self, message, status: int, text: str) -> None:
        self._socket.reply(message, self._prefixes[status] + text.encode())
        self._metrics.add(f"refused;status={sp.STATUS_NAMES[status]}")


def _status_of(error: Exception) -> int:
    """The status for what an engine or a parser raised."""
    for kind, status in (
        (Unavailable, sp.UNAVAILABLE),
        (Conflict, sp.CONFLICT),
        (Full, sp.FULL),
        (TooLarge, sp.TOO_LARGE),
        (Invalid, sp.INVALID),
        (sp.Malformed, sp.INVALID),
    ):
        if isinstance(error, kind):
            return status
    return sp.FAILED


def pin(worker: int) -> None:
    """Put this process, and every thread that it will start, on one of the cores that it may use.

    As SCHED_BATCH: woken by a request, it does not push aside whoever runs there (sched(7)), so that those who ask
    go on asking and it finds more requests at once.
    """
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[worker % len(cores)]})
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def urls(config: Config, slot: str, worker: int) -> list[str]:
    """Where this worker listens: TCP for the proxies, ipc for the front of its own host."""
    port = slot_port(config.store.port, slot, worker)
    address = config.store.address or "0.0.0.0"
    return [f"tcp://{address}:{port}", "ipc://" + config.store.ipc.format(slot=slot, worker=worker)]


def serve(config: Config, slot: str, worker: int) -> None:
    """Run a worker until SIGTERM or SIGINT. Raises SocketError if it cannot listen."""
    if config.store.pin:
        pin(worker)
    # these start threads, or lead to what does: only now that the core is chosen
    from services.engines import open_engine
    from services.metrics import Metrics
    from services.rep import Rep

    release = running_release()
    metrics = Metrics("store", slot, worker, release, config.statsd.host, config.statsd.port)
    socket = Rep(
        message_limit_bytes=sp.message_limit(config.store.value_limit_bytes),
        take_timeout_ms=WAKE_MS,
    )
    control = Control().start()
    engine = open_engine(config, control)
    loop = Worker(config, engine, socket, release, metrics, control)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: loop.leave())
    for url in urls(config, slot, worker):
        socket.listen(url)
    metrics.start()
    gc.collect()
    gc.freeze()  # what exists by now stays: the collector need not look at it again
    log.info("release %s, engine %s, on %s", release, config.store.engine, ", ".join(urls(config, slot, worker)))
    notify("READY=1")
    loop.run()
    engine.close()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="services.store")
    parser.add_argument("--slot", choices=SLOTS, required=True)
    parser.add_argument("--worker", type=int, required=True)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(name)s %(levelname)s %(message)s", stream=sys.stderr)
    try:
        serve(load(), options.slot, options.worker)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    except (OSError, EngineError) as error:
        print(f"store {options.slot}-{options.worker}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
