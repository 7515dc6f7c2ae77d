"""What `fdb upgrade` would do next, by captured documents; what it refuses; and what `fdb status` says of them."""

import copy
import dataclasses
import json
from pathlib import Path

import pytest

from deploys.foundationdb import screen, status, upgrade, upgrade_plan
from deploys.foundationdb.facts import Installation, Installed
from deploys.foundationdb.status import Limits
from deploys.foundationdb.upgrade import parse_host
from deploys.foundationdb.upgrade_plan import HostSeen, UpgradeSeen, UpgradeTarget

DOCUMENTS = Path(__file__).parent / "data" / "fdb_status"
ENDPOINTS = {f"fdb{n}": frozenset({f"192.0.2.{30 + n}:4500"}) for n in range(1, 6)}
LIMITS = Limits(replicas=3, zone_failures=2, processes=frozenset().union(*ENDPOINTS.values()))
BOTH, CLIENT = frozenset({"clients", "server"}), frozenset({"clients"})
OLD, NEW, MINOR = "7.3.77", "7.3.78", "7.4.6"
ROOMY = 4 * 1024**3


def document(name: str) -> dict:
    return json.loads((DOCUMENTS / f"{name}.json").read_text())


def server(*staged: str, current: str = OLD, configured: str = OLD, **more) -> HostSeen:
    staged = staged or (OLD,)
    values = {"running": frozenset({OLD}), "free_bytes": ROOMY, "peers": frozenset({"192.0.2.31:5000"})}
    return HostSeen({v: BOTH for v in staged}, current, configured, **values | more)


def client(*staged: str, current: str = OLD, running: tuple[str, ...] = (OLD,), **more) -> HostSeen:
    releases = {v: CLIENT for v in staged or (OLD,)}
    return HostSeen(releases, current, "", frozenset(running), free_bytes=more.pop("free_bytes", ROOMY), **more)


def seen(
    doc: dict | None = None, servers: HostSeen | None = None, clients: HostSeen | None = None, **more
) -> UpgradeSeen:
    return UpgradeSeen(
        document("healthy") if doc is None else doc,
        dict.fromkeys(ENDPOINTS, servers or server()),
        dict.fromkeys(("app1", "app2"), clients or client()),
        **more,
    )


def target(version: str = NEW, **more) -> UpgradeTarget:
    return UpgradeTarget(version, ENDPOINTS, LIMITS, **more)


def actions(what: UpgradeSeen, wanted: UpgradeTarget) -> list[str]:
    found = upgrade_plan.upgrade(what, wanted)
    assert not found.refusals, found.refusals
    return [step.action for step in found.steps]


def refusals(what: UpgradeSeen, wanted: UpgradeTarget | None = None) -> str:
    found = upgrade_plan.upgrade(what, wanted or target())
    assert not found.steps
    return "\n".join(found.refusals)


def with_versions(*versions: str, name: str = "healthy") -> dict:
    """Processes that run these versions, in the order of their addresses."""
    changed = document(name)
    processes = sorted(changed["cluster"]["processes"].values(), key=lambda each: each["address"])
    for process, version in zip(processes, versions, strict=True):
        process["version"] = version
    return changed


ALL_NEW = [NEW] * 5
STAGED = {"servers": server(OLD, NEW), "clients": client(OLD, NEW)}
SWITCHED = {"servers": server(OLD, NEW, current=NEW, configured=NEW), "clients": client(OLD, NEW)}
DONE_CLIENT = client(OLD, NEW, current=NEW, running=(NEW,))


# --- a patch, from wherever it was interrupted


def test_from_the_beginning():
    assert actions(seen(), target()) == ["stage", "switch", "bounce", "take_library", "healthy"]


def test_staged_and_interrupted():
    assert actions(seen(**STAGED), target()) == ["switch", "bounce", "take_library", "healthy"]


def test_half_switched_hosts_are_switched():
    half = seen(**STAGED)
    servers = {**half.servers, "fdb1": SWITCHED["servers"]}
    steps = upgrade_plan.upgrade(dataclasses.replace(half, servers=servers), target()).steps
    assert steps[0].action == "switch" and steps[0].arguments == ("fdb2", "fdb3", "fdb4", "fdb5")


def test_switched_and_interrupted():
    assert actions(seen(**SWITCHED), target()) == ["bounce", "take_library", "healthy"]


