"""griddle.toml: everything that is wrong is refused by one line that names the key."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import tomli_w

from services import config

GOOD = {
    "cluster": {"name": "lab"},
    "host": {"name": "app1", "address": "10.0.0.21"},
    "store": {
        "engine": "etcd", "workers": 2, "port": 7000, "ipc": "/run/griddle/store-{slot}-{worker}.ipc",
        "max_batch": 256, "deadline_ms": 250, "value_limit_bytes": 65536,
    },
    "etcd": {"endpoints": ["https://10.0.0.21:2379"], "ca": "ca.crt", "cert": "c.crt", "key": "c.key"},
    "front": {"workers": 2, "port": 8000, "backlog": 1024},
    "proxy": {
        "lane": "direct", "lane_override": True, "deadline_ms": 250,
        "upstreams": [
            {
                "host": "app1", "address": "10.0.0.21", "slot": "a", "release": "r-1",
                "store_ports": [7000, 7001], "front_ports": [8000, 8001],
            }
        ],
    },
    "statsd": {"host": "127.0.0.1", "port": 8125},
}  # fmt: skip


def changed(path: str, value: object) -> dict:
    """GOOD with one value set; None removes it."""
    data = copy.deepcopy(GOOD)
    *tables, key = path.split(".")
    place = data
    for table in tables:
        place = place[int(table)] if table.isdigit() else place.setdefault(table, {})
    if value is None:
        del place[key]
    else:
        place[key] = value
    return data


def test_a_whole_configuration() -> None:
    parsed = config.parse(GOOD)
    assert parsed.store.engine == "etcd"
    assert parsed.proxy.upstreams[0].store_ports == [7000, 7001]
    assert parsed.fdb is None
    assert config.slot_port(parsed.store.port, "b", 1) == 7101


@pytest.mark.parametrize(
    ("path", "value", "line"),
    [
        ("store.enigne", "fdb", "store.enigne is not a known key"),
        ("sotre", {}, "sotre is not a known key"),
        ("store.port", None, "store.port is missing"),
        ("host", None, "host is missing"),
        ("store.port", "7000", "store.port is '7000', and must be of type int"),
        ("store.pin", 1, "store.pin is 1, and must be of type bool"),
        ("store.workers", True, "store.workers is True, and must be of type int"),
        ("store.workers", 0, "store.workers is 0, and must be 1 to 100"),
        ("store.port", 70000, "store.port is 70000, and must be 1 to 65535"),
        ("store.engine", "redis", "store.engine is 'redis', and must be one of fdb, etcd, memory"),
        ("store.engine", "fdb", "[fdb] is missing, and store.engine = 'fdb' needs it"),
        ("store.value_limit_bytes", 100_000, "store.value_limit_bytes is 100000, and must be 1 to 90000"),
        ("store.ipc", "/run/one.ipc", "store.ipc must contain {slot} and {worker}"),
        ("feed.nudge", "ipc:///run/feed.ipc", "feed.nudge must contain {slot}"),
        ("feed.poll_ms", 0, "feed.poll_ms is 0, and must be 10 to 60000"),
        ("etcd.endpoints", [], "etcd.endpoints is empty"),
        ("etcd.endpoints", [1], "etcd.endpoints[0] is 1, and must be of type str"),
        ("etcd", [], "etcd must be a table"),
        ("proxy.lane", "fast", "proxy.lane is 'fast', and must be one of direct, wsgi"),
        ("proxy.upstreams.0.slot", "c", "proxy.upstreams[0].slot is 'c', and must be one of a, b"),
        ("proxy.upstreams.0.store_ports", 7000, "proxy.upstreams[0].store_ports must be a list"),
    ],
)
def test_what_is_wrong_is_named(path: str, value: object, line: str) -> None:
    with pytest.raises(config.ConfigError) as refused:
        config.parse(changed(path, value))
    assert str(refused.value).startswith(line)
    assert "\n" not in str(refused.value)


def test_a_file_is_named_with_what_is_wrong_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "griddle.toml"
    with pytest.raises(config.ConfigError, match=r"griddle.toml: cannot be read: No such file"):
        config.load(path)
    path.write_text("[store")
    with pytest.raises(config.ConfigError, match=r"griddle.toml: is not TOML"):
        config.load(path)
    path.write_text(tomli_w.dumps(changed("store.port", None)))
    monkeypatch.setenv("GRIDDLE_CONFIG", str(path))
    with pytest.raises(config.ConfigError, match=r"griddle.toml: store.port is missing"):
        config.load()


def test_a_file_can_be_checked_from_the_shell(tmp_path: Path) -> None:
    path = tmp_path / "griddle.toml"
    for data, code in ((GOOD, 0), (changed("host", None), 2)):
        path.write_text(tomli_w.dumps(data))
        done = subprocess.run([sys.executable, "-m", "services.config", str(path)], capture_output=True, text=True)
        assert (done.returncode, done.stderr.count("\n")) == (code, int(code == 2))
