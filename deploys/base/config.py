"""What base puts on every host: pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cluster.model import Host
from deploys.framework.changes import Change
from deploys.framework.tree import File
from tuning.profiles import Setting

FILES = Path(__file__).parent / "files"


def files(host: Host, profile: list[Setting]) -> dict[str, File]:
    """Every file of the component."""
    limits = [setting for setting in profile if setting.table == "limit"]
    wanted = {
        PROFILE: File("".join(f"{s.table}\t{s.key}\t{s.value}\n" for s in profile)),
        "/etc/griddle/data-disks": File(
            "".join(f"{device} {point}\n" for point, device in sorted(host.data["base_data_disks"].items()))
        ),
        "/usr/local/sbin/griddle-kernel-profile": File((FILES / "griddle-kernel-profile").read_text(), "755"),
        "/etc/systemd/system/griddle-kernel-profile.service": File(
            (FILES / "griddle-kernel-profile.service").read_text()
        ),
        "/etc/systemd/system.conf.d/griddle.conf": File(
            "[Manager]\n" + "".join(f"DefaultLimit{s.key.upper()}={s.value}\n" for s in limits)
        ),
        "/etc/security/limits.d/griddle.conf": File(
            "".join(f"{who} - {s.key} {s.value}\n" for s in limits for who in ("*", "root"))
        ),
        "/etc/systemd/journald.conf.d/griddle.conf": File(
            f"[Journal]\nSystemMaxUse={host.data['base_journal_max']}\nMaxRetentionSec=1month\n"
        ),
        "/etc/logrotate.d/griddle": File(
            "/var/log/griddle/*.log {\n  daily\n  rotate 14\n  maxsize 256M\n  compress\n  delaycompress\n"
            "  missingok\n  notifempty\n  copytruncate\n}\n"
        ),
        f"/etc/sudoers.d/{host.data['ssh_user']}": File(
            f"{host.data['ssh_user']} ALL=(ALL) NOPASSWD: ALL\n", "440"
        ),
    }
    if keys := host.data["base_deploy_keys"]:
        user = host.data["ssh_user"]
        wanted[f"{_home(user)}/.ssh/authorized_keys"] = File("".join(f"{k}\n" for k in keys), "600", user, user)
    return wanted


def _home(user: str) -> str:
    return "/root" if user == "root" else f"/home/{user}"


def directories(host: Host) -> dict[str, tuple[str, str, str]]:
    wanted = {
        "/etc/griddle": ("755", "root", "root"),
        "/var/lib/griddle": ("755", "root", "root"),
        "/var/log/griddle": ("750", "griddle", "adm"),
    }
    if host.data["base_deploy_keys"]:
        user = host.data["ssh_user"]
        wanted[f"{_home(user)}/.ssh"] = ("700", user, user)
    return wanted


PROFILE = "/etc/griddle/kernel-profile.tsv"


@dataclass(frozen=True)
class Reading:
    """One line of griddle-kernel-profile's report. ``state``: ok, set, refused or differs."""

    state: str
    name: str
    wanted: str
    seen: str
    note: str


def set_now(readings: Iterable[Reading]) -> list[Change]:
    """What applying the profile that the host has would set."""
    differing = {reading.name: reading for reading in readings if reading.state == "differs"}
    return [
        Change("setting", "set", name, (f"{reading.seen} → {reading.wanted}", *filter(None, [reading.note])))
        for name, reading in differing.items()
    ]


def set_by_another(readings: Iterable[Reading], profile: Iterable[Setting]) -> list[Change]:
    """What another profile would set.

    :param readings: of the one that the host has; none where it has none
    """
    seen: dict[str, list[Reading]] = {}
    for reading in readings:
        seen.setdefault(reading.name, []).append(reading)
    found, wanted = [], {f"{setting.table}.{setting.key}": setting.value for setting in profile}
    if not seen:
        return [Change("setting", "set", f"all {len(wanted)} values of the kernel profile")]
    for name, value in wanted.items():
        has = seen.get(name, [])
        if not has:
            found.append(Change("setting", "set", name, (f"to {value}",)))
        elif any(each.state == "differs" or not _says(value, each.wanted) for each in has):
            found.append(Change("setting", "set", name, (f"{has[0].seen} → {value}",)))
    leaving = [name for name in seen if name not in wanted]
    return [*found, *(Change("setting", "give back", name, ("it leaves the profile",)) for name in leaving)]


def _says(value: str, read_back: str) -> bool:
    """Whether a reading's wanted value is the profile's; of receive packet steering it is a mask of cores."""
    mask = re.fullmatch(r"[0-9a-f,]+", read_back) and value in ("all", "off")
    return (read_back.strip("0,") == "") == (value == "off") if mask else read_back == value


def parse_report(lines: Iterable[str]) -> list[Reading]:
    """Parse griddle-kernel-profile's output."""
    return [Reading(*line.split("\t", 4)) for line in lines if line.count("\t") == 4]