def test_a_process_that_missed_the_bounce_is_bounced_again():
    late = seen(with_versions(NEW, NEW, NEW, OLD, NEW), **SWITCHED)
    assert actions(late, target())[0] == "bounce"
    assert upgrade_plan.upgrade(late, target()).steps[0].name == "bounce the processes of fdb4 at once"


def test_bounced_and_interrupted_while_it_recovers():
    recovering = with_versions(*ALL_NEW, name="mid_recovery")
    assert actions(seen(recovering, **SWITCHED), target()) == ["take_library", "healthy"]
    assert actions(seen(recovering, SWITCHED["servers"], DONE_CLIENT), target()) == ["healthy"]


def test_nothing_is_left_to_do():
    assert actions(seen(with_versions(*ALL_NEW), SWITCHED["servers"], DONE_CLIENT), target()) == []


def test_the_recovery_that_it_has_cost_itself_is_not_waited_for():
    """Only before the first step is it asked how long ago the last one was."""
    strict = dataclasses.replace(LIMITS, recovered_seconds=86_400)
    done = seen(with_versions(*ALL_NEW), SWITCHED["servers"], DONE_CLIENT)
    assert actions(done, UpgradeTarget(NEW, ENDPOINTS, strict)) == []


def test_back_to_the_patch_before():
    back = seen(with_versions(*ALL_NEW), SWITCHED["servers"], DONE_CLIENT)
    assert actions(back, target(OLD)) == ["switch", "bounce", "take_library", "healthy"]


def test_a_worker_with_the_old_library_is_restarted():
    stale = seen(with_versions(*ALL_NEW), SWITCHED["servers"], client(OLD, NEW, current=NEW, running=(OLD, NEW)))
    assert actions(stale, target()) == ["take_library", "healthy"]


def test_staging_alone_is_what_nobody_feels():
    assert [step.action for step in upgrade_plan.upgrade(seen(), target()).steps if step.quiet] == ["stage"]


@pytest.mark.parametrize(
    ("workers", "away", "expected"),
    [
        ([2, 2, 2], 0.34, 2),  # two of six workers
        ([1, 1, 1], 0.34, 1),
        ([2, 2, 2], 0.1, 1),  # never none
        ([8, 8], 0.34, 1),  # one host stays
        ([8, 8, 8], 0.9, 2),
        ([4] * 12, 0.25, 11),
        ([4], 0.34, 1),
        ([], 0.34, 1),
    ],
)
def test_on_how_many_hosts_workers_restart_at_once(workers, away, expected):
    assert upgrade_plan.hosts_at_once({f"app{n}": count for n, count in enumerate(workers)}, away) == expected


def test_what_a_bounce_has_measured():
    assert upgrade.parse_bounce(["serving 1234"]) == {"serving_again_seconds": 1.23}
    assert upgrade.parse_bounce([]) == {}


# --- zone by zone


def test_zones_one_after_another_with_a_gate_between():
    zones = actions(seen(**SWITCHED), target(rolling=True))
    assert zones == ["zone", "bears"] * 5 + ["take_library", "healthy"]


def test_zones_whose_restart_costs_no_recovery_come_first():
    roles = {
        process["address"]: [role["role"] for role in process["roles"]]
        for process in document("healthy")["cluster"]["processes"].values()
    }
    steps = upgrade_plan.upgrade(seen(**SWITCHED), target(rolling=True)).steps
    order = [step.arguments[0] for step in steps if step.action == "zone"]
    idle = {"storage", "coordinator", "data_distributor", "ratekeeper", "consistency_scan"}
    costs = [len([r for r in roles[next(iter(ENDPOINTS[name]))] if r not in idle]) for name in order]
    assert costs == sorted(costs) and len(order) == 5


CLASSES = {endpoint: "unset" for every in ENDPOINTS.values() for endpoint in every}


def controlled_by(host: str, doc: dict | None = None, **set_classes: str) -> dict:
    """A cluster controller on this host; hosts whose processes have got another class by `setclass`."""
    changed = doc or document("healthy")
    for process in changed["cluster"]["processes"].values():
        (name,) = (name for name, every in ENDPOINTS.items() if process["address"] in every)
        process["roles"] = [role for role in process["roles"] if role["role"] != "cluster_controller"]
        process["roles"] += [{"role": "cluster_controller"}] * (name == host)
        if name in set_classes:
            process |= {"class_source": "set_class", "class_type": set_classes[name]}
    return changed


