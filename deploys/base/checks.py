"""What hosts' common data must be."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from cluster.check import Checks
from cluster.data import HOST, Setting
from cluster.forms import FILE_NAME, JOURNAL_SIZE, PATH, PUBLIC_KEY, ListOf, MapOf, text
from cluster.model import Cluster
from tuning import profiles

SETTINGS = {
    "base_profile": Setting(FILE_NAME, HOST),
    "base_deploy_keys": Setting(ListOf(PUBLIC_KEY, "a list of public keys"), HOST),
    "base_journal_max": Setting(JOURNAL_SIZE, HOST),
    "base_data_disks": Setting(
        MapOf(PATH, text(r"/dev/[^\x00-\x20\x7f]+", "a device such as /dev/nvme1n1"), "{mount point: device}"),
        HOST,
    ),
}


def files(cluster: Cluster) -> Iterator[Callable[[], object]]:
    """The hosts' kernel profiles."""
    for name in sorted({host.data["base_profile"] for host in cluster.hosts.values()}):
        yield lambda name=name: profiles.load(name)


CHECKS = Checks(settings=SETTINGS, files=files)
