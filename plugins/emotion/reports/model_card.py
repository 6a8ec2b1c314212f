"""The model card of a version (Mitchell et al. 2019): its use, its data and licence, its figures and its limits."""

from __future__ import annotations

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from emotion.settings import INCLUDE
from emotion.vocabulary import EMOTIONS, PROTOCOLS


def render(comparison: dict, *, version: str) -> str:
    """The card as Markdown, from a run's ``comparison.json``.

    Parameters
    ----------
    comparison : dict
        Must hold every model with every protocol.
    version : str
        Name of the version that the run registers.

    Raises
    ------
    jinja2.UndefinedError
        If a figure or fact is missing.
    """
    jinja = Environment(
        loader=FileSystemLoader(INCLUDE), undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True
    )
    return jinja.get_template("model_card.md.j2").render(
        comparison, version=version, protocols=PROTOCOLS, standard_emotions=list(EMOTIONS)
    )
