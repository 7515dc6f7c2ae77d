"""Releases onto app hosts: installed beside each other, slots rolled worker by worker."""

from __future__ import annotations

import shlex
from collections.abc import Generator, Iterable, Mapping
from pathlib import Path

from pyinfra import host
from pyinfra.api import FileUploadCommand, StringCommand, operation

from cluster import model
from deploys.app import config
from deploys.app.facts import AppInstallation
from deploys.framework import preview, tree
from deploys.framework import units as unit_states
from deploys.framework.changes import Change
from deploys.framework.facts import Units
from deploys.framework.operations import await_ready
from deploys.framework.remote import run
from deploys.framework.shell import FORGET_OLD_UPLOADS, exclusive, upload_path

READY_SECONDS = 30


@operation()
def releases_installed(archives: Mapping[str, tuple[Path, str]]) -> Generator[StringCommand | FileUploadCommand]:
    """Releases are unpacked, with their wheels installed offline.

    + archives: {version: (archive on the operator's machine, its sha256)}
    """
    present = host.get_fact(AppInstallation).releases
    missing = [version for version in archives if version not in present]
    preview.note(*(Change("release", "install", version) for version in missing))
    for version in missing:
        path, sha256 = archives[version]
        uploaded = upload_path(path)
        yield FileUploadCommand(str(path), uploaded, _sudo=False)
        install = f"{config.INSTALL_RELEASE} {uploaded} {sha256} {shlex.quote(version)}"
        yield StringCommand(exclusive(f"{FORGET_OLD_UPLOADS}\n{install}"))
    if not missing:
        host.noop("all releases are installed")


@operation()
def slot_runs(slot: str, version: str, units: list[str], inputs: Iterable[str]) -> Generator[StringCommand]:
    """A slot's workers run a release with the present configuration; they are changed one after another.

    Use it with ``_serial=True``. A worker that does not become ready stops the whole run: the hosts after this
    one, and the workers after that one, go on with what they have. If the release is another one, this host goes
    back to the one that it had.
    """
    inputs, this = list(inputs), model.this_host()
    installed = host.get_fact(AppInstallation)
    moves = installed.slots.get(slot) != version
    # a run that was killed in between has left the link that the slot had
    before = installed.slots.get(slot if moves else f"{slot}.before", "")
    ready = {unit: config.ready(this, unit, version) for unit in units}
    seen = host.get_fact(Units, names=units, inputs=inputs, ready={} if moves else ready)
    acts = {}
    for unit in units:
        act = preview.action(unit, seen.get(unit, unit_states.UnitSeen()), inputs)
        if moves and (act is None or act.verb != "start"):
            act = unit_states.Act("restart", f"its release changes, {before} → {version}")
        if act:
            acts[unit] = act
    if moves:
        preview.bring("file", {f"{config.SLOTS}/{slot}": tree.Link(f"{config.RELEASES}/{version}")})
        preview.note(Change("slot", "point", slot, (f"{before or 'nothing'} → {version}",)))
    preview.note_acts(acts)
    if not moves and not acts:
        host.noop("all workers run the release with the present configuration")
        await_ready({unit: ready[unit] for unit in units if seen[unit].broken}, READY_SECONDS)
        return
    yield StringCommand(points_to(slot, version) if moves else "true")

    def script_of(unit: str, verb: str, gate: str) -> str:
        return unit_states.act_command(unit, verb, inputs, ready=gate, ready_seconds=READY_SECONDS)

    rolled: list[str] = []
    for unit, act in acts.items():
        rolled.append(unit)
        script = script_of(unit, act.verb, ready[unit])
        if before in installed.releases:
            back = [script_of(each, "restart", config.ready(this, each, before)) for each in reversed(rolled)]
            script = or_back(script, slot, before, back)
        run(host, exclusive(script), f"{unit} of release {version}", 600)
    run(host, f"rm -f {config.SLOTS}/{slot}.before", "the slot's link before")


def points_to(slot: str, version: str) -> str:
    """A shell command that points a slot to a release. The link that it had is kept, as old as it was."""
    link, target = f"{config.SLOTS}/{slot}", f"{config.RELEASES}/{version}"
    keep = f"{{ [ ! -L {link} ] || cp -dp --remove-destination {link} {link}.before; }}"
    return f"{keep} && ln -sfn {shlex.quote(target)} {link}.new && mv -fT {link}.new {link}"


def or_back(act: str, slot: str, before: str, back: Iterable[str]) -> str:
    """A shell script that acts, and where that fails has the slot on the release before again, and fails.

    It says nothing until all is done: nobody may be there to hear it, and that ends a script that speaks.

    :param back: scripts that have the workers on the release before, each after the slot points to it
    """
    again = "\n".join(f"( {script}\n) || failed=1" for script in back)
    return "\n".join(
        [
            f"seen=$( ( {act}\n) 2>&1 ) && exit 0",
            # The very link: workers that were not rolled have read it, and are not to be restarted for its age.
            f"mv -fT {config.SLOTS}/{slot}.before {config.SLOTS}/{slot}",
            f'back=$( {{ failed=\n{again}\n[ -z "$failed" ]; }} 2>&1 ) &&',
            f"  back={shlex.quote(f'this host is back on release {before}')}",
            'echo "$seen"; echo "$back"; exit 1',
        ]
    )


@operation()
def nothing_else(units: Iterable[str], slots: Mapping[str, str], keep: int) -> Generator[StringCommand]:
    """No worker runs that is not wanted, and no slot or release is left that nothing needs.

    + units: all wanted workers
    + slots: {slot: version} in use
    + keep: how many releases stay, those in use among them or not
    """
    seen = host.get_fact(AppInstallation)
    wanted = set(units)
    workers = [unit for unit in seen.workers if unit not in wanted]
    links = [f"{config.SLOTS}/{slot}" for slot in seen.slots if slot not in slots]
    old = config.superfluous(seen.releases, keep, set(slots.values()))
    preview.note(
        *(Change("unit", "stop", unit, ("it is not wanted any more",)) for unit in workers),
        *(Change("slot", "remove", slot) for slot in seen.slots if slot not in slots),
        *(Change("release", "remove", version) for version in old),
    )
    if workers:
        yield StringCommand("systemctl", "disable", "--now", "--quiet", *map(shlex.quote, workers))
    if links or old:
        paths = [*links, *(f"{config.RELEASES}/{version}" for version in old)]
        yield StringCommand("rm", "-rf", *map(shlex.quote, paths))
    if not (workers or links or old):
        host.noop("nothing is left over")
