"""A page on some clips: for each its waveform, the answer, and what drove it (``emotion predict --html``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from emotion.audio.decode import Clip
from emotion.models.documents import colours
from emotion.reports import clip_picture, players
from emotion.reports.page import environment
from emotion.reports.terms import select_terms

TERMS = ("by_batch", "by_speaker", "confidence", "feature_group", "plain", "shap", "unfamiliar")


def add_picture(answer: dict, clip: Clip | None) -> dict:
    """An answer of :class:`~emotion.inference.CustomEmotionModel` with what the page draws of it.

    Parameters
    ----------
    answer : dict
        With its ``explanation``; or an error.
    clip : Clip or None
        The recording; None if it cannot be read any more: then there is no waveform and no player.
    """
    picture = clip and clip_picture.draw(clip)
    drawn = players.with_address(answer | {"picture": picture, "audio": clip and players.excerpt(clip)})
    explanation = answer.get("explanation")
    return drawn | {"fall": explanation and clip_picture.waterfall(explanation)}


def render(clips: Sequence[dict], *, model: str, entry: Mapping) -> str:
    """The page: self-contained HTML, no script, no request to anywhere.

    Parameters
    ----------
    clips : sequence of dict
        From :func:`add_picture`.
    model : str
        Its name.
    entry : mapping
        The registry entry of its version.
    """
    return (
        environment()
        .get_template("clip_page.html.j2")
        .render(
            clips=clips,
            model=model,
            notice=entry["dataset"]["notice"],
            emotion_colours=colours(entry),
            terms=select_terms(*TERMS),
        )
    )
