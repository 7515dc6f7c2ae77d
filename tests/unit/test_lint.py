"""The linters find nothing: in Python, in shell scripts and what templates make of them, and in Lua."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TRACKED = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.split()


def is_script(path: Path) -> bool:
    return path.suffix == ".sh" or (path.is_file() and bool(re.match(rb"#!/bin/(ba)?sh\n", path.read_bytes())))


SCRIPTS = [name for name in TRACKED if is_script(ROOT / name)]
LUA = {
    "nginx/lua": ["--std", "ngx_lua"],
    "ops/bench/wrk.lua": ["--read-globals", "wrk", "--globals", "init", "request", "done"],
}


def finds_nothing(*command: str, given: str | None = None) -> None:
    if shutil.which(command[0]) is None:
        pytest.skip(f"there is no {command[0]}")
    done = subprocess.run(command, cwd=ROOT, input=given, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("verb", ["check", "format --check"])
def test_ruff(verb: str) -> None:
    finds_nothing(sys.executable, "-m", "ruff", *verb.split(), "--no-cache", ".")


@pytest.mark.parametrize("name", SCRIPTS)
def test_shellcheck(name: str) -> None:
    text, options = (ROOT / name).read_text(), ["--format=gcc"]
    if name.endswith(".j2"):
        text = re.sub(r"{{.*?}}", "value", re.sub(r"(?m)^{%.*%}$", "", text))
        options.append("--exclude=SC2170")  # "value is no number"
    if not text.startswith("#!"):
        options.append("--shell=sh")
    finds_nothing("shellcheck", *options, "-", given=text)


@pytest.mark.parametrize("name", LUA)
def test_luacheck(name: str) -> None:
    finds_nothing("luacheck", name, "--no-color", "--formatter=plain", *LUA[name])
