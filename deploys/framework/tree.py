"""Desired files of a host against the files that it has: pure, so that one round trip can compare them all.

pyinfra's own ``files.*`` operations cost several commands per file; a component here compares and replaces
all of its files at once.
"""

from __future__ import annotations

import base64
import hashlib
import io
import shlex
import tarfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath


@dataclass(frozen=True)
class File:
    """A regular file: its whole content, and octal mode without a leading zero ("644")."""

    content: str | bytes
    mode: str = "644"
    owner: str = "root"
    group: str = "root"

    @property
    def data(self) -> bytes:
        return self.content.encode() if isinstance(self.content, str) else self.content


@dataclass(frozen=True)
class Link:
    """A symbolic link."""

    target: str


@dataclass(frozen=True)
class Directory:
    """A directory's mode and owners; what it holds is not managed."""

    mode: str = "755"
    owner: str = "root"
    group: str = "root"


Entry = File | Link | Directory


def files(contents: Mapping[str, str]) -> dict[str, File]:
    """Files of the usual mode and owner. `contents`: {path: content}"""
    return {path: File(content) for path, content in contents.items()}


@dataclass(frozen=True)
class Present:
    """What a host has at a path. ``kind`` is find's %y: f, d, l or another."""

    kind: str
    mode: str
    owner: str
    group: str
    target: str = ""
    sha256: str = ""


def look_command(paths: Iterable[str]) -> str:
    """One shell command that describes all paths; read back by `parse_look`."""
    quoted = " ".join(shlex.quote(path) for path in sorted(paths))
    return (
        f"find {quoted} -maxdepth 0 -printf '%y\\t%m\\t%u\\t%g\\t%l\\t%p\\n' 2>/dev/null; "
        f"sha256sum -- {quoted} 2>/dev/null; true"
    )


def parse_look(lines: Iterable[str]) -> dict[str, Present]:
    """Parse `look_command`'s output into {path: Present}; paths that are not there are left out."""
    seen: dict[str, Present] = {}
    sums: dict[str, str] = {}
    for line in lines:
        if "\t" in line:
            kind, mode, owner, group, target, path = line.split("\t", 5)
            seen[path] = Present(kind, mode, owner, group, target)
        elif len(line) > 66 and line[64:66] == "  ":
            sums[line[66:]] = line[:64]
    return {
        path: Present(s.kind, s.mode, s.owner, s.group, s.target, sums.get(path, "") if s.kind == "f" else "")
        for path, s in seen.items()
    }


LARGE_BYTES = 64 * 1024
"""What is larger is not read to be compared."""


@dataclass(frozen=True)
class Content:
    """A file's size in bytes, and its first `LARGE_BYTES`."""

    size: int
    data: bytes


def read_command(paths: Iterable[str]) -> str:
    """One shell command that prints the contents of all files; read back by `parse_read`."""
    quoted = " ".join(shlex.quote(path) for path in sorted(paths))
    return (
        f'for file in {quoted}; do [ ! -f "$file" ] || echo "$(stat -c %s -- "$file") '
        f'$(head -c {LARGE_BYTES} -- "$file" | base64 -w 0) $file"; done'
    )


def parse_read(lines: Iterable[str]) -> dict[str, Content]:
    """Parse `read_command`'s output into {path: Content}; paths that are no files are left out."""
    found = {}
    for line in lines:
        size, data, path = line.split(" ", 2)
        found[path] = Content(int(size), base64.b64decode(data))
    return found


# Directories of every Debian. Other ones above our files are ours to make, or a package's that are the same.
_OF_THE_SYSTEM = {
    *(
        "/",
        "/etc",
        "/home",
        "/opt",
        "/root",
        "/run",
        "/usr",
        "/usr/lib",
        "/usr/share",
        "/var",
        "/var/lib",
        "/var/log",
    ),
    *("/usr/local", "/usr/local/bin", "/usr/local/lib", "/usr/local/sbin"),
    *("/etc/default", "/etc/logrotate.d", "/etc/security", "/etc/security/limits.d", "/etc/sudoers.d"),
    *("/etc/systemd", "/etc/systemd/system"),
}


