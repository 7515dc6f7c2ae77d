"""Unpacking FoundationDB's packages, with packages that hold shell scripts instead of the programs."""

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

from deploys.foundationdb import config
from deploys.foundationdb.facts import Installation
from deploys.foundationdb.operations import unpack_command

VERSION = "7.3.77"

pytestmark = pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="needs dpkg-deb")


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A host whose releases lie in a temporary directory and whose user exists."""
    monkeypatch.setattr(config, "RELEASES", str(tmp_path / "opt"))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "getent").symlink_to("/bin/true")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/sbin:/usr/bin:/sbin:/bin")
    return tmp_path


def package(root: Path, name: str, files: dict[str, str]) -> tuple[str, str]:
    """A Debian package that holds executable files: (path, sha256)."""
    tree = root / f"{name}-tree"
    for path, content in {"DEBIAN/control": f"Package: {name}\nVersion: 1\n", **files}.items():
        file = tree / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
        file.chmod(0o755)
    control = tree / "DEBIAN" / "control"
    control.write_text(control.read_text() + "Architecture: all\nMaintainer: nobody\nDescription: a test\n")
    built = root / f"{name}.deb"
    subprocess.run(["dpkg-deb", "--build", tree, built], check=True, capture_output=True)
    return str(built), hashlib.sha256(built.read_bytes()).hexdigest()


def packages(root: Path, server: str = "#!/bin/sh\nexit 0\n") -> dict[str, str]:
    clients = package(root, "clients", {"usr/bin/fdbcli": "#!/bin/sh\n", "usr/lib/libfdb_c.so": "library"})
    return dict([clients, package(root, "server", {"usr/sbin/fdbserver": server})])


def unpack(uploads: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = unpack_command(VERSION, uploads, ["server", "clients"])
    return as_on_a_host(command)


def as_on_a_host(command: str) -> subprocess.CompletedProcess[str]:
    """In a session of its own, as sshd gives each command one: it lowers the priority of all that is in it."""
    return subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, timeout=60, start_new_session=True
    )


def test_both_packages_become_one_release(root):
    uploads = packages(root)
    done = unpack(uploads)
    assert done.returncode == 0, done.stderr
    release = root / "opt" / VERSION
    assert (release / "packages").read_text() == "clients server\n"
    assert all((release / path).exists() for path in ("bin/fdbcli", "sbin/fdbserver", "lib/libfdb_c.so"))
    assert [path.name for path in (root / "opt").iterdir()] == [VERSION]
    assert not any(Path(path).exists() for path in uploads)


def test_unpacking_again_replaces_the_release(root):
    unpack(packages(root))
    (root / "opt" / VERSION / "stray").touch()
    assert unpack(packages(root)).returncode == 0
    assert not (root / "opt" / VERSION / "stray").exists()


def test_a_wrong_checksum_unpacks_nothing(root):
    first, second = packages(root).items()
    done = unpack(dict([first, (second[0], "0" * 64)]))
    assert done.returncode != 0 and "server.deb: FAILED" in done.stdout + done.stderr
    assert not (root / "opt").exists()


def test_a_binary_that_does_not_run_here_is_not_put_in_place(root):
    done = unpack(packages(root, server="#!/bin/sh\necho illegal instruction >&2\nexit 132\n"))
    assert done.returncode == 132 and "illegal instruction" in done.stderr
    assert list((root / "opt").iterdir()) == []


def releases(root: Path) -> list[str]:
    """What the fact finds on this host."""
    command = Installation().command()
    done = as_on_a_host(command)
    return sorted(Installation().process(done.stdout.splitlines()).releases)


def test_a_release_that_is_half_there_does_not_count_and_is_unpacked_again(root):
    unpack(packages(root))
    server = root / "opt" / VERSION / "sbin" / "fdbserver"
    assert releases(root) == [VERSION]
    sizes = server.parents[1] / "sizes"
    for spoil in (lambda: server.write_text("#!"), server.unlink, lambda: sizes.write_text("")):
        spoil()
        assert releases(root) == []
        assert unpack(packages(root)).returncode == 0
        assert releases(root) == [VERSION]
    sizes.unlink()  # as an earlier Griddle has unpacked it
    assert releases(root) == [VERSION]


def test_a_full_disk_leaves_what_is_there(root):
    unpack(packages(root))
    dpkg = root / "bin" / "dpkg-deb"
    dpkg.write_text("#!/bin/sh\necho 'cannot copy extracted data: No space left on device' >&2; exit 2\n")
    uploads = packages(root)
    dpkg.chmod(0o755)
    done = unpack(uploads)
    assert done.returncode == 2 and "No space left" in done.stderr
    assert releases(root) == [VERSION] and [path.name for path in (root / "opt").iterdir()] == [VERSION]