def steps_of(doc: dict, **more) -> list[tuple]:
    wanted = target(rolling=True, **{"classes": CLASSES} | more)
    return [(step.action, *step.arguments) for step in upgrade_plan.upgrade(seen(doc, **SWITCHED), wanted).steps]


def test_the_cluster_controller_is_moved_away_before_its_zone_the_last_is_restarted():
    steps = steps_of(controlled_by("fdb2"))
    assert [step[1] for step in steps if step[0] == "zone"][-1] == "fdb2"
    endpoint = "192.0.2.32:4500"
    assert steps[8:13] == [
        ("hand_over", (endpoint, "storage")),
        ("bears",),
        ("zone", "fdb2"),
        ("bears",),
        ("give_back", endpoint),
    ]


def test_an_interrupted_move_of_the_cluster_controller_goes_on():
    only_fdb2 = with_versions(NEW, OLD, NEW, NEW, NEW)
    moved = steps_of(controlled_by("fdb1", only_fdb2, fdb2="storage"))
    assert [step[0] for step in moved][:3] == ["zone", "bears", "give_back"]
    stayed = steps_of(controlled_by("fdb2", only_fdb2, fdb2="storage"))
    assert stayed == moved
    done = with_versions(*ALL_NEW)
    assert steps_of(controlled_by("fdb1", done, fdb2="storage"))[0] == ("give_back", "192.0.2.32:4500")


def test_a_class_that_somebody_else_has_set_is_left_alone():
    doc = controlled_by("fdb1", with_versions(*ALL_NEW), fdb2="log")
    assert [step[0] for step in steps_of(doc)] == ["take_library", "healthy"]
    doc = controlled_by("fdb2", fdb2="log")
    assert {"hand_over", "give_back"}.isdisjoint(step[0] for step in steps_of(doc))


def test_a_cluster_controller_that_has_no_successor_stays():
    classes = CLASSES | {endpoint: "storage" for endpoint in CLASSES if endpoint != "192.0.2.32:4500"}
    assert "hand_over" not in [step[0] for step in steps_of(controlled_by("fdb2"), classes=classes)]


def test_stateless_processes_yield_too():
    classes = dict.fromkeys(CLASSES, "stateless")
    assert ("hand_over", ("192.0.2.32:4500", "router")) in steps_of(controlled_by("fdb2"), classes=classes)


def test_no_zone_is_restarted_while_the_last_one_is_missed():
    mixed = with_versions(NEW, OLD, OLD, OLD, OLD, name="mid_recovery")
    assert actions(seen(mixed, **SWITCHED), target(rolling=True))[:2] == ["bears", "zone"]


def test_what_a_zone_may_restart_on():
    assert status.bears(document("healthy"), LIMITS).ok
    starting = document("healthy")
    starting["cluster"]["data"] = {"state": {"name": "initializing"}}  # as after each recovery, for 36 s
    assert status.bears(starting, LIMITS).ok and not status.judge(starting, LIMITS).ok
    assert not status.bears(document("one_machine_lost"), LIMITS).ok
    behind = document("healthy")
    for process in behind["cluster"]["processes"].values():
        for role in process["roles"]:
            role.pop("data_lag", None)  # a storage server that does not answer
    assert [gate.name for gate in status.bears(behind, LIMITS).failing] == ["every storage server caught up"]
    assert not status.bears(None, LIMITS).ok


# --- another minor version


def minor(**more) -> UpgradeTarget:
    return target(MINOR, **more)


def test_a_minor_version_is_clients_first_then_backup_then_the_switch():
    assert actions(seen(), minor()) == [
        "stage", "clients_first", "clients_speak", "backup", "switch_command", "bounce_old", "stragglers", "link",
        "take_library", "healthy",
    ]  # fmt: skip


def test_clients_that_have_both_libraries_are_left_alone():
    ready = client(OLD, MINOR, external=frozenset({MINOR}))
    found = actions(seen(None, server(OLD, MINOR), ready, backup=10.0), minor())
    assert found[:2] == ["switch_command", "bounce_old"]


def test_backup_agents_speak_one_version_and_follow_the_servers():
    agents = client(OLD, MINOR, follows=True)
    found = seen(None, server(OLD, MINOR), client(OLD, MINOR, external=frozenset({MINOR})))
    found = dataclasses.replace(found, clients={**found.clients, "metrics1": agents}, backup=10.0)
    steps = upgrade_plan.upgrade(found, minor()).steps
    assert steps[0].action == "switch_command"
    (last,) = (step for step in steps if step.action == "take_library")
    assert "metrics1" in last.arguments


