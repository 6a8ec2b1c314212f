"""The model card of a version: what it is for, its data and licence, its figures, its limits (Mitchell et al. 2019)."""

from __future__ import annotations

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from emotion.settings import INCLUDE
from emotion.vocabulary import PROTOCOLS


def render(comparison: dict, *, version: str) -> str:
    """The card as Markdown, from a run's ``comparison.json``."""
    environment = Environment(
        loader=FileSystemLoader(INCLUDE), undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True
    )
    return environment.get_template("model_card.md.j2").render(comparison, version=version, protocols=PROTOCOLS)
