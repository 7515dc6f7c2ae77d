"""Progress for people: one line per step with the time it took, alive on a terminal while the step goes on."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator


def say(text: str) -> None:
    """One line to stderr: stdout is for what a command was asked for. Nobody there to read it stops nothing."""
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def step(text: str, quiet_seconds: float = 0) -> Iterator[None]:
    """Announces a step, and says how long it took; nothing at all where it ends within `quiet_seconds`.

    On a terminal the elapsed time runs along; in a log a long step gets a line every 30 seconds.
    """
    started = time.monotonic()
    ended = threading.Event()
    live = sys.stderr.isatty()

    def elapsed() -> str:
        return f"{time.monotonic() - started:.0f} s"

    def run() -> None:
        if ended.wait(quiet_seconds):
            return
        if not live:
            say(f"{text} ...")
        while not ended.wait(1 if live else 30):
            if live:
                print(f"\r{text} ... {elapsed()} ", end="", file=sys.stderr, flush=True)
            else:
                say(f"{text} ... {elapsed()}")

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    outcome = "failed after"
    try:
        yield
        outcome = "done in"
    finally:
        ended.set()
        thread.join()
        if time.monotonic() - started >= quiet_seconds:
            say(f"\r{text}: {outcome} {elapsed()}" if live else f"{text}: {outcome} {elapsed()}")