def test_after_the_switch_of_a_minor_version_nothing_waits_for_clients():
    half = seen(None, server(OLD, MINOR, configured=MINOR), client(OLD, MINOR, external=frozenset({MINOR})))
    assert actions(half, minor())[0] == "bounce_old"
    # The old tool finds no process any more, as they are incompatible now.
    bounced = server(OLD, MINOR, configured=MINOR, running=frozenset({MINOR}))
    down = seen(document("never_created"), bounced, client(OLD, MINOR))
    assert actions(down, minor())[:2] == ["stragglers", "link"]


def test_a_mixture_is_mended_on_its_hosts_because_no_tool_finds_a_majority():
    """As where the kill did not reach all, or where a process ended by itself between switch and bounce."""
    half = seen(document("no_quorum"), server(OLD, MINOR, configured=MINOR), client(OLD, MINOR))
    new = server(OLD, MINOR, configured=MINOR, running=frozenset({MINOR}))
    half = dataclasses.replace(half, servers={**half.servers, "fdb1": new, "fdb2": new})
    first = upgrade_plan.upgrade(half, minor()).steps[0]
    assert (first.action, first.arguments) == ("stragglers", ("fdb3", "fdb4", "fdb5"))
    assert f"{MINOR} to {OLD} goes back across minor versions" in refusals(half, target(OLD))


def test_before_the_bounce_it_can_be_given_up():
    switched = server(OLD, MINOR, configured=MINOR)
    both = client(OLD, MINOR, external=frozenset({MINOR}), running=(OLD, MINOR))
    assert actions(seen(None, switched, both, backup=10.0), target(OLD)) == [
        "switch_command", "take_library", "healthy"
    ]  # fmt: skip


def test_workers_that_were_not_restarted_before_it_was_interrupted_are():
    ready = client(OLD, MINOR, external=frozenset({MINOR}), workers=(frozenset({OLD, MINOR}),))
    assert actions(seen(None, server(OLD, MINOR), ready, backup=10.0), minor())[0] == "switch_command"
    half = dataclasses.replace(ready, workers=(frozenset({OLD, MINOR}), frozenset({OLD})))
    assert actions(seen(None, server(OLD, MINOR), half, backup=10.0), minor())[0] == "clients_first"


def test_no_backup_at_all():
    assert "fdb_backup_url is empty" in refusals(seen(), minor(backed_up=False))
    switched = server(OLD, MINOR, configured=MINOR)
    assert actions(seen(None, switched), minor(backed_up=False))[0] == "stage"


def test_the_longer_procedure_can_be_asked_for():
    assert "clients_first" in actions(seen(), target(procedure="minor"))


def with_clients(*connected: str) -> UpgradeSeen:
    """A worker of app1, a stranger, a server and somebody unknown of the old version; a worker of both."""
    document_ = document("healthy")
    document_["cluster"]["clients"] = {
        "supported_versions": [
            {
                "client_version": OLD,
                "max_protocol_clients": [
                    {"address": f"{each}:tls"} for each in (WORKER, STRANGER, "192.0.2.31:5000")
                ],
            },
            {"client_version": "Unknown", "max_protocol_clients": [{"address": "192.0.2.98:1"}]},
            {"client_version": MINOR, "max_protocol_clients": [{"address": "192.0.2.22:4711"}]},
        ]
    }
    found = seen(document_, server(OLD, MINOR), client(OLD, MINOR, external=frozenset({MINOR})), backup=10.0)
    return _with_peers(found, "fdb1", "192.0.2.31:5000", *connected)


def _with_peers(found: UpgradeSeen, name: str, *peers: str) -> UpgradeSeen:
    changed = dataclasses.replace(found.servers[name], peers=frozenset(peers))
    return dataclasses.replace(found, servers={**found.servers, name: changed})


WORKER, STRANGER = "192.0.2.21:4711", "192.0.2.99:5022"
OF_INVENTORY = {
    "own": frozenset(f"192.0.2.{n}" for n in range(31, 36)),
    "ours": frozenset({"192.0.2.21", "192.0.2.22"}),
}


def test_a_client_that_is_only_listed_any_more_holds_nothing_up():
    gone = with_clients()
    assert upgrade_plan.lagging(gone, minor(**OF_INVENTORY)) == []
    assert actions(gone, minor(**OF_INVENTORY))[0] == "switch_command"


