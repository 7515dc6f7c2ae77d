"""etcd: three members with TLS, health-gated, restarted one at a time, with snapshots on a timer."""

from __future__ import annotations

from collections.abc import Generator

from pyinfra import host
from pyinfra.api import StringCommand, operation

from cluster import model
from cluster.pki import places
from deploys.etcd import config, membership
from deploys.etcd.membership import INPUTS
from deploys.framework import gates, preview
from deploys.framework.authority import authority
from deploys.framework.changes import Change
from deploys.framework.debian_packages import DEBIAN_PACKAGES
from deploys.framework.operations import installed_files, packages, running_unit
from deploys.framework.shell import exclusive

HEALTHY = "griddle-etcdctl --command-timeout 3s endpoint health --cluster"

# An alarm refuses every key that is put, with all members healthy (etcd 3.4: NOSPACE, CORRUPT).
NO_ALARM = 'out=$(griddle-etcdctl --command-timeout 3s alarm list); code=$?; echo "$out"; [ "$code$out" = 0 ]'
NO_ALARM_SECONDS = 10


def refuse_other_members() -> None:
    """Ends the run before it has changed anything where it would begin another cluster, or leave one behind."""
    membership.verdict()


@operation()
def begun(begins: bool) -> Generator[StringCommand]:
    """etcd's next start on this host begins the cluster of group etcd, where no host of it has data."""
    if not begins:
        host.noop("it is a member")
        return
    cluster = model.cluster()
    preview.note(Change("command", "begin", f"the etcd cluster of {cluster.name}"))
    yield StringCommand(exclusive(config.first_start(cluster.name, config.peers(cluster.group("etcd")), "new")))


def install() -> None:
    packages(name="etcd | packages", names=DEBIAN_PACKAGES["etcd"])


def configure() -> None:
    cluster, this = model.cluster(), model.this_host()
    installed_files(
        name="etcd | certificates, configuration, unit, snapshots",
        component="etcd",
        files=config.member_files(cluster, this, authority()),
        directories={places.ETCD: ("755", "root", "root")},
        validate="sh {root}/usr/local/sbin/griddle-etcd-validate {root}",
    )


def prepared() -> None:
    """All but its start: for a host that is to become a member, or to be given data."""
    install()
    configure()


def activate() -> None:
    begun(
        name="etcd | a cluster begins only where there is none",
        begins=model.this_host().name in membership.verdict().begins,
    )
    # Members form a majority only together, so those that do not run are started at once ...
    running_unit(
        name="etcd | members are started",
        unit=[config.UNIT, config.TIMER],
        inputs=INPUTS,
        start_only=True,
        block=False,
    )
    gates.wait_until(
        name="etcd | all members are healthy", command=HEALTHY, seconds=60, what="every member answers"
    )
    gates.wait_until(
        name="etcd | its members are the inventory's group",
        command=config.same_members(model.cluster()),
        seconds=10,
        what="the member list, here, is group etcd",
    )
    # ... and those that run with an older configuration are restarted one at a time: two of three are a majority.
    running_unit(
        name="etcd | members run the configuration",
        unit=config.UNIT,
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
