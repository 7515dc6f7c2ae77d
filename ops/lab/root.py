"""The lab's verbs, as root: what makes, changes and removes containers.

Run through `as_root`, which is a plain call for root and one `sudo` for everybody else.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cluster.errors import Failure, UserError
from cluster.progress import say
from ops.lab import image, machine, network, state
from ops.lab.plan import LabHost, LabPlan, free_candidate, lab_plan
from ops.lab.state import Lab, LabFiles

_AT_ONCE = 4  # a boot is a second of one core, and all at once only wait for each other


def as_root(checkout: Path, verb: str, *arguments: str) -> None:
    """Does one of VERBS for this checkout; raises Failure where it failed."""
    cache = Path.home() / ".cache" / "griddle"
    cache.mkdir(parents=True, exist_ok=True)  # as its owner
    if os.geteuid() == 0:
        VERBS[verb](checkout, cache, *arguments)
        return
    command = ["sudo", "--", sys.executable, "-m", "ops.lab", str(checkout), str(cache), verb, *arguments]
    code = subprocess.run(command, cwd=checkout).returncode
    if code:
        raise SystemExit(code)  # it has said why


def boot(checkout: Path, cache: Path, store: str) -> None:
    """Makes the lab unless it is made, and boots each of its hosts that does not run."""
    files = LabFiles(checkout)
    lab = state.read(checkout)
    if lab is None:
        key = image.build(cache)
        candidate = free_candidate(checkout, network.taken_subnets())
        if candidate is None:
            raise Failure("this machine has routes into all of 10.64.0.0/10: no subnet is left for a lab")
        lab = Lab(store=store, candidate=candidate, image=key, ip_forward_was=network.forwarding())
        state.write(checkout, lab)
    base = image.path(cache, lab.image)
    if not base.is_dir():
        raise Failure(f"the image under the hosts' disks, {base}, is gone: ./griddle down, then ./griddle up")
    plan = lab.plan(checkout)
    if not files.key.exists():
        files.ssh.mkdir(mode=0o700, exist_ok=True)
        machine.make_key(files.key, f"griddle {plan.name}")
    network.up(checkout, plan)
    machine.allow_inotify()

    def boot_host(host: LabHost) -> None:
        machine.make_disk(files, plan, host, base)
        started = time.monotonic()
        if machine.start(files, plan, host, base):
            say(f"{host.name} {host.address}: booted in {time.monotonic() - started:.1f} s")

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(boot_host, plan.hosts))
    _write_known_hosts(files, plan)


def _write_known_hosts(files: LabFiles, plan: LabPlan) -> None:
    made = [host for host in plan.hosts if (files.host(host.name) / "complete").exists()]
    keys = [f"{host.address} {machine.host_key(files, host)}\n" for host in made]
    state.write_atomically(files.known_hosts, "".join(keys))
    state.give_to_owner(files)


def start(checkout: Path, cache: Path, *names: str) -> None:
    """Boots hosts, and makes those that are new."""
    lab, plan, hosts = _hosts(checkout, names)
    files = LabFiles(checkout)
    network.up(checkout, plan)
    for host in hosts:
        machine.make_disk(files, plan, host, image.path(cache, lab.image))
        machine.start(files, plan, host, image.path(cache, lab.image))
    _write_known_hosts(files, plan)


def stop(checkout: Path, cache: Path, *names: str) -> None:
    """Cuts hosts' power."""
    _hosts(checkout, names)
    machine.power_off(LabFiles(checkout), names)


def cut(checkout: Path, cache: Path, *names: str) -> None:
    """Takes hosts off the network."""
    _, _, hosts = _hosts(checkout, names)
    _need_running(checkout, hosts)
    for host in hosts:
        network.cut(host)


def heal(checkout: Path, cache: Path, *names: str) -> None:
    """Puts hosts back on it."""
    _, plan, hosts = _hosts(checkout, names)
    _need_running(checkout, hosts)
    for host in hosts:
        network.heal(plan, host)


def down(checkout: Path, cache: Path) -> None:
    """Removes the lab, whatever is left of it and whatever its files say."""
    files = LabFiles(checkout)
    names = set(network.bridges(checkout))
    forwarding = None
    try:
        lab = state.read(checkout)
    except Failure:
        lab = None  # unreadable: what is there is found by looking
    if lab is not None:
        names.add(lab_plan(checkout, False, lab.candidate).name)
        forwarding = lab.ip_forward_was
    disks = {path.name for path in files.hosts.iterdir()} if files.hosts.is_dir() else set()
    machine.power_off(files, disks | set(machine.running(files)))
    machine.unmount(files.directory)
    for name in names:
        machine.remove_cgroups(name)
    network.down(checkout, names, forwarding)
    if files.directory.exists():
        shutil.rmtree(files.directory)
    shutil.rmtree(files.griddle / "clusters" / "lab", ignore_errors=True)
    say("the lab is gone" if names or disks else "there is no lab here")


def _hosts(checkout: Path, names: tuple[str, ...]) -> tuple[Lab, LabPlan, list[LabHost]]:
    lab, plan = state.read(checkout), state.plan(checkout)
    if lab is None or plan is None:
        raise UserError("there is no lab here: ./griddle up")
    unknown = [name for name in names if plan.host(name) is None]
    if unknown:
        known = ", ".join(host.name for host in plan.hosts)
        raise UserError(f"no host {', '.join(unknown)} in this lab: it has {known}")
    return lab, plan, [host for host in plan.hosts if host.name in names]


def _need_running(checkout: Path, hosts: list[LabHost]) -> None:
    alive = machine.running(LabFiles(checkout))
    for host in hosts:
        if host.name not in alive:
            raise UserError(f"{host.name} is stopped: ./griddle lab start {host.name}")


VERBS: dict[str, Callable[..., None]] = {
    "boot": boot,
    "start": start,
    "stop": stop,
    "cut": cut,
    "heal": heal,
    "down": down,
}
