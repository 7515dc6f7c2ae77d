"""The CA: what it issues, its rotation under kills, two operators' copies of it."""

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest
from cryptography import x509

from cluster.errors import Failure, UserError
from cluster.pki.authority import Authority, seen
from deploys.framework import authority as run
from ops import pki
from tests.unit import clusters

HOSTS = {"app1": "192.0.2.21", "app2": "192.0.2.22"}


@pytest.fixture
def authority(tmp_path):
    made = Authority("lab", tmp_path)
    made.make()
    return made


def verify(tmp_path, bundle: str, certificate: str) -> bool:
    """Whether openssl accepts the certificate for both of its uses."""
    (tmp_path / "bundle.pem").write_text(bundle)
    (tmp_path / "cert.pem").write_text(certificate)
    return all(
        subprocess.run(
            ["openssl", "verify", "-CAfile", tmp_path / "bundle.pem", "-purpose", purpose, tmp_path / "cert.pem"],
            capture_output=True,
        ).returncode
        == 0
        for purpose in ("sslserver", "sslclient")
    )


def test_certificates_verify_and_are_issued_once(authority, tmp_path):
    pair = authority.certificate("app1", "192.0.2.21")
    assert verify(tmp_path, authority.bundle(), pair.certificate)
    assert authority.certificate("app1", "192.0.2.21") == pair
    assert Authority("lab", tmp_path).certificate("app1", "192.0.2.21") == pair


def test_a_new_address_gets_a_new_certificate(authority):
    assert authority.certificate("app1", "192.0.2.21") != authority.certificate("app1", "192.0.2.99")


def test_a_pair_of_which_one_file_is_another_ones_is_issued_anew(authority):
    pair, other = authority.certificate("app1", "192.0.2.21"), authority.certificate("app2", "192.0.2.22")
    (authority.directory / "app1.host.key").write_text(other.key)
    assert authority.certificate("app1", "192.0.2.21") not in (pair, other)
    (authority.directory / "app2.host.key").unlink()
    assert authority.certificate("app2", "192.0.2.22") != other


def test_keys_are_private(authority):
    authority.certificate("app1", "192.0.2.21")
    assert {path.stat().st_mode & 0o777 for path in authority.directory.glob("*.key")} == {0o600}


def test_nothing_is_written_before_it_is_saved(tmp_path):
    dry = Authority("lab", tmp_path, deferred=True)
    dry.make()
    pair = dry.certificate("app1", "192.0.2.21")
    assert verify(tmp_path, dry.bundle(), pair.certificate)
    assert not dry.directory.exists()
    dry.save()
    assert Authority("lab", tmp_path).certificate("app1", "192.0.2.21") == pair


def test_of_two_processes_that_change_the_ca_one_is_refused(tmp_path):
    one, other = (Authority("lab", tmp_path, deferred=True) for _ in range(2))
    one.make(), other.make()
    one.save()
    with pytest.raises(Failure, match="run it again"):
        other.save()
    assert Authority("lab", tmp_path).bundle() == one.bundle()


def test_a_damaged_state_is_one_line(authority, tmp_path):
    for text in ("", "{", "[]", '{"trusted": ["a"]}', '{"trusted": ["../a"], "issuer": "../a"}'):
        (authority.directory / "state.json").write_text(text)
        with pytest.raises(UserError, match=r"state.json is damaged"):
            Authority("lab", tmp_path)


@pytest.mark.parametrize("name", ["state.json", "app1.host.crt"])
@pytest.mark.parametrize("content", [None, b"\xff\xfe", b"{}"])
def test_what_cannot_be_read_is_one_line(authority, tmp_path, name, content):
    """As root's files are, after a run by sudo; or nonsense."""
    authority.certificate("app1", "192.0.2.21")
    file = authority.directory / name
    file.unlink()
    if content is None:
        file.mkdir()
    else:
        file.write_bytes(content)
    with pytest.raises(UserError) as refusal:
        Authority("lab", tmp_path).expires()
    assert str(file) in str(refusal.value) and "\n" not in str(refusal.value)


def test_a_lost_key_is_one_line(authority):
    next(authority.directory.glob("ca-*.key")).unlink()
    with pytest.raises(UserError, match="is missing"):
        authority.certificate("app1", "192.0.2.21")


# --- two operators


