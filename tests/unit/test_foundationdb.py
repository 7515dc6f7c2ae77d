"""FoundationDB's configuration, cluster file, and the judgement of `status json`."""

import json
from pathlib import Path

import gevent
import pytest
from pyinfra.api import OperationError

from cluster.errors import UserError
from cluster.model import Cluster, Host
from cluster.pki.authority import Authority
from deploys.foundationdb import cluster_file, config, deploy, status
from deploys.foundationdb.cluster_file import ClusterFile, ClusterFileError
from deploys.foundationdb.facts import Installation, Installed
from deploys.foundationdb.operations import unpack_command
from deploys.foundationdb.status import Limits
from deploys.framework import operator_state

DOCUMENTS = Path(__file__).parent / "data" / "fdb_status"
DATA = {
    "fdb_version": "7.3.77",
    "fdb_port": 4500,
    "fdb_redundancy": "triple",
    "fdb_process_classes": ["unset"],
    "fdb_memory": "1GiB",
    "fdb_cache_memory": "128MiB",
    "fdb_storage_memory": "256MiB",
    "fdb_log_size": "10MiB",
    "fdb_logs_size": "100MiB",
    "fdb_open_files": 65536,
    "fdb_knobs": {},
    "fdb_tls": False,
    "fdb_procedure": "auto",
}
SEED = ClusterFile("lab", "0123456789abcdef", ("192.0.2.31:4500",))


def make_host(number: int = 1, **data) -> Host:
    return Host(f"fdb{number}", f"192.0.2.{30 + number}", frozenset({"fdb"}), DATA | data)


def make_cluster(**data) -> Cluster:
    return Cluster({f"fdb{n}": make_host(n, **data) for n in range(1, 6)}, DATA | data)


def document(name: str) -> dict:
    return json.loads((DOCUMENTS / f"{name}.json").read_text())


def limits(**changes) -> Limits:
    wanted = frozenset(config.wanted_processes(make_cluster()))
    return Limits(**{"replicas": 3, "zone_failures": 2, "processes": wanted, "version": "7.3.77"} | changes)


# --- foundationdb.conf


def sections(conf: str) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for line in conf.splitlines():
        if line.startswith("["):
            section = found.setdefault(line.strip("[]"), {})
        elif line and not line.startswith("#"):
            key, value = line.split(" = ", 1)
            section[key] = value
    return found


def test_a_process_for_every_class_with_ports_counted_up():
    host = make_host(fdb_process_classes=["storage", "log", "unset"])
    conf = sections(config.foundationdb_conf(host))
    assert [name for name in conf if name.startswith("fdbserver.")] == [
        "fdbserver.4500",
        "fdbserver.4501",
        "fdbserver.4502",
    ]
    assert conf["fdbserver.4500"] == {"class": "storage"}
    assert conf["fdbserver.4502"] == {}


def test_the_servers_section():
    conf = sections(config.foundationdb_conf(make_host(2, fdb_knobs={"Page_Cache_4K": 1})))
    server = conf["fdbserver"]
    assert server["command"] == "/opt/foundationdb/7.3.77/sbin/fdbserver"
    assert server["public-address"] == "192.0.2.32:$ID"
    assert server["locality-zoneid"] == server["locality-machineid"] == "fdb2"
    assert server["datadir"] == "/var/lib/foundationdb/data/$ID"
    assert (server["cluster-file"], server["seed-cluster-file"]) == (config.CLUSTER_FILE, config.SEED)
    assert server["knob-page_cache_4k"] == "1"
    assert conf["general"]["kill-on-configuration-change"] == "false"


def test_the_command_line_is_the_one_that_fdbmonitor_makes_of_the_file():
    host = make_host(fdb_process_classes=["unset", "log"])
    conf = sections(config.foundationdb_conf(host))
    for process in config.processes(host):
        merged = conf["fdbserver"] | conf[f"fdbserver.{process.port}"]
        words = {merged.pop("command")} | {
            f"--{key}={value.replace('$ID', str(process.port))}" for key, value in merged.items()
        }
        assert config.command_line(host, process) == words


