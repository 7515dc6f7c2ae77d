"""One host of the lab: its disk, and its life as a systemd-nspawn container. Needs root, except the looking.

A host's disk is an overlay upon the base image. Whether it runs is found by looking for the systemd-nspawn process
that has the host's root as its directory, so no file can be wrong about it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Iterable
from pathlib import Path

from cluster.errors import Failure
from ops.lab.plan import LabHost, LabPlan
from ops.lab.state import LabFiles
from ops.process import run

_PROC = Path("/proc")
_CGROUPS = Path("/sys/fs/cgroup")
# A host that leaks has to die alone. The first group that is listed counts.
_MEMORY_MIB = {"fdb": 2048, "spare": 2048, "apps": 1536, "metrics": 1024, "proxies": 1024, "etcd": 512}
_BOOT_SECONDS = 90
_INOTIFY_INSTANCES = 4096


# --- looking ---------------------------------------------------------------------------------------------


def running(files: LabFiles) -> dict[str, int]:
    """Host → process id of its systemd-nspawn, for the hosts of this checkout that run."""
    prefix = f"--directory={files.hosts}/"
    found = {}
    for process in _PROC.iterdir():
        if not process.name.isdecimal():
            continue
        with contextlib.suppress(OSError):  # gone meanwhile
            arguments = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
            if not arguments[0].endswith("systemd-nspawn"):
                continue
            for argument in arguments:
                if argument.startswith(prefix):
                    found[argument.removeprefix(prefix).partition("/")[0]] = int(process.name)
    return found


def mounts(below: Path) -> list[Path]:
    """Mount points below a directory, the deepest first."""
    points = []
    for line in (_PROC / "self/mounts").read_text().splitlines():
        point = Path(line.split(" ")[1].encode().decode("unicode_escape"))
        if point.is_relative_to(below):
            points.append(point)
    return sorted(points, reverse=True)


def answers(host: LabHost, seconds: float = 1.0) -> bool:
    """Whether sshd accepts a connection."""
    try:
        with socket.create_connection((host.address, 22), timeout=seconds) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


# --- disk ------------------------------------------------------------------------------------------------


def mount(files: LabFiles, host: LabHost, image: Path) -> Path:
    """Mounts the host's disk and returns where.

    It is volatile: fsync returns at once, or eleven hosts of databases would wait for one disk, and taking a lab
    down for whatever else is being written to it. Disks outlive `stop`, but not a crash of this machine.
    """
    directory = files.host(host.name)
    root = directory / "root"
    if root in mounts(directory):
        return root
    for name in ("upper", "work", "root"):
        (directory / name).mkdir(parents=True, exist_ok=True)
    # The kernel's note that this disk was mounted volatile once, which forbids to mount it again.
    shutil.rmtree(directory / "work" / "work" / "incompat", ignore_errors=True)
    options = f"lowerdir={image},upperdir={directory / 'upper'},workdir={directory / 'work'},volatile"
    run("mount", "-t", "overlay", f"griddle-{host.machine}", "-o", options, str(root))
    return root


def allow_inotify() -> None:
    """Raises the machine's limit of inotify instances, which all containers' root users share; it stays raised.

    Debian's 128 are used up by some twenty systemds, and the next one does not boot.
    """
    limit = Path("/proc/sys/fs/inotify/max_user_instances")
    if int(limit.read_text()) < _INOTIFY_INSTANCES:
        limit.write_text(f"{_INOTIFY_INSTANCES}\n")


def make_disk(files: LabFiles, plan: LabPlan, host: LabHost, image: Path) -> None:
    """A disk of its own for the host, with its identity. One that an interruption left half-made is made anew."""
    directory = files.host(host.name)
    complete = directory / "complete"
    if complete.exists():
        return
    unmount(directory)
    shutil.rmtree(directory, ignore_errors=True)
    root = mount(files, host, image)
    (root / "etc/hostname").write_text(f"{host.name}\n")
    (root / "etc/hosts").write_text(f"127.0.0.1 localhost\n127.0.1.1 {host.name}\n")
    (root / "etc/machine-id").write_text(uuid.uuid4().hex + "\n")
    (root / "etc/resolv.conf").write_text(_resolv_conf())
    # Sorts before systemd's own 80-container-host0.network, which would ask for a lease.
    (root / "etc/systemd/network/10-lab.network").write_text(
        "[Match]\nName=host0\n\n"
        f"[Network]\nAddress={host.address}/24\nGateway={plan.gateway}\n"
        "LinkLocalAddressing=no\nIPv6AcceptRA=no\nLLDP=no\n"
    )
    for name in ("hostname", "hosts", "machine-id", "resolv.conf", "systemd/network/10-lab.network"):
        (root / "etc" / name).chmod(0o644)  # not by the umask of whoever's machine this is
    make_key(root / "etc/ssh/ssh_host_ed25519_key", host.name)
    authorized = root / "home/deploy/.ssh/authorized_keys"
    shutil.copyfile(files.key.with_suffix(".pub"), authorized)
    home = (root / "home/deploy").stat()
    os.chown(authorized, home.st_uid, home.st_gid)
    complete.touch()


def make_key(path: Path, comment: str) -> None:
    """An SSH key pair at `path` and `path`.pub."""
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path))


def host_key(files: LabFiles, host: LabHost) -> str:
    """The host's public key, as `type key`."""
    text = (files.host(host.name) / "upper/etc/ssh/ssh_host_ed25519_key.pub").read_text()
    return " ".join(text.split()[:2])


