"""/v1/openapi.json is true: whatever schemathesis sends, what comes back is in the document, and is no 5xx."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.serving import ServingPath, ask, nginx_missing

EXAMPLES = int(os.environ.get("GRIDDLE_OPENAPI_EXAMPLES", "100"))  # for each operation
_CHECKS = (
    "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_headers_conformance",
    "response_schema_conformance", "missing_required_header",
)  # fmt: skip
CHECKS = {"nginx": _CHECKS, "front": (*_CHECKS, "unsupported_method")}


# meinheld's parser does not know QUERY: it answers 400 by itself, and closes the connection before a body is read.
CONFIGURATION = '[phases.coverage]\nunexpected-methods = ["PATCH", "OPTIONS", "POST", "DELETE"]\n'


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServingPath]:
    serving = ServingPath(tmp_path_factory.mktemp("openapi"))
    serving.start_store()
    serving.start_front()
    if nginx_missing() is None:
        serving.start_nginx()
    yield serving
    serving.stop()


def test_the_document_names_every_route(path: ServingPath) -> None:
    answer = ask(path.ports["front"], "GET", "/v1/openapi.json")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    paths = answer.json["paths"]
    assert {name.replace("{id}", "p1") for name in paths} == {
        "/v1/profiles/p1", "/v1/profiles/p1/messages", "/v1/profiles/p1/feed",
        "/healthz", "/readyz", "/version", "/v1/openapi.json",
    }  # fmt: skip
    for name, operations in paths.items():
        allowed = ask(path.ports["front"], "PATCH", name.replace("{id}", "p1")).headers["allow"]
        assert {method.lower() for method in allowed.split(", ")} == set(operations) - {"parameters"}


@pytest.mark.parametrize("what", ["front", "nginx"])
def test_schemathesis_finds_nothing(path: ServingPath, tmp_path: Path, what: str) -> None:
    if what == "nginx" and (reason := nginx_missing()):
        pytest.skip(reason)
    for name in ("p1", "0"):
        assert ask(path.ports["front"], "PUT", f"/v1/profiles/{name}", b'{"name":"Ada"}').status == 204
    url = f"http://127.0.0.1:{path.ports[what]}"
    (tmp_path / "schemathesis.toml").write_text(CONFIGURATION)
    done = subprocess.run(
        [
            sys.executable, "-m", "schemathesis.cli", "run", f"{url}/v1/openapi.json", "--url", url,
            "--phases", "examples,coverage,fuzzing", "--mode", "all", "--max-examples", str(EXAMPLES),
            "--checks", ",".join(CHECKS[what]), "--seed", "1", "--workers", "1", "--request-timeout", "10",
            "--generation-database", "none", "--no-color",
        ],
        cwd=tmp_path, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:] + path.log()[-2000:]
