"""Where the base image's packages come from, and what makes it another image."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from deploys.framework.debian_packages import DEBIAN_PACKAGES
from ops.lab.image import Recipe, authorities, debian_sources, proxy_options

MIRROR = "http://mirror.example/debian/"
TARGETS = "\n".join(
    [
        f"Debian|bookworm|{MIRROR}|bookworm|main",
        f"Debian|bookworm|{MIRROR}|bookworm|contrib",
        f"Debian|bookworm-updates|{MIRROR}|bookworm-updates|main",
        "Debian|bookworm-security|http://mirror.example/security/|bookworm-security|main",
        "Node Source|nodistro|https://third.example/node/|nodistro|main",
        "apt.example|bookworm|https://third.example/apt/|bookworm|main",
    ]
)


def test_sources_are_the_machine_s_own_for_debian_and_nobody_else_s() -> None:
    assert debian_sources(TARGETS) == (
        f"deb {MIRROR} bookworm main",
        "deb http://mirror.example/security/ bookworm-security main",
        f"deb {MIRROR} bookworm-updates main",
    )


def test_without_all_of_debian_12_the_choice_is_left_to_mmdebstrap() -> None:
    assert debian_sources("") == ()
    assert debian_sources(TARGETS.replace("bookworm", "trixie")) == ()
    assert debian_sources("\n".join(TARGETS.splitlines()[:3])) == ()


def test_an_apt_proxy_is_taken_over() -> None:
    dump = 'Acquire "";\nAcquire::Languages "none";\nAcquire::http::Proxy "http://proxy.example:3142";\n'
    assert proxy_options(dump) == ('Acquire::http::Proxy "http://proxy.example:3142";',)


def test_authorities_may_lie_in_directories_and_have_any_name(tmp_path: Path) -> None:
    wanted = {"own.crt": "one", "company/own.crt": "two", "Company Root CA.crt": "three", "größe.crt": "four"}
    for name, content in wanted.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    (tmp_path / "binary.crt").write_bytes(b"\xff\x00")
    (tmp_path / "gone.crt").symlink_to("/nowhere")
    (tmp_path / "directory.crt").mkdir()
    found = authorities(tmp_path)
    assert sorted(found.values()) == sorted([*wanted.values(), "\xff\x00"])
    assert found["own.crt"] == "one", "a plain name is kept"
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+\.crt", name) for name in found)


def test_any_change_of_the_recipe_is_another_image() -> None:
    recipe = Recipe(("sudo",), ("nginx-light",), (), (), {"own.crt": "one"}, "script")
    others = [
        replace(recipe, packages=("sudo", "dbus")),
        replace(recipe, downloads=("nginx-light", "etcd-server")),
        replace(recipe, authorities={"own.crt": "another"}),
        replace(recipe, script="another"),
    ]
    assert replace(recipe).key == recipe.key
    assert len({recipe.key, *(other.key for other in others)}) == 5


def test_package_names_are_plain() -> None:
    for names in DEBIAN_PACKAGES.values():
        assert all(name and name == name.strip() and " " not in name for name in names)
