"""Kernel profiles: TOML files whose every key carries its reason and source.

A profile has these tables; an entry is ``{value, reason, source}``:

``[sysctl."net.core.somaxconn"]``   a kernel parameter; the name must be in `SYSCTLS`
``[limit.nofile]``                  process limit of services and logins
``[transparent_hugepage.enabled]``  a file under /sys/kernel/mm/transparent_hugepage
``[cpu.governor]``                  cpufreq's governor, all cores
``[io.scheduler]``                  scheduler of data disks
``[io.mount_options]``              mount options of data disks
``[network.rps]``                   receive packet steering: "all" or "off"
``[network.irq]``                   interrupt placement: "irqbalance" or "leave"
"""

from __future__ import annotations

import difflib
import tomllib
from dataclasses import dataclass
from pathlib import Path

PROFILES = Path(__file__).parent / "profiles"


class ProfileError(ValueError):
    """A profile that is not there, or not well formed, in one line."""


# Every kernel parameter that a profile may name: a misspelt one would otherwise look like one that this
# kernel does not have.
SYSCTLS = frozenset(
    {
        "fs.aio-max-nr",
        "fs.file-max",
        "fs.nr_open",
        "kernel.numa_balancing",
        "kernel.pid_max",
        "kernel.sched_autogroup_enabled",
        "kernel.timer_migration",
        "net.core.busy_poll",
        "net.core.busy_read",
        "net.core.default_qdisc",
        "net.core.netdev_budget",
        "net.core.netdev_budget_usecs",
        "net.core.netdev_max_backlog",
        "net.core.optmem_max",
        "net.core.rmem_default",
        "net.core.rmem_max",
        "net.core.rps_sock_flow_entries",
        "net.core.somaxconn",
        "net.core.wmem_default",
        "net.core.wmem_max",
        "net.ipv4.ip_forward",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.ip_nonlocal_bind",
        "net.ipv4.tcp_abort_on_overflow",
        "net.ipv4.tcp_autocorking",
        "net.ipv4.tcp_congestion_control",
        "net.ipv4.tcp_fastopen",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_max_orphans",
        "net.ipv4.tcp_max_syn_backlog",
        "net.ipv4.tcp_max_tw_buckets",
        "net.ipv4.tcp_mem",
        "net.ipv4.tcp_mtu_probing",
        "net.ipv4.tcp_notsent_lowat",
        "net.ipv4.tcp_rmem",
        "net.ipv4.tcp_slow_start_after_idle",
        "net.ipv4.tcp_synack_retries",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.tcp_tw_reuse",
        "net.ipv4.tcp_wmem",
        "vm.dirty_background_ratio",
        "vm.dirty_ratio",
        "vm.max_map_count",
        "vm.min_free_kbytes",
        "vm.overcommit_memory",
        "vm.stat_interval",
        "vm.swappiness",
    }
)
TABLES = {
    "sysctl": SYSCTLS,
    "limit": frozenset({"nofile", "nproc", "memlock", "core"}),
    "transparent_hugepage": frozenset({"enabled", "defrag"}),
    "cpu": frozenset({"governor"}),
    "io": frozenset({"scheduler", "mount_options"}),
    "network": frozenset({"rps", "irq"}),
}
ENTRY = {"value", "reason", "source"}


@dataclass(frozen=True)
class Setting:
    """One setting: ``table.key`` is what it sets, ``value`` is written as text."""

    table: str
    key: str
    value: str
    reason: str
    source: str


def load(name: str) -> list[Setting]:
    """The settings of a profile, in the file's order.

    :raises ProfileError: no such profile, or it does not parse
    """
    path = PROFILES / f"{name}.toml"
    if not path.is_file():
        there = ", ".join(sorted(p.stem for p in PROFILES.glob("*.toml")))
        raise ProfileError(f"profile {name!r} is not in tuning/profiles; there are: {there}")
    return parse(path.read_text(), f"tuning/profiles/{path.name}")


def parse(text: str, where: str) -> list[Setting]:
    """Parse and check a profile.

    :raises ProfileError: a table, key or field that does not exist, or one that is missing
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ProfileError(f"{where}: {error}") from None
    settings = []
    for table, entries in document.items():
        if table not in TABLES:
            raise ProfileError(f"{where}: unknown table [{table}]{_near(table, TABLES)}")
        for key, entry in entries.items():
            if key not in TABLES[table]:
                raise ProfileError(f"{where}: unknown key {key!r} in [{table}]{_near(key, TABLES[table])}")
            if not isinstance(entry, dict) or set(entry) != ENTRY:
                raise ProfileError(f"{where}: {table}.{key} needs exactly value, reason and source")
            value = " ".join(str(entry["value"]).split())
            settings.append(Setting(table, key, value, entry["reason"], entry["source"]))
    return settings


def _near(word: str, known: frozenset[str] | dict) -> str:
    match = difflib.get_close_matches(word, sorted(known), 1)
    return f"; did you mean {match[0]!r}?" if match else ""
