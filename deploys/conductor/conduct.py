"""How an operation changes the running cluster: under the cluster's lock (`locked`, at the top of its deploy) it
looks, plans, takes the plan's first step, and looks again, until nothing is left to do.

The plan is a pure function of what was seen and of the target. So nothing has to be remembered: an operation that
was interrupted goes on when it is called again, wherever it was.
"""

from __future__ import annotations

import os
import shlex
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gevent
from gevent.pool import Pool
from pyinfra import host, inventory, state
from pyinfra.api import OperationError, StringCommand, operation
from pyinfra.api.host import Host as PyinfraHost

from cluster import marks, model
from cluster.errors import Failure, UserError
from cluster.progress import say
from deploys.conductor import locking, probe
from deploys.conductor.announcement import LEASE_SECONDS, WAIT_MS, Announcement
from deploys.conductor.report import Gate, Report, summary
from deploys.framework import remote, units
from deploys.framework.gateway import Gateway
from deploys.framework.remote import run
from services import control

REFUSED = UserError.exit_code
ANNOUNCE_SECONDS = 5
LOOK_SECONDS = 0.2  # how often nginx and the workers look at the agent's file


@dataclass(frozen=True)
class Step:
    """One thing to do. `name` is for people; `action` and `arguments` are for the verb's `actions`.

    :param waits: it only waits, so it may come twice in succession
    :param quiet: nobody feels it: what a plan begins with is taken before the operation is announced
    """

    name: str
    action: str
    arguments: tuple[Any, ...] = ()
    waits: bool = False
    quiet: bool = False


@dataclass(frozen=True)
class Plan:
    """What is left to do, in order; or why nothing may be done, one line each."""

    steps: tuple[Step, ...] = ()
    refusals: tuple[str, ...] = ()


class Verb(ABC):
    """An operation.

    title: names it everywhere ("fdb upgrade 7.3.78"); its first word is the kind of its marks
    wait_ms: how long requests to the store wait meanwhile; 0: nothing is announced, and etcd is not needed
    announcement: of `announced`, for `conducted`
    """

    title: str
    wait_ms: int = WAIT_MS
    announcement: Announcement | None = None

    @abstractmethod
    def look(self) -> Any:
        """All that the plan is made of, as it is now."""

    @abstractmethod
    def plan(self, seen: Any) -> Plan:
        """What is left to do; pure. What an interrupted run of the same verb has left is no reason to refuse."""

    @abstractmethod
    def actions(self) -> Mapping[str, Callable[..., None]]:
        """{a step's action: what takes it}: called with the step's entry of the report, to which it may add, and
        the step's arguments. It raises Failure where it did not succeed.
        """

    def health(self, seen: Any) -> Iterable[Gate]:
        """The gates that the report shows, of what was seen."""
        return ()


@operation()
def conducted(verb: Verb) -> Generator[StringCommand]:
    """The verb has nothing left to do. Called on one host; it acts on all that it needs.

    A dry run prints the plan. What is refused ends the run with exit code 2, before anything is changed.
    """
    if not state.is_executing:
        plan = planned(verb)
        for number, step in enumerate(plan.steps, 1):
            say(f"    {number}. {step.name}")
        if plan.steps:
            yield StringCommand("true")
        else:
            say(f"    {verb.title}: nothing is left to do")
            host.noop("nothing is left to do")
        return
    _conduct(verb)


@operation()
def announced(verb: Verb) -> Generator[StringCommand]:
    """The verb's operation is announced: for what is done on hosts before `conducted`."""
    host.noop("see what it is for")
    if state.is_executing and planned(verb).steps:
        with _said(verb):
            verb.announcement = Announcement(gateway(), locking.held(verb.title).document, verb.wait_ms)
            _await_announcement(verb.announcement.document)
    return
    yield


@contextmanager
def _said(verb: Verb) -> Iterator[None]:
    """What is raised ends the run with the words and the exit code that it deserves."""
    try:
        yield
    except UserError as refusal:
        say(f"griddle: {verb.title}: {refusal}")
        raise SystemExit(REFUSED) from None
    except Failure as failure:
        raise OperationError(f"{verb.title}: {failure}") from None


def planned(verb: Verb) -> Plan:
    """The plan, printed where it refuses.

    :raises SystemExit: refused
    :raises OperationError: a host could not be asked
    """
    return _looked(verb)[1]


def _looked(verb: Verb) -> tuple[Any, Plan]:
    """What was seen, and `planned`."""
    seen = None
    try:
        seen, plan = _look(verb)
    except UserError as refusal:
        plan = Plan(refusals=(str(refusal),))
    except Failure as failure:
        raise OperationError(f"{verb.title}: {failure}") from None
    for line in plan.refusals:
        say(f"griddle: {verb.title}: {line}")
    if plan.refusals:
        raise SystemExit(REFUSED)
    return seen, plan


def _conduct(verb: Verb) -> None:
    cluster, held = model.cluster(), locking.held(verb.title)
    first = None if verb.announcement else _looked(verb)
    if first and not first[1].steps:
        say(f"    {verb.title}: nothing is left to do")
        return
    report = Report(verb.title, cluster.name, held.document["owner"], _report_path())
    outcome: dict[str, Any] = {"outcome": "done"}
    with _said(verb):
        try:
            with marks.span(cluster, *verb.title.split(" ", 1)), ExitStack() as felt:

                def announce() -> None:
                    felt.enter_context(_announcing(verb, report))
                    felt.enter_context(_felt(held.document, report))

                if first is None:
                    announce()
                _take_steps(verb, report, announce, first)
        except BaseException as error:
            outcome = {"outcome": "failed", "problem": str(error) or type(error).__name__}
            raise
        finally:
            report.end(**outcome)
            _print(report)


