"""Releases: what their version depends on, what is in the archive, and that nothing is built twice."""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cluster import releases
from cluster.errors import UserError
from ops.release import build as release


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "checkout"
    (root / "services/engines").mkdir(parents=True)
    (root / "requirements").mkdir()
    (root / "services/front.py").write_text("front")
    (root / "services/engines/fdb.py").write_text("fdb")
    (root / "services/__pycache__").mkdir()
    (root / "services/__pycache__/front.pyc").write_text("compiled")
    for name in (releases.SERVICE, releases.BUILD, releases.RECIPE):
        (root / name).write_text("pynng==0.9.0\n")
    wheelhouse = tmp_path / "wheels"
    wheelhouse.mkdir()
    (wheelhouse / "pynng-0.9.0-cp311-cp311-linux_x86_64.whl").write_bytes(b"wheel")
    monkeypatch.setattr(releases, "ROOT", root)
    monkeypatch.setattr(release, "ROOT", root)
    monkeypatch.setattr(release, "RELEASES", tmp_path / "releases")
    monkeypatch.setattr(release.wheels, "wheels", lambda _: wheelhouse)
    return root


def test_a_release_holds_sources_wheels_version_and_sums(checkout: Path) -> None:
    version = release.build()
    directory = release.RELEASES / version
    archive = (directory / "release.tar").read_bytes()
    manifest = json.loads((directory / "manifest.json").read_text())
    assert manifest["archive_sha256"] == hashlib.sha256(archive).hexdigest()
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        contents = {member.name: tar.extractfile(member).read() for member in tar.getmembers()}
    assert sorted(contents) == [
        "VERSION", "manifest.json", "services/engines/fdb.py", "services/front.py",
        "wheelhouse.lock", "wheelhouse/pynng-0.9.0-cp311-cp311-linux_x86_64.whl",
    ]  # fmt: skip
    assert contents["VERSION"].decode() == f"{version}\n"
    assert (
        contents["wheelhouse.lock"].decode()
        == f"pynng==0.9.0 --hash=sha256:{hashlib.sha256(b'wheel').hexdigest()}\n"
    )
    inside = json.loads(contents.pop("manifest.json"))
    assert inside["files"] == {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}


def test_unchanged_content_is_built_once_and_changed_content_is_another_release(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = release.build()
    monkeypatch.setattr(release.wheels, "wheels", lambda _: pytest.fail("built again"))
    assert release.build() == first


@pytest.mark.parametrize(
    "file", ["services/front.py", "services/new.py", releases.SERVICE, releases.BUILD, releases.RECIPE]
)
def test_everything_that_goes_in_counts_for_the_version(checkout: Path, file: str) -> None:
    first = release.build()
    (checkout / file).write_text("changed")
    second = release.build()
    assert second != first
    assert (release.RELEASES / "current").readlink() == Path(second)
    assert (release.RELEASES / first / "release.tar").is_file()


def test_going_back_makes_the_old_release_current_again(checkout: Path) -> None:
    first = release.build()
    (checkout / "services/front.py").write_text("changed")
    release.build()
    (checkout / "services/front.py").write_text("front")
    assert release.build() == first
    assert (release.RELEASES / "current").resolve() == release.RELEASES / first


def test_an_interrupted_build_leaves_nothing_that_looks_complete(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(release, "_json", interrupt)
    with pytest.raises(KeyboardInterrupt):
        release.build()
    assert not [path for path in release.RELEASES.glob("*") if not path.name.startswith(".")]
    monkeypatch.undo()


def test_an_archive_depends_on_its_content_only() -> None:
    assert release.tar({"b": b"2", "a": b"1"}) == release.tar({"a": b"1", "b": b"2"})


def test_what_was_built_before_the_checkout_changed_is_not_applied(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(releases, "RELEASES", release.RELEASES)
    first = release.build()
    assert releases.resolve_present("current").name == first
    (checkout / "services/front.py").write_text("what another operator has pushed")
    with pytest.raises(UserError, match=rf"current is {first}.*make r-\w+: ./griddle release build"):
        releases.resolve_present("current")
    assert releases.resolve_present(first).name == first
    release.build()
    assert releases.resolve_present("current").name != first


def test_two_builds_at_once_wait_for_each_other(checkout: Path) -> None:
    release.RELEASES.mkdir()
    with ThreadPoolExecutor() as pool, (release.RELEASES / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        build = pool.submit(release.build)
        with pytest.raises(TimeoutError):
            build.result(0.5)
        assert [path.name for path in release.RELEASES.iterdir()] == [".lock"]
        fcntl.flock(lock, fcntl.LOCK_UN)
        assert build.result(30) == releases.of_checkout()
