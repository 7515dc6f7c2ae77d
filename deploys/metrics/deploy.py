"""Metrics: a StatsD daemon on every host, and one store that they all report to."""

from __future__ import annotations

from cluster.model import cluster, this_host
from cluster.pki import places
from deploys.foundationdb import deploy as foundationdb
from deploys.foundationdb.operations import seeded
from deploys.framework.debian_packages import DEBIAN_PACKAGES
from deploys.framework.gates import wait_until
from deploys.framework.operations import installed_files, packages, running_unit
from deploys.metrics import config, page

ARRIVAL_SECONDS = 60


def install() -> None:
    wanted = DEBIAN_PACKAGES["metrics"]
    if _is_store():
        wanted = wanted + DEBIAN_PACKAGES["metrics-store"] + DEBIAN_PACKAGES["metrics-board"]
    packages(name="metrics | packages", names=wanted)


def configure() -> None:
    this = this_host()
    files = config.daemon_files(cluster(), this)
    directories, database = {}, None
    validate = f"collectd -t -C {{root}}{config.DAEMON_CONF}"
    if _is_store():
        files |= config.store_files(cluster(), this)
        files |= config.exporter_files(cluster(), database := _database())
        directories = {config.EXPORTER_DIRECTORY: ("755", "griddle", "griddle")}
    installed_files(
        name="metrics | configuration",
        component="metrics",
        files=files,
        directories=directories,
        validate=validate,
    )
    if database:
        seeded(
            name="metrics | the exporter's own cluster file",
            path=config.EXPORTER_CLUSTER_FILE,
            seed=config.EXPORTER_SEED,
            key=database.seed.key,
            owner="griddle",
        )
    if _is_store():
        installed_files(
            name="metrics | board: the page, and nginx in front of the store",
            component="metrics-board",
            files=page.files(cluster()),
            directories=page.DIRECTORIES,
            validate=page.VALID,
        )


def activate() -> None:
    this = this_host()
    if _is_store():
        running_unit(
            name="metrics | the store runs its configuration",
            unit=config.STORE,
            inputs=[
                config.STORE_ARGUMENTS,
                config.STORE_RELABELLING,
                config.STORE_SCRAPING,
                config.STORE_DROP_IN,
                f"{places.SERVICES}/ca.crt",  # read when it starts
            ],
            ready=f"curl -fsS -m 2 -o /dev/null http://127.0.0.1:{this.data['metrics_http_port']}/health",
        )
        running_unit(
            name="metrics | nginx serves the board",
            unit=page.SERVICE,
            inputs=[page.NGINX_CONF, page.DROP_IN],
            ready=f"curl -fsS -m 2 -o /dev/null http://127.0.0.1:{this.data['metrics_board_port']}/",
        )
    running_unit(
        name="metrics | the StatsD daemon runs its configuration",
        unit=config.DAEMON,
        inputs=[config.DAEMON_CONF, config.DAEMON_DROP_IN],
    )
    running_unit(
        name="metrics | what collectd cannot see is sent to it",
        unit=config.HOST_METRICS,
        inputs=[config.HOST_METRICS_PROGRAM, config.HOST_METRICS_UNIT],
    )
    if _is_store():
        running_unit(
            name="metrics | the exporter runs its configuration",
            unit=config.EXPORTER,
            inputs=[config.EXPORTER_CODE, config.EXPORTER_CONF, config.EXPORTER_UNIT],
        )
        wait_until(
            name="metrics | gate: every host's StatsD counters arrive",
            command=config.arriving_command(config.reporting(cluster()), this.data["metrics_http_port"]),
            seconds=ARRIVAL_SECONDS,
            what="every host's StatsD counters arrive in the store",
        )


def _database() -> config.Database | None:
    if cluster().store_engine != "fdb":
        return None
    return config.Database(foundationdb.seed_file(), foundationdb.limits(cluster()))


def _is_store() -> bool:
    return "metrics" in this_host().groups
