"""The few operations that every component is made of.

Each compares a whole component in one command and changes nothing where nothing differs, because a second
apply over eleven hosts has to be quick. The decisions are pure and live in `tree` and `units`.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Generator, Iterable, Mapping

import gevent
from pyinfra import host, logger, state
from pyinfra.api import OperationError, StringCommand, operation
from pyinfra.api.host import Host as PyinfraHost

from deploys.framework import locks, preview, tree, units
from deploys.framework.changes import Change
from deploys.framework.facts import MissingPackages, MissingUsers, Tree, Units
from deploys.framework.remote import fact, run
from deploys.framework.shell import WITH_PROXIES, exclusive
from deploys.framework.tree import Directory, Entry, File, Link

__all__ = [
    "Directory",
    "File",
    "Link",
    "await_ready",
    "checked",
    "installed_files",
    "packages",
    "replace_files",
    "running_unit",
    "system_users",
    "valid_files",
]


def checked(command: str, what: str, timeout: int = 600) -> Generator[StringCommand]:
    """Run a command on this host as a step of an operation: a dry run sees a change, and nothing happens before
    execution. Where it fails, the whole run ends, which a failed command of a serial operation does not do.
    """
    yield StringCommand("true")
    run(host, exclusive(command), what, timeout)


@operation()
def packages(names: Iterable[str]) -> Generator[StringCommand]:
    """Debian packages are installed, without starting the services that they bring.

    + names: Debian package names
    """
    missing = [*preview.left("package", dict.fromkeys(host.get_fact(MissingPackages, names=sorted(names))))]
    if not missing:
        host.noop("all packages are installed")
        return
    preview.bring("package", dict.fromkeys(missing))
    preview.note(*map(_of_package, missing))
    yield StringCommand("true")  # a dry run ends here
    script = exclusive(locks.or_held(install_command(missing)))
    deadline, told = time.monotonic() + locks.WAIT_SECONDS, None
    while holder := locks.holder(run(host, script, "packages", 3600)):
        if time.monotonic() > deadline:
            raise OperationError(f"{host.name}: apt and dpkg are locked since {locks.WAIT_SECONDS} s by {holder}")
        if holder != told:
            logger.info(f"{host.print_prefix}waiting for apt's and dpkg's locks: {holder}")
        told = holder
        gevent.sleep(locks.LOOK_SECONDS)


def _of_package(name: str) -> Change:
    if name == "!guard":
        return Change("file", "remove", "/usr/sbin/policy-rc.d", ("left by a run that was killed",))
    return Change("package", "install", name)


def install_command(missing: Iterable[str]) -> str:
    """A shell script that installs what the fact `MissingPackages` lists."""
    wanted = " ".join(shlex.quote(name) for name in missing if name != "!guard")
    install = "\n".join(
        [
            "set -eu",
            # Packages' scripts see by this directory that systemd runs, and have it read all units again for each
            # service: a quarter of the CPU time. As in a chroot they do not; it does so once, below.
            "[ $# = 0 ] || mount -t tmpfs -o mode=755 tmpfs /run/systemd",
            WITH_PROXIES,
            "export DEBIAN_FRONTEND=noninteractive",
            # Services start when their component is configured, not when dpkg unpacks them.
            "guard=/usr/sbin/policy-rc.d",
            "trap 'rm -f $guard' EXIT",
            "printf '#!/bin/sh\\n# griddle-guard\\nexit 101\\n' > $guard && chmod 755 $guard",
            "dpkg --configure -a >/dev/null",
            'get() { apt-get -qq -y -o Dpkg::Options::=--force-confold --no-install-recommends "$@" >/dev/null; }',
            f"[ -z '{wanted}' ] || get install {wanted} 2>/dev/null || {{ get update; get install {wanted}; }}",
        ]
    )
    return "\n".join(
        [
            "set -eu",
            # Not on a host that allows no mounts of its own.
            "apart=; ! unshare --mount mount -t tmpfs tmpfs /run/systemd 2>/dev/null || apart='unshare --mount'",
            f"$apart sh -c {shlex.quote(install)} install $apart",
            "systemctl daemon-reload",
        ]
    )


@operation()
def system_users(users: Mapping[str, str]) -> Generator[StringCommand]:
    """System users exist, each with a group of its own name, without a login.

    + users: {name: home directory}; the directory is not made
    """
    missing = [*preview.left("user", dict.fromkeys(host.get_fact(MissingUsers, names=sorted(users))))]
    preview.bring("user", dict.fromkeys(missing))
    preview.note(*(Change("user", "make", name) for name in missing))
    for name in missing:
        useradd = "useradd --system --user-group --no-create-home --shell /usr/sbin/nologin"
        make = f"{useradd} --home-dir {shlex.quote(users[name])} {shlex.quote(name)}"
        yield StringCommand(exclusive(f"getent passwd {shlex.quote(name)} >/dev/null || {make}"))
    if not missing:
        host.noop("all users exist")


@operation()
def installed_files(
    component: str,
    files: Mapping[str, Entry],
    directories: Mapping[str, tuple[str, str, str]] | None = None,
    validate: str | None = None,
) -> Generator[StringCommand]:
    """Files, links and directories are as given; they are replaced together, and only after `validate`.

    + component: names the staging tree
    + files: {absolute path: File, Link or Directory}
    + directories: {absolute path: (mode, owner, group)}; those above files and these are root's, with mode 755
    + validate: a shell command; ``{root}`` is the staged tree that holds all of ``files``. If it fails,
      nothing is replaced and the host fails with its output.
    """
    listed: dict[str, Entry] = {path: Directory(*spec) for path, spec in (directories or {}).items()}
    wanted = tree.with_parents(listed | dict(files))
    seen = host.get_fact(Tree, paths=sorted(wanted))
    changed = preview.left("file", {path: wanted[path] for path in tree.differing(wanted, seen)})
    if not changed:
        host.noop(f"{component}'s files are as wanted")
        return
    preview.bring("file", changed)
    preview.note_files(wanted, changed, seen)
    script = tree.put_command(component, wanted, changed, validate)
    yield StringCommand(exclusive(script), _stdin=tree.archive(wanted))


def replace_files(on: PyinfraHost, component: str, files: Mapping[str, Entry]) -> None:
    """What the operation `installed_files` does, at once and on any host."""
    changed = tree.differing(files, fact(on, Tree, paths=sorted(files)))
    if changed:
        script = tree.put_command(component, files, changed, None)
        run(on, exclusive(script), f"{component}'s files", stdin=tree.archive(files))


@operation()
def valid_files(component: str, files: Mapping[str, Entry], validate: str) -> Generator[StringCommand]:
    """The files would be accepted: they are staged and validated as by `installed_files`, and nothing is replaced.

    + component, files, validate: as there
    """
    changed = tree.differing(files, host.get_fact(Tree, paths=sorted(files)))
    if not preview.left("file", {path: files[path] for path in changed}):
        host.noop(f"{component}'s files are as wanted")
        return
    preview.note(Change("command", "validate", f"{component}'s files", ("nothing is replaced yet",)))
    script = tree.put_command(component, files, [], validate)
    yield StringCommand(exclusive(script), _stdin=tree.archive(files))


@operation()
def running_unit(
    unit: str | list[str],
    inputs: Iterable[str] = (),
    reload: bool = False,
    start_only: bool = False,
    block: bool = True,
    ready: str | None = None,
    ready_seconds: int = 30,
) -> Generator[StringCommand]:
    """Units are enabled, running, and running with their definitions and inputs as they are now, and they serve.

    + unit: one or more unit names, acted on in this order
    + inputs: files and directories on the host that the process reads, besides the unit's own definition
    + reload: a running unit takes other inputs by a reload (another definition always needs a restart)
    + start_only: start what does not run; leave what runs alone (a later operation rolls it)
    + block: wait until systemd says that the unit has started
    + ready: a shell command (``{unit}`` is the unit's name), polled until it exits 0, after an act and where
      nothing had to be done; when it does not within `ready_seconds`, the whole run stops
    """
    names = [unit] if isinstance(unit, str) else list(unit)
    inputs = list(inputs)
    gates = {name: ready.replace("{unit}", name) for name in names} if ready else {}
    # what is only to be started may be broken as long as others are not started, too
    asked = {} if start_only else gates
    found = host.get_fact(Units, names=names, inputs=inputs, ready=asked)
    seen = {name: found.get(name, units.UnitSeen()) for name in names}
    judged = {name: preview.action(name, seen[name], inputs, reload=reload) for name in names}
    acts = {name: act for name, act in judged.items() if act and (not start_only or act.verb == "start")}
    preview.note_acts(acts)
    for name, act in acts.items():
        gate = gates.get(name)
        command = units.act_command(name, act.verb, inputs, block=block, ready=gate, ready_seconds=ready_seconds)
        yield from checked(command, f"{name}: {act.verb}", timeout=ready_seconds + 120)
    if not acts:
        host.noop("running with the present inputs")
        await_ready({name: gates[name] for name in asked if seen[name].broken}, ready_seconds)


def await_ready(gates: Mapping[str, str], seconds: int) -> None:
    """Units that run with what they should, and did not serve when they were looked at, serve within `seconds`.

    :param gates: {unit: shell command}
    :raises OperationError: one does not. It is not restarted: whatever it waits for may be elsewhere
    """
    for name, gate in gates.items() if state.is_executing else ():
        what = f"{name} runs with all that it should, and does not serve (journalctl -u {name})"
        run(host, units.ready_command(gate, seconds, name), what, seconds + 30)
