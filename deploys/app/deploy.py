"""The services: releases side by side, slots, and the store and front workers."""

from __future__ import annotations

import json

from cluster import model, releases
from cluster.settings import slots
from deploys.app import config
from deploys.app.operations import nothing_else, releases_installed, slot_runs
from deploys.framework.debian_packages import DEBIAN_PACKAGES
from deploys.framework.operations import installed_files, packages, running_unit


def install() -> None:
    packages(name="app | packages", names=DEBIAN_PACKAGES["app"])
    installed_files(
        name="app | release installer",
        component="app-install",
        files=config.release_tool(),
        directories=config.directories(),
    )
    archives = {}
    for version in slots(model.this_host()).values():
        built = releases.resolve(version)
        manifest = json.loads((built / "manifest.json").read_text())
        archives[version] = (built / "release.tar", manifest["archive_sha256"])
    releases_installed(name="app | releases are installed", archives=archives)


def configure() -> None:
    installed_files(
        name="app | configuration and units",
        component="app",
        files=config.files(model.cluster(), model.this_host()),
    )


def activate() -> None:
    this = model.this_host()
    wanted = slots(this)
    # never restarted: that would take all workers with it
    running_unit(name="app | workers start at boot", unit="griddle.target", start_only=True)
    # A slot at a time and a host at a time: a release that does not start stops on the first worker.
    for slot, version in wanted.items():
        names = config.units(this, slot)
        slot_runs(
            name=f"app | slot {slot} runs its release",
            slot=slot,
            version=version,
            units=names,
            inputs=config.inputs(slot, this.data["store_engine"]),
            _serial=True,
        )
    nothing_else(
        name="app | nothing else runs or is kept",
        units=[unit for slot in wanted for unit in config.units(this, slot)],
        slots=wanted,
        keep=this.data["app_keep_releases"],
    )
