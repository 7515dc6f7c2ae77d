"""Jinja templates, rendered strictly: an unknown name is an error, never an empty string."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined


@cache
def _environment(directory: Path) -> Environment:
    return Environment(
        loader=FileSystemLoader(directory),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # configuration files, not HTML
    )


def render(template: Path, **values: object) -> str:
    """Render a template file with the given values."""
    return _environment(template.parent).get_template(template.name).render(**values)
