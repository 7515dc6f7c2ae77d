"""The verbs of `./griddle pki`: what the CA has issued, replacing it, carrying it to another operator's machine.

Replacing the CA takes three steps, so that no host ever meets a certificate whose issuer it does not trust yet:

1. trust:  the new CA is added to everybody's bundle
2. issue:  every certificate is issued anew by it
3. forget: the old CA leaves the bundle

state.json says which step was begun before anything of it is done, and that it is pending until all hosts have it.
"""

from __future__ import annotations

import datetime
import getpass
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

from cluster import table
from cluster.errors import Failure, UserError
from cluster.files import locked, write_durably
from cluster.paths import CLUSTERS, ROOT
from cluster.pki.authority import Authority, Pair
from cluster.progress import say
from ops import hosts, lock, pki_copy
from ops.process import die_with_parent, pyinfra

__all__ = ["Authority", "Pair", "export", "import_", "rotate", "show"]

PASSPHRASE = "GRIDDLE_PASSPHRASE"  # the environment's; else a file, else it is asked for
HOLDERS = "etcd,foundationdb,backup,metrics,app"  # components that hold certificates, or read them once


def _authority(cluster: str) -> Authority:
    authority = Authority(cluster)
    if authority.state is None:
        there = ", ".join(path.parent.parent.name for path in CLUSTERS.glob("*/pki/state.json")) or "none"
        raise UserError(
            f"this machine has no CA of cluster {cluster!r} (it has: {there}): the first deploy makes it; "
            "./griddle pki import brings another machine's"
        )
    return authority


def show(cluster: str, echo: Callable[[str], None] = print) -> None:
    """Print what the cluster's CA has issued and when it ends."""
    authority = _authority(cluster)
    pending = ", not known to be in force on all hosts: ./griddle pki rotate" if authority.state.pending else ""
    echo(f"{cluster}: CA in {authority.directory}, phase {authority.state.phase}{pending}")
    now = datetime.datetime.now(datetime.UTC)
    rows = [(name, f"until {end:%Y-%m-%d} ({(end - now).days} days)") for name, end in authority.expires().items()]
    echo(table.aligned(rows, left=(0, 1), indent=2))


def rotate(cluster: str, echo: Callable[[str], None] = print) -> None:
    """Replace the CA and every certificate, on the running cluster: three applies, one per step.

    Interrupted anywhere, the next call goes on with the step that was not finished.

    :param cluster: the cluster's name, which is also its inventory file's
    :raises UserError: another run changes the cluster, hosts have a newer CA, or an apply is refused
    :raises Failure: an apply failed; the CA stays in its phase
    """
    authority = _authority(cluster)
    inventory = f"inventory/{cluster}.py"
    if not (ROOT / inventory).is_file():
        raise UserError(f"{inventory} does not exist: a cluster is called as its inventory file")
    of = hosts.cluster(ROOT / inventory)
    here = locked(authority.directory / "rotating", f"`griddle pki rotate {cluster}`")
    with here, lock.held(of, f"pki rotate {cluster}"):
        authority = _authority(cluster)
        if authority.state.phase == "steady" and not authority.state.pending:
            _apply(inventory, dry=True)  # refuses where hosts know more: nothing has been begun yet
        while True:
            if not authority.state.pending:
                authority.advance()
            phase = authority.state.phase
            echo(f"{cluster}: {'forget' if phase == 'steady' else phase}: applying to {inventory}")
            _apply(inventory)
            authority.applied()
            if phase == "steady":
                echo(f"{cluster}: the old CA is forgotten; copies elsewhere are old now: ./griddle pki export")
                return


def _apply(inventory: str, *, dry: bool = False) -> None:
    """Apply the components that hold certificates; raises what the end of it deserves."""
    done = subprocess.run(
        pyinfra(inventory, "all", {"component": HOLDERS}, dry=dry),
        cwd=ROOT, capture_output=dry, text=True, preexec_fn=die_with_parent,
    )  # fmt: skip
    if not done.returncode:
        return
    if dry:
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        said = [line.removeprefix("griddle: ") for line in lines if line.startswith("griddle: ")]
        raise UserError("; ".join(said)) if said else Failure(f"nothing was begun: {' / '.join(lines[-3:])}")
    if done.returncode == UserError.exit_code:
        raise UserError("the apply was refused, as said above; then run the same command again")
    raise Failure("the apply failed, as said above; run the same command again")


def export(cluster: str, file: str, passphrase_file: Path | None = None) -> None:
    """Write a copy of the cluster's CA: sealed with a passphrase into a file, or plain to "-", for a pipe."""
    authority = _authority(cluster)
    text = pki_copy.pack(cluster, authority.files())
    if file == "-":
        if sys.stdout.isatty():
            raise UserError("a plain copy holds the CA's key: '-' is for a pipe (into age, vault, ...)")
        sys.stdout.write(text)
    else:
        sealed = pki_copy.seal(text, _passphrase(passphrase_file, again=True))
        try:
            write_durably(Path(file), sealed)
        except OSError as error:
            raise UserError(f"{file} cannot be written: {error.strerror}") from None
        say(f"{cluster}: the CA is in {file}, sealed: ./griddle pki import {file} on the other machine")
    if authority.state.pending or authority.state.phase != "steady":
        say(f"{cluster}: a rotation is under way: export again after it")


def import_(file: str, passphrase_file: Path | None = None, clusters: Path = CLUSTERS) -> None:
    """Take the copy that `export` has written, whole or not at all; a newer one on this machine stays.

    :raises UserError: it cannot be read, or is older than this machine's, or of another CA
    """
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text()
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read: {error}") from None
    if pki_copy.is_sealed(text):
        text = pki_copy.unseal(text, _passphrase(passphrase_file), file)
    copy = pki_copy.unpack(text, file)
    authority = Authority(copy.cluster, clusters)
    mine = authority.state
    order = copy.state.against(mine) if mine else "newer"
    if order == "same":
        say(f"{copy.cluster}: this machine has the same CA already")
    elif order == "newer":
        files = {name: content for name, content in copy.files.items() if name != "state.json"}
        authority.replace(copy.state, files)
        say(f"{copy.cluster}: the CA is in {authority.directory}; the next apply compares it with the hosts'")
    elif order == "older":
        raise UserError(
            f"{file} is older than the CA in {authority.directory} (rotated since): export it there anew"
        )
    else:
        raise UserError(
            f"{file} holds another CA ({' '.join(copy.state.trusted)}) than {authority.directory} "
            f"({' '.join(mine.trusted)}): if that one was made here by mistake, move the directory away"
        )


def _passphrase(file: Path | None, *, again: bool = False) -> str:
    """From the file, the environment or the terminal; never from the command line, which others can see.

    :param again: a new one, asked for twice
    """
    try:
        given = file.read_text().strip("\n") if file else os.environ.get(PASSPHRASE)
        if given is None:
            with warnings.catch_warnings():
                warnings.simplefilter("error", getpass.GetPassWarning)  # it would show what is typed
                given = getpass.getpass("Passphrase: ")
                if again and given != getpass.getpass("Again: "):
                    raise UserError("the two passphrases differ")
    except (OSError, EOFError, UnicodeDecodeError, getpass.GetPassWarning) as error:
        raise UserError(f"no passphrase ({error}): --passphrase-file, {PASSPHRASE}, or a terminal") from None
    if again and len(given) < pki_copy.PASSPHRASE_CHARACTERS:
        raise UserError(f"the passphrase needs at least {pki_copy.PASSPHRASE_CHARACTERS} characters")
    return given
