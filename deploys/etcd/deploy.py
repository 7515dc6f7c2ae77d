"""etcd: three members with TLS, health-gated, restarted one at a time, with snapshots on a timer."""

from __future__ import annotations

from deploys import gates, model
from deploys.authority import authority
from deploys.debian_packages import DEBIAN_PACKAGES
from deploys.etcd import config
from deploys.operations import installed_files, packages, running_unit

INPUTS = ["/etc/etcd", "/etc/systemd/system/etcd.service"]
HEALTHY = "griddle-etcdctl --command-timeout 3s endpoint health --cluster"

# An alarm refuses every key that is put, with all members healthy (etcd 3.4: NOSPACE, CORRUPT).
NO_ALARM = 'out=$(griddle-etcdctl --command-timeout 3s alarm list); code=$?; echo "$out"; [ "$code$out" = 0 ]'
NO_ALARM_SECONDS = 10


def install() -> None:
    packages(name="etcd | packages", names=DEBIAN_PACKAGES["etcd"])


def configure() -> None:
    cluster, this = model.cluster(), model.this_host()
    installed_files(
        name="etcd | certificates, configuration, unit, snapshots",
        component="etcd",
        files=config.member_files(cluster, this, authority()),
        directories={config.ETCD_PKI: ("755", "root", "root")},
        validate="sh {root}/usr/local/sbin/griddle-etcd-validate {root}",
    )


def activate() -> None:
    # Members form a majority only together, so those that do not run are started at once ...
    running_unit(
        name="etcd | members are started",
        unit=["etcd.service", "griddle-etcd-snapshot.timer"],
        inputs=INPUTS,
        start_only=True,
        block=False,
    )
    gates.wait_until(
        name="etcd | all members are healthy", command=HEALTHY, seconds=60, what="every member answers"
    )
    # ... and those that run with an older configuration are restarted one at a time: two of three are a majority.
    running_unit(
        name="etcd | members run the configuration",
        unit="etcd.service",
        inputs=INPUTS,
        ready=HEALTHY,
        ready_seconds=60,
        _serial=True,
    )
    # Last, for a larger quota takes a restart before there is room.
    no_alarm(name="etcd | no alarm is raised")


def no_alarm(name: str) -> None:
    """The gate that etcd takes writes."""
    gates.wait_until(
        name=name,
        command=NO_ALARM,
        seconds=NO_ALARM_SECONDS,
        what="etcd has no alarm (NOSPACE: raise etcd_quota_bytes and apply, or ./griddle etcd compact and"
        " defragment; then ./griddle etcd disarm)",
    )


def client() -> None:
    """What every host that talks to etcd needs."""
    this = model.this_host()
    installed_files(
        name="etcd | client certificate",
        component="etcd-client",
        files=config.client_files(this, authority()),
        directories={"/etc/griddle/pki": ("755", "root", "root")},
    )
