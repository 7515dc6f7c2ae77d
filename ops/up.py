"""`griddle up`: from nothing to the whole cluster serving, or from wherever an earlier run was interrupted."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from cluster import artifacts, table
from cluster.errors import Failure, UserError
from cluster.progress import say, step
from ops import lab
from ops.direct import urlopen
from ops.lab import state
from ops.lab.plan import LabPlan
from ops.lab.root import as_root
from ops.lab.state import LabFiles
from ops.process import die_with_parent, pyinfra

# All that a deploy is made of; a change in none of them means that there is nothing to deploy.
_INPUTS = ("artifacts.toml", "config.py", "deploys", "inventory", "nginx", "requirements", "services", "tuning")
_PROFILES = 10_000
_LANES = ("direct", "wsgi")
_SMOKE_SECONDS = 30


def up(checkout: Path, store: str, bare: bool = False) -> None:
    """Boots, deploys, loads data, checks, and says what runs where. `store`: auto, fdb or etcd."""
    started = time.monotonic()
    with state.locked(checkout, "up"):
        _get_root()
        if reason := lab.unavailable():
            raise UserError(f"the lab cannot run here: {reason}. `./griddle dev` needs no containers")
        chosen = _choose_store(checkout, store)
        before = lab.status(checkout)
        untouched = all(host["state"] == "running" for host in before["hosts"])
        inputs = inputs_hash(checkout, f"{chosen} {_moved(checkout)}")
        if untouched and not bare and _deployed(checkout) == inputs:
            plan = lab.current_plan(checkout)
            smoke(plan, seconds=5)
            say("the cluster is up and serving, and nothing has changed since it was deployed")
            _print_summary(checkout, plan)
            return
        as_root(checkout, "boot", chosen)
        plan = lab.current_plan(checkout)
        say(f"{len(plan.hosts)} hosts run: ./griddle lab status")
        if bare:
            return
        _build_release()
        _deploy(checkout)
        _seed(checkout)
        with step("smoke check through the virtual IP, both lanes"):
            smoke(plan)
        state.write_atomically(LabFiles(checkout).stamp, json.dumps({"inputs": inputs}) + "\n")
        say(f"up after {time.monotonic() - started:.0f} s")
        _print_summary(checkout, plan)


def _get_root() -> None:
    """Asks for the password once, here, where one expects it."""
    if os.geteuid() and subprocess.run(["sudo", "-v"]).returncode:
        raise UserError("the lab's containers need root: run this as a user who may sudo")


def _choose_store(checkout: Path, wanted: str) -> str:
    existing = state.read(checkout)
    if existing:
        if wanted not in ("auto", existing.store):
            again = f"./griddle down, then ./griddle up --store {wanted}"
            raise UserError(f"this lab was made for the {existing.store} store: {again}")
        return existing.store
    if wanted == "auto":
        chosen, reason = artifacts.auto_store(say=say)
        say(f"store: {reason}")
        return chosen
    if wanted == "fdb":
        artifacts.resolve(artifacts.default_version(), say=say)
    return wanted


def inputs_hash(checkout: Path, store: str) -> str:
    """The hash of everything that a deploy is made of."""
    digest = hashlib.sha256(store.encode())
    for name in _INPUTS:
        top = checkout / name
        for path in sorted(top.rglob("*")) if top.is_dir() else [top]:
            if path.is_file() and path.suffix != ".pyc":
                digest.update(f"{path.relative_to(checkout)}\0{path.stat().st_mode}\0".encode())
                digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _moved(checkout: Path) -> str:
    """Hosts that `lab move` has put elsewhere: the one part of an inventory that is not in its file."""
    lab_made = state.read(checkout)
    return " ".join(f"{host}={group}" for host, group in sorted(lab_made.moved.items())) if lab_made else ""


def _deployed(checkout: Path) -> str | None:
    """The hash of what the lab was last completely deployed from."""
    try:
        return json.loads(LabFiles(checkout).stamp.read_text())["inputs"]
    except (FileNotFoundError, ValueError, KeyError):
        return None


def _build_release() -> None:
    from ops.release import build as release

    release.build()


def _deploy(checkout: Path) -> None:
    say("deploy: pyinfra -y inventory/lab.py deploys/all.py")
    started = time.monotonic()
    command = pyinfra("inventory/lab.py", "all")
    # A deploy must not go on alone, without the lock that its `up` held.
    code = subprocess.run(command, cwd=checkout, preexec_fn=die_with_parent).returncode
    if code == UserError.exit_code:
        raise UserError("the deploy was refused, as said above; nothing was touched")
    if code:
        raise Failure("the deploy failed, as said above; ./griddle up goes on from there")
    say(f"deploy: done in {time.monotonic() - started:.0f} s")


def _seed(checkout: Path) -> None:
    seed = f"sudo -u griddle /etc/griddle/slots/a/venv/bin/python -m services.seed --count {_PROFILES}"
    with step(f"data: {_PROFILES:,} profiles"):
        code = lab.ssh(checkout, "app1", [seed])
    if code:
        raise Failure(f"`{seed}` failed on app1, as said above; ./griddle up tries again")


def smoke(plan: LabPlan, seconds: float = _SMOKE_SECONDS) -> None:
    """Reads a profile through the virtual IP on each lane; Failure says what came instead of it."""
    for lane in _LANES:
        deadline = time.monotonic() + seconds
        while problem := _lane_problem(plan.virtual_ip, lane):
            if time.monotonic() > deadline:
                raise Failure(f"{lane} lane: {problem}, after {seconds:.0f} s; see ./griddle lab status")
            time.sleep(0.5)


def _lane_problem(virtual_ip: str, lane: str) -> str | None:
    url = profile_url(virtual_ip)
    try:
        with urlopen(urllib.request.Request(url, headers={"X-Lane": lane}), timeout=2) as answer:
            answer.read()
            return answer_problem(url, lane, answer.status, answer.headers)
    except urllib.error.HTTPError as error:
        return f"{url} answers {error.code}"
    except OSError as error:
        return f"{url}: {error}"


def answer_problem(url: str, lane: str, code: int, headers: Mapping[str, str]) -> str | None:
    """What is wrong with an answer of a lane; None where nothing is."""
    if code != 200:
        return f"{url} answers {code}"
    if headers.get("X-Lane") != lane:
        return f"{url} was answered by lane {headers.get('X-Lane')!r}"
    if not headers.get("X-Release"):
        return f"{url} is answered without X-Release"
    return None


def profile_url(virtual_ip: str) -> str:
    """One of the profiles that the lab is loaded with."""
    return f"http://{virtual_ip}/v1/profiles/p1"


def _print_summary(checkout: Path, plan: LabPlan) -> None:
    found = lab.status(checkout)
    engine = {"fdb": "FoundationDB", "etcd": "the embedded etcd engine"}[found["store"]]
    print(f"\nGriddle runs on {len(plan.hosts)} hosts, store: {engine}")
    runs = {
        "proxies": "nginx with Lua, keepalived",
        "apps": "front, store workers, etcd",
        "fdb": "FoundationDB",
        "spare": "nothing",
        "metrics": "metrics store, board",
    }
    rows = [(host.name, host.address, runs[host.groups[0]]) for host in plan.hosts]
    print(table.aligned(rows, left=(0, 1, 2), indent=2))
    metrics = next(host for host in plan.hosts if "metrics" in host.groups)
    print(f"\n  profiles  {profile_url(plan.virtual_ip)}")
    print(f"  board     http://{metrics.address}/")
    print(f"  metrics   http://{metrics.address}:8428/api/v1/label/__name__/values   (from metrics1)")
    print("\nTry:")
    print(f"  curl -i -H 'X-Lane: wsgi' {profile_url(plan.virtual_ip)}     # or direct, the default lane")
    print("  ./griddle lab stop app2 && ./griddle up          # lose a host's power, and bring it back")
    print("  ./griddle lab ssh proxy1")
