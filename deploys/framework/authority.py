"""The cluster's CA in a run: compared with what hosts have while the run is prepared, before anything changes.

What a run adds to the operator's state (the first CA, certificates) is written when its first operation begins: a
dry run, or one that is not confirmed, leaves none.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from gevent.lock import BoundedSemaphore
from gevent.pool import Pool
from pyinfra import inventory
from pyinfra.api import FactBase
from pyinfra.api.exceptions import PyinfraError
from pyinfra.api.host import Host as PyinfraHost

from cluster import model
from cluster.errors import Failure
from cluster.pki import ca_state
from cluster.pki.authority import Authority, Pair, seen
from cluster.pki.places import BUNDLES, PAIRS
from cluster.progress import say
from deploys.framework import operator_state, remote

_once = BoundedSemaphore()
_failed: list[PyinfraError] = []


class Certificates(FactBase[dict[str, str]]):
    """{path: PEM text} of the CAs and certificates that a host has; no keys."""

    default = dict

    def command(self) -> str:
        paths = " ".join([*BUNDLES, *(certificate for _, certificate, _ in PAIRS)])
        return (
            f'for file in {paths}; do [ -e "$file" ] || continue; echo "file $file"; cat "$file" || exit 1; done'
        )

    def process(self, output: list[str]) -> dict[str, str]:
        found: dict[str, str] = {}
        for line in output:
            if line.startswith("file /"):
                found[path := line.removeprefix("file ")] = ""
            elif found:
                found[path] += f"{line}\n"
        return found


def authority() -> Authority:
    """The CA that this run renders from; the same for all hosts.

    The run ends with exit code 2 where hosts have another CA than this machine, or one that it has no copy of.
    """
    with _once:  # hosts are prepared concurrently
        if _failed:
            raise _failed[0]
        try:
            return _authority()
        except PyinfraError as error:
            _failed.append(error)
            raise


@cache
def _authority() -> Authority:
    """See `authority`."""
    cluster = model.cluster()
    with operator_state.refusals():
        mine = Authority(cluster.name, deferred=True)
    hosts = {model.short_name(each.name): each for each in inventory if each.connected}
    with_certificates = [host.name for host in cluster.groups(("etcd", "apps", "proxies", "metrics", "fdb"))]
    found = _ask_all(hosts)
    problem = ca_state.refusal(
        cluster.name,
        mine.state,
        {name: _seen(files) for name, files in found.items()},
        [name for name in with_certificates if name not in hosts],
    )
    if problem:
        operator_state.refuse(problem)
    if mine.state is None:
        say(f"griddle: no host of {cluster.name} has a certificate: an apply makes its CA, in {mine.directory}")
        mine.make()
    for name, files in found.items():
        if name in cluster.hosts:
            _take_over(mine, cluster.hosts[name], hosts[name], files)

    def save() -> None:
        # Whoever was asked to confirm has taken his time, and another operator may have rotated the CA meanwhile.
        if _ask_all(hosts) != found:
            raise Failure("hosts have other certificates than when this run looked at them: run it again")
        mine.save()

    operator_state.save_when_executed(save)
    return mine


def _ask_all(hosts: Mapping[str, PyinfraHost]) -> dict[str, dict[str, str]]:
    """{host: what it has}, of all at once."""
    asked = Pool(len(hosts) or 1).map(lambda host: host.get_fact(Certificates, _sudo=True), hosts.values())
    return dict(zip(hosts, asked, strict=True))


def _seen(files: Mapping[str, str]) -> ca_state.CertificatesSeen:
    certificates = [certificate for _, certificate, _ in PAIRS]
    return seen(*([text for path, text in files.items() if path in paths] for paths in (BUNDLES, certificates)))


def _take_over(mine: Authority, host: model.Host, at: PyinfraHost, files: Mapping[str, str]) -> None:
    """A host's certificate that is newer than this machine's stays: another operator's has issued it."""
    for kind, certificate, key in PAIRS:
        if (text := files.get(certificate)) and mine.prefers(host.name, host.address, kind, text):
            ok, output = remote.ask(at, f"cat {key}", "read its certificate's key")
            if ok:
                mine.adopt(host.name, kind, Pair(text, f"{output.stdout}\n"))