def _resolv_conf() -> str:
    """The machine's name servers, without those that listen on its loopback only."""
    for path in (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf")):
        lines = path.read_text().splitlines() if path.exists() else []
        servers = [line for line in lines if line.startswith("nameserver") and " 127." not in line]
        if servers:
            return "\n".join(servers) + "\n"
    return ""


def unmount(below: Path) -> None:
    """Unmounts everything below a directory, by force where something holds it."""
    for point in mounts(below):
        if subprocess.run(["umount", str(point)], capture_output=True).returncode:
            run("umount", "--lazy", str(point))


# --- life ------------------------------------------------------------------------------------------------


def start(files: LabFiles, plan: LabPlan, host: LabHost, image: Path) -> bool:
    """Boots the host and waits until sshd answers. One that runs already is left as it is, and returns False."""
    if host.name not in running(files):
        root = mount(files, host, image)
        cgroups = _make_cgroups(plan, host)
        command = (
            "systemd-nspawn", "--quiet", "--boot", "--register=no", "--keep-unit",
            f"--directory={root}", f"--machine={host.machine}", f"--hostname={host.name}",
            f"--network-bridge={plan.bridge}",
            "--link-journal=no", "--resolv-conf=off", "--timezone=off", "--console=read-only",
            "--system-call-filter=perf_event_open",  # for `griddle profile`, as on a host of its own
        )  # fmt: skip
        # Each container in a cgroup of its own from its first moment: two in one would share their units' cgroups.
        enter = 'while [ "$1" != -- ]; do echo $$ >"$1/cgroup.procs"; shift; done; shift; exec "$@"'
        with (files.host(host.name) / "console.log").open("ab") as console:
            process = subprocess.Popen(
                ["sh", "-ec", enter, "sh", *map(str, cgroups), "--", *command],
                stdin=subprocess.DEVNULL, stdout=console, stderr=console, cwd="/", start_new_session=True,
            )  # fmt: skip
        _wait_until_it_answers(files, host, process)
        return True
    if not answers(host):
        _wait_until_it_answers(files, host, None)
    return False


def _wait_until_it_answers(files: LabFiles, host: LabHost, process: subprocess.Popen[bytes] | None) -> None:
    console = files.host(host.name) / "console.log"
    deadline = time.monotonic() + _BOOT_SECONDS
    while time.monotonic() < deadline:
        if process is not None and process.poll() is not None:
            last = "\n".join(console.read_text(errors="replace").splitlines()[-10:])
            raise Failure(f"{host.name} did not boot; the end of {console}:\n{last}")
        if answers(host):
            return
        time.sleep(0.2)
    raise Failure(f"{host.name} does not answer on {host.address}:22 after {_BOOT_SECONDS} s: see {console}")


def power_off(files: LabFiles, names: Iterable[str]) -> None:
    """Loss of power: every process of these hosts is killed at once. Returns when they are gone."""
    wanted = set(names)
    dying = {name: pid for name, pid in running(files).items() if name in wanted}
    for pid in dying.values():
        with contextlib.suppress(OSError):
            # systemd-nspawn's child is the container's first process, and takes all others with it. systemd-nspawn
            # itself then ends by removing the host's cable and locks.
            children = (_PROC / f"{pid}/task/{pid}/children").read_text().split() or [str(pid)]
            for child in children:
                os.kill(int(child), signal.SIGKILL)
    deadline = time.monotonic() + 10
    while left := {name: pid for name, pid in running(files).items() if dying.get(name) == pid}:
        if time.monotonic() > deadline - 5:
            for pid in left.values():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            raise Failure(f"still running although killed: {', '.join(sorted(left))}")
        time.sleep(0.05)
    for name in wanted:
        _kill_orphans(files.host(name) / "root")


def _kill_orphans(root: Path) -> None:
    """Kills what lives on a host's disk without its systemd-nspawn, which somebody may have killed alone."""
    if root not in mounts(root):
        return
    disk = root.stat().st_dev
    for process in _PROC.iterdir():
        if process.name.isdecimal():
            with contextlib.suppress(OSError):
                if (process / "root").stat().st_dev == disk:
                    os.kill(int(process.name), signal.SIGKILL)


# --- cgroups ---------------------------------------------------------------------------------------------


def _hierarchies() -> list[Path]:
    """Roots of the cgroup hierarchies that a container needs a place in."""
    if (_CGROUPS / "cgroup.procs").exists():
        return [_CGROUPS]
    return [path for name in ("systemd", "unified", "memory") if (path := _CGROUPS / name).is_dir()]


def _make_cgroups(plan: LabPlan, host: LabHost) -> list[Path]:
    limit = next(mib for group, mib in _MEMORY_MIB.items() if group in host.groups) << 20
    made = []
    for root in _hierarchies():
        lab = root / "griddle" / plan.name
        cgroup = lab / host.name
        cgroup.mkdir(parents=True, exist_ok=True)
        for parent in (root / "griddle", lab):
            with contextlib.suppress(OSError):  # version 1, or a hierarchy without this controller
                (parent / "cgroup.subtree_control").write_text("+memory")
        for name in ("memory.max", "memory.limit_in_bytes"):
            if (cgroup / name).exists():
                (cgroup / name).write_text(str(limit))
        made.append(cgroup)
    return made


def remove_cgroups(lab: str) -> None:
    """Removes what a lab's containers have left in the cgroup hierarchies."""
    for root in _hierarchies():
        top = root / "griddle" / lab
        for directory, _, _ in os.walk(top, topdown=False):
            with contextlib.suppress(OSError):
                Path(directory).rmdir()
        with contextlib.suppress(OSError):  # other labs have theirs here
            top.parent.rmdir()
