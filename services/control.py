"""What the cluster's operators and switches say at the moment: the agent's file, as the services look at it.

A thread of its own looks whether the file has changed; requests read an attribute.
"""

import json
import os
import threading
import time
from pathlib import Path

FILE = "/run/griddle/control.json"
PATH = Path(os.environ.get("GRIDDLE_CONTROL", FILE))
LOOK_SECONDS = 0.2
WAIT_LIMIT_MS = 10_000
OPERATION = "operations/current"
OPERATION_KEY = f"/griddle/{OPERATION}"  # in etcd


class Control:
    """`wait_ms`: how long a request may wait for the store; 0 but while an operation on it is announced."""

    def __init__(self, path: Path = PATH) -> None:
        self.wait_ms = 0
        self._path = path
        self._seen: tuple[int, int] | None = None

    def start(self) -> "Control":
        """Look from now on. Call it after the last fork."""
        self.look()
        threading.Thread(target=self._run, name="control", daemon=True).start()
        return self

    def look(self) -> None:
        """Read the file if it is another than before. One that cannot be read changes nothing."""
        try:
            found = self._path.stat()
        except OSError:
            self._seen, self.wait_ms = None, 0
            return
        if (found.st_ino, found.st_mtime_ns) == self._seen:
            return
        try:
            keys = json.loads(self._path.read_bytes())["keys"]
        except (OSError, ValueError, KeyError):
            return
        self.wait_ms = wait_ms(keys)
        self._seen = (found.st_ino, found.st_mtime_ns)

    def _run(self) -> None:
        while True:
            time.sleep(LOOK_SECONDS)
            self.look()


def wait_ms(keys: dict) -> int:
    """How long requests may wait, by the announced operation; 0 where there is none."""
    operation = keys.get(OPERATION)
    asked = operation.get("wait_ms") if isinstance(operation, dict) else None
    return min(asked, WAIT_LIMIT_MS) if type(asked) is int and asked > 0 else 0
