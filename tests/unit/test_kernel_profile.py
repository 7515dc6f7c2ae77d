"""The script that applies a kernel profile, on a made-up /proc and /sys."""

import resource
import subprocess
from pathlib import Path

import pytest

from deploys.base.config import FILES, parse_report, set_by_another, set_now
from tuning.profiles import Setting


class Machine:
    """A root directory: kernel parameters, cores, and two network interfaces as sysfs lays them out."""

    def __init__(self, root: Path, cores: str, queues: int = 2, shown: str = "00000000"):
        self.root = root
        self.file("sys/devices/system/cpu/online", cores)
        nic = root / "sys/devices/pci0000:00/0000:00:03.0/net/eth0"
        for name, at in (("eth0", nic), ("lo", root / "sys/devices/virtual/net/lo")):
            at.mkdir(parents=True)
            for queue in range(queues):
                self.file(f"{at.relative_to(root)}/queues/rx-{queue}/rps_cpus", shown)
            (root / "sys/class/net").mkdir(parents=True, exist_ok=True)
            (root / "sys/class/net" / name).symlink_to(at)
        (nic / "device").symlink_to("../../../0000:00:03.0")
        self.file("etc/griddle/data-disks", "")

    def file(self, path: str, content: str) -> Path:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(f"{content}\n" if content else "")
        return self.root / path

    def run(self, verb: str, *profile: str) -> dict[str, str]:
        """{setting: state} of the script's report; where it has many files, of all of them."""
        self.file("etc/griddle/kernel-profile.tsv", "\n".join(line.replace(" ", "\t", 2) for line in profile))
        done = subprocess.run(
            ["sh", str(FILES / "griddle-kernel-profile"), verb, str(self.root)], capture_output=True, text=True
        )
        assert (done.returncode, done.stderr) == (0, "")
        states: dict[str, set[str]] = {}
        for reading in parse_report(done.stdout.splitlines()):
            states.setdefault(reading.name.removeprefix(str(self.root)), set()).add(reading.state)
        return {name: " ".join(sorted(found)) for name, found in states.items()}

    def rps(self, nic: str = "eth0") -> list[str]:
        queues = sorted(self.root.glob(f"sys/class/net/{nic}/queues/rx-*/rps_cpus"))
        return [queue.read_text().strip() for queue in queues]


@pytest.mark.parametrize(
    ("cores", "mask"),
    [
        ("0", "1"),
        ("0-3", "f"),
        ("0-30", "7fffffff"),
        ("0-31", "ffffffff"),
        ("0-32", "1,ffffffff"),
        ("0-63", "ffffffff,ffffffff"),
        ("0-95", "ffffffff,ffffffff,ffffffff"),
        ("0-3,8,40-41", "300,0000010f"),
    ],
)
def test_receive_work_goes_to_every_core(tmp_path, cores, mask):
    machine = Machine(tmp_path, cores)
    assert machine.run("check", "network rps all") == {"network.rps": "differs"}
    assert machine.run("apply", "network rps all") == {"network.rps": "set"}
    assert machine.rps() == [mask, mask]
    assert machine.rps("lo") == ["00000000"] * 2, "not a NIC"
    assert machine.run("check", "network rps all") == {"network.rps": "ok"}


@pytest.mark.parametrize(
    ("cores", "wanted", "shown"),
    [("0-39", "all", "000000ff,ffffffff"), ("0-39", "off", "00000000,00000000"), ("0-3", "all", "0000000f")],
)
def test_a_mask_is_known_again_as_the_kernel_shows_it(tmp_path, cores, wanted, shown):
    assert Machine(tmp_path, cores, shown=shown).run("check", f"network rps {wanted}") == {"network.rps": "ok"}


def test_what_a_host_does_not_have_is_said(tmp_path):
    machine = Machine(tmp_path, "0-3", queues=0)
    assert machine.run("apply", "network rps all", "sysctl net.core.none 1") == {
        "network.rps": "refused",
        "sysctl.net.core.none": "refused",
    }


