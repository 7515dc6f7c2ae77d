"""Takes events from the log to the profiles' feeds, each exactly once.

    python -m services.feed --slot a

The durable cursor moves in the transaction that writes the feeds' rows, and that transaction checks the version of
the cursor that it began from. So any number of feeds may run, one per slot and app host: of two that take the same
events one commits and the other meets a conflict, and goes on from where the first one got to. Killed at any
moment, all of a batch has happened or nothing. A transaction whose outcome is unknown is settled by reading the
cursor again.

The log is trimmed behind the slowest of all cursors. A new kind of consumer takes a cursor of its own below
`cursor/`: what is in the log by then is there for it, what was trimmed before is not.

The feed asks the store workers of its host, as the front does.
"""

import argparse
import json
import logging
import random
import signal
import sys
import time

from services import message, sp
from services.client import StoreAway, StoreClient
from services.config import SLOTS, Config, ConfigError, load
from services.metrics import Metrics
from services.notify import notify
from services.release import running_release

CURSORS = b"cursor/"
CURSOR = CURSORS + b"feed"
BATCH = 60  # events of a transaction, which may hold 128 checks and writes
DEADLINE_MS = 3000
TRIM_SECONDS = 1.0
AWAY_SECONDS = 0.5
CONFLICT_SECONDS = 0.05  # at most; by chance, so that two feeds do not meet again

log = logging.getLogger("feed")


class Conflict(Exception):
    """Another feed was faster."""


class Feed:
    """Consumes the log through a store client; for one thread."""

    def __init__(self, client: StoreClient, metrics) -> None:
        self._client, self._metrics = client, metrics
        self._version: bytes | None = None  # of the cursor; None: not known
        self._at = b""  # the last event's place in the log; empty: before the first
        self._trim_at = 0.0

    def run_once(self) -> bool:
        """Consume what is in the log, up to one batch; whether there may be more.

        Raises StoreAway, after which the next call finds out what has happened, and Conflict.
        """
        if self._version is None:
            self._look()
        begin = message.EVENTS + (self._at + b"\0" if self._at else b"")
        events = self._range(begin, message.EVENTS[:-1] + b"0", BATCH)
        if events:
            self._consume([(key[len(message.EVENTS) :], record) for key, record in events])
        if time.monotonic() >= self._trim_at:
            self._trim()
            self._trim_at = time.monotonic() + TRIM_SECONDS
        return len(events) == BATCH

    def _look(self) -> None:
        reply = self._ask(sp.GET, CURSOR, sp.NOT_FOUND)
        if reply.status == sp.NOT_FOUND:
            self._version, self._at = sp.ABSENT, b""
        else:
            self._version, self._at = reply.body[: sp.VERSION_BYTES], reply.body[sp.VERSION_BYTES :]

    def _consume(self, events: list[tuple[bytes, bytes]]) -> None:
        """One or more transactions for these (place, record), in their order."""
        rows: dict[bytes, bytes | None] = {}
        before = place = self._at
        for place, record in events:
            version, event = record[: sp.VERSION_BYTES], _event(record[sp.VERSION_BYTES :])
            if event is not None and event["type"] == "message":
                key = message.key_of("feed", event["profile"], version)
                rows[key] = message.json_bytes(event["message"])
            elif event is not None and event["type"] == "deleted":
                if rows:
                    self._commit(rows, before)
                    rows = {}
                self._forget(event["profile"], version)
            else:
                log.error("an event of a kind that this release does not know is passed over: %r", record[10:200])
                self._metrics.add("passed_over")
            before = place
        self._commit(rows, place)
        self._metrics.add("events", len(events))

    def _forget(self, profile_id: str, version: bytes) -> None:
        """Delete what belongs to a profile and is older than its deletion. Repeated, it finds less to do."""
        for kind in message.PER_PROFILE:
            begin = message.key_of(kind, profile_id)
            end = begin[:-1] + b"0"
            while items := self._range(begin, end, BATCH):
                # a feed's rows are written later than what they are of, whose version is in their keys
                since = {key: key[-sp.VERSION_BYTES :] if kind == "feed" else record for key, record in items}
                old = {key: None for key, at in since.items() if at[: sp.VERSION_BYTES] < version}
                if old:
                    self._commit(old, self._at)
                begin = items[-1][0] + b"\0"

    def _commit(self, writes: dict[bytes, bytes | None], place: bytes) -> None:
        """Write rows and cursor together, if the cursor is still where this feed found it."""
        body = sp.transact_body({CURSOR: self._version}, {**writes, CURSOR: place})
        known, self._version = self._version, None  # until the answer is there
        reply = self._ask(sp.TRANSACT, body, sp.CONFLICT)
        if reply.status == sp.CONFLICT:
            self._metrics.add("conflicts")
            raise Conflict(known.hex())
        self._version, self._at = reply.body, place

    def _trim(self) -> None:
        """Delete the events that every cursor has passed."""
        cursors = [record[sp.VERSION_BYTES :] for _, record in self._range(CURSORS, CURSORS[:-1] + b"0", 1000)]
        slowest = min(cursors, default=b"")
        if not slowest:
            return
        while items := self._range(message.EVENTS, message.EVENTS + slowest + b"\0", BATCH):
            self._ask(sp.TRANSACT, sp.transact_body({}, {key: None for key, _ in items}))
            self._metrics.add("trimmed", len(items))
            if len(items) < BATCH:
                return

    def _range(self, begin: bytes, end: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        return sp.parse_range_reply(self._ask(sp.RANGE, sp.range_body(begin, end, limit)).body)

    def _ask(self, operation: int, body: bytes, *also: int) -> sp.Reply:
        """The reply, if it is OK or one of `also`."""
        reply = self._client.ask(operation, body, DEADLINE_MS)
        if reply.status != sp.OK and reply.status not in also:
            raise StoreAway(f"{sp.STATUS_NAMES[reply.status]}: {reply.body.decode('utf-8', 'replace')}")
        return reply


def _event(value: bytes) -> dict | None:
    try:
        event = json.loads(value)
        return event if isinstance(event, dict) and {"type", "profile"} <= set(event) else None
    except ValueError:
        return None


def serve(config: Config, slot: str) -> None:
    """Run until SIGTERM or SIGINT."""
    from services.nudge import Nudged

    left: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: left.append(number))
    release = running_release()
    metrics = Metrics("feed", slot, 0, release, config.statsd.host, config.statsd.port)
    client = StoreClient([config.store.ipc.format(slot=slot, worker=i) for i in range(config.store.workers)])
    nudged = Nudged(config.feed.nudge.format(slot=slot))
    feed = Feed(client, metrics)
    metrics.start()
    log.info("release %s, nudged by %s", release, config.feed.nudge.format(slot=slot))
    notify("READY=1")
    away = False
    while not left:
        try:
            more = feed.run_once()
        except StoreAway as error:
            if not away:
                log.warning("the store is away: %s", error)
            away = True
            nudged.wait(AWAY_SECONDS, lambda: bool(left))
            continue
        except Conflict:
            time.sleep(random.uniform(0, CONFLICT_SECONDS))
            continue
        if away:
            log.warning("the store answers again")
            away = False
        if not more:
            nudged.wait(config.feed.poll_ms / 1000, lambda: bool(left))
    notify("STOPPING=1")
    nudged.close()
    client.close()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="services.feed")
    parser.add_argument("--slot", choices=SLOTS, required=True)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(name)s %(levelname)s %(message)s", stream=sys.stderr)
    try:
        serve(load(), options.slot)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
