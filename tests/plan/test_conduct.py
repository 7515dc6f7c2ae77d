"""A conducted operation on fake hosts: what only reports fails nothing, and what is lost ends it in a line."""

import json
import re

import pytest

from tests.unit.clusters import HOSTS

DEPLOY = """
from deploys.conductor import conduct
from deploys.conductor.conduct import Plan, Step, Verb, conducted, conducts
from deploys.conductor.locking import locked


class Once(Verb):
    title = "drill once"
    done = False

    def look(self):
        return self.done

    def plan(self, seen):
        return Plan() if seen else Plan((Step("do it", "do"),))

    def actions(self):
        return {"do": self.do, "stage": self.stage}

    def stage(self, entry):
        self.staged = True

    def do(self, entry):
        (on,) = conduct.hosts(["app2"])
        conduct.run(on, "act-here", "do it")
        self.done = True


locked(Once.title)
if conducts("apps"):
    conducted(name="once | done", verb=Once())
"""
ETCD = {"lease/grant": '{"ID": "7"}', "kv/put": "{}", "lease/revoke": "{}"}
NONE = '{"operation": null, "answered": 0, "waited": 0, "failed": 0, "longest_ms": 0}'


@pytest.fixture
def once(fake, tmp_path, monkeypatch):
    """Runs the operation; responses by host go before those of a cluster where all is well."""
    report = tmp_path / "report.json"
    monkeypatch.setenv("GRIDDLE_REPORT", str(report))
    deploy = tmp_path / "once.py"
    deploy.write_text(DEPLOY)

    def run(**responses):
        well = {"/waits": NONE, **ETCD} | responses.pop("every", {})
        names = [name for hosts in HOSTS.values() for name in hosts]
        done = fake(
            str(deploy), store_engine="etcd", responses={name: well | responses.get(name, {}) for name in names}
        )
        return done, json.loads(report.read_text()) if report.is_file() else None

    return run


def test_it_is_done(once):
    done, report = once()
    assert done.returncode == 0, done.output
    assert report["outcome"] == "done" and "not_done" not in report
    assert re.fullmatch(r"\S+@\S+ \(pid \d+\)", report["owner"])


@pytest.mark.parametrize(
    ("responses", "said"),
    [
        ({"proxy2": {"/waits": "<html></html>"}}, "read what clients of proxy2 waited: not an answer of /waits"),
        ({"proxy2": {"/waits": '["list"]'}}, "read what clients of proxy2 waited: not an answer of /waits"),
        ({"proxy2": {"/waits": {"success": False, "stdout": "curl: (7) refused"}}}, "proxy2: waits: curl: (7)"),
        ({"every": {"lease/revoke": {"success": False}}}, "withdraw the announcement, which ends by itself"),
    ],
)
def test_what_only_reports_does_not_make_it_a_failure(once, responses, said):
    done, report = once(**responses)
    assert done.returncode == 0, done.output
    assert report["outcome"] == "done" and said in "\n".join(report["not_done"])
    assert f"not done: {report['not_done'][0]}" in done.output
    assert report["waits"]["answered"] == 0  # those of the other proxy


def test_a_report_that_cannot_be_written_is_no_reason_to_stop(once, tmp_path, monkeypatch):
    monkeypatch.setenv("GRIDDLE_REPORT", "/proc/nowhere/report.json")
    done, _ = once()
    assert done.returncode == 0 and "the report is not written: " in done.output, done.output


def test_what_failed_is_still_what_is_said(once):
    """Although, after it, nothing can be read either."""
    away = {"success": False, "stdout": "gone"}
    done, report = once(app2={"act-here": away}, proxy1={"/waits": away}, every={"lease/revoke": away})
    assert done.returncode == 1 and "drill once: app2: do it: gone" in done.output
    assert report["problem"] == "app2: do it: gone" and len(report["not_done"]) == 2
    assert "Traceback" not in done.output


def test_what_fails_on_one_of_several_hosts_is_said_in_a_line(once, tmp_path):
    deploy = tmp_path / "once.py"
    text = deploy.read_text()
    assert 'conduct.run(on, "act-here", "do it")' in text
    fail = 'conduct.on_all(["app1", "app2"], fail)'
    text = text.replace('conduct.run(on, "act-here", "do it")', fail)
    deploy.write_text(
        text.replace(
            "class Once", """def fail(on):
    raise Failure(f"{on.name}: could not be uploaded")


class Once""", 1,
        ).replace("from deploys.conductor import conduct", """from cluster.errors import Failure
from deploys.conductor import conduct""")
    )  # fmt: skip
    done, _ = once()
    assert done.returncode == 1 and "app1: could not be uploaded" in done.output, done.output
    assert "Traceback" not in done.output


def test_an_etcd_that_does_not_answer_is_said_in_a_line(once):
    done, _ = once(every={"lease/grant": {"success": False, "stdout": "curl: (7) Failed to connect"}})
    assert done.returncode == 1
    assert "drill once: etcd does not answer: " in done.output and "curl: (7)" in done.output
    assert "Traceback" not in done.output


def test_a_member_that_answers_nonsense_is_passed_over(once):
    done, _ = once(app1={name: "<html>" for name in ETCD}, app2={name: "[]" for name in ETCD})
    assert done.returncode == 0, done.output


def test_what_nobody_feels_is_done_before_the_operation_is_announced(once, tmp_path):
    deploy = tmp_path / "once.py"
    text = deploy.read_text().replace("done = False", "done, staged = False, False")
    both = '((Step("stage it", "stage", quiet=True),) * (not self.staged) + (Step("do it", "do"),))'
    text = text.replace('((Step("do it", "do"),))', both)
    deploy.write_text(text)
    done, report = once()
    assert done.returncode == 0, done.output
    assert [step["name"].split()[0] for step in report["steps"]] == ["stage", "announce", "do"]
    assert report["waits"]["answered"] == 0