def test_parameters_are_set_read_back_and_given_back(tmp_path):
    machine = Machine(tmp_path, "0-3")
    somaxconn = machine.file("proc/sys/net/core/somaxconn", "128")
    machine.file("proc/sys/net/ipv4/ip_local_port_range", "32768\t60999")
    huge = machine.file("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never")
    profile = [
        "sysctl net.core.somaxconn 4096",
        "sysctl net.ipv4.ip_local_port_range 32768 60999",
        "transparent_hugepage enabled madvise",
    ]
    fine = {"sysctl.net.ipv4.ip_local_port_range": "ok", "transparent_hugepage.enabled": "ok"}
    assert machine.run("apply", *profile) == fine | {"sysctl.net.core.somaxconn": "set"}
    assert (somaxconn.read_text(), huge.read_text()) == ("4096\n", "always [madvise] never\n")
    somaxconn.write_text("0\n")  # somebody's sysctl -w
    assert machine.run("check", *profile)["sysctl.net.core.somaxconn"] == "differs"
    assert machine.run("apply", *profile)["sysctl.net.core.somaxconn"] == "set"

    assert machine.run("apply", *profile[1:]) == fine | {"/proc/sys/net/core/somaxconn": "set"}
    assert somaxconn.read_text() == "128\n"
    assert machine.run("check", *profile[1:]) == fine


def test_a_check_costs_no_more_than_its_settings(tmp_path):
    """Every apply makes one on every host: time grows with the profile, not with its square (a minute, then)."""
    machine = Machine(tmp_path, "0-3")
    profile = [f"sysctl net.core.key{number} 1" for number in range(25)]
    for line in profile:
        machine.file("proc/sys/" + line.split()[1].replace(".", "/"), "0")
    machine.run("apply", *profile)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert set(machine.run("check", *profile).values()) == {"ok"}
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 2


def test_a_host_whose_interfaces_have_no_device_has_no_receive_work(tmp_path):
    machine = Machine(tmp_path, "0-3")
    (machine.root / "sys/class/net/eth0/device").unlink()
    assert machine.run("check", "network rps all") == {"network.rps": "refused"}


def test_a_parameter_that_is_empty_is_not_zero(tmp_path):
    machine = Machine(tmp_path, "0-3")
    machine.file("proc/sys/net/core/busy_read", "")
    assert machine.run("check", "sysctl net.core.busy_read 0") == {"sysctl.net.core.busy_read": "differs"}


def test_what_a_profile_would_set_is_said_before_it_is_there():
    """By what `check` says of the profile that the host has."""
    readings = parse_report(
        [
            "ok\tsysctl.a\t1\t1\t", "ok\tsysctl.b\t1\t1\t", "differs\tsysctl.c\t1\t0\t", "ok\tsysctl.gone\t1\t1\t",
            "ok\tnetwork.rps\tff\tff\t", "refused\tsysctl.never\t7\t1\tread only",
        ]
    )  # fmt: skip
    profile = [
        *(Setting("sysctl", key, value, "", "") for key, value in zip("abc", "121", strict=True)),
        Setting("sysctl", "new", "5", "", ""),
        Setting("network", "rps", "all", "", ""),
        Setting("sysctl", "never", "7", "", ""),
    ]
    assert [*map(str, set_now(readings))] == ["set sysctl.c: 0 → 1"]
    assert [*map(str, set_by_another(readings, profile))] == [
        "set sysctl.b: 1 → 2", "set sysctl.c: 0 → 1", "set sysctl.new: to 5",
        "give back sysctl.gone: it leaves the profile",
    ]  # fmt: skip
    off = [Setting("network", "rps", "off", "", "")]
    assert [*map(str, set_by_another(readings[4:5], off))] == ["set network.rps: ff → off"]
    assert [*map(str, set_by_another([], profile))] == ["set all 6 values of the kernel profile"]
