"""The whole deploy on real hosts: dry on bare ones, killed on its way, applied, applied again, and looked at by
commands that know nothing of it. The tests stand in the order of a cluster's first day.
"""

import hashlib
import itertools
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from cluster.ssh import CURL
from deploys.foundationdb.facts import fdbcli
from deploys.framework import locks
from tests.lab.conftest import HANGS_SECONDS, LabUnderTest
from tests.lab.rotation import kill_and_finish

ALL = ["inventory/lab.py", "deploys/all.py"]
KILLS = 10
LATE = 100  # so often a store may be late before a request is given up
NOWHERE = "http://127.0.0.1:9"
# Holds the files that it is given as apt does.
HOLD = """
use Fcntl;
for (@ARGV) {
    open(my $file, "+>>", $_) or die;
    my $lock = pack("s s x![q] q q i x![q]", F_WRLCK, 0, 0, 0, 0);
    fcntl($file, F_SETLK, $lock) or die;
    push @held, $file;
}
sleep 300"""
OPERATIONS_BETWEEN_KILLS = 4


@pytest.fixture(scope="module", autouse=True)
def release(lab: LabUnderTest) -> None:
    lab.griddle("release", "build")


@pytest.fixture(scope="module", autouse=True)
def sessions(lab: LabUnderTest) -> None:
    """Every login session of the hosts, and sudo in it, has a strict umask and a proxy that leads nowhere."""
    names = ("http_proxy", "https_proxy", "HTTPS_PROXY", "ALL_PROXY")
    files = {
        "/etc/environment": "".join(f"{name}={NOWHERE}\n" for name in names),
        "/etc/sudoers.d/proxies": f'Defaults env_keep += "{" ".join(names)}"\n',
        "/etc/pam.d/common-session": "session optional pam_umask.so umask=027\n",
    }
    script = "; ".join(f"echo {shlex.quote(text)} | sudo tee -a {file}" for file, text in files.items())
    for host in lab.plan.hosts:
        lab.ssh(host.name, script)
        assert lab.ssh(host.name, "umask; sudo printenv http_proxy").stdout.split() == ["0027", NOWHERE]


def engine(lab: LabUnderTest) -> str:
    return lab.status()["store"]


