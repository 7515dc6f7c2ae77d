"""The database by way of its hosts: who is asked, and who next where one gives no answer."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from cluster.errors import Failure
from deploys.conductor import conduct
from deploys.foundationdb import database, status
from deploys.foundationdb.database import Database
from deploys.framework.remote import Unreachable

DOCUMENTS = Path(__file__).parent / "data" / "fdb_status"
HOSTS = ["fdb1", "fdb2", "fdb3"]


@pytest.fixture
def hosts(monkeypatch):
    """{host: what it answers, a document's name, lines, or a failure to raise}; and who was asked."""
    answers: dict[str, object] = {}
    asked: list[str] = []

    def run(on, command, what, seconds=60):
        asked.append(on.name)
        answer = answers[on.name]
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, list) else (DOCUMENTS / f"{answer}.json").read_text().splitlines()

    monkeypatch.setattr(conduct, "run", run)
    monkeypatch.setattr(conduct, "hosts", lambda names: [SimpleNamespace(name=n) for n in names if n in answers])
    monkeypatch.setattr(database, "POLL_SECONDS", 0)
    return SimpleNamespace(answers=answers, asked=asked)


def test_the_first_that_answers_is_asked_again(hosts):
    hosts.answers |= {"fdb1": "healthy", "fdb2": "healthy"}
    found = Database(HOSTS)
    assert status.is_available(found.look()) and status.is_available(found.look())
    assert hosts.asked == ["fdb1", "fdb1"]


@pytest.mark.parametrize("no_answer", [Unreachable("fdb1: no end"), [], "no_quorum"])
def test_where_one_gives_no_answer_the_next_is_asked_now_and_first_from_then_on(hosts, no_answer):
    hosts.answers |= {"fdb1": no_answer, "fdb2": "healthy", "fdb3": "healthy"}
    found = Database(HOSTS)
    assert status.is_available(found.look())
    assert found.do("kill", "kill")
    assert hosts.asked == ["fdb1", "fdb2", "fdb2"] and found.first == "fdb2"


def test_of_a_database_that_is_down_a_look_asks_two_and_the_next_look_others(hosts):
    hosts.answers |= {"fdb1": [], "fdb2": "no_quorum", "fdb3": Unreachable("fdb3: no end")}
    found = Database(HOSTS)
    assert found.look() == json.loads((DOCUMENTS / "no_quorum.json").read_text())
    assert found.look() is None
    assert hosts.asked == ["fdb1", "fdb2", "fdb3", "fdb1"]


def test_nobody_can_be_asked(hosts):
    with pytest.raises(Failure, match="no host of the database can be reached"):
        Database(HOSTS).look()
    hosts.answers |= {"fdb2": Unreachable("fdb2: no end within 40 s")}
    with pytest.raises(Unreachable, match="fdb2: no end within 40 s"):
        Database(HOSTS).look()


def test_who_may_not_go_on_asks_nobody_else(hosts):
    hosts.answers |= {"fdb1": Failure("the cluster's lock has ended"), "fdb2": "healthy"}
    with pytest.raises(Failure, match="lock has ended"):
        Database(HOSTS).look()
    assert hosts.asked == ["fdb1"]


def test_a_read_that_a_recovery_makes_fail_is_asked_again(monkeypatch, hosts):
    answers = ["ERROR: Request for future version (1009)", "ERROR: Operation aborted (1031)", "`a' is `b'"]

    def run(on, command, what, seconds):
        if (answer := answers.pop(0)).startswith("ERROR"):
            raise Unreachable(answer)
        return [answer]

    hosts.answers["fdb1"] = []
    monkeypatch.setattr(conduct, "run", run)
    assert Database(["fdb1"]).read("get a", "a key") == ["`a' is `b'"]
    answers[:] = ["ERROR: no such command"] * 2
    monkeypatch.setattr(database, "RECOVERY_SECONDS", -1)
    with pytest.raises(Failure, match="no such command"):
        Database(["fdb1"]).read("gte a", "a key")
