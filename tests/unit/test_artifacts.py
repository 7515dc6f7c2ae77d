"""Packages: which source wins, and what is refused."""

import functools
import hashlib
import http.server
import threading
import time
import tomllib
from pathlib import Path

import pytest

from cluster import artifacts
from cluster.artifacts import ArtifactError, ChecksumError, Unreachable

VERSION = "7.3.77"
NAMES = [artifacts.file_name(package, VERSION) for package in artifacts.PACKAGES]


@pytest.fixture(autouse=True)
def machine(tmp_path, monkeypatch):
    """A machine without any packages, whose vendor cannot be reached."""
    monkeypatch.delenv("GRIDDLE_ARTIFACTS", raising=False)
    monkeypatch.setattr(artifacts, "CACHE", tmp_path / "cache")
    pin(monkeypatch, "http://127.0.0.1:9/{version}/{file}", {})
    return tmp_path


def pin(monkeypatch, url, sha256):
    monkeypatch.setattr(artifacts, "pins", lambda: artifacts.Pins(url=url, sha256=sha256))


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def lay(directory: Path, names=NAMES, sums=True) -> dict[str, bytes]:
    directory.mkdir(parents=True, exist_ok=True)
    contents = {name: f"content of {name}".encode() for name in names}
    for name, content in contents.items():
        (directory / name).write_bytes(content)
    if sums:
        lines = [f"{sha256(content)}  {name}" for name, content in contents.items()]
        (directory / "SHA256SUMS").write_text("\n".join(lines) + "\n")
    return contents


def test_the_cache_directory_is_used_and_verified(machine):
    contents = lay(machine / "cache" / "artifacts")
    found = artifacts.resolve(VERSION)
    assert [found.clients.name, found.server.name] == NAMES
    assert found.clients_sha256 == sha256(contents[NAMES[0]])
    assert found.source == str(machine / "cache" / "artifacts")
    assert artifacts.available() == [VERSION]


def test_a_named_directory_takes_the_place_of_the_cache(machine, monkeypatch):
    lay(machine / "cache" / "artifacts")
    lay(machine / "mirror")
    monkeypatch.setenv("GRIDDLE_ARTIFACTS", str(machine / "mirror"))
    assert artifacts.resolve(VERSION).source == str(machine / "mirror")


def test_a_named_directory_must_exist(machine, monkeypatch):
    monkeypatch.setenv("GRIDDLE_ARTIFACTS", str(machine / "nowhere"))
    with pytest.raises(ArtifactError, match=r"GRIDDLE_ARTIFACTS names .*nowhere"):
        artifacts.resolve(VERSION)


def test_a_wrong_checksum_names_the_file_and_both_sums(machine):
    lay(machine / "cache" / "artifacts")
    path = machine / "cache" / "artifacts" / NAMES[1]
    expected = sha256(path.read_bytes())
    path.write_bytes(b"tampered with")
    with pytest.raises(ChecksumError) as caught:
        artifacts.resolve(VERSION)
    line = str(caught.value)
    assert str(path) in line and expected in line and sha256(b"tampered with") in line and "\n" not in line


def test_without_any_checksum_a_file_is_refused(machine):
    lay(machine / "cache" / "artifacts", sums=False)
    with pytest.raises(ChecksumError, match="no checksum for it"):
        artifacts.resolve(VERSION)


def test_the_vendors_files_need_no_sums_of_their_own(machine, monkeypatch):
    contents = lay(machine / "cache" / "artifacts", sums=False)
    sums = {name: sha256(content) for name, content in contents.items()}
    pin(monkeypatch, "http://127.0.0.1:9/{file}", sums)
    assert artifacts.resolve(VERSION).version == VERSION


def test_one_package_of_two_is_named(machine):
    lay(machine / "cache" / "artifacts", NAMES[:1])
    with pytest.raises(ArtifactError, match=f"but not {NAMES[1]}"):
        artifacts.resolve(VERSION)


def test_a_broken_sums_file_names_its_line(machine):
    lay(machine / "cache" / "artifacts")
    (machine / "cache" / "artifacts" / "SHA256SUMS").write_text("nonsense\n")
    with pytest.raises(ArtifactError, match="SHA256SUMS, line 1"):
        artifacts.resolve(VERSION)


def test_a_version_that_is_none():
    with pytest.raises(ArtifactError, match="not of the form"):
        artifacts.resolve("7.3")


