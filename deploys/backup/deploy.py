"""A continuous backup of FoundationDB: agents on the metrics host, and the backup itself, begun once."""

from __future__ import annotations

from cluster.model import this_host
from deploys.backup import config, operations
from deploys.foundationdb import config as foundationdb
from deploys.foundationdb.deploy import packages_for, refuse_to_break, seed_file
from deploys.foundationdb.operations import seeded, unpacked
from deploys.framework.authority import authority
from deploys.framework.operations import installed_files, running_unit


def install() -> None:
    version = this_host().data["fdb_version"]
    refuse_to_break(version)
    unpacked(
        # The server, too: a backup is proved by restoring it into a database of its own.
        name=f"backup | version {version} is unpacked in /opt/foundationdb",
        version=version,
        packages=packages_for(version, server=True),
    )


def configure() -> None:
    this, seed = this_host(), seed_file()
    installed_files(
        name="backup | agents, upkeep, seed cluster file",
        component="backup",
        files=config.files(this, seed, authority()),
        directories=config.directories(this.data),
    )
    seeded(
        name="backup | the agents' own cluster file",
        path=foundationdb.CLUSTER_FILE,
        seed=foundationdb.SEED,
        key=seed.key,
        owner="foundationdb",
    )


def activate() -> None:
    data = this_host().data
    running_unit(name="backup | agents run", unit=config.agents(data), inputs=config.INPUTS)
    running_unit(name="backup | upkeep runs", unit=list(config.TIMERS))
    operations.backed_up(name="backup | a continuous backup runs", data=data)
