"""The few operations that every component is made of.

Each compares a whole component in one command and changes nothing where nothing differs, because a second
apply over eleven hosts has to be quick. The decisions are pure and live in `tree` and `units`.
"""

from __future__ import annotations

import shlex
from collections.abc import Generator, Iterable, Mapping

from pyinfra import host
from pyinfra.api import OperationError, StringCommand, operation

from deploys import shell, tree, units
from deploys.facts import MissingPackages, MissingUsers, Tree, Units
from deploys.shell import exclusive
from deploys.tree import Directory, Entry, File, Link

__all__ = [
    "Directory",
    "File",
    "Link",
    "checked",
    "installed_files",
    "packages",
    "run_checked",
    "running_unit",
    "system_users",
]


def run_checked(command: str, what: str, timeout: int = 600) -> list[str]:
    """Run a command on this host now, at execution time; its standard output's lines.

    :raises OperationError: it failed. That stops the whole run at once, which a failed command of an
        operation does not while the operation runs serially; gates need it.
    """
    ok, output = host.run_shell_command(StringCommand(shell.command(command)), _sudo=True, _timeout=timeout)
    if not ok:
        seen = " / ".join(line.strip() for line in output.output.splitlines()[-12:] if line.strip())
        raise OperationError(f"{host.name}: {what}: {seen or 'no output'}")
    return output.stdout_lines


def checked(command: str, what: str, timeout: int = 600) -> Generator[StringCommand]:
    """The same as a step of an operation: a dry run sees a change, and nothing happens before execution."""
    yield StringCommand("true")
    run_checked(exclusive(command), what, timeout)


@operation()
def packages(names: Iterable[str]) -> Generator[StringCommand]:
    """Debian packages are installed, without starting the services that they bring.

    + names: Debian package names
    """
    missing = host.get_fact(MissingPackages, names=sorted(names))
    if not missing:
        host.noop("all packages are installed")
        return
    wanted = " ".join(shlex.quote(name) for name in missing if name != "!guard")
    script = "\n".join(
        [
            "set -eu",
            "export DEBIAN_FRONTEND=noninteractive",
            # Services start when their component is configured, not when dpkg unpacks them.
            "guard=/usr/sbin/policy-rc.d",
            "trap 'rm -f $guard' EXIT",
            "printf '#!/bin/sh\\n# griddle-guard\\nexit 101\\n' > $guard && chmod 755 $guard",
            "dpkg --configure -a >/dev/null",
            "get() { apt-get -qq -y -o DPkg::Lock::Timeout=120 -o Dpkg::Options::=--force-confold "
            '--no-install-recommends "$@" >/dev/null; }',
            f"[ -z '{wanted}' ] || get install {wanted} 2>/dev/null || {{ get update; get install {wanted}; }}",
        ]
    )
    yield StringCommand(exclusive(script))


@operation()
def system_users(users: Mapping[str, str]) -> Generator[StringCommand]:
    """System users exist, each with a group of its own name, without a login.

    + users: {name: home directory}; the directory is not made
    """
    missing = host.get_fact(MissingUsers, names=sorted(users))
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
    changed = tree.differing(wanted, host.get_fact(Tree, paths=sorted(wanted)))
    if not changed:
        host.noop(f"{component}'s files are as wanted")
        return
    script = tree.put_command(component, wanted, changed, validate)
    yield StringCommand(exclusive(script), _stdin=tree.archive(wanted))


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
    """Units are enabled, running, and running with the inputs as they are now.

    + unit: one or more unit names, acted on in this order
    + inputs: files and directories on the host whose content the process was started with
    + reload: reload instead of restart when it runs
    + start_only: start what does not run; leave what runs alone (a later operation rolls it)
    + block: wait until systemd says that the unit has started
    + ready: a shell command (``{unit}`` is the unit's name), polled until it exits 0 after an act; when it
      does not within `ready_seconds`, the whole run stops
    """
    names = [unit] if isinstance(unit, str) else list(unit)
    inputs = list(inputs)
    seen = host.get_fact(Units, names=names, inputs=inputs)
    acted = False
    for name in names:
        verb = units.action(seen.get(name, units.Seen()), reload=reload)
        if verb is None or (start_only and verb != "start"):
            continue
        acted = True
        gate = ready and ready.replace("{unit}", name)
        act = units.act_command(name, verb, inputs, block=block, ready=gate, ready_seconds=ready_seconds)
        yield from checked(act, f"{name}: {verb}", timeout=ready_seconds + 120)
    if not acted:
        host.noop("running with the present inputs")