def test_coordinators_are_one_process_per_host():
    cluster = make_cluster(fdb_process_classes=["storage", "log"])
    assert config.coordinators(cluster) == tuple(f"192.0.2.{n}:4500" for n in range(31, 36))
    assert len(config.wanted_processes(cluster)) == 10


def test_with_tls_addresses_say_so_and_processes_know_their_certificates(tmp_path):
    cluster = make_cluster(fdb_tls=True)
    host = make_host(fdb_tls=True)
    assert config.coordinators(cluster)[0] == "192.0.2.31:4500:tls"
    server = sections(config.foundationdb_conf(host))["fdbserver"]
    assert server["public-address"] == "192.0.2.31:$ID:tls"
    assert [server[f"tls-{what}-file"] for what in ("certificate", "key", "ca")] == list(config.TLS.values())
    # Without it a renewed certificate would be served half a day later.
    assert server["knob-tls_cert_refresh_delay_seconds"] == "5"
    assert set(config.wanted_processes(cluster)) == {f"192.0.2.{n}:4500" for n in range(31, 36)}
    authority = Authority("lab", tmp_path)
    authority.make()
    files = config.tls_files(host, authority)
    assert set(files) == {*config.TLS.values(), config.TLS_ENVIRONMENT}
    assert files[config.TLS["KEY"]].content.startswith("-----BEGIN PRIVATE KEY-----")  # PKCS#8
    assert (files[config.TLS["KEY"]].mode, files[config.TLS["KEY"]].group) == ("640", "foundationdb")


def test_without_tls_there_is_nothing_of_it(tmp_path):
    # Tools end at once where their environment names a certificate that is not there.
    assert config.tls_files(make_host(), Authority("lab", tmp_path)) == {}
    assert not any("tls" in key for key in sections(config.foundationdb_conf(make_host()))["fdbserver"])


@pytest.mark.parametrize(("kept", "tls"), [(":tls", False), ("", True)])
def test_tls_is_not_changed_on_a_running_database(kept, tls):
    seed = ClusterFile("lab", "aaaa", (f"192.0.2.31:4500{kept}",))
    deploy._refuse_another_transport(seed, bool(kept))
    with pytest.raises(OperationError, match=f"fdb_tls is {tls}, and the running database was created"):
        deploy._refuse_another_transport(seed, tls)


def test_the_run_time_cluster_file_is_not_managed():
    files = config.server_files(make_host(), SEED)
    assert config.SEED in files and config.CLUSTER_FILE not in files
    assert config.server_directories()[config.DATA] == ("755", "foundationdb", "foundationdb")
    assert config.CLIENT_CLUSTER_FILE not in config.client_files(make_host(), SEED)


# --- cluster file


def test_a_cluster_file_reads_back():
    file = cluster_file.new("my-cluster", ("192.0.2.31:4500", "192.0.2.32:4500"))
    assert file.description == "my_cluster" and len(file.id) == 32
    assert cluster_file.parse(f"# a comment\n{file}", "here") == file
    assert cluster_file.new("my-cluster", ()).id != file.id


@pytest.mark.parametrize("text", ["", "no file", "a:b@", "a-b:c@d:1", "a:b@c:1\na:b@c:2"])
def test_what_is_no_cluster_file_is_refused(text):
    with pytest.raises(ClusterFileError, match="here: not a cluster file"):
        cluster_file.parse(text, "here")


COORDINATORS = ("192.0.2.31:4500", "192.0.2.32:4500")
KEPT = ClusterFile("lab", "aaaa", COORDINATORS)
MOVED = ClusterFile("lab", "aaaa", ("198.51.100.1:4500",))
OTHER = ClusterFile("lab", "bbbb", COORDINATORS)


def choose(kept, **seen):
    files = {host: each if isinstance(each, tuple) else (each,) for host, each in seen.items()}
    return cluster_file.choose(kept, files, "lab", COORDINATORS)


def test_the_kept_file_is_the_seed():
    assert choose(KEPT) == KEPT
    assert choose(KEPT, fdb1=KEPT, fdb2=MOVED) == KEPT


