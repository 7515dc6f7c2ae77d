"""Hosts, coordinators, certificates and the backup of the running FoundationDB, with the services writing through
the virtual address. Whatever was acknowledged stays, through all of it.
"""

import contextlib
import hashlib
import json
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from cluster.pki.authority import Authority
from deploys.foundationdb import config
from deploys.foundationdb.status import is_available, processes
from tests.lab.conftest import HANGS_SECONDS, LabUnderTest, report
from tests.lab.test_foundationdb import APPLY, SERVERS, await_health, fdbcli, status

BEARABLE_SECONDS = 8


@pytest.fixture(scope="module", autouse=True)
def cluster(lab: LabUnderTest) -> None:
    if lab.status()["store"] != "fdb":
        pytest.skip("FoundationDB's packages cannot be had here, so the lab has no FoundationDB hosts")
    lab.griddle("up")


class Writers:
    """Posts messages without pause; those that were acknowledged are in `sent`, by owner."""

    def __init__(self, lab: LabUnderTest, count: int = 2) -> None:
        self._base = f"http://{lab.plan.virtual_ip}/v1/profiles"
        self._open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open
        self._stop = threading.Event()
        self.sent: dict[str, list[str]] = {f"owner{time.time_ns()}{n}": [] for n in range(count)}
        self.refused = 0
        self._threads = [threading.Thread(target=self._write, args=(owner,)) for owner in self.sent]

    def __enter__(self) -> "Writers":
        for owner in self.sent:
            self._send("PUT", owner, {"name": "x"})
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _send(self, method: str, path: str, body: dict[str, str] | None = None, **headers: str) -> Any:
        data = json.dumps(body).encode() if body else None
        headers["Content-Type"] = "application/json"
        request = urllib.request.Request(f"{self._base}/{path}", data, headers, method=method)
        with self._open(request, timeout=10) as answer:
            return answer.read()

    def _write(self, owner: str) -> None:
        number = 0
        while not self._stop.is_set():
            text = f"m{number}"
            try:
                self._send("POST", f"{owner}/messages", {"from": "w", "text": text}, **{"Idempotency-Key": text})
                self.sent[owner].append(text)
                number += 1
            except OSError:  # the same again, until it is acknowledged
                self.refused += 1
            time.sleep(0.02)

    def _page(self, path: str) -> dict[str, Any]:
        """Asked for again while the store is away for a moment."""
        end = time.monotonic() + HANGS_SECONDS
        while True:
            try:
                return json.loads(self._send("GET", path))
            except OSError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.5)

    def feed(self, owner: str) -> list[str]:
        texts, query = [], "?limit=100"
        while True:
            page = self._page(f"{owner}/feed{query}")
            texts += [item["text"] for item in page["items"]]
            if page["next"] is None:
                return texts[::-1]
            query = f"?limit=100&before={page['next']}"

    def assert_all_there(self) -> None:
        for owner, sent in self.sent.items():
            end = time.monotonic() + HANGS_SECONDS
            while len(self.feed(owner)) < len(sent) and time.monotonic() < end:
                time.sleep(0.5)
            assert sent and self.feed(owner)[: len(sent)] == sent, f"{len(sent)} acknowledged"


def coordinators(lab: LabUnderTest) -> set[str]:
    """Names of the hosts whose processes are coordinators."""
    found = status(lab)["client"]["coordinators"]["coordinators"]
    by_address = {host.address: host.name for host in lab.plan.hosts}
    assert all(each["reachable"] for each in found)
    return {by_address[each["address"].partition(":")[0]] for each in found}


def test_a_renewed_certificate_is_served_without_a_restart(lab: LabUnderTest) -> None:
    address = lab.plan.host("fdb2").address
    mine = f"-cert {config.TLS['CERTIFICATE']} -key {config.TLS['KEY']}"
    ask = f"sudo openssl s_client -connect {address}:4500 {mine}"
    serial = f"{ask} </dev/null 2>/dev/null | openssl x509 -noout -serial; pgrep -x fdbserver"
    before = lab.ssh("fdb2", serial).stdout.split()
    tool = f"{config.CURRENT}/bin/fdbcli -C {config.CLUSTER_FILE}"
    plain = f"timeout 10 {tool} --timeout 5 --no-status --exec 'get x'"
    assert lab.ssh("fdb2", plain, check=False).returncode != 0
    Authority("lab", lab.checkout / ".griddle" / "clusters").renew("fdb2", address)
    lab.pyinfra(*APPLY, "component=foundationdb")
    after = lab.ssh("fdb2", serial).stdout.split()
    assert before[0] != after[0] and before[1:] == after[1:] != []