def test_auto_falls_back_quickly_and_says_which_versions_are_there(machine, monkeypatch):
    lay(machine / "cache" / "artifacts", [artifacts.file_name(p, "7.3.69") for p in artifacts.PACKAGES])
    pin(monkeypatch, "http://127.0.0.1:9/{file}", {name: "0" * 64 for name in NAMES})
    start = time.monotonic()
    engine, reason = artifacts.auto_store(VERSION)
    assert time.monotonic() - start < 5
    assert engine == "etcd" and "(there: 7.3.69)" in reason and "\n" not in reason


def test_auto_does_not_wait_for_a_network_that_swallows_packets(machine, monkeypatch):
    over = threading.Event()

    def swallowed(*args, **kwargs):
        over.wait(30)
        raise OSError("timed out")

    pin(monkeypatch, "http://127.0.0.1:9/{file}", {name: "0" * 64 for name in NAMES})
    monkeypatch.setattr(artifacts.urllib.request, "urlopen", swallowed)
    monkeypatch.setattr(artifacts, "PROBE_SECONDS", 0.2)
    start = time.monotonic()
    assert artifacts.auto_store(VERSION)[0] == "etcd"
    assert time.monotonic() - start < 2
    over.set()


def test_auto_takes_foundationdb_where_it_resolves(machine):
    lay(machine / "cache" / "artifacts")
    assert artifacts.auto_store(VERSION)[0] == "fdb"


def test_auto_does_not_hide_a_wrong_checksum(machine):
    lay(machine / "cache" / "artifacts")
    (machine / "cache" / "artifacts" / NAMES[0]).write_bytes(b"tampered with")
    with pytest.raises(ChecksumError):
        artifacts.auto_store(VERSION)


class Vendor(http.server.SimpleHTTPRequestHandler):
    """A release page that knows ranges, and can break off in the middle of a file."""

    break_off_after: int | None = None

    def log_message(self, *args):
        pass

    def do_GET(self):
        content = Path(self.translate_path(self.path)).read_bytes()
        start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        end = len(content) if Vendor.break_off_after is None else start + Vendor.break_off_after
        self.wfile.write(content[start:end])


@pytest.fixture
def vendor(machine, monkeypatch):
    contents = lay(machine / "release" / VERSION, sums=False)
    handler = functools.partial(Vendor, directory=str(machine / "release"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    pin(
        monkeypatch,
        f"http://127.0.0.1:{server.server_port}/{{version}}/{{file}}",
        {name: sha256(content) for name, content in contents.items()},
    )
    yield contents
    Vendor.break_off_after = None
    server.shutdown()
    server.server_close()


def test_the_vendors_release_is_downloaded_once(vendor, machine):
    said = []
    found = artifacts.resolve(VERSION, say=said.append)
    assert found.server.read_bytes() == vendor[NAMES[1]]
    assert len(said) == 2
    assert artifacts.resolve(VERSION, download=False, say=said.append) == found
    assert len(said) == 2
    assert sorted(path.name for path in (machine / "cache" / "downloads").iterdir()) == NAMES


def test_a_download_that_broke_off_is_resumed(vendor, machine):
    Vendor.break_off_after = 10
    with pytest.raises(Unreachable, match=r"broke off .* run again to resume"):
        artifacts.resolve(VERSION)
    partial = machine / "cache" / "downloads" / f"{NAMES[0]}.part"
    assert partial.stat().st_size == 10
    Vendor.break_off_after = None
    assert artifacts.resolve(VERSION).clients.read_bytes() == vendor[NAMES[0]]
    assert not partial.exists()


def test_a_download_with_a_wrong_checksum_is_not_kept(vendor, machine, monkeypatch):
    pin(monkeypatch, artifacts.pins().url, {name: "0" * 64 for name in NAMES})
    with pytest.raises(ChecksumError):
        artifacts.resolve(VERSION)
    assert not list((machine / "cache" / "downloads").iterdir())


def test_an_unpinned_version_is_not_downloaded(vendor):
    with pytest.raises(ArtifactError, match=r"7\.3\.99 is not in .* no checksum for"):
        artifacts.resolve("7.3.99")


def test_the_committed_pins_are_whole():
    pins = artifacts.Pins(**tomllib.loads((artifacts.ROOT / "artifacts.toml").read_text())["foundationdb"])
    assert all(len(digest) == 64 for digest in pins.sha256.values())
    names = [artifacts.file_name(package, artifacts.default_version()) for package in artifacts.PACKAGES]
    assert set(names) <= set(pins.sha256)