def test_a_new_one_is_made_only_while_no_host_has_any():
    assert choose(None).coordinators == COORDINATORS
    # The addresses changed before there was a database.
    assert choose(MOVED).id != "aaaa" and choose(MOVED).coordinators == COORDINATORS


def test_where_not_all_members_were_asked_no_new_one_is_made():
    def choose_blind(kept):
        return cluster_file.choose(kept, {}, "lab", COORDINATORS, ["fdb1", "fdb2"])

    with pytest.raises(ClusterFileError, match="fdb1, fdb2"):
        choose_blind(None)
    # Coordinators that were moved are not the inventory's.
    assert choose_blind(MOVED) == MOVED


def test_a_fresh_checkout_takes_over_what_the_hosts_have():
    assert choose(None, fdb2=KEPT) == KEPT


def test_coordinators_that_were_changed_by_hand_are_followed():
    # Every change of coordinators makes another id; a host's seed is what its run-time file was made from.
    changed = ClusterFile("lab", "cccc", ("192.0.2.36:4500",))
    assert choose(KEPT, fdb1=(changed, KEPT), fdb2=(changed, KEPT)) == changed
    # fdb3 was off meanwhile; fdb4 came later, and has no seed of before
    assert choose(KEPT, fdb1=(changed, KEPT), fdb2=(changed, KEPT), fdb3=(KEPT, KEPT), fdb4=(changed,)) == changed
    assert choose(None, fdb1=(changed, KEPT), fdb2=(changed, KEPT)) == changed


def test_hosts_of_another_database_are_refused_by_name():
    with pytest.raises(ClusterFileError, match="fdb2 belongs to the database lab:bbbb"):
        choose(KEPT, fdb2=OTHER)
    with pytest.raises(ClusterFileError, match="fdb1 has lab:aaaa, fdb2 has lab:bbbb"):
        choose(None, fdb1=KEPT, fdb2=OTHER)


def test_it_is_kept_on_the_operators_machine(tmp_path):
    path = tmp_path / "clusters" / "lab" / "fdb.cluster"
    assert cluster_file.read(path) is None
    cluster_file.write(path, KEPT, None)
    assert cluster_file.read(path) == KEPT
    cluster_file.write(path, OTHER, KEPT)
    with pytest.raises(UserError, match="another process has changed"):
        cluster_file.write(path, MOVED, KEPT)
    assert cluster_file.read(path) == OTHER


def test_hosts_that_are_prepared_at_once_get_the_same_seed(monkeypatch, tmp_path):
    class Busy:
        def __init__(self, name):
            self.name, self.connected = name, True

        def get_fact(self, fact):
            gevent.sleep(0.001)  # another host's turn
            return Installed()

    monkeypatch.setattr(cluster_file, "CLUSTERS", tmp_path)
    monkeypatch.setattr(deploy, "cluster", lambda: make_cluster(cluster_name="lab"))
    monkeypatch.setattr(operator_state, "save_when_executed", lambda save: save())
    monkeypatch.setattr(deploy, "inventory", [Busy(f"fdb{n}") for n in range(1, 6)])
    deploy._seed_file.cache_clear()
    seeds = [gevent.spawn(deploy.seed_file) for _ in range(5)]
    gevent.joinall(seeds, timeout=10)
    deploy._seed_file.cache_clear()
    assert len({seed.value for seed in seeds}) == 1
    assert cluster_file.read(tmp_path / "lab" / "fdb.cluster") == seeds[0].value


# --- facts


def test_an_installation_is_read():
    output = [
        "release /opt/foundationdb/7.3.75/packages clients",
        "release /opt/foundationdb/7.3.77/packages clients server",
        "current 7.3.77",
        "configured 7.4.6",
        "user",
        "database",
        "seed lab:aaaa@192.0.2.31:4500",
        "file lab:aaaa@192.0.2.32:4500",
    ]
    assert Installation().process(output) == Installed(
        {"7.3.75": frozenset({"clients"}), "7.3.77": frozenset({"clients", "server"})},
        "7.3.77",
        "7.4.6",
        True,
        "lab:aaaa@192.0.2.31:4500",
        "lab:aaaa@192.0.2.32:4500",
        True,
    )