def test_a_host_is_replaced_under_load_by_an_operator_who_is_killed_on_the_way(lab: LabUnderTest) -> None:
    replace = ("fdb", "replace", "fdb5", "fdb6")
    refused = lab.griddle(*replace, check=False)
    assert refused.returncode == 2 and "no host fdb6" in refused.stderr
    lab.griddle("lab", "move", "fdb6", "fdb")
    refused = lab.griddle(*replace, "--dry", check=False)
    assert refused.returncode == 2 and "move it from group fdb to group spare" in refused.stderr
    lab.griddle("lab", "move", "fdb5", "spare")
    with Writers(lab) as writers:
        killed = subprocess.Popen(
            lab.griddle_command(*replace),
            cwd=lab.checkout,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for line in killed.stderr:
            if "coordinators are" in line:
                killed.kill()
                break
        killed.wait()
        lab.griddle(*replace)
    writers.assert_all_there()
    assert coordinators(lab) == {"fdb1", "fdb2", "fdb3", "fdb4", "fdb6"}
    zones = {each["locality"]["zoneid"] for each in status(lab)["cluster"]["processes"].values()}
    assert zones == {"fdb1", "fdb2", "fdb3", "fdb4", "fdb6"}
    assert lab.ssh("fdb5", f"systemctl is-active {config.UNIT}", check=False).stdout.strip() == "inactive"
    assert report(lab)["outcome"] == "done"
    assert lab.changes("firewall,foundationdb,backup") == {}


def test_a_lost_host_and_its_coordinator_are_replaced_and_it_takes_no_part_when_it_comes_back(
    lab: LabUnderTest,
) -> None:
    lab.griddle("lab", "stop", "fdb6")
    lab.griddle("lab", "move", "fdb6", "spare")
    lab.griddle("lab", "move", "fdb5", "fdb")
    end = time.monotonic() + HANGS_SECONDS
    while not is_available(seen := status(lab)) or len(processes(seen)) > 4:
        assert time.monotonic() < end
        time.sleep(1)
    with Writers(lab) as writers:
        lab.griddle("fdb", "replace", "fdb6", "fdb5")
    writers.assert_all_there()
    assert coordinators(lab) == set(SERVERS)
    lab.griddle("lab", "start", "fdb6")
    lab.griddle("fdb", "remove", "fdb6")
    assert lab.ssh("fdb6", f"systemctl is-active {config.UNIT}", check=False).stdout.strip() == "inactive"
    assert "no servers or localities excluded" in fdbcli(lab, "exclude")
    await_health(lab)


def digest(lab: LabUnderTest) -> tuple[int, str]:
    """How many keys are in the database, and the checksum of them with their values."""
    rows = [line for line in fdbcli(lab, 'getrange "" \\xff 999999999').splitlines() if line.startswith("`")]
    return len(rows), hashlib.sha256("\n".join(rows).encode()).hexdigest()


def settled(lab: LabUnderTest) -> tuple[int, str]:
    """The digest once feeds have taken, and trimmed, what was written."""
    last, end = None, time.monotonic() + HANGS_SECONDS
    while (seen := digest(lab)) != last:
        assert time.monotonic() < end
        last = seen
        time.sleep(3)
    return seen


def ready(lab: LabUnderTest) -> int:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        return opener.open(f"http://{lab.plan.virtual_ip}/readyz", timeout=30).status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:  # no answer in time
        return 0


@contextlib.contextmanager
def watched(lab: LabUnderTest) -> Iterator[set[int]]:
    """What /readyz answers meanwhile."""
    seen: set[int] = set()
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.2):
            seen.add(ready(lab))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()


def test_the_whole_database_is_destroyed_and_restored_byte_for_byte(lab: LabUnderTest) -> None:
    with Writers(lab) as writers:
        time.sleep(5)
    writers.assert_all_there()
    assert lab.griddle_killed_at("restore it into another database", "fdb", "backup", "verify")
    lab.griddle("fdb", "backup", "verify")  # what the killed one has left at work is ended
    before = settled(lab)
    lab.griddle("fdb", "backup", "now")
    version = str(report(lab)["steps"][-1]["restorable_version"])
    workers = lab.ssh("app1", "pgrep -f 'services[.]store' | sort").stdout
    for host in SERVERS:
        lab.ssh(host, f"sudo systemctl stop {config.UNIT} && sudo find {config.DATA}/data -mindepth 1 -delete")
    assert ready(lab) == 503
    lab.pyinfra(*APPLY, "component=foundationdb,backup")  # another database, empty
    assert digest(lab) != before
    restore = ("fdb", "restore", "--to-version", version)
    with watched(lab) as answers:
        lab.griddle(*restore, "--replace")  # what a service may have written meanwhile
    assert digest(lab) == before
    assert ready(lab) == 200
    # Little to restore is there again before requests, and /readyz with them, have given up waiting.
    locked = sum(step["seconds"] for step in report(lab)["steps"] if step["name"].startswith("wait until it is"))
    assert 503 in answers or locked < BEARABLE_SECONDS, (answers, locked)
    assert lab.ssh("app1", "pgrep -f 'services[.]store' | sort").stdout == workers, "workers were restarted"
    refused = lab.griddle(*restore, check=False)
    assert refused.returncode == 2 and "the database is not empty" in refused.stderr
    writers.assert_all_there()
    with Writers(lab) as more:  # events that are written now come after the restored ones
        time.sleep(2)
    more.assert_all_there()
    seen = json.loads(lab.griddle("fdb", "backup", "status", "--json").stdout)
    assert seen["running"] and seen["agents"] == 1
