import pytest

from deploys.base.config import parse_report
from tuning import profiles
from tuning.profiles import ProfileError

ENTRY = '{value = 1, reason = "r", source = "s"}'


@pytest.mark.parametrize("path", sorted(profiles.PROFILES.glob("*.toml")), ids=lambda path: path.stem)
def test_every_profile_loads_and_gives_its_reasons(path):
    settings = profiles.load(path.stem)
    assert settings
    assert all(setting.reason and setting.source for setting in settings)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f'[sysctl]\n"net.core.somaxcon" = {ENTRY}', ["net.core.somaxcon", "net.core.somaxconn"]),
        (f'[sysctls]\n"net.core.somaxconn" = {ENTRY}', ["[sysctls]", "sysctl"]),
        ('[sysctl]\n"net.core.somaxconn" = {value = 1, reason = "r"}', ["needs exactly value, reason and source"]),
        ("[sysctl", ["tuning/profiles/x.toml"]),
    ],
)
def test_a_misspelt_profile_is_refused(text, words):
    with pytest.raises(ProfileError) as error:
        profiles.parse(text, "tuning/profiles/x.toml")
    assert all(word in str(error.value) for word in words)


def test_the_report_of_a_host_is_parsed():
    reading = parse_report(["refused\tsysctl.vm.swappiness\t1\t60\tRead-only file system", "noise"])[0]
    assert (reading.state, reading.name, reading.note) == (
        "refused",
        "sysctl.vm.swappiness",
        "Read-only file system",
    )
