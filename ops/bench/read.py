"""`griddle bench read`: reads at a constant rate, or at rising ones until the promise breaks.

The load does not wait for answers, and a latency runs from the moment when its request fell due: see load.c.
"""

from __future__ import annotations

import contextlib
import ipaddress
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from cluster.errors import Failure, UserError
from cluster.model import Cluster
from cluster.progress import say, step
from cluster.table import aligned
from ops import hosts
from ops.bench import generator, html, load, results, where
from ops.bench.generator import Offered, Second
from ops.bench.processes import busy_ns, children_ns
from ops.direct import urlopen

LANES = {"direct": ("direct",), "wsgi": ("wsgi",), "both": ("direct", "wsgi")}
RATE_OF_ONE = 12_000  # requests/s that one generator is asked for at most, where there are cores for more
NOT_ANSWERED_LIMIT = 0.001  # a promise that more than one in a thousand does not get is broken
RAMP_FACTOR, RAMP_REFINED = 1.3, 2
PAUSE_SECONDS = 1
LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}")


@dataclass(frozen=True)
class Plan:
    """What is offered. `connections` are those of all generators of a lane; `rate` is that of all lanes."""

    rate: float
    seconds: float
    lanes: tuple[str, ...]
    promise_ms: float = 25
    warm_up: float = 2
    connections: int = 256
    profiles: int = 10_000
    timeout: float = 5


@dataclass(frozen=True)
class Target:
    """Where the load goes. Without a cluster nothing is known of what answers."""

    address: str
    port: int
    cluster: Cluster | None = None


@dataclass(frozen=True)
class Step:
    """One rate for some seconds. `outcome` is held, broken or unclear; `why` says of what."""

    rate: float
    lanes: Mapping[str, dict]
    late_p99_ms: float
    cpu_share: float
    cpu_us: Mapping[str, float]
    others_cores: float | None
    generator_cores: float
    outcome: str
    why: str


def bench_read(
    target: Target, plan: Plan, *, ramp: bool, saturate: bool, as_json: bool, label: str | None = None
) -> dict:
    """Measure, print, save; the result. Raises Failure where the generator was the bottleneck.

    :param label: what `bench compare` finds it by, together with others of that label
    """
    with contextlib.suppress(ValueError):  # not the main thread
        signal.signal(signal.SIGTERM, _interrupt)
    for lane in plan.lanes:
        check_lane(target, lane, plan.profiles)
    document = {"kind": "read", "label": label, "plan": asdict(plan), "what": what(target)}
    say_now = _printer(as_json)
    if saturate:
        document |= saturated(target, plan, say_now)
    else:
        with generator.built() as program:
            if ramp:
                document |= ramped(target, plan, program, say_now)
            else:
                found = offer(target, plan, program)
                if found.outcome == "unclear":
                    advice = "Offer less, or from a machine with more cores"
                    raise Failure(f"bench read: refused, nothing is saved: {found.why}. {advice}")
                say_now(f"\n{table(found.lanes, plan.promise_ms)}\n{verdict(found, plan)}")
                document |= asdict(found)
    path = results.save("read", document)
    say(f"\nsaved: {path}\nreport: {html.write(path, document)}")
    return document


def bench_series(
    target: Target, plan: Plan, labels: Sequence[str], repeat: int, switch: str | None, as_json: bool
) -> list[dict]:
    """Runs of each label in turns, every other time the other way round: A B, B A, A B, ...

    :param switch: a shell command that makes the target what a label stands for, given as its argument
    """
    found = []
    for label in turns(labels, repeat):
        say(f"\n{len(found) + 1} of {repeat * len(labels)}: {label}")
        if switch and (code := subprocess.run(["sh", "-c", f'{switch} "$@"', switch, label]).returncode):
            raise Failure(
                f"bench read: `{switch} {label}` failed with exit code {code}; the runs so far are saved"
            )
        found.append(bench_read(target, plan, ramp=False, saturate=False, as_json=as_json, label=label))
    return found


def turns(labels: Sequence[str], repeat: int) -> list[str]:
    """Which label is measured when: each `repeat` times, so that none is always the first."""
    return [label for round_ in range(repeat) for label in (labels[::-1] if round_ % 2 else labels)]


