"""What a run does with the operator's own state: the CA, the seed of FoundationDB's cluster file."""

import pytest

from cluster.pki.authority import Authority
from deploys.framework.authority import BUNDLES, PAIRS

HOLDERS = ("app1", "app2", "app3", "proxy1", "proxy2", "metrics1")
ADDRESSES = {"app1": "192.0.2.21", "app2": "192.0.2.22", "app3": "192.0.2.23"}


@pytest.fixture
def clusters(tmp_path):
    """What `fake` has as the operator's clusters."""
    return tmp_path / "state" / "clusters"


@pytest.fixture
def others(tmp_path):
    """The CA as another operator's machine has it."""
    made = Authority("lab", tmp_path / "others")
    made.make()
    return made


def answers(authority, kind="client", bundle=None):
    """{host: its answer when it is asked for certificates}, of hosts that have them from this authority."""
    found = {}
    for host in HOLDERS:
        pair = authority.certificate(host, ADDRESSES.get(host, "192.0.2.1"), kind)
        (certificate,) = [certificate for each, certificate, _ in PAIRS[1:] if each == kind]
        text = f"file {BUNDLES[1]}\n{bundle or authority.bundle()}file {certificate}\n{pair.certificate}"
        found[host] = {"for file in": {"stdout": text}}
    return found


def refused(run, *words):
    (line,) = [line for line in run.output.splitlines() if line.startswith("griddle: ")]
    assert run.returncode == 2, run.output
    assert not run.operations
    assert "Traceback" not in run.output
    for word in words:
        assert word in line


def test_a_dry_run_on_bare_hosts_says_that_a_ca_would_be_made_and_keeps_nothing(fake, clusters):
    run = fake("deploys/all.py", "--dry", store_engine="etcd")
    assert run.returncode == 0, run.output
    assert "no host of lab has a certificate: an apply makes its CA" in run.output
    assert not list(clusters.glob("**/*"))


def test_the_first_apply_makes_the_ca(fake, clusters):
    run = fake("deploys/all.py", store_engine="etcd")
    assert run.returncode == 0, run.output
    made = Authority("lab", clusters)
    assert made.state.phase == "steady" and (made.directory / "app1.host.key").is_file()
    fake("deploys/all.py", store_engine="etcd")
    assert Authority("lab", clusters).bundle() == made.bundle()


@pytest.mark.parametrize("dry", [["--dry"], []])
def test_a_machine_without_the_ca_is_refused_before_anything_changes(fake, clusters, others, dry):
    run = fake("deploys/all.py", *dry, store_engine="etcd", responses=answers(others))
    refused(run, "no copy of the CA", "./griddle pki import FILE")
    assert not list(clusters.glob("*/pki/*"))


def test_a_ca_is_not_made_where_hosts_were_not_asked(fake, clusters):
    limit = [word for app in ADDRESSES for word in ("--limit", f"@fake/{app}")]
    run = fake("deploys/all.py", *limit, store_engine="etcd")
    refused(run, "not all hosts could be asked", "proxy1")
    assert not list(clusters.glob("*/pki/*"))


def test_a_machine_whose_copy_is_older_is_told_so(fake, clusters, others):
    here = Authority("lab", clusters)
    here.replace(others.state, others.files())
    others.advance()
    before = sorted(path.read_text() for path in here.directory.iterdir())
    refused(fake("deploys/all.py", store_engine="etcd", responses=answers(others)), "older than what hosts have")
    others.advance(), others.advance()
    refused(fake("deploys/all.py", store_engine="etcd", responses=answers(others)), "rotated elsewhere")
    assert sorted(path.read_text() for path in here.directory.iterdir()) == before


def test_a_component_without_certificates_needs_no_ca(fake, others):
    run = fake("deploys/all.py", "--data", "component=base", store_engine="etcd", responses=answers(others))
    assert run.returncode == 0, run.output


def test_a_damaged_state_is_one_line(fake, clusters):
    (clusters / "lab" / "pki").mkdir(parents=True)
    (clusters / "lab" / "pki" / "state.json").write_text("{")
    refused(fake("deploys/all.py", store_engine="etcd"), "state.json is damaged")


def test_a_run_that_asks_no_database_host_makes_no_seed(fake, clusters, packages):
    packages("7.3.77")
    limit = [word for app in ADDRESSES for word in ("--limit", f"@fake/{app}")]
    run = fake("deploys/all.py", *limit, "--data", "component=foundationdb")
    refused(run, "fdb1", "apply to all hosts")
    assert not list(clusters.glob("*/fdb.cluster"))