def test_a_bare_host_is_read():
    assert Installation().process(["current ", "seed ", "file "]) == Installed()


def test_packages_are_verified_before_they_are_unpacked():
    script = unpack_command("7.3.77", {"/var/tmp/a.deb": "f" * 64}, ["clients"])
    assert f"{'f' * 64}  /var/tmp/a.deb" in script
    assert script.index("sha256sum --check") < script.index("dpkg-deb") < script.index("--version")
    assert script.rindex("mv -T /opt/foundationdb/.7.3.77/release /opt/foundationdb/7.3.77") > script.index(
        "--version"
    )


# --- status


def failing(name: str, **changes) -> set[str]:
    return {gate.name for gate in status.judge(document(name), limits(**changes)).failing}


def test_a_healthy_cluster_passes_every_gate():
    health = status.judge(document("healthy"), limits())
    assert health.ok and str(health) == "healthy"
    assert status.is_available(document("healthy"))


def test_mid_recovery_is_not_healthy_yet():
    assert failing("mid_recovery") == {"recovery state", "active generations", "can bounce cleanly"}


def test_one_machine_lost():
    failed = failing("one_machine_lost")
    assert {
        "every coordinator reachable",
        "at least 3 replicas of everything",
        "zones to lose without losing data",
        "zones to lose without losing availability",
        "processes in the cluster",
    } <= failed
    assert "available" not in failed
    seen = str(status.judge(document("one_machine_lost"), limits()))
    assert "processes in the cluster: 4, without 192.0.2.34:4500" in seen


def test_two_machines_lost():
    seen = {gate.name: gate.seen for gate in status.judge(document("two_machines_lost"), limits()).failing}
    assert seen["every coordinator reachable"] == "192.0.2.34:4500, 192.0.2.35:4500"
    assert seen["logs' fault tolerance"] == "1 of 3 copies"
    assert seen["zones to lose without losing data"] == "0"
    assert status.is_available(document("two_machines_lost"))


def test_a_database_that_cannot_be_read_is_known_by_its_coordinators_only():
    # Never created, or down: a 7.3 cluster controller has nothing to say of either.
    silent = document("never_created")
    assert not status.is_available(silent) and status.processes(silent) == []
    failed = failing("never_created")
    assert {"available", "recovery state", "processes in the cluster"} <= failed
    assert not {"coordinators' quorum", "every coordinator reachable", "cluster file up to date"} & failed


def test_without_a_quorum():
    assert {"available", "coordinators' quorum", "every coordinator reachable"} <= failing("no_quorum")


@pytest.mark.parametrize("empty", [None, {}, {"cluster": {}, "client": {}}, {"cluster": [], "client": None}])
def test_an_empty_document_fails_every_gate_but_absence(empty):
    failed = {gate.name for gate in status.judge(empty, limits()).failing}
    every = {gate.name for gate in status.judge(document("healthy"), limits()).gates}
    assert every - failed == {"no zone under maintenance"}
    assert status.processes(empty) == []


def _drop(node: dict, path: list[str]) -> None:
    for key in path[:-1]:
        node = node[key]
    del node[path[-1]]


@pytest.mark.parametrize(
    "path",
    [
        "client.database_status.available",
        "client.coordinators.quorum_reachable",
        "client.coordinators.coordinators",
        "client.cluster_file.up_to_date",
        "cluster.recovery_state.name",
        "cluster.recovery_state.active_generations",
        "cluster.recovery_state.seconds_since_last_recovered",
        "cluster.bounce_impact.can_clean_bounce",
        "cluster.data.state.healthy",
        "cluster.data.team_trackers",
        "cluster.logs",
        "cluster.fault_tolerance.max_zone_failures_without_losing_data",
        "cluster.fault_tolerance.max_zone_failures_without_losing_availability",
        "cluster.qos.worst_data_lag_storage_server",
        "cluster.qos.worst_durability_lag_storage_server",
        "cluster.qos.worst_queue_bytes_log_server",
        "cluster.qos.worst_queue_bytes_storage_server",
        "cluster.messages",
        "cluster.processes",
        "cluster.incompatible_connections",
        "cluster.database_lock_state",
    ],
)
def test_a_missing_field_is_a_failure(path):
    partial = document("healthy")
    _drop(partial, path.split("."))
    assert "missing" in str(status.judge(partial, limits()))