def test_of_two_certificates_for_a_host_the_later_one_stays_on_both_machines(tmp_path):
    here, there = Authority("lab", tmp_path / "here"), Authority("lab", tmp_path / "there")
    here.make()
    there.replace(here.state, here.files())
    mine, others = (each.certificate("app1", "192.0.2.21") for each in (here, there))
    assert mine != others

    def after_an_apply_of(machine, on_host):
        if machine.prefers("app1", "192.0.2.21", "host", on_host.certificate):
            machine.adopt("app1", "host", on_host)
        return machine.certificate("app1", "192.0.2.21")

    on_host = mine
    first_round = [on_host := after_an_apply_of(machine, on_host) for machine in (there, here, there, here)]
    assert len({pair.certificate for pair in first_round}) == 1


def test_a_hosts_certificate_is_not_taken_for_another_address_or_without_its_key(authority, tmp_path):
    other = Authority("lab", tmp_path / "other")
    other.replace(authority.state, authority.files())
    pair, wrong = other.certificate("app1", "192.0.2.21"), other.certificate("app2", "192.0.2.22")
    assert not authority.prefers("app1", "192.0.2.99", "host", pair.certificate)
    authority.adopt("app1", "host", type(pair)(pair.certificate, wrong.key))
    assert authority.certificate("app1", "192.0.2.21") != pair


# --- rotation


def test_rotation_never_presents_what_is_not_trusted_yet(authority, tmp_path):
    def pair():
        return authority.certificate("app1", "192.0.2.21").certificate

    old_bundle, old = authority.bundle(), pair()
    assert authority.advance() == "trust"
    trusting = authority.bundle()
    assert pair() == old
    assert verify(tmp_path, trusting, old)
    assert authority.advance() == "issue"
    assert authority.bundle() == trusting
    new = pair()
    assert new != old
    assert verify(tmp_path, trusting, new) and not verify(tmp_path, old_bundle, new)
    assert authority.advance() == "steady"
    assert pair() == new
    assert verify(tmp_path, authority.bundle(), new) and not verify(tmp_path, authority.bundle(), old)
    assert len(list(authority.directory.glob("ca-*"))) == 2


def test_two_rotations_at_once_are_refused_with_the_others_name(authority, tmp_path, monkeypatch):
    monkeypatch.setattr(pki, "CLUSTERS", tmp_path)
    monkeypatch.setattr(pki, "Authority", lambda cluster: Authority(cluster, tmp_path))

    def another(inventory, dry=False):
        with pytest.raises(UserError, match=rf"griddle pki rotate lab.*process {os.getpid()}"):
            pki.rotate("lab")
        raise Failure("enough")

    monkeypatch.setattr(pki, "_apply", another)
    monkeypatch.setattr(pki, "hosts", mock.Mock())
    monkeypatch.setattr(pki.lock, "held", lambda *of: contextlib.nullcontext())
    with pytest.raises(Failure, match="enough"):
        pki.rotate("lab")


class Fleet:
    """Hosts as directories: bundle and certificate of each, as the CA in the operator's state has them."""

    def __init__(self, clusters: Path, hosts: Path) -> None:
        self.clusters, self.hosts = clusters, hosts

    def apply(self, inventory: str = "", dry: bool = False) -> None:
        authority = Authority("lab", self.clusters)
        for host, address in HOSTS.items() if not dry else ():
            pair = authority.certificate(host, address)
            for name, text in (("ca.crt", authority.bundle()), ("member.crt", pair.certificate)):
                fresh = self.hosts / f"{host}-{name}.new"
                fresh.write_text(text)
                fresh.rename(self.hosts / f"{host}-{name}")

    def strangers(self) -> list[str]:
        """Hosts of which another one does not trust the certificate."""
        return [
            f"{host} by {other}"
            for host, other in itertools.product(HOSTS, HOSTS)
            if not any(_issued(self._read(host, "member.crt"), ca) for ca in self._cas(other))
        ]

    def trusted(self) -> set[str]:
        return {ca.subject.rfc4514_string() for host in HOSTS for ca in self._cas(host)}

    def _cas(self, host: str) -> list[x509.Certificate]:
        return x509.load_pem_x509_certificates(self._read(host, "ca.crt"))

    def _read(self, host: str, name: str) -> bytes:
        return (self.hosts / f"{host}-{name}").read_bytes()


def _issued(certificate: bytes, ca: x509.Certificate) -> bool:
    try:
        x509.load_pem_x509_certificate(certificate).verify_directly_issued_by(ca)
    except Exception:
        return False
    return True


