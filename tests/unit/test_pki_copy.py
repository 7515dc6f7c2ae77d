"""A CA's way to another operator's machine, and which of two copies is the newer one."""

import itertools
import json
import os
import subprocess
import sys

import pytest

from cluster.errors import UserError
from cluster.paths import ROOT
from cluster.pki import ca_state
from cluster.pki.authority import Authority
from cluster.pki.ca_state import CertificatesSeen, State
from ops import pki, pki_copy

WORDS = "correct horse battery"


def sealed(authority):
    return pki_copy.seal(pki_copy.pack("lab", authority.files()), WORDS)


@pytest.fixture
def authority(tmp_path):
    made = Authority("lab", tmp_path / "here")
    made.make()
    return made


@pytest.fixture(autouse=True)
def passphrase(monkeypatch):
    monkeypatch.setenv(pki.PASSPHRASE, WORDS)


def carry(text, tmp_path, to="there"):
    file = tmp_path / "lab.pki"
    file.write_text(text)
    pki.import_(str(file), clusters=tmp_path / to)
    return Authority("lab", tmp_path / to)


def test_it_is_the_same_ca_there_and_says_nothing_to_who_has_the_file_alone(authority, tmp_path):
    authority.certificate("app1", "192.0.2.21")
    text = sealed(authority)
    assert text.isascii() and "PRIVATE" not in text and authority.state.issuer not in text
    there = carry(text, tmp_path)
    assert there.state == authority.state and there.files() == authority.files()
    assert {path.stat().st_mode & 0o777 for path in there.directory.iterdir()} == {0o600}
    assert there.prefers("app1", "192.0.2.21", "host", authority.certificate("app1", "192.0.2.21").certificate)


def test_a_wrong_passphrase_or_a_changed_byte_is_refused_and_changes_nothing(authority, tmp_path):
    text = sealed(authority)
    with pytest.raises(UserError, match="another passphrase"):
        pki_copy.unseal(text, "wrong horse battery", "f")
    at = len(text) - 40
    for broken in (
        text[:at],
        text[:at] + ("B" if text[at] == "A" else "A") + text[at + 1 :],
        text.splitlines()[0],
    ):
        with pytest.raises(UserError, match="damaged"):
            carry(broken, tmp_path)
    assert not (tmp_path / "there").exists()


def test_what_is_no_whole_copy_is_refused(authority, tmp_path):
    files = authority.files()
    (key,) = [name for name in files if name.endswith(".key")]
    other = Authority("lab", tmp_path / "other")
    other.make()
    (wrong,) = [text for name, text in other.files().items() if name.endswith(".key")]
    without = {name: text for name, text in files.items() if name != key}
    good = json.loads(pki_copy.pack("lab", files))
    for document in (
        "", "[]", "{}", json.dumps(good | {"cluster": "../lab"}), json.dumps(good | {"format": "griddle pki 9"}),
        pki_copy.pack("lab", without), pki_copy.pack("lab", files | {key: wrong}),
    ):  # fmt: skip
        with pytest.raises(UserError):
            carry(document, tmp_path)
    assert not (tmp_path / "there").exists()


def test_files_that_the_state_does_not_name_are_not_taken(authority, tmp_path):
    there = carry(pki_copy.pack("lab", authority.files() | {"../../evil": "x"}), tmp_path)
    assert {path.name for path in there.directory.iterdir()} == {*authority.files(), "lock"}


def test_a_newer_copy_replaces_and_an_older_one_does_not(authority, tmp_path):
    copies = [pki_copy.pack("lab", authority.files())]
    for take in (authority.advance, authority.applied) * 3:
        take()
        copies.append(pki_copy.pack("lab", authority.files()))
    for copy in copies:
        there = carry(copy, tmp_path)
    assert there.state == authority.state
    assert {path.name for path in there.directory.glob("ca-*")} == {
        f"ca-{there.state.issuer}.{x}" for x in ("crt", "key")
    }
    for old in copies[:-1]:
        with pytest.raises(UserError, match="is older than the CA"):
            carry(old, tmp_path)
    assert Authority("lab", tmp_path / "there").state == authority.state


def test_another_ca_is_refused(authority, tmp_path):
    other = Authority("lab", tmp_path / "there")
    other.make()
    with pytest.raises(UserError, match="holds another CA"):
        carry(sealed(authority), tmp_path)
    assert Authority("lab", tmp_path / "there").bundle() == other.bundle()


def griddle(tmp_path, machine, *arguments, stdin=None, **environment):
    return subprocess.run(
        [sys.executable, "-m", "ops.cli.main", "pki", *arguments],
        cwd=ROOT, input=stdin, capture_output=True, text=True, start_new_session=True,
        env=os.environ | {"GRIDDLE_STATE": str(tmp_path / machine)} | environment,
    )  # fmt: skip


