"""The page that the alerts of Grafana link to: what to do about each of them, from ``docs/monitoring.md``."""

import re
from pathlib import Path

from markdown_it import MarkdownIt

from emotion.settings import PROJECT

RUNBOOK = PROJECT / "docs" / "monitoring.md"
CHAPTER = "## Alerts and what to do"


def anchor(heading: str) -> str:
    """The anchor of a heading, as GitHub makes it.

    >>> anchor("Macro F1 of the champion fell by more than 0.05")
    'macro-f1-of-the-champion-fell-by-more-than-005'
    """
    return re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-")


def runbook_html(file: Path = RUNBOOK) -> str:
    """The chapter on alerts as HTML; each heading has its anchor as id.

    Raises
    ------
    OSError, ValueError
        If the file, or the chapter in it, is not there.
    """
    text = file.read_text(encoding="utf-8")
    start = text.index(CHAPTER)
    end = text.find("\n## ", start + 1)
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = markdown.parse(text[start : None if end < 0 else end])
    for opening, content in zip(tokens, tokens[1:], strict=False):
        if opening.type == "heading_open":
            opening.attrSet("id", anchor(content.content))
    return str(markdown.renderer.render(tokens, markdown.options, {}))
