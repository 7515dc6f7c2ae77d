"""Files, units and gates of the app hosts and the proxies: what is rendered from data."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from cluster import model
from cluster import settings as deployed
from deploys.app import config as app
from deploys.app.facts import parse
from deploys.proxy import config as proxy
from deploys.proxy.facts import parse_interface
from tests.unit.clusters import cluster as make_cluster

RELEASE = "r-0123456789ab"


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> model.Cluster:
    """The usual cluster with two workers of each kind, its slot a on RELEASE."""
    monkeypatch.setattr(deployed.releases, "version_of", lambda _: RELEASE)
    return make_cluster(store_workers=2, front_workers=2, proxy_virtual_ip="192.0.2.10")


def test_a_slots_units_are_rolled_stores_first(cluster: model.Cluster) -> None:
    assert app.units(cluster.hosts["app1"], "b") == [
        "griddle-store@b-0.service",
        "griddle-store@b-1.service",
        "griddle-front@b-0.service",
        "griddle-front@b-1.service",
        "griddle-feed@b.service",
    ]


def test_a_worker_is_restarted_for_its_configuration_its_unit_and_its_release() -> None:
    assert "/etc/griddle/griddle.toml" in app.inputs("a", "fdb")
    assert "/etc/griddle/slots/a/VERSION" in app.inputs("a", "fdb")
    assert "/etc/systemd/system/griddle-store@.service" in app.inputs("a", "fdb")
    assert "/etc/griddle/pki" in app.inputs("a", "etcd")


def test_a_front_is_ready_when_it_answers_from_the_store_as_the_wanted_release(cluster: model.Cluster) -> None:
    command = app.ready(cluster.hosts["app1"], "griddle-front@b-1.service", RELEASE)
    assert "http://127.0.0.1:8101/readyz" in command
    assert f'grep -qx "X-Release: {RELEASE}"' in command
    assert app.ready(cluster.hosts["app1"], "griddle-store@a-0.service", RELEASE) == (
        "systemctl is-active griddle-store@a-0.service"
    )
    assert app.ready(cluster.hosts["app1"], "griddle-feed@a.service", RELEASE) == (
        "systemctl is-active griddle-feed@a.service"
    )


@pytest.mark.parametrize(
    ("answer", "ready"),
    [
        (f"HTTP/1.1 200 OK\\r\\nX-Release: {RELEASE}\\r\\n\\r\\n", True),
        ("HTTP/1.1 200 OK\\r\\nX-Release: r-older\\r\\n\\r\\n", False),
        (f"HTTP/1.1 503 Service Unavailable\\r\\nX-Release: {RELEASE}\\r\\n\\r\\n", False),
        ("", False),
    ],
)
def test_the_ready_command_judges_a_fronts_answer(
    cluster: model.Cluster, tmp_path: Path, answer: str, ready: bool
) -> None:
    curl = tmp_path / "curl"
    curl.write_text(f"#!/bin/sh\nprintf '{answer}'\n")
    curl.chmod(0o755)
    command = app.ready(cluster.hosts["app1"], "griddle-front@a-0.service", RELEASE)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    assert (subprocess.run(["sh", "-c", command], env=environment, capture_output=True).returncode == 0) == ready


def test_releases_in_use_are_kept_however_old() -> None:
    assert app.superfluous(["r-5", "r-4", "r-3", "r-2", "r-1"], 3, {"r-1"}) == ["r-2"]
    assert app.superfluous(["r-1"], 3, set()) == []


def test_what_an_app_host_has_is_read_from_lines() -> None:
    seen = parse(
        [
            "release r-2",
            "release r-1",
            "slot a /opt/griddle/releases/r-2",
            "worker griddle-store@a-0.service",
            "worker griddle-store@a-0.service",
        ]
    )
    assert seen.releases == ["r-2", "r-1"]
    assert seen.slots == {"a": "r-2"}
    assert seen.workers == ["griddle-store@a-0.service"]


def test_units_are_sandboxed_and_not_root(cluster: model.Cluster) -> None:
    files = app.files(cluster, cluster.hosts["app1"])
    for kind in ("store", "front", "feed"):
        unit = files[app.UNIT_FILES[kind]].data.decode()
        for line in (
            "User=griddle",
            "NoNewPrivileges=yes",
            "ProtectSystem=strict",
            "CapabilityBoundingSet=",
            "Type=notify",
            "SystemCallFilter=@system-service",
            "Restart=always",
            f"ExecStart=/usr/local/lib/griddle/worker {kind} %i",
        ):
            assert line in unit.splitlines()


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["store", "a-0"], "-m services.store --slot a --worker 0"),
        (["front", "b-11"], "-m services.run_front --slot b --worker 11"),
        (["feed", "b"], "-m services.feed --slot b"),
    ],
)
def test_a_worker_becomes_what_its_unit_names(tmp_path: Path, arguments: list[str], command: str) -> None:
    python = tmp_path / "releases/r-1/venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\necho "$0 $*"\n')
    python.chmod(0o755)
    for slot in "ab":
        (tmp_path / slot).symlink_to(tmp_path / "releases/r-1")
    script = (app.HERE / "files" / "worker").read_text().replace("/etc/griddle/slots", str(tmp_path))
    done = subprocess.run(["sh", "-c", script, "worker", *arguments], capture_output=True, text=True)
    assert done.stdout == f"{python} {command}\n", done.stderr


@pytest.mark.parametrize("script", ["worker", "install-release"])
def test_scripts_are_posix_shell(script: str) -> None:
    path = app.HERE / "files" / script
    assert subprocess.run(["dash", "-n", str(path)], capture_output=True).returncode == 0


def test_an_archive_with_another_checksum_is_refused(tmp_path: Path) -> None:
    archive = tmp_path / "release.tar"
    archive.write_bytes(b"something else")
    done = subprocess.run(
        ["sh", str(app.HERE / "files/install-release"), str(archive), "0" * 64, RELEASE],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "is not what was built" in done.stderr


def test_nginx_has_room_for_every_worker_of_every_slot_in_use(cluster: model.Cluster) -> None:
    values = proxy.nginx_values(cluster, cluster.hosts["proxy1"])
    assert (values.fronts, values.stores) == (3 * 2, 3 * 2)
    assert values.default_release == RELEASE


def test_the_proxies_share_one_address_and_prefer_the_first(cluster: model.Cluster) -> None:
    texts = {}
    for host in cluster.group("proxies"):
        (file,) = proxy.keepalived_files(cluster, host, "host0").values()
        texts[host.name] = file.data.decode()
    one, two = texts["proxy1"], texts["proxy2"]
    assert "priority 200" in one and "priority 190" in two
    assert "advert_int 0.20\n" in one and "advert_int 0.20\n" in two
    router = f"virtual_router_id {proxy.router_id(cluster.data['proxy_virtual_ip'])}"
    assert router in one and router in two
    assert cluster.hosts["proxy2"].address in one.partition("unicast_peer")[2]
    assert cluster.hosts["proxy1"].address not in one.partition("unicast_peer")[2]


@pytest.mark.parametrize(("address", "expected"), [("10.1.2.10", 10), ("10.1.2.255", 255), ("10.1.2.0", 255)])
def test_a_router_id_is_1_to_255(address: str, expected: int) -> None:
    assert proxy.router_id(address) == expected


def test_the_interface_is_the_one_with_the_hosts_address() -> None:
    line = "2: host0    inet 10.1.2.11/24 brd 10.1.2.255 scope global host0\\       valid_lft forever"
    assert parse_interface([line]) == "host0"
    assert parse_interface([]) == ""


def test_every_path_that_nginx_reads_is_staged(cluster: model.Cluster) -> None:
    files = proxy.nginx_files(cluster, cluster.hosts["proxy1"])
    assert {"/etc/nginx/nginx.conf", "/etc/nginx/check.conf", "/etc/griddle/griddle.json"} <= set(files)
    assert {"/etc/nginx/lua/start.lua", "/etc/nginx/lua/sp.lua", "/etc/nginx/lua/profile.lua"} <= set(files)