def check_labels(labels: Sequence[str], repeat: int, switch: str | None, one_rate: bool) -> None:
    """Raises UserError."""
    for label in labels:
        if not LABEL.fullmatch(label):
            raise UserError(f"--label {label}: at most 32 letters, digits, ., _ and -")
    if len(set(labels)) != len(labels):
        raise UserError("--label: the same one is given twice")
    if repeat > 1 and not labels:
        raise UserError("--repeat: what is repeated needs a --label, by which bench compare finds it")
    if switch and not labels:
        raise UserError("--switch: it is called with a label: --label A --label B")
    if labels and not one_rate:
        raise UserError("--label: with one rate only, not with --ramp or --saturate")


def offer(target: Target, plan: Plan, program: Path) -> Step:
    """One constant rate."""
    offered = generators(target, plan, len(os.sched_getaffinity(0)))
    live = sys.stderr.isatty()

    def on_second(newest: Sequence[Second]) -> None:
        if live:
            for lane in plan.lanes:
                one = generator.merged(_of_lane(newest, offered, lane))
                say(_second_line(newest[0].second + 1, lane, one))

    cpu = _Cpu(target, plan.warm_up, plan.seconds)
    ran = generator.run(program, offered, on_second)
    lanes = {}
    for lane in plan.lanes:
        seconds = [generator.merged(each) for each in zip(*_of_lane(ran.seconds, offered, lane), strict=True)]
        lanes[lane] = results.summary(seconds, plan.seconds, plan.promise_ms)
    good = sum(lane["good_per_second"] for lane in lanes.values())
    outcome, why = judged(lanes, ran.late_p99_ms, ran.cpu_share, plan.promise_ms)
    used = cpu.found(good, ran.cpu_share * len(offered))
    return Step(plan.rate, lanes, ran.late_p99_ms, ran.cpu_share, **used, outcome=outcome, why=why)