@contextmanager
def _announcing(verb: Verb, report: Report) -> Iterator[None]:
    if not verb.wait_ms:
        yield
        return
    with report.step("announce it to proxies and app hosts"):
        announcement = verb.announcement or Announcement(
            gateway(), locking.held(verb.title).document, verb.wait_ms
        )
        _await_announcement(announcement.document)
    try:
        yield
    finally:
        with report.best_effort(f"withdraw the announcement, which ends by itself within {LEASE_SECONDS} s"):
            announcement.withdraw()


def _await_announcement(document: Mapping[str, Any]) -> None:
    """Agents have written it down, and who reads their files has looked. Raises Failure, naming who has not."""
    words = shlex.quote(f'"started": "{document["started"]}"')
    command = units.ready_command(f"grep -qF {words} {control.FILE}", ANNOUNCE_SECONDS, "griddle-agent")
    on_all(
        [each.name for each in model.cluster().groups(("proxies", "apps"))],
        lambda on: run(on, command, "its agent does not know of the operation; apply deploys/all.py"),
    )
    gevent.sleep(2 * LOOK_SECONDS)


@contextmanager
def _felt(document: Mapping[str, Any], report: Report) -> Iterator[None]:
    """Adds what clients felt meanwhile to the report, as far as it can be read."""
    cluster = model.cluster()
    url = f"http://{cluster.data['proxy_virtual_ip']}:{cluster.data['proxy_port']}{probe.PROBE}"
    asking = None
    with report.best_effort("ask as a client would"):
        asking = probe.Probe(hosts([each.name for each in cluster.groups(("metrics", "proxies"))])[0], url)
    try:
        yield
    finally:
        if asking:
            with report.best_effort("read what a client at the virtual address felt"):
                report.document["probe"] = asking.stop()
        command = probe.WAITS.format(port=cluster.data["proxy_port"])

        def waits(on: PyinfraHost) -> probe.Waits | None:
            with report.best_effort(f"read what clients of {model.short_name(on.name)} waited"):
                return probe.waits("".join(run(on, command, "waits", 10, cleanup=True)))
            return None

        answers = on_all([each.name for each in cluster.group("proxies")], waits)
        report.document["waits"] = probe.added_up(filter(None, answers.values()), document["started"])


def _take_steps(verb: Verb, report: Report, announce: Callable[[], None], looked: tuple[Any, Plan] | None) -> None:
    """Until nothing is left.

    :param announce: called before the first step that somebody may feel, where the operation is not announced yet
    :param looked: a look that was just taken, and its plan
    """
    last, announced = None, looked is None
    while True:
        for guard in remote.guards:
            guard()
        seen, plan = looked or _look(verb)
        looked = None
        report.looked(verb.health(seen))
        if plan.refusals:
            raise (UserError if last is None else Failure)("; ".join(plan.refusals))
        if not plan.steps:
            return
        step = plan.steps[0]
        if not (announced or step.quiet):
            announce()
            announced = True
            continue  # that took its time
        if step == last and not step.waits:
            raise Failure(f"{step.name}: done, and still to be done by what the cluster says")
        with report.step(step.name) as entry:
            verb.actions()[step.action](entry, *step.arguments)
        last = step


def _look(verb: Verb) -> tuple[Any, Plan]:
    seen = verb.look()
    return seen, verb.plan(seen)


def _report_path() -> Path | None:
    """Where whoever started this wants the report."""
    path = os.environ.get("GRIDDLE_REPORT")
    return Path(path) if path else None


def _print(report: Report) -> None:
    for line in summary(report.document):
        say(f"    {line}")
    say(f"    report: {report.path}")


# --- what deploys and verbs act with


def conducts(*groups: str) -> bool:
    """Whether the host that the deploy is being prepared for is the one that an operation is called on: the first
    of the first of these groups that takes part in this run.
    """
    names = {model.short_name(each.name) for each in inventory.get_active_hosts() if each.connected}
    members = [member.name for group in groups for member in model.cluster().group(group) if member.name in names]
    return members[:1] == [model.short_name(host.name)]


def gateway(names: Iterable[str] = ()) -> Gateway:
    """etcd's gateway, by way of its members' hosts: first those that take part in this run.

    :param names: hosts of members to ask instead of the group's: one that leaves is in it no more
    """
    members = set(names) or {member.name for member in model.cluster().group("etcd")}
    found = [each for each in inventory if model.short_name(each.name) in members]
    return Gateway(sorted(found, key=lambda each: not each.connected), model.cluster().data["etcd_client_port"])


def hosts(names: Iterable[str]) -> list[PyinfraHost]:
    """Connected hosts of these names, in the inventory's order."""
    wanted = set(names)
    return [each for each in inventory if model.short_name(each.name) in wanted and each.connected]


def on_all(names: Iterable[str], act: Callable[[PyinfraHost], Any], at_once: int | None = None) -> dict[str, Any]:
    """Do it on hosts at once; {host: result}. The first failure is raised after all have ended.

    :param at_once: on so many at most; after a failure it begins on no other
    """
    chosen = hosts(names)
    pool = Pool(at_once or len(chosen) or 1)
    spawned: dict[str, gevent.Greenlet] = {}
    for each in chosen:
        pool.wait_available()
        if at_once and not all(greenlet.successful() for greenlet in spawned.values() if greenlet.dead):
            break
        spawned[model.short_name(each.name)] = pool.spawn(act, each)
    pool.join()
    return {name: greenlet.get() for name, greenlet in spawned.items()}
