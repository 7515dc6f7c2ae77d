"""The lab's base image: a bare Debian 12 tree that all hosts' disks lie upon, made once per recipe.

It is kept in `~/.cache/griddle/images/<hash of the recipe>`, shared by all checkouts and never written to again.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from cluster.errors import Failure
from cluster.progress import step
from deploys.framework.debian_packages import DEBIAN_PACKAGES

SUITE = "bookworm"
# A cloud image's own packages. No libpam-systemd: a user manager for each login costs more than all else in it.
_BASE = (
    "ca-certificates", "dbus", "iproute2", "openssh-server", "procps", "sudo", "systemd", "systemd-sysv",
)  # fmt: skip
_SCRIPT = Path(__file__).parent / "image.sh"
# An operator's machine behind an intercepting proxy trusts authorities of its own; so must what runs on it.
_CA_DIRECTORY = Path("/usr/local/share/ca-certificates")


@dataclass(frozen=True)
class Recipe:
    """All that an image depends on.

    sources: lines of sources.list (empty: mmdebstrap's own choice); aptopts: lines of apt.conf;
    downloads: one string of package names per component; authorities: name → certificate.
    """

    packages: tuple[str, ...]
    downloads: tuple[str, ...]
    sources: tuple[str, ...]
    aptopts: tuple[str, ...]
    authorities: dict[str, str]
    script: str

    @property
    def key(self) -> str:
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]


def recipe() -> Recipe:
    """The recipe on this machine: its apt sources, proxy and authorities, the deploys' packages."""
    return Recipe(
        packages=_BASE,
        downloads=tuple(" ".join(names) for names in DEBIAN_PACKAGES.values() if names),
        sources=debian_sources(_output("apt-get", "indextargets", "--format", _TARGET, "Created-By: Packages")),
        aptopts=proxy_options(_output("apt-config", "dump", "Acquire")),
        authorities=authorities(_CA_DIRECTORY),
        script=_SCRIPT.read_text(),
    )


_TARGET = "$(ORIGIN)|$(CODENAME)|$(REPO_URI)|$(RELEASE)|$(COMPONENT)"


def debian_sources(targets: str) -> tuple[str, ...]:
    """Lines of sources.list for Debian 12 out of the machine's own apt targets, third parties' left out.

    Empty where the machine has no complete set (another release of Debian, another distribution).
    """
    lines = set()
    for target in targets.splitlines():
        origin, codename, uri, release, component = target.split("|")
        if origin == "Debian" and component == "main" and codename.partition("-")[0] == SUITE:
            lines.add((release, f"deb {uri} {release} {component}"))
    releases = {release for release, _ in lines}
    wanted = {SUITE, f"{SUITE}-updates", f"{SUITE}-security"}
    return tuple(line for release, line in sorted(lines) if release in wanted) if wanted <= releases else ()


def authorities(directory: Path) -> dict[str, str]:
    """Certificates in a directory, and in those below it, under names that can be used anywhere."""
    found = {}
    for file in sorted(file for file in directory.rglob("*.crt") if file.is_file()):
        name = str(file.relative_to(directory))
        if not re.fullmatch(r"[\w.-]+", name, re.ASCII):
            name = f"{hashlib.sha256(name.encode()).hexdigest()[:16]}.crt"
        found[name] = file.read_bytes().decode("latin-1")  # whatever is in there comes out again
    return found


def proxy_options(dump: str) -> tuple[str, ...]:
    """The proxy settings in `apt-config dump`."""
    return tuple(
        line for line in dump.splitlines() if line.startswith(("Acquire::http::Proxy", "Acquire::https::Proxy"))
    )


def _output(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return ""  # not a Debian machine: mmdebstrap chooses


def path(cache: Path, key: str) -> Path:
    """Where an image lies."""
    return cache / "images" / key


def build(cache: Path) -> str:
    """Makes the image unless it is there, and returns its key. Needs root."""
    wanted = recipe()
    final = path(cache, wanted.key)
    if final.is_dir():
        return wanted.key
    final.parent.mkdir(parents=True, exist_ok=True)
    with (final.parent / "lock").open("w") as lock:
        with step("base image: waiting for another checkout that is making it", quiet_seconds=1):
            fcntl.flock(lock, fcntl.LOCK_EX)
        if final.is_dir():
            return wanted.key
        for partial in final.parent.glob("*.partial"):  # of a build that was interrupted
            shutil.rmtree(partial)
        partial = final.with_name(f"{wanted.key}.partial")
        with step("base image: Debian 12 and the packages that hosts will install (once, some minutes)"):
            _mmdebstrap(wanted, partial, lock.fileno())
        partial.rename(final)
    return wanted.key


def _mmdebstrap(wanted: Recipe, tree: Path, lock: int) -> None:
    """Makes the tree. mmdebstrap holds the lock too, so that after a kill nobody begins before it has ended."""
    log = tree.with_suffix(".log")
    own = tree.with_suffix(".authorities.partial")
    own.mkdir()
    for name, content in wanted.authorities.items():
        (own / name).write_bytes(content.encode("latin-1"))
    command: Sequence[str] = (
        "mmdebstrap", "--mode=root", "--variant=apt", "--format=directory", "--skip=cleanup/apt",
        f"--include={','.join(wanted.packages)}",
        "--aptopt=Acquire::Languages \"none\"",
        *(f"--aptopt={option}" for option in wanted.aptopts),
        f"--setup-hook=mkdir -p \"$1{_CA_DIRECTORY}\"",
        f"--setup-hook=sync-in {shlex.quote(str(own))} {_CA_DIRECTORY}",
        f"--customize-hook=upload {shlex.quote(str(_SCRIPT))} /image.sh",
        f"--customize-hook=chroot \"$1\" sh -eu /image.sh {shlex.join(wanted.downloads)}",
        "--customize-hook=rm \"$1/image.sh\"",
        SUITE, str(tree), *wanted.sources,
    )  # fmt: skip
    with log.open("w") as output:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, pass_fds=[lock]
        )
    if done.returncode:
        last = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise Failure(f"the base image could not be made; the end of {log}:\n{last}")
    log.unlink()
    shutil.rmtree(own)
