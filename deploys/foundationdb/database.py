"""The running database, asked and told by way of its hosts: where one gives no answer, the next is asked."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

from cluster.errors import Failure
from cluster.progress import say
from deploys.conductor import conduct, report
from deploys.foundationdb import status
from deploys.foundationdb.facts import fdbcli, status_command
from deploys.foundationdb.status import Document
from deploys.framework.remote import HostFailure

POLL_SECONDS = 0.5
LOOK_SECONDS = 10
RECOVERY_SECONDS = 15  # an idle or small database recovers within 5
ATTEMPTS = 2  # hosts that are asked at once; of a database that is down each of them says nothing for long


class Database:
    """A database, by way of these hosts: first of the one that has answered last.

    A host may be cut off from the others, or too busy to answer, while the database serves everybody else.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.names = list(names)

    @property
    def first(self) -> str:
        """The host that is asked first."""
        return self.names[0]

    def look(self, seconds: int = LOOK_SECONDS, version: str = "") -> Document | None:
        """`status json`, within `seconds` of each host that is asked; None where none gives a document.

        :param version: of the fdbcli that asks; empty: the one that the servers understand
        :raises Failure: no host could be asked
        """
        command = status_command(seconds=seconds, version=version)

        def asked(on: Any) -> Document | None:
            return status.parse("\n".join(conduct.run(on, command, "status json", seconds + 30)))

        return self._by_one_of_them(asked, status.is_available)

    def do(self, commands: str, what: str, seconds: int = 30, version: str = "") -> list[str]:
        """What fdbcli prints. Commands may come twice, so they are ones that do no more then. Raises Failure."""
        return self.run(f"{fdbcli(commands, seconds=seconds, version=version)} 2>&1", what, seconds + 30)

    def run(self, command: str, what: str, seconds: float) -> list[str]:
        """What a shell command prints that does no more when it comes twice. Raises Failure."""
        return self._by_one_of_them(lambda on: conduct.run(on, command, what, seconds), lambda lines: True)

    def read(self, commands: str, what: str) -> list[str]:
        """What fdbcli prints of reads, asked again where a recovery makes them fail. Raises Failure."""
        end = time.monotonic() + RECOVERY_SECONDS
        while True:
            try:
                return self.do(commands, what, LOOK_SECONDS)
            except Failure:
                if time.monotonic() > end:
                    raise
            time.sleep(POLL_SECONDS)

    def look_when_recovered(self, seconds: float = RECOVERY_SECONDS) -> Document | None:
        """`look`; where the database is not available, again, for it may be recovering."""
        document, end = self.look(), time.monotonic() + seconds
        if not status.is_available(document):
            say(f"    the database is not available; looking again for up to {seconds:.0f} s")
        while not status.is_available(document) and time.monotonic() < end:
            time.sleep(POLL_SECONDS)
            document = self.look()
        return document

    def wait_for(
        self, good: Callable[[Document | None], bool], seconds: float, what: str, version: str = ""
    ) -> None:
        """Look until it is good; raises Failure."""
        end = time.monotonic() + seconds
        while not good(self.look(version=version)):
            if time.monotonic() > end:
                raise Failure(f"{what}: not within {seconds:.0f} s")
            time.sleep(POLL_SECONDS)

    def wait_for_health(
        self, judge: Callable[[Document | None], status.Health], seconds: float, what: str, entry: dict[str, Any]
    ) -> None:
        """Until all gates of `judge` are green; the report's entry gets them as seen last. Raises Failure."""
        health = status.Health(())

        def good(seen: Document | None) -> bool:
            nonlocal health
            health = judge(seen)
            return health.ok

        try:
            self.wait_for(good, seconds, what)
        except Failure as failure:
            raise Failure(f"{failure}: {health}") from None
        finally:
            entry["gates"] = report.gates(health.gates)

    def _by_one_of_them(self, act: Callable[[Any], Any], good: Callable[[Any], bool]) -> Any:
        """The first good answer of `ATTEMPTS` hosts, else the one that says most. Raises Failure.

        A host that gives no good answer is asked last from then on.
        """
        answers, failures = [], []
        reached = [name for name in self.names if conduct.hosts([name])]
        for name in reached[:ATTEMPTS]:
            (on,) = conduct.hosts([name])
            try:
                answers.append(act(on))
            except HostFailure as failure:
                say(f"    {failure}")
                failures.append(failure)
            if answers and good(answers[-1]):
                return answers[-1]
            if len(reached) > 1:
                self.names.sort(key=lambda each: each == name)  # the others keep their order
        if answers:
            return max(answers, key=lambda each: len(each or ()))
        raise failures[0] if failures else Failure("no host of the database can be reached")
