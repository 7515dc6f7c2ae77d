"""The services' wheels, built in a clean Debian 12 container and kept by the hash of all that went into them.

    python -m ops.release.wheels CHECKOUT CACHE DOWNLOADS     as root: builds them from what was downloaded

What the locks name is downloaded on this machine, with pip's settings here, whatever registry or mirror they name;
the container gets the files, and the network for Debian's compiler only. It is an overlay in memory upon the lab's
base image: nothing is left of it, whatever interrupts a build.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from cluster.errors import Failure, UserError
from cluster.progress import step
from cluster.releases import BUILD, RECIPE, SERVICE, wheels_key
from ops.process import die_with_parent

_HASHED = ("--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes")


def wheels(checkout: Path) -> Path:
    """The directory of built wheels; building them needs root, so it asks sudo."""
    cache = Path.home() / ".cache" / "griddle"
    directory = cache / "wheels" / wheels_key(checkout)
    if directory.is_dir():
        return directory
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="downloads-", dir=directory.parent) as downloads:
        with step("release: downloading what requirements/service.lock names"):
            _download(checkout, Path(downloads))
        if os.geteuid() == 0:
            _build(checkout, cache, Path(downloads))
            return directory
        command = ["sudo", "--", sys.executable, "-m", "ops.release.wheels", str(checkout), str(cache), downloads]
        code = subprocess.run(command, cwd=checkout).returncode
        if code:
            raise SystemExit(code)  # it has said why
    return directory


def _download(checkout: Path, downloads: Path) -> None:
    """Wheels, and sources where there are none; in an environment of its own, since sources need setuptools."""
    with tempfile.TemporaryDirectory() as environment:
        python = f"{environment}/bin/python"
        _pip([sys.executable, "-m", "venv", environment])
        download = [python, "-m", "pip", "download", *_HASHED, "-d", str(downloads)]
        _pip([*download, "-r", str(checkout / BUILD)])
        _pip([python, "-m", "pip", "install", *_HASHED, "-r", str(checkout / BUILD)])
        _pip([*download, "--no-build-isolation", "-r", str(checkout / SERVICE)])


def _pip(command: Sequence[str]) -> None:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        last = "\n".join((done.stdout + done.stderr).splitlines()[-8:])
        raise Failure(f"release: `{' '.join(command[1:4])}` failed; it said:\n{last}")


def _build(checkout: Path, cache: Path, downloads: Path) -> None:
    from ops.lab import image

    if shutil.which("systemd-nspawn") is None:
        raise UserError("release: building the wheels needs a container: apt-get install systemd-container")
    base = image.path(cache, image.build(cache))
    directory = cache / "wheels" / wheels_key(checkout)
    fresh = directory.with_name(f".{directory.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)  # of a build that was interrupted
    fresh.mkdir()
    with step("release: building wheels in a clean Debian 12 container"):
        _run_container(base, checkout, downloads, fresh)
    owner = cache.stat()
    for path in (fresh, *fresh.iterdir()):
        os.chown(path, owner.st_uid, owner.st_gid)
    fresh.rename(directory)


def _run_container(base: Path, checkout: Path, downloads: Path, wheels: Path) -> None:
    command = [
        "systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--as-pid2", "--pipe",
        "--volatile=overlay", f"--directory={base}", f"--machine=griddle-build-{os.getpid()}",
        "--resolv-conf=copy-host", "--timezone=off",
        f"--bind-ro={checkout / 'requirements'}:/requirements", f"--bind-ro={downloads}:/downloads",
        f"--bind={wheels}:/wheels",
        "sh", f"/{RECIPE}",
    ]  # fmt: skip
    # The container dies with systemd-nspawn.
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        errors="replace", preexec_fn=lambda: die_with_parent(signal.SIGKILL),
    )  # fmt: skip
    if done.returncode:
        last = "\n".join(done.stdout.splitlines()[-15:])
        raise Failure(f"the services' wheels could not be built in the container; its output ends:\n{last}")


if __name__ == "__main__":
    try:
        _build(*map(Path, sys.argv[1:4]))
    except (UserError, Failure) as error:
        print(f"griddle: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