def test_where_a_server_does_not_tell_its_connections_nobody_counts_as_gone():
    blind = _with_peers(with_clients(), "fdb2")
    assert upgrade_plan.lagging(blind, minor(**OF_INVENTORY)) == [f"{WORKER} ({OLD})", f"{STRANGER} ({OLD})"]


def test_a_worker_with_the_old_library_alone_is_waited_for():
    found = with_clients(WORKER)
    assert upgrade_plan.lagging(found, minor(**OF_INVENTORY)) == [f"{WORKER} ({OLD})"]
    assert actions(found, minor(**OF_INVENTORY))[0] == "clients_speak"
    assert (
        upgrade_plan.lagging(found, target(procedure="minor", **OF_INVENTORY)) == []
    )  # the same minor speaks to it


def test_a_stranger_that_would_be_cut_off_is_named_before_anything_changes():
    found = with_clients(STRANGER)
    said = refusals(found, minor(**OF_INVENTORY))
    assert f"{STRANGER} ({OLD})" in said and "--cut-off" in said
    assert actions(found, minor(**OF_INVENTORY, cut_off=True))[0] == "switch_command"
    # It is no leave to cut off one's own.
    assert actions(with_clients(STRANGER, WORKER), minor(**OF_INVENTORY, cut_off=True))[0] == "clients_speak"
    # What was begun is finished: who is cut off by then is so already.
    switched = dataclasses.replace(
        found, servers={name: dataclasses.replace(host, configured=MINOR) for name, host in found.servers.items()}
    )
    assert not upgrade_plan.upgrade(switched, minor(**OF_INVENTORY)).refusals


# --- refusals


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mid_recovery", "the cluster is not healthy: recovery state: all_logs_recruited"),
        ("one_machine_lost", "processes in the cluster: 4, without 192.0.2.34:4500"),
        ("two_machines_lost", "zones to lose without losing data: 0"),
        ("never_created", "the cluster is not healthy: available: false"),
        ("no_quorum", "coordinators' quorum: false"),
    ],
)
def test_an_unhealthy_cluster(name, expected):
    assert expected in refusals(seen(document(name)))


def test_without_any_answer():
    assert "available: missing" in refusals(UpgradeSeen(None, {"fdb1": server()}, {}))


def test_data_that_move():
    moving = document("healthy")
    moving["cluster"]["data"]["state"] = {"healthy": False, "name": "healing", "min_replicas_remaining": 2}
    assert "data healthy: false" in refusals(seen(moving))


def test_a_recovery_too_recent():
    strict = dataclasses.replace(LIMITS, recovered_seconds=86_400)
    assert "seconds since last recovery" in refusals(seen(), UpgradeTarget(NEW, ENDPOINTS, strict))


def test_versions_mixed_by_somebody_else():
    odd = with_versions("7.3.75", OLD, OLD, OLD, OLD)
    assert "processes run 7.3.75 (fdb1) and 7.3.77 (fdb2, fdb3, fdb4, fdb5): a mixture" in refusals(seen(odd))
    ahead = with_versions(NEW, OLD, OLD, OLD, OLD)
    assert "some processes run 7.3.78 (fdb1) already, and no upgrade has made them" in refusals(seen(ahead))
    assert actions(seen(ahead, **SWITCHED), target())[0] == "bounce"


def test_back_across_a_minor_version():
    assert "7.3.77 to 7.1.61 goes back across minor versions" in refusals(seen(), target("7.1.61"))


def test_a_minor_version_zone_by_zone():
    assert "cannot be rolled zone by zone" in refusals(seen(), minor(rolling=True))


def test_too_little_disk_is_named_by_host():
    full = seen(None, server(free_bytes=100 * 1024**2))
    line = "fdb3: 100 MiB free in /opt, 600 MiB are needed to stage 7.3.78"
    assert line in refusals(full, target(needed_bytes=600 * 1024**2))
    staged = seen(None, server(OLD, NEW, free_bytes=0), client(OLD, NEW, free_bytes=0))
    assert actions(staged, target(needed_bytes=600 * 1024**2))[0] == "switch"


def test_packages_that_cannot_be_had_come_before_everything_else():
    line = "foundationdb-server_7.3.79-1_amd64.deb: wrong checksum, refused"
    assert refusals(seen(document("no_quorum")), target(problem=line)) == line


