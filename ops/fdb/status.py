"""`griddle fdb status`: the deploy looks, this prints."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from cluster.errors import Failure, UserError
from cluster.progress import step
from deploys.foundationdb import screen
from ops import hosts
from ops.process import pyinfra


def show(checkout: Path, inventory: str, *, as_json: bool) -> int:
    """Prints the screen, or one JSON document; 0 if the database is available and every gate green, else 1."""
    hosts.check_inventory(checkout / inventory)
    with tempfile.TemporaryDirectory() as directory:
        found = Path(directory) / "status.json"
        # Hosts that are down are a part of the answer, so they do not end the run.
        words = pyinfra(inventory, "fdb_status", options=("--fail-percent", "100"))
        with step("asking the database and its hosts", quiet_seconds=5):
            done = subprocess.run(
                ["env", f"GRIDDLE_REPORT={found}", *words], cwd=checkout, capture_output=True, text=True
            )
        if not found.is_file():
            if done.returncode == UserError.exit_code:
                said = [line for line in done.stderr.splitlines() if line.startswith("griddle: ")]
                raise UserError("\n".join(said).removeprefix("griddle: "))
            last = (done.stdout + done.stderr).strip().splitlines()[-6:]
            raise Failure("no FoundationDB host and no app host could be asked: " + " / ".join(last))
        seen = json.loads(found.read_text())
    if as_json:
        print(json.dumps(seen, indent=1))
    else:
        print("\n".join(screen.screen(Path(inventory).stem, seen)))
        for line in done.stderr.splitlines():
            if line.startswith("the "):
                print(line, file=sys.stderr)
    return 0 if seen["healthy"] else 1
