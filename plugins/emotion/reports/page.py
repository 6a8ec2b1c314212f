"""What all reports share: the Jinja environment with its filters."""

from __future__ import annotations

import base64
from datetime import UTC, datetime

from jinja2 import ChainableUndefined, Environment, FileSystemLoader, Undefined

from emotion.reports.terms import link_to_term
from emotion.settings import INCLUDE

Figure = float | None | Undefined

ABSENT = "–"
"""What a report shows for a figure that is missing."""


def environment() -> Environment:
    """Jinja with the project's templates and filters. All values are escaped; a missing value shows as ``–``.

    Filters: ``number(digits)``, ``signed(digits)``, ``percent(digits)``, ``thousands``, ``title`` (a name for
    people, without underscores), ``data_uri`` (PNG bytes), ``utc`` (an ISO 8601 time) and ``web`` (the address of a
    link, if it is http).
    Function: ``term(key, text)``, see :func:`emotion.reports.terms.link_to_term`.

    >>> environment().from_string("{{ 0.8126 | percent(1) }} of {{ 1440 | thousands }}").render()
    '81.3% of 1,440'
    >>> environment().from_string("{{ '2026-11-22T09:04:11+00:00' | utc }}").render()
    '2026-11-22 09:04:11 UTC'
    """
    jinja = Environment(
        loader=FileSystemLoader(INCLUDE),
        autoescape=True,
        undefined=ChainableUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    jinja.filters |= {
        "number": _number,
        "signed": _signed,
        "percent": _percent,
        "thousands": _thousands,
        "title": _title,
        "data_uri": _data_uri,
        "utc": _utc,
        "web": _web,
    }
    jinja.globals["term"] = link_to_term
    return jinja


def format_figure(value: Figure, form: str) -> str:
    """A figure by a format specification, or ``–`` if it is missing.

    >>> format_figure(0.7771, ".3f"), format_figure(None, ".3f")
    ('0.777', '–')
    """
    return ABSENT if value is None or isinstance(value, Undefined) else format(value, form)


def _number(value: Figure, digits: int = 3) -> str:
    return format_figure(value, f",.{digits}f")


def _signed(value: Figure, digits: int = 3) -> str:
    return format_figure(value, f"+.{digits}f")


def _percent(value: Figure, digits: int = 0) -> str:
    return format_figure(value, f".{digits}%")


def _thousands(value: Figure) -> str:
    return format_figure(value, ",d")


def _title(name: str) -> str:
    return str(name).replace("_", " ").capitalize()


def _data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()


def _utc(time: str) -> str:
    return datetime.fromisoformat(time).astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _web(url: str) -> str:
    return url if str(url).startswith(("https://", "http://")) else ""
