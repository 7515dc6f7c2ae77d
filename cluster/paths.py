"""Where the operator's own state lives: releases, each cluster's CA and seed files, the lab."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STATE = Path(os.environ.get("GRIDDLE_STATE") or ROOT / ".griddle")
"""Secrets are in here: keep it out of git. The CAs cannot be made again: keep a `./griddle pki export`."""
RELEASES = STATE / "releases"
CLUSTERS = STATE / "clusters"
