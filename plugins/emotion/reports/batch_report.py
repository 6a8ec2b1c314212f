"""The report of a scoring run: one page with everything inside, the clips that a person should hear
included."""

from __future__ import annotations

import base64
import io

import numpy as np
import pandas as pd
import soundfile

from emotion.audio.decode import Clip
from emotion.reports.page import environment
from emotion.scoring.summary import LISTED
from emotion.vocabulary import EMOTION_COLOURS, EMOTIONS, PROBABILITIES

LISTEN = 12
"""So many of the least certain clips can be heard in the report."""
EXCERPT_SECONDS = 8.0
TIMELINES = 12
SEGMENTS = 300
"""A timeline is drawn in at most so many pieces."""


def excerpt(clip: Clip) -> bytes:
    """The beginning of a clip as a small MP3, for a player in the page."""
    samples = clip.samples[: int(EXCERPT_SECONDS * clip.sample_rate)]
    buffer = io.BytesIO()
    soundfile.write(
        buffer,
        np.clip(samples, -1, 1),
        clip.sample_rate,
        format="MP3",
        subtype="MPEG_LAYER_III",
        compression_level=0.8,
    )
    return buffer.getvalue()


def render(summary: dict, table: pd.DataFrame, timeline: pd.DataFrame, *, listen: list[dict]) -> str:
    """The report as one self-contained HTML page: no script, no request to anywhere.

    Parameters
    ----------
    summary : dict
        What ``summary.json`` holds.
    table, timeline : pandas.DataFrame
        What ``predictions.parquet`` and ``timeline.parquet`` hold; ``timeline`` may be empty.
    listen : list of dict
        The least certain clips, least certain first: their rows, ``audio`` (MP3 bytes or None), ``towards``
        and ``against``.
    """
    rejected = table[table["error"] != ""]
    players = [clip | {"audio": clip["audio"] and _data_uri(clip["audio"])} for clip in listen]
    long = table[table["windows"] > 0].nlargest(TIMELINES, "duration", keep="first")
    return (
        environment()
        .get_template("scoring_report.html.j2")
        .render(
            summary=summary,
            model=summary["model"],
            challenger=summary["challenger"],
            comparison=summary["comparison"],
            drift=summary["drift"],
            emotions=EMOTIONS,
            probability_columns=PROBABILITIES,
            emotion_colours=EMOTION_COLOURS,
            listen=players,
            timelines=[row | {"segments": _segments(timeline, row)} for row in long.to_dict("records")],
            rejected=rejected.head(LISTED)[["path", "error", "message"]].to_dict("records"),
            rejected_count=len(rejected),
            listed=LISTED,
        )
    )


def _data_uri(mp3: bytes) -> str:
    return "data:audio/mpeg;base64," + base64.b64encode(mp3).decode()


def _segments(timeline: pd.DataFrame, row: dict) -> list[dict]:
    """A long file's windows, or groups of them, as pieces of one emotion: start and end (s), emotion,
    confidence."""
    windows = timeline[(timeline["path"] == row["path"]) & (timeline["sha256"] == row["sha256"])]
    group = np.arange(len(windows)) * SEGMENTS // max(len(windows), SEGMENTS)
    pieces: list[dict] = []
    for _, some in windows.groupby(group):
        mean = some[PROBABILITIES].mean().to_numpy()
        known = not np.isnan(mean).all()
        emotion = EMOTIONS[int(np.nanargmax(mean))] if known else ""
        piece = {
            "start": float(some["start"].iloc[0]),
            "end": float(some["end"].iloc[-1]),
            "emotion": emotion,
        }
        pieces.append(piece | {"confidence": float(np.nanmax(mean)) if known else None})
    return pieces
