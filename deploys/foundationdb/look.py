"""The verb `fdb status`: asks whoever can be reached."""

from __future__ import annotations

import json
import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

from pyinfra import host, state
from pyinfra.api import StringCommand, operation

from cluster import model
from cluster.errors import Failure
from cluster.progress import say
from deploys.conductor import conduct, locking
from deploys.foundationdb import screen, status
from deploys.foundationdb.database import Database
from deploys.foundationdb.deploy import limits
from deploys.foundationdb.operations import PATIENT_STATUS_SECONDS
from deploys.foundationdb.status import Document
from deploys.foundationdb.upgrade import look_at_host


@operation()
def shown() -> Generator[StringCommand]:
    """Prints the screen, or writes the summary where $GRIDDLE_REPORT says."""
    host.noop("looked at")
    if state.is_executing:
        seen = look()
        if path := os.environ.get("GRIDDLE_REPORT"):
            Path(path).write_text(json.dumps(seen) + "\n")
        else:
            for line in screen.screen(model.cluster().name, seen):
                say(line)
    return
    yield


def look() -> dict[str, Any]:
    """The summary of what can be reached now."""
    cluster = model.cluster()
    names = [each.name for each in cluster.groups(("fdb", "apps"))]
    reached = {model.short_name(each.name) for each in conduct.hosts(names)}
    asked = [name for name in (each.name for each in cluster.group("fdb")) if name in reached]
    hosts = conduct.on_all(
        reached, lambda on: look_at_host(on, "fdb" in cluster.hosts[model.short_name(on.name)].groups)
    )
    return screen.summary(
        _document(asked),
        limits(cluster),
        {name: hosts[name] for name in names if name in hosts},
        [name for name in names if name not in reached],
        locking.other(),
    )


def _document(asked: list[str]) -> Document | None:
    """One that says more than the client's own part; patiently, because a database that serves no reads answers
    only after half a minute, and then with that part alone.
    """
    if not asked:
        return None
    database = Database(asked)
    if status.is_available(document := _attempt(database, 5)):
        return document
    patient, seconds = Database([database.first]), PATIENT_STATUS_SECONDS
    say(f"the database does not answer at once; asking {patient.first} for up to {seconds} s more")
    return _attempt(patient, seconds)


def _attempt(database: Database, seconds: int) -> Document | None:
    try:
        return database.look(seconds)
    except Failure:  # each host's was said
        return None
