"""What all reports share: the Jinja environment with its filters."""

from __future__ import annotations

import base64

from jinja2 import ChainableUndefined, Environment, FileSystemLoader, Undefined

from emotion.reports.terms import link_to_term
from emotion.settings import INCLUDE

ABSENT = "–"
"""What a report shows for a figure that is missing."""


def environment() -> Environment:
    """Jinja with the project's templates and filters. All values are escaped; a missing value shows as ``–``.

    Filters: ``number(digits)``, ``signed(digits)``, ``percent(digits)``, ``thousands``, ``title`` (a name for
    people, without underscores), ``data_uri`` (PNG bytes) and ``web`` (the address of a link, if it is http).
    Function: ``term(key, text)``, see :func:`emotion.reports.terms.link_to_term`.

    >>> environment().from_string("{{ 0.8126 | percent(1) }} of {{ 1440 | thousands }}").render()
    '81.3% of 1,440'
    """
    jinja = Environment(
        loader=FileSystemLoader(INCLUDE),
        autoescape=True,
        undefined=ChainableUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    jinja.filters |= {
        "number": lambda value, digits=3: format_figure(value, f",.{digits}f"),
        "signed": lambda value, digits=3: format_figure(value, f"+.{digits}f"),
        "percent": lambda value, digits=0: format_figure(value, f".{digits}%"),
        "thousands": lambda value: format_figure(value, ",d"),
        "title": lambda name: str(name).replace("_", " ").capitalize(),
        "data_uri": lambda png: "data:image/png;base64," + base64.b64encode(png).decode(),
        "web": lambda url: url if str(url).startswith(("https://", "http://")) else "",
    }
    jinja.globals["term"] = link_to_term
    return jinja


def format_figure(value: float | None | Undefined, form: str) -> str:
    """A figure by a format specification, or ``–`` if it is missing.

    >>> format_figure(0.7771, ".3f"), format_figure(None, ".3f")
    ('0.777', '–')
    """
    return ABSENT if value is None or isinstance(value, Undefined) else format(value, form)
