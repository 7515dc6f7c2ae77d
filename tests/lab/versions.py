"""FoundationDB's versions in the lab: the inventory's, and those that lie beside it to be upgraded to."""

from cluster import artifacts


def newest(series: str, than: str) -> str:
    """Of a series, what is in the directory of packages and newer; else a name that no version has."""
    newer = [each for each in artifacts.available() if _parts(each) > _parts(than)]
    return next((each for each in reversed(newer) if each.startswith(f"{series}.")), f"{series}.x")


def _parts(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]


OLD = artifacts.default_version()
NEW, MINOR = newest("7.3", OLD), newest("7.4", OLD)
