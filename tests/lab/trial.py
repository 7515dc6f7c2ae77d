"""An operation that does nothing to a cluster, for what the conductor itself is tried with: a deploy of the lab.

    pyinfra -y inventory/lab.py trial.py --data backup=now

It takes as many steps on app2 as $TRIAL says, "first second", each $TRIAL_SECONDS long. What was done is in a file
there.
"""

import os
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from cluster.model import this_host
from cluster.progress import say
from deploys.conductor import conduct
from deploys.conductor.conduct import Plan, Step, Verb, conducted
from deploys.conductor.locking import locked

DONE = "/run/griddle-trial"
SECONDS = float(os.environ.get("TRIAL_SECONDS", "1"))


class Trial(Verb):
    title = "drill trial"

    def look(self) -> list[str]:
        say("looking")
        time.sleep(float(os.environ.get("TRIAL_LOOK_SECONDS", "0")))
        return conduct.run(self._on(), f"cat {DONE} 2>/dev/null; true", "look at the trial", 8)

    def plan(self, seen: list[str]) -> Plan:
        return Plan(tuple(Step(name, name) for name in os.environ["TRIAL"].split() if name not in seen))

    def actions(self) -> Mapping[str, Callable[..., None]]:
        return {name: partial(self._take, name) for name in os.environ["TRIAL"].split()}

    def _take(self, name: str, entry: dict[str, Any]) -> None:
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            conduct.run(self._on(), "sleep 0.2", "wait", 8)
        conduct.run(self._on(), f"echo {name} >> {DONE}", "note the step", 8)

    def _on(self) -> Any:
        (on,) = conduct.hosts(["app2"])
        return on


locked(Trial.title)
if this_host().name == "app1":
    conducted(name="trial | as told", verb=Trial())
