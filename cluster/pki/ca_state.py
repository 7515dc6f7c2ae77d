"""Which CAs a cluster has, how far a rotation has come, and whether a machine's copy of that is the present one.
Pure.

A CA's name is the last word of its certificate's common name, "griddle <cluster> <name>".
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Literal

from cluster.errors import UserError

# What a copy is against another one. "apart": neither came of the other.
Order = Literal["same", "older", "newer", "apart"]


@dataclass(frozen=True)
class State:
    """What state.json holds; names of CAs, the oldest first.

    :param trusted: one, or two while a rotation is under way
    :param issuer: the trusted one that certificates are issued by
    :param forgotten: those before them
    :param pending: this phase was begun, and is not known to be in force on all hosts
    """

    trusted: tuple[str, ...]
    issuer: str
    forgotten: tuple[str, ...] = ()
    pending: bool = False

    @property
    def phase(self) -> str:
        """steady, trust or issue: the last step of a rotation that was begun."""
        if len(self.trusted) == 1:
            return "steady"
        return "trust" if self.issuer == self.trusted[0] else "issue"

    @property
    def made(self) -> tuple[str, ...]:
        """All CAs that the cluster has ever had."""
        return self.forgotten + self.trusted

    @property
    def _progress(self) -> tuple[int, ...]:
        """Numbers of which none ever becomes smaller."""
        return len(self.forgotten), self.made.index(self.issuer), len(self.made)

    def advanced(self, fresh: str) -> State:
        """The next phase, to be applied.

        :param fresh: the name of a new CA, for the phase that needs one
        """
        if self.phase == "steady":
            return State((*self.trusted, fresh), self.issuer, self.forgotten, pending=True)
        if self.phase == "trust":
            return State(self.trusted, self.trusted[-1], self.forgotten, pending=True)
        return State(self.trusted[-1:], self.issuer, self.forgotten + self.trusted[:-1], pending=True)

    def applied(self) -> State:
        """The phase is in force on all hosts."""
        return State(self.trusted, self.issuer, self.forgotten, pending=False)

    def against(self, other: State) -> Order:
        """What this copy is against another one of the same cluster."""
        if self == other:
            return "same"
        shorter = min(len(self.made), len(other.made))
        if self.made[:shorter] != other.made[:shorter]:
            return "apart"
        steps = [mine - its for mine, its in zip(self._progress, other._progress, strict=True)]
        if not any(steps):
            return "older" if self.pending else "newer"
        if all(step >= 0 for step in steps):
            return "newer"
        return "older" if all(step <= 0 for step in steps) else "apart"

    def text(self) -> str:
        return json.dumps(asdict(self), indent=1) + "\n"


def parse(text: str, where: str) -> State:
    """Read a state's text. Raises UserError, naming `where`, if it is none."""
    try:
        found = json.loads(text)
        names = [tuple(found.get(key, ())) for key in ("trusted", "forgotten")]
        # Older files do not say; to apply a phase once more is safe.
        pending = found.get("pending", len(names[0]) > 1)
        state = State(names[0], found["issuer"], names[1], bool(pending))
        if state.issuer in state.trusted and len(state.trusted) in (1, 2) and all(map(_is_name, state.made)):
            return state
        problem = "it names no such CAs"
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        problem = f"{type(error).__name__}: {error}"
    raise UserError(f"{where} is damaged ({problem}): move it away, and ./griddle pki import a copy")


def _is_name(name: object) -> bool:
    return isinstance(name, str) and name.isalnum()


@dataclass(frozen=True)
class CertificatesSeen:
    """What a host has: for each bundle of CAs their names, and the names of those that its certificates are by."""

    bundles: tuple[tuple[str, ...], ...] = ()
    issuers: frozenset[str] = frozenset()

    @property
    def names(self) -> frozenset[str]:
        return self.issuers.union(*self.bundles)


def refusal(
    cluster: str, state: State | None, seen: Mapping[str, CertificatesSeen], unknown: Iterable[str]
) -> str | None:
    """Why this machine's CA must not be applied, or made, as one line; None where nothing speaks against it.

    :param state: of this machine's copy; None: it has none
    :param seen: {host: what it has} of those that were asked
    :param unknown: hosts of the cluster that were not
    """
    having = {host: each for host, each in seen.items() if each.names}
    get = f"./griddle pki export {cluster} FILE where it is, ./griddle pki import FILE here (docs/security.md)"
    if state is None:
        if having:
            return f"this machine has no copy of the CA that cluster {cluster} has ({_who(having)}): {get}"
        if unknown := list(unknown):
            return (
                f"this machine has no CA for cluster {cluster}, and not all hosts could be asked whether there is "
                f"one (not in this run: {_who(unknown)}): {get}; or, where there is none, apply to all hosts"
            )
        return None
    known = set(state.made)
    mixed = [host for host, each in having.items() if each.names & known and not each.names <= known]
    foreign = [host for host, each in having.items() if not each.names & known]
    ahead = [host for host, each in having.items() if each.names <= known and _is_ahead(each, state)]
    if older := mixed + ahead:
        return (
            f"this machine's copy of the CA of cluster {cluster} is older than what hosts have ({_who(older)}): "
            f"it was rotated elsewhere. {get}"
        )
    if foreign and len(foreign) == len(having):
        theirs = frozenset().union(*(having[host].names for host in foreign))
        return (
            f"hosts of cluster {cluster} have CA {' '.join(sorted(theirs))} ({_who(foreign)}), this "
            f"machine's is {' '.join(state.trusted)}: rotated elsewhere since, or the wrong inventory? {get}"
        )
    if foreign:
        return (
            f"{_who(foreign)}: certificates of another CA than cluster {cluster} has on its other hosts: wrong "
            "inventory? To take a host over from another cluster, remove /etc/griddle, /etc/etcd and "
            "/etc/foundationdb on it"
        )
    return None


def _is_ahead(seen: CertificatesSeen, state: State) -> bool:
    """Whether a host has been through a phase that this state is before."""
    place = {name: number for number, name in enumerate(state.made)}
    forgets_more = any(
        min(place[name] for name in bundle) > len(state.forgotten) for bundle in seen.bundles if bundle
    )
    return forgets_more or any(place[name] > place[state.issuer] for name in seen.issuers)


def _who(hosts: Iterable[str]) -> str:
    names = list(hosts)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