def generators(target: Target, plan: Plan, cores: int) -> list[Offered]:
    """As many as the rate needs and the cores allow, each with its part of rate and connections."""
    rate = plan.rate / len(plan.lanes)
    count = max(1, min(cores // len(plan.lanes), math.ceil(rate / RATE_OF_ONE)))
    return [
        Offered(
            target.address, target.port, lane, rate / count, plan.warm_up, plan.seconds, plan.profiles,
            max(1, plan.connections // count), plan.timeout,
        )
        for lane in plan.lanes
        for _ in range(count)
    ]  # fmt: skip


def judged(
    lanes: Mapping[str, Mapping], late_p99_ms: float, cpu_share: float, promise_ms: float
) -> tuple[str, str]:
    """(held | broken | unclear, why). Broken is also what would be so without all that the generator was late."""
    if refused := generator.refusal(math.inf, 0, cpu_share):  # what was not sent in time is not the cluster's
        return "unclear", refused
    for lane, seen in lanes.items():
        missed = sum(seen["errors"].values()) + seen["shed"]
        if missed > NOT_ANSWERED_LIMIT * max(1, seen["requests"]):
            return "broken", f"{lane}: {missed:,} of {seen['requests']:,} were not answered as they should be"
        if seen["p99_ms"] - late_p99_ms > promise_ms:
            return "broken", f"{lane}: p99 {seen['p99_ms']:.1f} ms"
    for lane, seen in lanes.items():
        if refused := generator.refusal(seen["p99_ms"], late_p99_ms, cpu_share):
            return "unclear", refused
        if seen["p99_ms"] > promise_ms:
            return "broken", f"{lane}: p99 {seen['p99_ms']:.1f} ms"
    return "held", ""


def ramped(target: Target, plan: Plan, program: Path, say_now: Callable[[str], None]) -> dict:
    """Rising rates from the plan's, then between the last that held and the first that did not."""
    steps: list[Step] = []

    def take(rate: float) -> str:
        found = offer(target, replace(plan, rate=round(rate)), program)
        steps.append(found)
        p99 = max(lane["p99_ms"] for lane in found.lanes.values())
        why = f": {found.why}" if found.why else ""
        say_now(f"{found.rate:>8,.0f}/s  p99 {p99:>7.1f} ms  {found.outcome}{why}")
        time.sleep(PAUSE_SECONDS)
        return found.outcome

    outcome, rate = "held", plan.rate
    while (outcome := take(rate)) == "held":
        rate *= RAMP_FACTOR
    held, failed = rate / RAMP_FACTOR if len(steps) > 1 else 0.0, rate
    if outcome == "broken" and held:
        for _ in range(RAMP_REFINED):
            middle = math.sqrt(held * failed)
            outcome = take(middle)
            held, failed = (middle, failed) if outcome == "held" else (held, middle)
            if outcome == "unclear":
                break
    best = max((one for one in steps if one.outcome == "held"), key=lambda one: one.rate, default=None)
    if outcome == "unclear":
        beyond = f"; the promise held up to {best.rate:,.0f}/s" if best else ""
        raise Failure(f"bench read: refused, nothing is saved: {steps[-1].why} at {steps[-1].rate:,.0f}/s{beyond}")
    first = min((one for one in steps if one.outcome == "broken"), key=lambda one: one.rate)
    said = f"breaks at {first.rate:,.0f}/s ({first.why})"
    say_now(f"\nthe promise (p99 {plan.promise_ms:g} ms) holds at {best.rate:,.0f}/s and {said}" if best
            else f"\nthe promise (p99 {plan.promise_ms:g} ms) {said}, the lowest rate offered")  # fmt: skip
    if best:
        say_now(f"\nat {best.rate:,.0f}/s:\n{table(best.lanes, plan.promise_ms)}")
    return asdict(best or first) | {
        "held_per_second": best.rate if best else None,
        "broken_per_second": first.rate,
        "steps": [asdict(one) for one in sorted(steps, key=lambda one: one.rate)],
    }


def saturated(target: Target, plan: Plan, say_now: Callable[[str], None]) -> dict:
    """How much it can do at all: a closed loop, in which each connection asks again as soon as it is answered."""
    if not shutil.which("wrk"):
        raise UserError("bench read --saturate: wrk is missing: apt-get install wrk")
    if len(plan.lanes) > 1:
        raise UserError("bench read --saturate: one lane at a time: the faster would take all: --lane direct|wsgi")
    lane = plan.lanes[0]

    def closed(seconds: float) -> load.Saturation:
        return load.saturate(target.port, lane, seconds, plan.profiles, plan.connections, (), target.address)

    with step(f"bench read: {plan.connections} connections that ask again at once"):
        closed(plan.warm_up)
        before, cpu = children_ns(), _Cpu(target, 0.5, plan.seconds)
        found = closed(plan.seconds)
    used = cpu.found(found.requests_per_second, (children_ns() - before) / 1e9 / plan.seconds)
    say_now(f"{lane}: {found.requests_per_second:,.0f} requests/s, errors {found.errors or 'none'}")
    say_now("CPU, µs per request: " + ", ".join(f"{role} {us:.1f}" for role, us in used["cpu_us"].items()))
    return {
        "saturated": {"lane": lane, "requests_per_second": found.requests_per_second, "errors": found.errors},
        **used,
    }


def check_lane(target: Target, lane: str, profiles: int) -> None:
    """Raises UserError where the target does not answer, or answers by another lane than is asked for."""
    url = f"http://{target.address}:{target.port}/v1/profiles/p{profiles - 1}"
    try:
        with urlopen(urllib.request.Request(url, headers={"X-Lane": lane}), timeout=5) as answer:
            answer.read()
            by = answer.headers.get("X-Lane", lane)
    except urllib.error.HTTPError as error:
        hint = " (--profiles says how many there are)" if error.code == 404 else ""
        raise UserError(f"bench read: {url} answers {error.code}{hint}") from None
    except OSError as error:
        raise UserError(f"bench read: {url}: {getattr(error, 'reason', error)}") from None
    if by != lane:
        raise UserError(f"bench read: asked for lane {lane}, {url} answers by {by}: set proxy_lane_override")


def target_of(inventory: Path, url: str | None) -> Target:
    """The cluster's virtual address, or a URL on loopback."""
    if url is None:
        cluster = hosts.cluster(inventory)
        return Target(cluster.data["proxy_virtual_ip"], cluster.data["proxy_port"], cluster)
    parts = urlsplit(url)
    with contextlib.suppress(ValueError):
        address = ipaddress.IPv4Address("127.0.0.1" if parts.hostname == "localhost" else parts.hostname or "")
        if parts.scheme == "http" and address.is_loopback:
            return Target(str(address), parts.port or 80)
    raise UserError(f"--url {url}: only http:// on loopback; for a cluster name its --inventory")


def what(target: Target) -> dict:
    """What is measured, of which revision, from where."""
    machine = {"generator": {"cores": len(os.sched_getaffinity(0)), "kernel": os.uname().release}}
    found = {**where.checkout(), "target": f"{target.address}:{target.port}", **machine}
    if target.cluster is None:
        return found
    with step("bench read: what runs where", quiet_seconds=2):
        return found | where.described(target.cluster)


def table(lanes: Mapping[str, Mapping], promise_ms: float) -> str:
    """For people."""
    lines = [("lane", "requests", "good/s", "p50 ms", "p90", "p99", "p99.9", "max", f"≤ {promise_ms:g} ms", "shed",
              "errors")]  # fmt: skip
    for lane, seen in lanes.items():
        errors = ", ".join(f"{kind} {count:,}" for kind, count in seen["errors"].items())
        figures = [f"{seen[name]:.2f}" for name in results.PERCENTILES]
        lines.append((lane, f"{seen['requests']:,}", f"{seen['good_per_second']:,.0f}", *figures,
                      f"{seen['within_promise']:.2%}", f"{seen['shed']:,}", errors or "0"))  # fmt: skip
    return aligned(lines)


def verdict(found: Step, plan: Plan) -> str:
    """The promise, the generator, and what it cost."""
    kept = "kept" if found.outcome == "held" else f"broken: {found.why}"
    lines = [
        f"promise (p99 {plan.promise_ms:g} ms, {1 - NOT_ANSWERED_LIMIT:.1%} answered): {kept}",
        f"generator: p99 {found.late_p99_ms:.2f} ms late itself, {found.cpu_share:.0%} of a core",
    ]
    if found.cpu_us:
        lines.append("CPU, µs per request: " + ", ".join(f"{role} {us:.1f}" for role, us in found.cpu_us.items()))
    return "\n".join(lines)


class _Cpu(threading.Thread):
    """CPU time of the cluster's hosts in the middle of a run. In the lab they are this machine."""

    def __init__(self, target: Target, after_seconds: float, seconds: float) -> None:
        super().__init__(daemon=True)
        self.cluster, self.after, self.seconds = target.cluster, after_seconds + 0.5, seconds - 1
        self.cores: dict[str, dict[str, float]] = {}
        self.machine = 0.0
        if self.cluster and self.seconds >= 1:
            self.reading = where.Reading(self.cluster, self.after, self.seconds)
            self.start()

    def run(self) -> None:
        time.sleep(self.after)
        busy, at = _busy(), time.monotonic()
        time.sleep(self.seconds)
        self.machine = (_busy() - busy) / (time.monotonic() - at)
        self.cores = self.reading.cores()

    def found(self, requests_per_second: float, generator_cores: float) -> dict:
        """cpu_us: by role, per request; others_cores: None where the cluster is not this machine."""
        if self.is_alive():
            self.join()
        others = None
        if self.cores and self.cluster.name == "lab":
            lab = sum(sum(roles.values()) for roles in self.cores.values())
            others = round(max(0.0, self.machine - lab - generator_cores), 2)
        per_request = where.us_per_request(self.cores, requests_per_second) if requests_per_second else {}
        return {"cpu_us": per_request, "others_cores": others, "generator_cores": round(generator_cores, 3)}


def _busy() -> float:
    return busy_ns(range(os.cpu_count() or 1)) / 1e9


def _of_lane(of_generators: Sequence, offered: Sequence[Offered], lane: str) -> list:
    return [each for each, one in zip(of_generators, offered, strict=True) if one.lane == lane]


def _second_line(second: int, lane: str, one: Second) -> str:
    p50, p99 = (generator.percentile_ms(one.latency, percent) for percent in (50, 99))
    return (f"{second:>5} s  {lane:<6} {one.good:>7,}/s  p50 {p50:>7.2f}  p99 {p99:>8.2f} ms"
            f"  shed {one.errors['shed']:,}  errors {one.failed:,}")  # fmt: skip


def _printer(as_json: bool) -> Callable[[str], None]:
    return say if as_json else lambda text: print(text, flush=True)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