# --- hosts, and the screen


def test_a_host_is_read():
    installed = Installed(releases={OLD: BOTH}, current=OLD, configured=OLD)
    lines = [
        f"running /opt/foundationdb/{OLD}/sbin/fdbserver",
        "free 1234",
    ]
    one = frozenset({OLD})
    assert parse_host(installed, lines) == HostSeen({OLD: BOTH}, OLD, OLD, one, free_bytes=1234)
    lines = [
        "external /opt/foundationdb/clients/libfdb_c_7.4.6.so",
        f"worker /opt/foundationdb/{NEW}/lib/libfdb_c.so /opt/foundationdb/{MINOR}/lib/libfdb_c.so",
        "worker",
    ]
    assert parse_host(installed, ["peer 192.0.2.21:4711"]).peers == {"192.0.2.21:4711"}
    found = parse_host(Installed(releases={OLD: CLIENT}, current=OLD), lines)
    both = frozenset({NEW, MINOR})
    assert (found.external, found.running, found.configured) == (frozenset({MINOR}), both, "")
    assert found.workers == (both,)


def shown(name: str | None, unreachable=(), operation=None) -> str:
    hosts = {"fdb1": server(OLD, NEW), "app1": client()}
    doc = document(name) if name else None
    found = screen.summary(doc, LIMITS, hosts, unreachable, operation)
    json.dumps(found)
    return "\n".join(screen.screen("lab", found))


def test_the_screen_of_a_healthy_cluster():
    text = shown("healthy")
    assert text.startswith("FoundationDB of lab: triple ssd-2, 7.3.77: available, healthy")
    assert "RED" not in text and "5 of 5 reachable" in text and "the loss of 2 zones" in text
    assert "192.0.2.31:4500" in text and "7.3.77, 7.3.78" in text


def test_the_screen_with_a_machine_lost():
    text = shown("one_machine_lost", unreachable=["fdb4"])
    assert "4 of 5 reachable; not 192.0.2.34:4500" in text and "no answer     by ssh from fdb4" in text
    assert "RED processes in the cluster: 4, without 192.0.2.34:4500" in text


@pytest.mark.parametrize("name", ["no_quorum", "never_created", None])
def test_the_screen_of_a_database_that_is_down(name):
    text = shown(name)
    assert "NOT AVAILABLE" in text and "RED available" in text
    assert "the database named none" in text and "fdb1" in text


def test_the_screen_names_who_is_at_work():
    operation = {"operation": "fdb upgrade 7.3.78", "owner": "ada@desk", "started": "2026-01-01T00:00:00+00:00"}
    assert "fdb upgrade 7.3.78, by ada@desk since 2026" in shown("healthy", operation=operation)


def test_every_document_with_a_field_less_still_gives_a_screen():
    whole = document("healthy")
    for section in ("client", "cluster"):
        for key in whole[section]:
            partial = copy.deepcopy(whole)
            del partial[section][key]
            assert screen.screen("lab", screen.summary(partial, LIMITS, {}, (), None))


# --- the world has changed meanwhile


def absent(doc: dict, *names: str) -> dict:
    """Processes that the cluster does not know any more."""
    gone = frozenset().union(*(ENDPOINTS[name] for name in names))
    found = doc["cluster"]["processes"]
    doc["cluster"]["processes"] = {key: each for key, each in found.items() if each["address"] not in gone}
    return doc


def without_host(what: UpgradeSeen, name: str) -> UpgradeSeen:
    return dataclasses.replace(what, servers={n: host for n, host in what.servers.items() if n != name})


def test_a_host_that_is_off_is_no_reason_to_bounce_the_others_again():
    lost = seen(absent(with_versions(*ALL_NEW), "fdb3"), SWITCHED["servers"], client(OLD, NEW))
    assert actions(without_host(lost, "fdb3"), target()) == ["take_library", "healthy"]


def test_a_host_that_comes_back_as_it_was_is_switched_and_bounced_alone():
    late = seen(with_versions(NEW, NEW, OLD, NEW, NEW), SWITCHED["servers"], DONE_CLIENT)
    late = dataclasses.replace(late, servers={**late.servers, "fdb3": server(OLD, NEW)})
    steps = upgrade_plan.upgrade(late, target()).steps
    assert [(step.action, step.arguments) for step in steps] == [
        ("switch", ("fdb3",)),
        ("bounce", ("fdb3",)),
        ("healthy", ()),
    ]