def test_the_commands(tmp_path, monkeypatch):
    Authority("prod", tmp_path / "a" / "clusters").make()
    file = tmp_path / "prod.pki"
    for words in ("short", None):
        monkeypatch.delenv(pki.PASSPHRASE, raising=False)
        given = {pki.PASSPHRASE: words} if words else {}
        refused = griddle(tmp_path, "a", "export", "prod", str(file), **given)
        assert refused.returncode == 2 and "passphrase" in refused.stderr and refused.stderr.count("\n") == 1
    assert not file.exists()
    refused = griddle(tmp_path, "a", "export", "prod", str(tmp_path), **{pki.PASSPHRASE: WORDS})
    assert refused.returncode == 2 and "cannot be written" in refused.stderr
    secret = tmp_path / "passphrase"
    secret.write_text(f"{WORDS}\n")
    done = griddle(tmp_path, "a", "export", "prod", str(file), "--passphrase-file", str(secret))
    assert done.returncode == 0, done.stderr
    assert WORDS not in done.stdout + done.stderr
    done = griddle(tmp_path, "b", "import", str(file), **{pki.PASSPHRASE: WORDS})
    assert done.returncode == 0, done.stderr
    # a pipe, as into age and out of it
    piped = griddle(tmp_path, "b", "export", "prod", "-")
    assert griddle(tmp_path, "c", "import", "-", stdin=piped.stdout).returncode == 0
    states = [Authority("prod", tmp_path / machine / "clusters").files() for machine in "abc"]
    assert states[0] == states[1] == states[2]


# --- which copy is newer: pure


def a_rotation():
    state, states = State(("a",), "a"), []
    for name in ("b", "c"):
        for _ in range(3):
            states += [state, state := state.advanced(name)]
            state = state.applied()
    return [*states, state]


def test_each_state_is_newer_than_those_before_it():
    states = list(dict.fromkeys(a_rotation()))
    assert len(states) == 13
    for (at, one), (then, other) in itertools.product(enumerate(states), repeat=2):
        assert one.against(other) == ("same" if at == then else "older" if at < then else "newer"), (one, other)


def test_states_that_went_different_ways_are_apart():
    before = State(("a",), "a")
    assert before.advanced("b").against(before.advanced("c")) == "apart"
    assert State(("a",), "a").against(State(("b",), "b")) == "apart"


def test_a_state_reads_back_and_an_older_one_without_notes_is_applied_once_more():
    for state in a_rotation():
        assert ca_state.parse(state.text(), "here") == state
    assert ca_state.parse('{"trusted": ["a", "b"], "issuer": "a"}', "here").pending
    assert not ca_state.parse('{"trusted": ["a"], "issuer": "a"}', "here").pending


def hosts_at(state):
    """What a host has where a state is in force."""
    return CertificatesSeen((state.trusted, state.trusted), frozenset({state.issuer}))


def test_of_two_machines_the_one_that_is_behind_the_hosts_is_refused_in_every_phase():
    states = [state for state in dict.fromkeys(a_rotation()) if not state.pending]
    for (at, mine), (then, there) in itertools.product(enumerate(states), repeat=2):
        said = ca_state.refusal("lab", mine, {"app1": hosts_at(there), "fdb1": CertificatesSeen()}, ["app2"])
        assert bool(said) == (at < then), (mine, there, said)
        if said:
            assert "rotated elsewhere" in said and "import" in said


def test_a_phase_that_has_reached_some_hosts_only_is_gone_on_with():
    for before, after in itertools.pairwise(state for state in a_rotation() if not state.pending):
        hosts = {
            "app1": hosts_at(before),
            "app2": hosts_at(after),
            "app3": CertificatesSeen((before.trusted, after.trusted)),
        }
        assert ca_state.refusal("lab", after, hosts, []) is None
        assert ca_state.refusal("lab", before, hosts, []), "the other machine, meanwhile"


def test_no_ca_is_made_where_a_host_has_one_or_was_not_asked():
    assert ca_state.refusal("lab", None, {"app1": CertificatesSeen()}, []) is None
    assert "app1" in ca_state.refusal(
        "lab", None, {"app1": CertificatesSeen((("a",),)), "app2": CertificatesSeen()}, []
    )
    assert "app1" in ca_state.refusal("lab", None, {"app1": CertificatesSeen((), frozenset("a"))}, [])
    assert "app2" in ca_state.refusal("lab", None, {"app1": CertificatesSeen()}, ["app2"])


def test_a_host_of_another_cluster_is_named_and_so_is_another_ca_on_all():
    mine = State(("a",), "a")
    said = ca_state.refusal("lab", mine, {"app1": hosts_at(mine), "app9": hosts_at(State(("x",), "x"))}, [])
    assert said.startswith("app9: ")
    assert "this machine's is a" in ca_state.refusal("lab", mine, {"app9": hosts_at(State(("x",), "x"))}, [])