@pytest.fixture
def fleet(tmp_path):
    hosts = tmp_path / "hosts"
    hosts.mkdir()
    return Fleet(tmp_path / "clusters", hosts)


EFFECTS = ("os.rename", "os.remove", "os.truncate")


def rotate_killed(fleet: Fleet, at: int | None) -> bool:
    """A process that rotates and is killed before its effect number `at` on any file; whether it came to the end.

    The interpreter announces each effect itself (audit events), so none can be forgotten.
    """
    child = os.fork()
    if not child:
        code = 1
        try:
            count = itertools.count()
            top = str(fleet.hosts.parent)

            def watch(event: str, arguments: tuple) -> None:
                writes = event == "open" and bool((arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR))
                if (writes or event in EFFECTS) and str(arguments[0]).startswith(top) and next(count) == at:
                    os.kill(os.getpid(), signal.SIGKILL)

            os.fsync = lambda descriptor: None  # is for power loss, and slow
            pki.Authority = lambda cluster: Authority(cluster, fleet.clusters)
            pki._apply = fleet.apply
            # The cluster's lock is a matter of its own: here are no hosts to hold it.
            pki.hosts, pki.lock.held = mock.Mock(), lambda *of: contextlib.nullcontext()
            sys.addaudithook(watch)
            pki.rotate("lab", echo=lambda line: None)
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert status in (0, signal.SIGKILL), f"the process that rotates failed: {status}"
    return status == 0


def begun(fleet: Fleet) -> None:
    Authority("lab", fleet.clusters).make()
    fleet.apply()


def whole(fleet: Fleet, before: set[str]) -> None:
    """The rotation is complete: one CA on all hosts, not one of before, and none but its files here."""
    assert len(fleet.trusted()) == 1 and not fleet.trusted() & before
    state = json.loads((fleet.clusters / "lab/pki/state.json").read_text())
    assert len(state["trusted"]) == 1 and not state["pending"]
    assert not fleet.strangers()


def test_a_rotation_killed_before_any_of_its_effects_is_finished_by_the_next_one(fleet):
    begun(fleet)
    for at in itertools.count():
        before = fleet.trusted()
        ended = rotate_killed(fleet, at)
        assert not fleet.strangers(), f"killed at {at}"
        if ended:
            break
        assert rotate_killed(fleet, None), f"after a kill at {at}"
        whole(fleet, before)
        leftover = [path.name for path in (fleet.clusters / "lab/pki").iterdir() if path.name.startswith(".")]
        assert not leftover, f"killed at {at}"
    assert at > 50


def test_a_rotation_killed_again_and_again_comes_to_its_end_without_strangers(fleet):
    begun(fleet)
    before = fleet.trusted()
    for attempt in range(100):
        if rotate_killed(fleet, 30 + attempt % 7):
            break
        assert not fleet.strangers()
    whole(fleet, before)


# --- a run


class Host:
    """One that a run is connected to. What it has of the CA may change while the run waits to be confirmed."""

    def __init__(self, name: str, text: str) -> None:
        self.name, self.connected, self.text = name, True, text

    def get_fact(self, fact, **arguments):
        return fact().process(self.text.splitlines())


def test_a_run_that_another_operator_overtook_before_it_began_saves_nothing(authority, tmp_path, monkeypatch):
    bundle = f"file {run.BUNDLES[1]}\n{authority.bundle()}"
    host = Host("app1", bundle)
    saves = []
    monkeypatch.setattr(run, "Authority", lambda name, **how: Authority("lab", tmp_path, **how))
    monkeypatch.setattr(run.model, "cluster", lambda: clusters.cluster(cluster_name="lab"))
    monkeypatch.setattr(run, "inventory", [host])
    monkeypatch.setattr(run.operator_state, "save_when_executed", saves.append)
    run._authority.cache_clear()
    try:
        pair = run.authority().certificate("app1", "192.0.2.21")
        authority.advance()
        host.text = f"file {run.BUNDLES[1]}\n{authority.bundle()}"
        with pytest.raises(Failure, match="other certificates than when this run looked"):
            saves[0]()
        assert not (authority.directory / "app1.host.crt").exists() and pair
    finally:
        run._authority.cache_clear()


# --- what hosts have


def test_what_a_host_says_is_read_by_the_names_of_its_cas(authority):
    name = authority.state.issuer
    found = seen(
        [authority.bundle(), "", "no certificate"], [authority.certificate("app1", "192.0.2.21").certificate]
    )
    assert found.bundles == ((name,),) and found.issuers == {name}