def test_where_the_cluster_does_not_say_a_version_its_host_does():
    """As of a process that has just started, and of one that the cluster does not know."""
    for doc in (with_versions(NEW, NEW, "", NEW, NEW), absent(with_versions(*ALL_NEW), "fdb3")):
        old = seen(doc, SWITCHED["servers"], DONE_CLIENT)
        new = dataclasses.replace(SWITCHED["servers"], running=frozenset({NEW}))
        back = dataclasses.replace(old, servers=dict.fromkeys(ENDPOINTS, new))
        late = dataclasses.replace(back, servers={**back.servers, "fdb3": SWITCHED["servers"]})
        assert upgrade_plan.upgrade(late, target()).steps[0].arguments == ("fdb3",)
        assert "bounce" not in actions(back, target())


HOSTS = {next(iter(every)).partition(":")[0]: name for name, every in ENDPOINTS.items()} | {"192.0.2.36": "fdb6"}


def with_stranger(endpoint: str, version: str = OLD, doc: dict | None = None) -> dict:
    doc = doc or document("healthy")
    found = doc["cluster"]["processes"]
    found["stranger"] = {**copy.deepcopy(next(iter(found.values()))), "address": endpoint, "version": version}
    return doc


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        ("192.0.2.36:4500", "put fdb6 into group spare, ./griddle fdb remove fdb6"),
        ("192.0.2.33:4510", "`exclude 192.0.2.33:4510` in fdbcli"),
        ("192.0.2.99:4500", "no host of the inventory has that address"),
    ],
)
def test_a_process_that_the_inventory_does_not_have_is_refused(endpoint, expected):
    said = refusals(seen(with_stranger(endpoint)), target(hosts=HOSTS))
    assert expected in said and f"{endpoint} ({OLD})" in said and len(said.splitlines()) == 1
    # Also where an upgrade was interrupted before its bounce; after that clients and gates come first.
    assert expected in refusals(seen(with_stranger(endpoint), **SWITCHED), target(hosts=HOSTS))
    bounced = with_stranger(endpoint, doc=with_versions(*ALL_NEW))
    assert actions(seen(bounced, **SWITCHED), target(hosts=HOSTS)) == ["take_library", "healthy"]
    wanted = dataclasses.replace(LIMITS, version=NEW)
    (gate,) = [gate for gate in status.judge(bounced, wanted).gates if gate.name == "one version"]
    assert gate.seen == f"{OLD} ({endpoint}), {NEW}"


def test_foundationdb_conf_that_was_edited_is_written_anew_before_the_bounce():
    edited = seen(**SWITCHED)
    edited = dataclasses.replace(
        edited, servers={**edited.servers, "fdb2": dataclasses.replace(edited.servers["fdb2"], edited=True)}
    )
    first = upgrade_plan.upgrade(edited, target()).steps[0]
    assert first.arguments == ("fdb2",) and "foundationdb.conf of fdb2 was another" in first.name
    # What needs no restart is an apply's.
    done = dataclasses.replace(edited, document=with_versions(*ALL_NEW), clients={})
    assert actions(done, target()) == []


def test_what_somebody_has_done_by_hand_is_named_with_what_to_do():
    doc = document("healthy")
    doc["cluster"]["maintenance_zone"] = "fdb2"
    doc["cluster"]["database_lock_state"] = {"locked": True, "lock_id": "abc"}
    process = next(p for p in doc["cluster"]["processes"].values() if p["address"] == "192.0.2.33:4500")
    process["excluded"] = True
    said = refusals(seen(doc), target(hosts=HOSTS)).splitlines()
    assert [line.removeprefix("the cluster is not healthy: ") for line in said] == [
        "no process excluded: 192.0.2.33:4500 (fdb3) (./griddle fdb remove what shall leave, or `include` it in "
        "fdbcli)",
        "no zone under maintenance: fdb2 (once that work is done: `maintenance off` in fdbcli)",
        "database locked: true, by abc (a restore goes on by the same ./griddle fdb restore; "
        "else `unlock` with that ID in fdbcli)",
    ]


def test_links_and_commands_of_somebody_elses_making_name_no_version():
    lines = "current /usr/lib/foundationdb", "configured current"
    found = Installation().process(list(lines))
    assert (found.current, found.configured) == ("", "")
    assert Installation().process(["current /opt/foundationdb/7.3.78/"]).current == NEW
