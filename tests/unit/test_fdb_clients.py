"""FoundationDB's client with a second library beside its own, as in a minor upgrade. The network starts once per
process, so each case is a process of its own.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster import artifacts
from tests.unit import stores
from tests.unit.serving import ROOT, ServingPath

READER = """
import json, sys
from services.config import Fdb
from services.engines.fdb import FdbEngine
cluster_file, library, directory = sys.argv[1:]
engine = FdbEngine(
    Fdb(cluster_file=cluster_file, client_library=library, external_client_directory=directory), 1000
)
version = engine.transact({}, {b"k": b"v"}, 5000)
assert engine.get_many([b"k"], 5000) == [version + b"v"]
mapped = {line.split()[-1] for line in open("/proc/self/maps") if "libfdb_c" in line}
print(json.dumps(sorted(mapped)))
"""


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[stores.Fdb]:
    if reason := stores.fdb_missing():
        pytest.skip(f"fdb: {reason}")
    server = stores.Fdb(tmp_path_factory.mktemp("fdb"))
    server.start()
    try:
        server.configure()
        yield server
    finally:
        server.stop()


def other_version() -> str:
    return next((v for v in artifacts.available() if v != artifacts.default_version()), "")


@pytest.mark.skipif(not other_version(), reason="a second version of FoundationDB's packages is not here")
def test_both_libraries_are_loaded_and_the_engine_reads(database: stores.Fdb, tmp_path: Path) -> None:
    """Of two that speak the same protocol, as patches of one minor do, the client goes on with its own, and the
    database's status lists that one only.
    """
    other, directory = other_version(), tmp_path / "clients"
    package = artifacts.resolve(other, download=False).clients
    subprocess.run(["dpkg-deb", "-x", str(package), str(tmp_path / "unpacked")], check=True)
    (library,) = (tmp_path / "unpacked").rglob("libfdb_c.so")
    directory.mkdir()
    library = Path(shutil.copy(library, directory / f"libfdb_c_{other}.so"))
    for where, expected in [(directory, [directory / library.name]), (tmp_path / "none", [])]:
        command = [sys.executable, "-c", READER, str(database.cluster_file), str(database.library), str(where)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == sorted(map(str, [database.library, *expected]))


def test_a_bad_library_beside_the_clients_own_stops_the_worker_with_a_line(
    database: stores.Fdb, tmp_path: Path
) -> None:
    (tmp_path / "clients").mkdir()
    (tmp_path / "clients/libfdb_c_bad.so").write_bytes(b"no library")
    path = ServingPath(tmp_path / "path")
    path.use(
        {
            "fdb": {
                "cluster_file": str(database.cluster_file), "client_library": str(database.library),
                "external_client_directory": str(tmp_path / "clients"),
            }
        }
    )  # fmt: skip
    worker = path.run_store()
    assert worker.wait(20) == 1
    assert "store a-0: FoundationDB's client does not start: " in path.log()
    assert "Traceback" not in path.log()
