"""Releases onto app hosts: installed beside each other, slots rolled worker by worker."""

from __future__ import annotations

import shlex
from collections.abc import Generator, Iterable, Mapping
from pathlib import Path

from pyinfra import host
from pyinfra.api import FileUploadCommand, StringCommand, operation

from deploys import units as unit_states
from deploys.app import config
from deploys.app.facts import AppInstallation
from deploys.facts import Units
from deploys.operations import run_checked
from deploys.shell import FORGET_OLD_UPLOADS, exclusive, upload_path

READY_SECONDS = 30


@operation()
def releases_installed(archives: Mapping[str, tuple[Path, str]]) -> Generator[StringCommand | FileUploadCommand]:
    """Releases are unpacked, with their wheels installed offline.

    + archives: {version: (archive on the operator's machine, its sha256)}
    """
    present = host.get_fact(AppInstallation).releases
    missing = [version for version in archives if version not in present]
    for version in missing:
        path, sha256 = archives[version]
        uploaded = upload_path(path)
        yield FileUploadCommand(str(path), uploaded, _sudo=False)
        install = f"{config.INSTALL_RELEASE} {uploaded} {sha256} {shlex.quote(version)}"
        yield StringCommand(exclusive(f"{FORGET_OLD_UPLOADS}\n{install}"))
    if not missing:
        host.noop("all releases are installed")


@operation()
def slot_runs(
    slot: str, version: str, units: list[str], inputs: Iterable[str], ready: Mapping[str, str]
) -> Generator[StringCommand]:
    """A slot's workers run a release with the present configuration; they are changed one after another.

    Use it with ``_serial=True``. A worker that does not become ready stops the whole run: the hosts after this
    one, and the workers after that one, go on with what they have.

    + ready: {unit: shell command that succeeds when it serves}
    """
    inputs = list(inputs)
    link, target = f"{config.SLOTS}/{slot}", f"{config.RELEASES}/{version}"
    moves = host.get_fact(AppInstallation).slots.get(slot) != version
    seen = host.get_fact(Units, names=units, inputs=inputs)
    verbs = {unit: unit_states.action(seen.get(unit, unit_states.Seen())) for unit in units}
    if not moves and not any(verbs.values()):
        host.noop("all workers run the release with the present configuration")
        return
    fresh = f"{link}.new"
    yield StringCommand(f"ln -sfn {shlex.quote(target)} {fresh} && mv -fT {fresh} {shlex.quote(link)}")
    for unit in units:
        verb = verbs[unit] or ("restart" if moves else None)
        if verb is None:
            continue
        act = unit_states.act_command(unit, verb, inputs, ready=ready[unit], ready_seconds=READY_SECONDS)
        run_checked(exclusive(act), f"{unit} of release {version}")


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
    if workers:
        yield StringCommand("systemctl", "disable", "--now", "--quiet", *map(shlex.quote, workers))
    if links or old:
        paths = [*links, *(f"{config.RELEASES}/{version}" for version in old)]
        yield StringCommand("rm", "-rf", *map(shlex.quote, paths))
    if not (workers or links or old):
        host.noop("nothing is left over")
