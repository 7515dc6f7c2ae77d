"""What a run says at its end: seconds per component, and the settings that hosts could not take.

It goes to standard error: standard output belongs to pyinfra's ``--json``.
"""

from __future__ import annotations

import atexit
import sys
import textwrap
import time
from collections import defaultdict

from pyinfra.api.state import BaseStateCallback, State

from cluster import table

_INDENT = {"initial_indent": " " * 8, "subsequent_indent": " " * 8, "break_on_hyphens": False}
_seconds: dict[str, float] = defaultdict(float)
_changes: dict[str, int] = defaultdict(int)
_refused: dict[tuple[str, str], list[str]] = defaultdict(list)


def not_settable(host: str, key: str, why: str) -> None:
    """Remember a setting that a host refused."""
    if host not in _refused[key, why]:
        _refused[key, why].append(host)


class _Clock(BaseStateCallback):
    """Adds up wall time per component, the word before " | " in an operation's name."""

    component = ""
    started = 0.0

    @staticmethod
    def operation_start(state: State, op_hash: str) -> None:
        _Clock.component = next(iter(state.get_op_meta(op_hash).names)).partition(" | ")[0]
        _Clock.started = time.monotonic()

    @staticmethod
    def operation_end(state: State, op_hash: str) -> None:
        component, _Clock.component = _Clock.component, ""
        _seconds[component] += time.monotonic() - _Clock.started
        done = [ops[op_hash].operation_meta for ops in state.ops.values() if op_hash in ops]
        _changes[component] += sum(1 for meta in done if meta.is_complete() and meta.did_change())


def watch(state: State) -> None:
    """Start the clock, once per run."""
    if any(isinstance(handler, _Clock) or handler is _Clock for handler in state.callback_handlers):
        return
    state.add_callback_handler(_Clock())
    atexit.register(_print)


def _print() -> None:
    out = sys.stderr
    if _refused:
        print("\n--> Not settable on these hosts (kept as they are):", file=out)
        by_reason: dict[tuple[tuple[str, ...], str], list[str]] = defaultdict(list)
        for (key, why), hosts in _refused.items():
            by_reason[tuple(sorted(hosts)), why].append(key)
        for (hosts, why), keys in by_reason.items():
            who = f"{len(hosts)} hosts" if len(hosts) > 3 else ", ".join(hosts)
            print(f"    {who}, {why or 'no reason given'}:", file=out)
            print(textwrap.fill(" ".join(sorted(keys)), 110, **_INDENT), file=out)
    if failed := _Clock.component:  # an operation that never ended
        _seconds[failed] += time.monotonic() - _Clock.started
    if _seconds:
        print("\n--> Seconds per component:", file=out)
        lines = []
        for component, seconds in _seconds.items():
            changed = f"{_changes[component]} changed" if _changes[component] else "no change"
            if component == failed:
                changed = "stopped here"
            elif not _changes[component] and seconds < 0.05:  # a barrier
                continue
            lines.append((component, f"{seconds:.1f}", changed))
        lines.append(("total", f"{sum(_seconds.values()):.1f}", ""))
        print(table.aligned(lines, left=(0, 2), indent=4), file=out)