def test_limits_are_limits():
    assert failing("healthy", recovered_seconds=86_400) == {"seconds since last recovery"}
    assert failing("healthy", version="7.3.78") == {"one version"}
    assert failing("healthy", configuration=("double", "ssd")) == {"redundancy and engine"}
    assert failing("healthy", configuration=("triple", "ssd")) == set()
    assert failing("healthy", lag_seconds=-1) == {"data lag, seconds", "durability lag, seconds"}
    assert failing("healthy", queue_bytes=0) == {"log queue, bytes", "storage queue, bytes"}


def test_processes_that_are_not_as_they_should_be():
    changed = document("healthy")
    first, second, *_ = changed["cluster"]["processes"].values()
    first |= {"version": "7.3.75", "excluded": True}
    second["messages"] = [{"name": "io_error"}]
    failed = {gate.name: gate.seen for gate in status.judge(changed, limits()).failing}
    assert failed == {
        "one version": "7.3.75 (192.0.2.34:4500), 7.3.77",
        "no process excluded": first["address"],
        "no process messages": f"{second['address']} io_error",
    }


def test_maintenance_lock_and_bad_messages():
    changed = document("healthy")
    changed["cluster"] |= {
        "maintenance_zone": "fdb3",
        "database_lock_state": {"locked": True},
        "messages": [{"name": "storage_servers_error"}, {"name": "client_issues"}],
    }
    assert {gate.name for gate in status.judge(changed, limits()).failing} == {
        "no zone under maintenance",
        "database locked",
        "cluster messages",
    }


def test_a_process_that_its_version_keeps_out_is_named_and_a_client_is_shown():
    def gate(changed) -> status.Gate:
        return next(g for g in status.judge(changed, limits()).gates if g.name == "incompatible connections")

    changed = document("healthy")
    (key, lost), *_ = changed["cluster"]["processes"].items()
    changed["cluster"]["incompatible_connections"] = ["192.0.2.41:0:tls", f"{lost['address']}:tls"]
    found = gate(changed)
    assert found.ok and found.seen == f"192.0.2.41:0:tls, {lost['address']}:tls in the last 10 minutes"
    del changed["cluster"]["processes"][key]
    found = gate(changed)
    assert not found.ok and found.seen == lost["address"]


def test_truth_is_not_confused_with_numbers():
    changed = document("healthy")
    changed["client"]["database_status"]["available"] = 1
    assert "available" in {gate.name for gate in status.judge(changed, limits()).failing}


def test_processes_with_another_command_line_are_stale():
    cluster = make_cluster()
    wanted = config.wanted_processes(cluster)
    seen = document("healthy")
    for process in seen["cluster"]["processes"].values():
        process["command_line"] = " ".join(sorted(wanted[process["address"]], reverse=True))
    assert status.stale(seen, wanted) == {}
    changed = config.wanted_processes(make_cluster(fdb_memory="2GiB"))
    assert status.stale(seen, changed) == dict.fromkeys(wanted, "--memory=1GiB --memory=2GiB")
    assert status.stale(None, wanted) == {}


def test_fdbclis_output_is_parsed():
    assert status.parse('warning: something\n{"client": {}}\n') == {"client": {}}
    assert status.parse("ERROR: cannot connect") is None
    assert status.parse('{"client": ') is None


def test_a_tls_endpoint_is_an_endpoint():
    seen = document("healthy")
    first = next(iter(seen["cluster"]["processes"].values()))
    first["address"] += ":tls"
    assert status.judge(seen, limits()).ok
