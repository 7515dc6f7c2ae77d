"""What an operation did: a file that grows with it, and the summary printed at its end."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from cluster.paths import ROOT
from cluster.progress import say

DIRECTORY = ROOT / "results" / "operations"


class Gate(Protocol):
    """Something that must hold before an operation goes on: what was seen of it, and whether it holds."""

    name: str
    seen: str
    ok: bool


class Report:
    """One operation's report. It is complete after each step, so a killed operator's tells how far it came."""

    def __init__(self, operation: str, cluster: str, owner: str, path: Path | None = None) -> None:
        started = datetime.now(UTC)
        name = re.sub(r"[^a-z0-9.]+", "-", f"{started:%Y%m%dT%H%M%SZ} {operation}".lower())
        self.path = path or DIRECTORY / f"{name}.json"
        self._clock = time.monotonic()
        self.document: dict[str, Any] = {
            "operation": operation,
            "cluster": cluster,
            "owner": owner,
            "started": started.isoformat(timespec="seconds"),
            "outcome": "under way",  # done | failed; it stays where the operator's process was killed
            "seconds": 0.0,
            "steps": [],
        }

    @contextmanager
    def step(self, name: str) -> Iterator[dict[str, Any]]:
        """One step; what it yields is its part of the report, and may be added to."""
        entry: dict[str, Any] = {"name": name, "at_seconds": self._elapsed(), "outcome": "under way"}
        self.document["steps"].append(entry)
        self.write()
        say(f"    {name} ...")
        started = time.monotonic()
        try:
            yield entry
            entry["outcome"] = "done"
        except BaseException as error:
            entry |= {"outcome": "failed", "problem": str(error) or type(error).__name__}
            raise
        finally:
            entry["seconds"] = round(time.monotonic() - started, 2)
            self.write()
            say(f"    {name}: {entry['outcome']} after {entry['seconds']:.1f} s")

    def looked(self, found: Iterable[Gate]) -> None:
        """All gates, as they are before the next step."""
        self.document |= {"gates": gates(found), "gates_at_seconds": self._elapsed()}

    @contextmanager
    def best_effort(self, what: str) -> Iterator[None]:
        """For what only reports: where it does not succeed, that is said, and noted under "not_done"."""
        try:
            yield
        except Exception as problem:
            line = f"{what}: {str(problem) or type(problem).__name__}"
            self.document.setdefault("not_done", []).append(line)
            say(f"    not done: {line}")

    def end(self, outcome: str, **more: Any) -> None:
        """`outcome`: done or failed; `more` goes into the document."""
        self.document |= {"outcome": outcome, **more}
        self.write()

    def write(self) -> None:
        """Atomically, so that a reader never sees half of it. A full disk here is no reason to stop."""
        self.document["seconds"] = self._elapsed()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            fresh = self.path.with_name(f"{self.path.name}.{os.getpid()}")
            fresh.write_text(json.dumps(self.document, indent=1) + "\n")
            fresh.replace(self.path)
        except OSError as problem:
            say(f"    the report is not written: {problem}")

    def _elapsed(self) -> float:
        return round(time.monotonic() - self._clock, 2)


def gates(found: Iterable[Gate]) -> list[dict[str, Any]]:
    """Gates with the values seen, for a step's entry."""
    return [{"gate": gate.name, "seen": gate.seen, "ok": gate.ok} for gate in found]


def summary(document: dict[str, Any]) -> list[str]:
    """The report for people."""
    lines = [f"{document['operation']}: {document['outcome']} after {document['seconds']:.1f} s"]
    lines += [f"  {step.get('seconds', 0):7.1f} s  {step['name']}" for step in document["steps"]]
    lines += _serving_again(document)
    if probe := document.get("probe"):
        lines.append(
            f"  a client at the virtual address: {probe['reads']} reads, {probe['failed']} failed, "
            f"the longest took {probe['longest_ms']} ms"
        )
    if waits := document.get("waits"):
        lines.append(
            f"  all clients: {waits['answered']} requests, {waits['failed']} failed, {waits['waited']} waited, "
            f"the longest {waits['longest_ms']} ms"
        )
    lines += [f"  not done: {line}" for line in document.get("not_done", ())]
    return lines


def _serving_again(document: dict[str, Any]) -> list[str]:
    """When the database could be used again, and when the cluster was healthy again: two lines, or none.

    "serving_again_seconds" of a step that restarts processes is how long it could not be used, at most.
    """
    steps = document["steps"]
    restarts = [step for step in steps if "serving_again_seconds" in step]
    if not restarts:
        return []
    longest = max(step["serving_again_seconds"] for step in restarts)
    several = len(restarts) > 1
    lines = [f"  serving again after {longest:.1f} s" + f", the longest of {len(restarts)} times" * several]
    # The last step may have been a gate; else the last look has found all of them green.
    last = steps[-1]
    at = last["at_seconds"] + last["seconds"] if "gates" in last else document.get("gates_at_seconds", 0)
    if document["outcome"] == "done" and all(gate["ok"] for gate in document.get("gates", ())):
        green = at - restarts[0]["at_seconds"]
        lines.append(f"  all gates green {green:.1f} s after the {'first ' * several}restart began")
    return lines
