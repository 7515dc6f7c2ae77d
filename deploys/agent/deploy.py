"""The agent on proxies and app hosts: what etcd says, as a file. On proxies it brings its own release."""

from __future__ import annotations

from cluster import model
from cluster.settings import slots
from deploys.agent import config
from deploys.app import config as app_config
from deploys.app import deploy as app
from deploys.app.operations import nothing_else, slot_runs
from deploys.framework.operations import installed_files, running_unit
from services import control


def install() -> None:
    if "apps" not in model.this_host().groups:
        app.install()


def configure() -> None:
    installed_files(
        name="agent | unit and configuration",
        component="agent",
        files=config.files(model.cluster(), model.this_host()),
        directories=app_config.directories(),
    )


def activate() -> None:
    this = model.this_host()
    wanted = slots(this)
    brings_release = "apps" not in this.groups
    if brings_release:
        for slot, version in wanted.items():
            slot_runs(
                name=f"agent | slot {slot} is its release",
                slot=slot,
                version=version,
                units=[],
                inputs=[],
            )
    running_unit(
        name="agent | the agent runs",
        unit=config.UNIT,
        inputs=config.inputs(this),
        ready=f"test -s {control.FILE}",
    )
    if brings_release:
        nothing_else(
            name="agent | no other release is kept", units=[], slots=wanted, keep=this.data["app_keep_releases"]
        )
