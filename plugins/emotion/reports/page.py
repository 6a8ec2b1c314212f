"""The page that all reports share: Jinja environment and filters."""

from __future__ import annotations

import base64

from jinja2 import ChainableUndefined, Environment, FileSystemLoader, Undefined

from emotion.settings import INCLUDE

ABSENT = "–"


def environment() -> Environment:
    """Jinja with the project's templates and filters; all is escaped, what is not there shows as ``–``.

    Filters: ``number(digits)``, ``signed(digits)``, ``percent(digits)``, ``thousands``, ``title`` (a name for
    people, without underscores), ``data_uri`` (PNG bytes) and ``web`` (a link's address, if it is http).
    """
    found = Environment(
        loader=FileSystemLoader(INCLUDE),
        autoescape=True,
        undefined=ChainableUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {
        "number": lambda value, digits=3: format_figure(value, f",.{digits}f"),
        "signed": lambda value, digits=3: format_figure(value, f"+.{digits}f"),
        "percent": lambda value, digits=0: format_figure(value, f".{digits}%"),
        "thousands": lambda value: format_figure(value, ",d"),
        "title": lambda name: str(name).replace("_", " ").capitalize(),
        "data_uri": lambda png: "data:image/png;base64," + base64.b64encode(png).decode(),
        "web": lambda url: url if str(url).startswith(("https://", "http://")) else "",
    }
    return found


def format_figure(value: float | None | Undefined, form: str) -> str:
    return ABSENT if value is None or isinstance(value, Undefined) else format(value, form)
