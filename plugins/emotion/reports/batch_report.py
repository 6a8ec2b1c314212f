"""The report of a scoring run as one HTML page, with the clips that a person should listen to."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np
import pandas as pd

from emotion.models.documents import colours, known_emotions
from emotion.reports import clip_picture
from emotion.reports.page import environment
from emotion.reports.players import with_address
from emotion.reports.terms import select_terms
from emotion.scoring.summary import LISTED
from emotion.vocabulary import emotions_of, probability_columns

LISTEN = 12
"""How many of the least certain clips can be played in the report."""
TIMELINES = 12
"""How many long recordings get a timeline, longest first."""
SEGMENTS = 300
"""A timeline is drawn in at most this many pieces."""
TERMS = (
    "by_batch",
    "by_speaker",
    "calibration_error",
    "challenger",
    "confidence",
    "drift",
    "emotion_mix",
    "estimated_accuracy",
    "feature_group",
    "ks",
    "macro_f1",
    "mcnemar",
    "plain",
    "psi",
    "quality",
    "realized_accuracy",
    "shap",
    "shift",
    "unfamiliar",
    "unheard_datasets",
    "unheard_speakers",
    "wilson",
)
"""Keys of :data:`emotion.reports.terms.TERMS` that the page explains."""


def render(
    summary: dict,
    table: pd.DataFrame,
    timeline: pd.DataFrame,
    *,
    rejected: int,
    long_files: int,
    listen: list[dict],
) -> str:
    """The report as one self-contained HTML page: no script, no request to anywhere.

    Parameters
    ----------
    summary : dict
        The contents of ``summary.json``.
    table, timeline : pandas.DataFrame
        The contents of ``predictions.parquet`` and ``timeline.parquet``, as far as they are shown; ``timeline`` may be
        empty.
    rejected, long_files : int
        How many rows of the whole table have an error, and how many files a timeline.
    listen : list of dict
        The least certain clips, least certain first, as :func:`emotion.runs.listening.least_confident_clips` gives
        them.
    """
    emotions = known_emotions(summary["model"])
    refused = table[table["error"] != ""]
    segments = summary["options"].get("segments", "windows")  # a batch of an earlier release has no such option
    return (
        environment()
        .get_template("scoring_report.html.j2")
        .render(
            summary=summary,
            model=summary["model"],
            challenger=summary["challenger"],
            comparison=summary["comparison"],
            drift=summary["drift"],
            emotions=emotions,
            emotion_colours=colours(summary["model"]),
            listen=[_player(clip, emotions) for clip in listen],
            timelines=_timelines(table, timeline, segments),
            long_files=long_files,
            segments=segments,
            rejected=refused.head(LISTED)[["path", "channel", "error", "message"]].to_dict("records"),
            rejected_count=rejected,
            listed=LISTED,
            terms=select_terms(*TERMS),
        )
    )


def render_failures(summary: dict) -> str:
    """The page that stands for the report where that could not be made: what failed, and where the predictions are.

    >>> page = render_failures({"batch": "one", "failures": [{"step": "report", "path": "", "message": "1 < 2"}]})
    >>> "predictions.csv" in page and "1 &lt; 2" in page
    True
    """
    reasons = "".join(
        f"<li>{escape(failure['step'])} {escape(failure['path'])}: {escape(failure['message'])}</li>"
        for failure in summary["failures"]
    )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Batch {escape(summary["batch"])}</title>'
        f"<h1>Batch {escape(summary['batch'])}: the report could not be made</h1>"
        f"<p>All predictions are in predictions.csv in the folder of this page. What failed:</p><ul>{reasons}</ul>"
    )


def _player(clip: dict, emotions: Sequence[str]) -> dict:
    """A clip with its audio as the address of a player, its probabilities by emotion, and its reasons as a picture."""
    explanation = clip["explanation"]
    return with_address(clip) | {
        "probabilities": {emotion: clip[f"p_{emotion}"] for emotion in emotions},
        "fall": explanation and clip_picture.waterfall(explanation),
    }


def _timelines(table: pd.DataFrame, timeline: pd.DataFrame, segments: str) -> list[dict]:
    """The files that have a timeline, longest first: path, duration (s), ``lanes`` and ``overlap_seconds``.

    A lane is the row of a channel, or of the file if its channels are mixed, with its ``segments``; a channel without
    an answer has none. ``overlaps`` of a lane are the spans, as start and end in s, in which another channel has an
    utterance too. Windows are not compared: they hold silence as well.
    """
    long_files = table[table["windows"] > 0].groupby(["path", "sha256"], sort=False)["duration"].max()
    files = []
    for (path, sha256), duration in long_files.nlargest(TIMELINES, keep="first").items():
        rows = table[(table["path"] == path) & (table["sha256"] == sha256)]
        windows = timeline[(timeline["path"] == path) & (timeline["sha256"] == sha256)]
        overlaps = _overlaps(windows) if segments == "utterances" else []
        drawn = sorted(overlaps, key=lambda span: span[0] - span[1])[:SEGMENTS]
        lanes = []
        for row in rows.to_dict("records"):
            lane = windows[windows["channel"] == row["channel"]]
            lanes.append(row | {"segments": _segments(lane), "overlaps": _common(drawn, lane)})
        seconds = sum(end - start for start, end in overlaps)
        files.append({"path": path, "duration": duration, "lanes": lanes, "overlap_seconds": seconds})
    return files


def _common(spans: list[tuple[float, float]], lane: pd.DataFrame) -> list[tuple[float, float]]:
    """The parts of the spans that lie in an utterance of a lane."""
    utterances = list(zip(lane["start"], lane["end"], strict=True))
    parts = [(max(start, first), min(end, last)) for start, end in spans for first, last in utterances]
    return [(start, end) for start, end in parts if start < end]


def _overlaps(windows: pd.DataFrame) -> list[tuple[float, float]]:
    """The spans in which utterances of several channels lie.

    >>> spoken = pd.DataFrame({"start": [0.0, 2.0], "end": [3.0, 4.0], "channel": ["1", "2"], "error": ["", ""]})
    >>> _overlaps(spoken)
    [(2.0, 3.0)]
    """
    sound = windows[windows["error"].isin(["", "too_short"])]
    edges = sorted([(start, 1) for start in sound["start"]] + [(end, -1) for end in sound["end"]])
    spans, count, begin = [], 0, 0.0
    for moment, step in edges:
        count += step
        if step == 1 and count == 2:
            begin = moment
        elif step == -1 and count == 1 and moment > begin:
            spans.append((float(begin), float(moment)))
    return spans


def _segments(windows: pd.DataFrame) -> list[dict]:
    """The pieces in which the timeline of a lane is drawn: start and end (s), emotion, confidence.

    A piece is one window or utterance, or the mean of several where there are more than :data:`SEGMENTS`. A piece
    without any answer has the emotion ``""`` and the confidence None; ``sound`` says whether it is an utterance.
    """
    emotions = emotions_of(windows)
    piece_numbers = np.arange(len(windows)) * SEGMENTS // max(len(windows), SEGMENTS)
    pieces: list[dict] = []
    for _, group in windows.groupby(piece_numbers):
        mean = group[probability_columns(emotions)].mean().to_numpy()
        answered = not np.isnan(mean).all()
        pieces.append(
            {
                "start": float(group["start"].iloc[0]),
                "end": float(group["end"].iloc[-1]),
                "emotion": emotions[int(np.nanargmax(mean))] if answered else "",
                "confidence": float(np.nanmax(mean)) if answered else None,
                "sound": bool((group["error"] == "too_short").any()),
            }
        )
    return pieces