def curl(lab: LabUnderTest, path: str, *arguments: str) -> tuple[int, dict[str, str], str]:
    """(status, headers with small letters, body) of a request to the virtual address, from this machine."""
    done = subprocess.run(
        ["curl", "-sS", "-m", "30", "-i", *arguments, f"http://{lab.plan.virtual_ip}{path}"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    head, _, body = done.stdout.replace("\r\n", "\n").partition("\n\n")
    status, *lines = head.splitlines()
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    return int(status.split()[1]), headers, body


def test_a_dry_run_against_bare_hosts_says_what_would_change_and_changes_nothing(lab: LabUnderTest) -> None:
    done = lab.pyinfra("--dry", "--json", *ALL)
    plan = {operation["name"]: operation["hosts_with_change"] for operation in json.loads(done.stdout)["plan"]}
    assert len(plan["base | packages"]) == len(lab.plan.hosts)
    assert plan["etcd | packages"] == [], "base installs them before"
    assert sorted(plan["etcd | members are started"]) == ["app1", "app2", "app3"]
    for host in lab.plan.hosts:
        assert lab.ssh(host.name, "ls /etc/griddle /opt/griddle 2>/dev/null; true").stdout == ""


def test_an_unreachable_host_stops_the_run_and_is_named(lab: LabUnderTest) -> None:
    lab.griddle("lab", "cut", "metrics1")
    try:
        done = lab.pyinfra("-y", *ALL, check=False)
    finally:
        lab.griddle("lab", "heal", "metrics1")
    assert done.returncode == 1
    assert "[metrics1]" in done.stderr
    assert "Starting operation" not in done.stderr + done.stdout
    assert lab.ssh("app1", "ls /etc/griddle 2>/dev/null; true").stdout == ""


def test_another_process_that_holds_apts_locks_is_waited_for_and_named(lab: LabUnderTest) -> None:
    hold = f"sudo systemd-run -q --unit=upgrades perl /tmp/hold {' '.join(locks.FILES)}"
    lab.ssh("app1", f"echo {shlex.quote(HOLD)} >/tmp/hold; {hold}")
    process = subprocess.Popen(
        [".venv/bin/pyinfra", "-y", *ALL, "--data", "component=base"],
        cwd=lab.checkout, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    said = r"\[app1\].*waiting for apt's and dpkg's locks: perl \(pid \d+, upgrades\.service\): /var/lib/dpkg/lock"
    lines = []
    for line in process.stderr:
        lines.append(line)
        if waited := re.search(said, line):
            lab.ssh("app1", "sudo systemctl stop upgrades")
            break
    lines += process.stderr
    assert process.wait() == 0 and waited, "".join(lines)


def test_killed_on_its_way_the_next_run_goes_on(
    lab: LabUnderTest, sampled: Callable[[Sequence[int]], Sequence[int]]
) -> None:
    """Each run is killed somewhat later than the one before it had come; the last one is left alone."""
    for kill in sampled(range(KILLS)):
        process = subprocess.Popen(
            [".venv/bin/pyinfra", "-y", *ALL],
            cwd=lab.checkout,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started = 0
        for line in process.stderr:
            started += "--> Starting" in line
            if started > OPERATIONS_BETWEEN_KILLS * (kill + 1) - 2:
                time.sleep(0.3 * (kill % 4))  # in the middle of an operation, at one point or another
                break
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stderr.close()
    lab.pyinfra("-y", *ALL)


def test_up_goes_on_from_there_and_the_cluster_serves(lab: LabUnderTest) -> None:
    done = lab.griddle("up")
    assert "Try:" in done.stdout
    again = lab.griddle("up")
    assert "nothing has changed" in again.stdout + again.stderr


def test_what_somebody_has_done_to_what_runs_is_mended(lab: LabUnderTest) -> None:
    """Files are as wanted each time; processes, kernel and directories are not."""
    edit = "sudo cp -p {0} /root/kept; echo {1} | sudo tee -a {0}; sudo systemctl {2}; sudo cp -p /root/kept {0}"
    master, members = "cat /run/nginx.pid", {}
    pid = lab.ssh("proxy1", master).stdout
    lab.ssh("proxy1", edit.format("/etc/nginx/nginx.conf", "'# somebody'", "reload nginx"))
    lab.ssh("app2", edit.format("/etc/etcd/pki/member.crt", "", "restart etcd"))
    lab.ssh("app3", "sudo sysctl -qw net.core.somaxconn=128; sudo chmod 750 /usr/local/lib/griddle")
    drop_in = "/etc/systemd/system/collectd.service.d/somebody.conf"
    lab.ssh("metrics1", f"printf '[Service]\\nLimitNOFILE=4096\\n' | sudo tee {drop_in}")
    invocation = "systemctl show -p InvocationID --value {}"
    for host in ("app1", "app2", "app3"):
        members[host] = lab.ssh(host, invocation.format("etcd")).stdout

    changed = {op["name"] for op in applied(lab) if op["success"]}
    mended = {
        "proxy | nginx runs the configuration", "etcd | members run the configuration",
        "base | kernel profile is in force", "metrics | the StatsD daemon runs its configuration",
    }  # fmt: skip
    assert mended < changed and len(changed) <= 6, changed
    assert lab.ssh("proxy1", master).stdout == pid, "a reload is enough"
    after = {host: lab.ssh(host, invocation.format("etcd")).stdout for host in members}
    assert [host for host in members if members[host] != after[host]] == ["app2"]
    seen = lab.ssh("app3", "sudo sysctl -n net.core.somaxconn; stat -c %a /usr/local/lib/griddle").stdout
    assert seen.split() == ["4096", "755"]
    limits = lab.ssh(
        "metrics1", "sudo grep 'open files' /proc/$(systemctl show -p MainPID --value collectd)/limits"
    )
    assert "4096" in limits.stdout, "a drop-in is in force"


def applied(lab: LabUnderTest, *arguments: str) -> list[dict[str, Any]]:
    """What an apply says of its operations."""
    return json.loads(lab.pyinfra("-y", "--json", *ALL, *arguments).stdout)["results"]["operations"]


def test_a_second_apply_changes_nothing(lab: LabUnderTest) -> None:
    before = time.monotonic()
    results = applied(lab)
    print(f"second apply over {len(lab.plan.hosts)} hosts: {time.monotonic() - before:.1f} s")
    assert {op["name"]: op["success"] for op in results if op["success"] or op["error"]} == {}


@pytest.mark.parametrize("lane", ["direct", "wsgi"])
def test_both_lanes_answer_through_the_virtual_address(lab: LabUnderTest, lane: str) -> None:
    status, headers, body = curl(lab, "/v1/profiles/p1", "-H", f"X-Lane: {lane}")
    assert status == 200
    assert headers["x-lane"] == lane
    assert headers["x-release"].startswith("r-")
    assert json.loads(body)
    status, headers, _ = curl(lab, "/v1/profiles/nobody", "-H", f"X-Lane: {lane}")
    assert (status, headers["x-lane"]) == (404, lane)


def test_a_write_is_read_back_on_both_lanes(lab: LabUnderTest) -> None:
    profile = json.loads(curl(lab, "/v1/profiles/p1")[2]) | {"id": "written", "name": f"written at {time.time()}"}
    status, headers, _ = curl(lab, "/v1/profiles/written", "-X", "PUT", "-d", json.dumps(profile))
    assert status in (200, 201, 204), headers
    assert headers["x-lane"] == "wsgi"
    for lane in ("direct", "wsgi"):
        assert profile["name"] in curl(lab, "/v1/profiles/written", "-H", f"X-Lane: {lane}")[2]


def test_messages_reach_the_feed_once_while_fronts_are_restarted(lab: LabUnderTest) -> None:
    """A front that stops is left by the proxies; it goes on answering on the connections that it has."""
    owner = f"owner{time.time_ns()}"
    assert curl(lab, f"/v1/profiles/{owner}", "-X", "PUT", "-d", '{"name":"x"}')[0] == 204
    stop, failed = threading.Event(), []
    sent: dict[int, list[str]] = {0: [], 1: []}

    def post(writer: int) -> None:
        for number in itertools.count():
            if stop.is_set():
                return
            text = f"w{writer}-{number}"
            body = ["-d", json.dumps({"from": f"w{writer}", "text": text}), "-H", f"Idempotency-Key: {text}"]
            for _ in range(LATE):
                status, _, answer = curl(lab, f"/v1/profiles/{owner}/messages", *body)
                if not store_was_late(status, answer):
                    break
            if status != 201:
                failed.append((status, answer))
                return
            sent[writer].append(text)

    def read(lane: str) -> None:
        while not stop.is_set():
            status, headers, answer = curl(lab, f"/v1/profiles/{owner}/feed", "-H", f"X-Lane: {lane}")
            if (status, headers["x-lane"]) != (200, lane) and not store_was_late(status, answer):
                failed.append((status, answer))

    threads = [threading.Thread(target=post, args=(writer,)) for writer in sent]
    threads += [threading.Thread(target=read, args=(lane,)) for lane in ("direct", "wsgi")]
    for thread in threads:
        thread.start()
    try:
        for host in ("app1", "app2"):
            lab.ssh(host, "sudo systemctl restart griddle-front@a-0.service")
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert failed == []
    assert all(sent.values())
    for lane in ("direct", "wsgi"):
        end = time.monotonic() + HANGS_SECONDS
        while sorted(feed(lab, owner, lane)) != sorted(sent[0] + sent[1]):
            assert time.monotonic() < end
            time.sleep(0.2)
        texts = feed(lab, owner, lane)[::-1]
        assert [[text for text in texts if text.startswith(f"w{writer}-")] for writer in sent] == [*sent.values()]


def store_was_late(status: int, answer: str) -> bool:
    """Eleven hosts on two cores: 250 ms may pass. That says nothing of the fronts."""
    return status == 503 and json.loads(answer)["detail"] != "no front worker answered"


def feed(lab: LabUnderTest, owner: str, lane: str) -> list[str]:
    """The texts of all pages, newest first."""
    texts, query = [], "?limit=100"
    while True:
        for _ in range(LATE):
            status, _, answer = curl(lab, f"/v1/profiles/{owner}/feed{query}", "-H", f"X-Lane: {lane}")
            if not store_was_late(status, answer):
                break
        page = json.loads(answer)
        texts += [item["text"] for item in page["items"]]
        if page["next"] is None:
            return texts
        query = f"?limit=100&before={page['next']}"


def test_etcd_is_healthy_and_asks_for_certificates(lab: LabUnderTest) -> None:
    members = lab.ssh("app2", "sudo griddle-etcdctl endpoint health --cluster 2>&1").stdout
    assert members.count("is healthy") == 3
    address = lab.plan.host("app2").address
    refused = lab.ssh("app2", f"curl -sk -m 3 https://{address}:2379/version", check=False)
    assert refused.returncode != 0, "etcd answers a client without a certificate"
    assert "bytes" in lab.ssh("app2", "sudo griddle-etcd-snapshot").stdout


def test_the_store_is_the_one_that_was_asked_for(lab: LabUnderTest) -> None:
    if engine(lab) != "fdb":
        pytest.skip("FoundationDB's packages are not in the artifacts directory: the lab runs on etcd")
    ask = fdbcli("status json", seconds=60)
    document = json.loads(lab.ssh("fdb1", f"sudo sh -c {shlex.quote(ask)}").stdout)
    assert document["cluster"]["configuration"]["redundancy_mode"] == "triple"
    assert document["cluster"]["configuration"]["coordinators_count"] == 5
    assert document["client"]["database_status"]["available"]


def test_kernel_values_are_in_force_and_the_others_are_named(lab: LabUnderTest) -> None:
    assert lab.ssh("proxy1", "sudo sysctl -n net.core.somaxconn").stdout.strip() == "4096"
    done = lab.pyinfra("-y", *ALL, "--data", "component=base")
    assert "Not settable on these hosts" in done.stderr
    assert "sysctl.vm.swappiness" in done.stderr


def test_ports_are_open_to_whom_they_are_for_and_to_nobody_else(lab: LabUnderTest) -> None:
    app = lab.plan.host("app1").address

    def reaches(host: str, port: int, seconds: int = 30) -> bool:
        knock = f"timeout {seconds} bash -c '</dev/tcp/{app}/{port}' 2>/dev/null"
        return lab.ssh(host, knock, check=False).returncode == 0

    assert all(reaches(*open_to) for open_to in (("proxy1", 7000), ("proxy1", 8000), ("metrics1", 2379)))
    assert not any(reaches("metrics1", port, seconds=2) for port in (7000, 8000, 2380))  # dropped without a word
    assert "policy drop" in lab.ssh("app1", "sudo nft list chain inet griddle input").stdout


def test_services_do_not_run_as_root_and_listen_where_they_should(lab: LabUnderTest) -> None:
    processes = "ps -eo user:20,args | grep -E '[s]ervices[.]|[g]unicorn' | cut -d' ' -f1 | sort -u"
    users = lab.ssh("app1", processes).stdout
    assert users.split() == ["griddle"]
    listening = lab.ssh("app1", "ss -Hltn | awk '{print $4}'").stdout
    for port in (7000, 7001, 8000, 8001):
        assert f":{port}" in listening


def test_a_configuration_that_nginx_or_etcd_rejects_never_replaces_a_working_one(lab: LabUnderTest) -> None:
    for component, host, path, template in (
        ("etcd", "app1", "/etc/etcd/etcd.yaml", "deploys/etcd/templates/etcd.yaml.j2"),
        ("proxy", "proxy1", "/etc/nginx/nginx.conf", "nginx/nginx.conf.j2"),
    ):
        before = lab.ssh(host, f"sha256sum {path}").stdout
        good = (lab.checkout / template).read_text()
        (lab.checkout / template).write_text(f"{good}\nnonsense {{;\n")
        try:
            done = lab.pyinfra("-y", *ALL, "--data", f"component={component}", check=False)
        finally:
            (lab.checkout / template).write_text(good)
        assert done.returncode == 1, f"{component} took nonsense"
        assert lab.ssh(host, f"sha256sum {path}").stdout == before
    assert curl(lab, "/v1/profiles/p1")[0] == 200


@pytest.fixture
def broken_release(lab: LabUnderTest, tmp_path: Path) -> Iterator[str]:
    """The version of a release like the present one, but for store workers that do not start."""
    releases = lab.checkout / ".griddle" / "releases"
    good, broken = (releases / "current").resolve(), releases / "r-000000broken"
    with tarfile.open(good / "release.tar") as archive:
        archive.extractall(tmp_path, filter="data")
    (tmp_path / "VERSION").write_text(f"{broken.name}\n")
    (tmp_path / "services" / "store.py").write_text("raise SystemExit('this release does not start')\n")
    broken.mkdir()
    with tarfile.open(broken / "release.tar", "w") as archive:
        archive.add(tmp_path, arcname=".")
    sha256 = hashlib.sha256((broken / "release.tar").read_bytes()).hexdigest()
    (broken / "manifest.json").write_text(json.dumps({"version": broken.name, "archive_sha256": sha256}))
    yield broken.name
    shutil.rmtree(broken)


def test_a_release_that_does_not_start_leaves_its_host_as_it_was(lab: LabUnderTest, broken_release: str) -> None:
    serves = f"{CURL} -m 2 -o /dev/null -w '%{{http_code}}' http://127.0.0.1:8000/readyz"
    seen = f"readlink /etc/griddle/slots/a; systemctl is-active griddle-store@a-0 griddle-front@a-0; {serves}"
    before = {host: lab.ssh(host, seen).stdout for host in ("app1", "app2", "app3")}
    slots = json.dumps({"a": broken_release})
    done = lab.pyinfra("-y", *ALL, "--data", "component=app", "--data", f"app_slots={slots}", check=False)
    assert done.returncode == 1
    said = done.stdout + done.stderr
    assert "this release does not start" in said
    assert f"this host is back on release {Path(before['app1'].split()[0]).name}" in said
    assert {host: lab.ssh(host, seen).stdout for host in before} == before
    assert not [op for op in applied(lab, "--data", "component=app") if op["success"] or op["error"]]


def answers_within(lab: LabUnderTest, seconds: float, *arguments: str) -> float:
    """Seconds until ten reads in a row are answered."""
    started = time.monotonic()
    good = 0
    while good < 10:
        try:
            good = good + 1 if curl(lab, "/v1/profiles/p1", *arguments)[0] == 200 else 0
        except AssertionError:  # of curl: no connection
            good = 0
        assert time.monotonic() - started < seconds, f"no answers after {seconds} s"
        time.sleep(0 if good else 0.2)
    return time.monotonic() - started


def test_the_virtual_address_moves_when_its_proxy_loses_power(lab: LabUnderTest) -> None:
    holder = next(
        proxy for proxy in ("proxy1", "proxy2")
        if lab.plan.virtual_ip in lab.ssh(proxy, "hostname -I").stdout.split()
    )  # fmt: skip
    lab.griddle("lab", "stop", holder)
    try:
        print(f"virtual address lost with {holder}: back after {answers_within(lab, HANGS_SECONDS):.1f} s")
    finally:
        lab.griddle("lab", "start", holder)


def test_a_host_that_lost_power_serves_again_by_itself(lab: LabUnderTest) -> None:
    """An app host is also an etcd member: where it led, reads of the etcd engine wait for an election."""
    lab.griddle("lab", "stop", "app1")
    try:
        print(f"app1 lost: reads go on after {answers_within(lab, HANGS_SECONDS, '-H', 'X-Lane: direct'):.1f} s")
    finally:
        lab.griddle("lab", "start", "app1")
    lab.pyinfra("-y", *ALL)
    done = lab.ssh("app1", "systemctl is-active griddle-store@a-0 griddle-front@a-0 etcd")
    assert done.stdout.split() == ["active"] * 3


def test_the_ca_is_replaced_by_one_command_also_if_it_is_killed_once(lab: LabUnderTest) -> None:
    running = "pgrep -f '[f]dbserver|[b]ackup_agent|services[.]store' | sort"
    fdb = lab.status()["store"] == "fdb"
    untouched = {host: lab.ssh(host, running).stdout for host in ("fdb1", "fdb5", "metrics1", "app1") if fdb}
    before = lab.ssh("app1", "sha256sum /etc/etcd/pki/ca.crt /etc/etcd/pki/member.crt").stdout.split()
    kill_and_finish(lab, [("trust", 3)])
    after = lab.ssh("app1", "sha256sum /etc/etcd/pki/ca.crt /etc/etcd/pki/member.crt").stdout.split()
    assert before[0] != after[0] and before[2] != after[2]
    assert {host: lab.ssh(host, running).stdout for host in untouched} == untouched
    assert lab.ssh("app1", "sudo griddle-etcdctl endpoint health --cluster 2>&1").stdout.count("is healthy") == 3
    assert curl(lab, "/v1/profiles/p1")[0] == 200