def with_parents(wanted: Mapping[str, Entry]) -> dict[str, Entry]:
    """The entries, and every directory above a file as one that everybody may pass, unless it is given otherwise.

    Homes are left out (who manages a file in one says what its directories are), and so is what lies above a
    directory alone, which may be on a disk of somebody's own.
    """
    above = {
        str(parent)
        for path, entry in wanted.items()
        if not isinstance(entry, Directory)
        for parent in PurePosixPath(path).parents
        if str(parent) not in _OF_THE_SYSTEM and not parent.is_relative_to("/home")
    }
    return {path: Directory() for path in sorted(above)} | dict(wanted)


def differing(wanted: Mapping[str, Entry], seen: Mapping[str, Present]) -> list[str]:
    """Paths whose state is not the wanted one, sorted."""
    return sorted(path for path, entry in wanted.items() if not _matches(entry, seen.get(path)))


def _matches(entry: Entry, seen: Present | None) -> bool:
    if seen is None:
        return False
    if isinstance(entry, Link):
        return seen.kind == "l" and seen.target == entry.target
    owners_match = (seen.mode, seen.owner, seen.group) == (entry.mode, entry.owner, entry.group)
    if isinstance(entry, Directory):
        # somebody may have moved it to another disk; what the link leads to is theirs
        return seen.kind == "l" or (seen.kind == "d" and owners_match)
    return seen.kind == "f" and owners_match and seen.sha256 == hashlib.sha256(entry.data).hexdigest()


def archive(wanted: Mapping[str, Entry]) -> str:
    """The entries as a base64 tar (names without the leading slash), to be sent over standard input."""
    buffer = io.BytesIO()
    now = int(time.time())
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=6) as tar:
        for path, entry in sorted(wanted.items()):
            info = tarfile.TarInfo(path.lstrip("/"))
            info.mtime = now
            if isinstance(entry, Link):
                info.type, info.linkname = tarfile.SYMTYPE, entry.target
                tar.addfile(info)
                continue
            info.mode, info.uname, info.gname = int(entry.mode, 8), entry.owner, entry.group
            if isinstance(entry, Directory):
                info.type = tarfile.DIRTYPE
                tar.addfile(info)
            else:
                info.size = len(entry.data)
                tar.addfile(info, io.BytesIO(entry.data))
    return base64.encodebytes(buffer.getvalue()).decode()


def put_command(component: str, wanted: Mapping[str, Entry], changed: Iterable[str], validate: str | None) -> str:
    """A shell script (its standard input is `archive`) that puts the changed paths in place.

    Everything is unpacked and validated in a staging tree first; ``{root}`` in ``validate`` stands for it.
    Each file then replaces its predecessor by a rename, so a reader sees the old file or the new one, and a
    run that is killed in between leaves a difference that the next run finds.
    """
    root = f"/var/lib/griddle/staging/{component}"
    lines = [
        "set -eu",
        f"root={root}",
        'rm -rf "$root"; mkdir -p "$root"; chmod 700 /var/lib/griddle/staging',
        'base64 -d | tar -xzpf - -C "$root" --same-owner',
    ]
    if validate:
        lines.append(f"({validate.replace('{root}', root)})")
    for path in sorted(changed):  # a directory comes before what is in it
        entry, quoted = wanted[path], shlex.quote(path)
        if isinstance(entry, Directory):
            lines.append(f"install -d -m {entry.mode} -o {entry.owner} -g {entry.group} {quoted}")
        else:
            staged, fresh = shlex.quote(f"{root}{path}"), shlex.quote(f"{path}.griddle-new")
            lines += [f"cp -dp {staged} {fresh}", f"mv -fT {fresh} {quoted}"]
    lines.append('rm -rf "$root"')
    return "\n".join(lines)
