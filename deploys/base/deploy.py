"""Every host: packages, users, time, logs, and the kernel profile."""

from __future__ import annotations

from collections.abc import Generator

from pyinfra import host
from pyinfra.api import FactBase, StringCommand, operation

from cluster import model
from deploys.base import config
from deploys.framework import debian_packages, preview, summary
from deploys.framework.access import require_own_key
from deploys.framework.operations import installed_files, packages, running_unit, system_users
from deploys.framework.remote import run
from deploys.framework.shell import exclusive
from tuning import profiles
from tuning.profiles import Setting

APPLY = "/usr/local/sbin/griddle-kernel-profile"


class KernelProfile(FactBase[list[config.Reading]]):
    """The kernel profile's settings against the host; empty where the profile was never installed."""

    default = list

    def command(self) -> str:
        return f"[ ! -x {APPLY} ] || {APPLY} check"

    def process(self, output: list[str]) -> list[config.Reading]:
        return config.parse_report(output)


@operation()
def kernel_profile(profile: list[Setting]) -> Generator[StringCommand]:
    """The profile's values are in force, read back; what this host cannot set is reported by name.

    + profile: its settings, which are on the host by then
    """
    readings = host.get_fact(KernelProfile)
    another = not readings or preview.changes_path(config.PROFILE)
    if changes := config.set_by_another(readings, profile) if another else config.set_now(readings):
        preview.note(*changes)
        yield StringCommand("true")  # a dry run ends here; the act itself is below, because its output is read
        readings = config.parse_report(run(host, exclusive(f"{APPLY} apply"), "kernel profile", 600))
    else:
        host.noop("all values read back as wanted")
    for reading in readings:
        if reading.state == "refused":
            summary.not_settable(host.name, reading.name, reading.note)


def install() -> None:
    # All components' at once, where all are applied: five transactions of apt cost a host five times the start.
    groups = () if host.data.get("component") else model.this_host().groups
    names = debian_packages.of_groups(groups)
    packages(name="base | packages", names=names)
    system_users(name="base | service user", users={"griddle": "/var/lib/griddle"})


def configure() -> None:
    this = model.this_host()
    if keys := this.data["base_deploy_keys"]:
        require_own_key(keys)
    installed_files(
        name="base | kernel profile, limits, logs, deploy user",
        component="base",
        files=config.files(this, profiles.load(this.data["base_profile"])),
        directories=config.directories(this),
        validate="visudo -cqf {root}/etc/sudoers.d/" + this.data["ssh_user"],
    )


def activate() -> None:
    profile = profiles.load(model.this_host().data["base_profile"])
    kernel_profile(name="base | kernel profile is in force", profile=profile)
    running_unit(
        name="base | kernel profile at boot", unit="griddle-kernel-profile.service", inputs=[config.PROFILE]
    )
    running_unit(name="base | time sync", unit="chrony.service")
    running_unit(
        name="base | journal limits", unit="systemd-journald.service", inputs=["/etc/systemd/journald.conf.d"]
    )
