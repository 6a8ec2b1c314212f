"""Labels and speakers of the files to score, where they are known."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd

from emotion.datasets.ravdess import ravdess_emotion
from emotion.errors import DataError
from emotion.vocabulary import EMOTIONS

MAX_LABELS_BYTES = 64 << 20


def read_labels(folder: Path, name: str | None, inboxes: tuple[Path, ...]) -> dict[str, dict]:
    """What the folder's labels file says, by path; {} where there is none. Raises DataError if it cannot be
    used."""
    if not name or not os.path.lexists(folder / name):
        return {}
    place = folder / name
    if not place.is_file() or not any(place.resolve().is_relative_to(os.path.realpath(root)) for root in inboxes):
        raise DataError(f"{place} is no regular file of the inbox; expected a CSV with the columns path and emotion")
    if place.stat().st_size > MAX_LABELS_BYTES:
        raise DataError(f"{place} has {place.stat().st_size:,} bytes; expected at most {MAX_LABELS_BYTES:,}")
    try:
        table = pd.read_csv(place, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (ValueError, OSError) as error:  # UnicodeDecodeError and pandas' parser errors are ValueErrors
        raise DataError(f"{place} cannot be read as CSV ({error}); expected the columns path and emotion") from error
    if not {"path"} < set(table.columns) or not {"emotion", "speaker"} & set(table.columns):
        raise DataError(
            f"{place} has the columns {', '.join(table.columns)}; expected path, emotion and, if wanted, speaker"
        )
    found = {}
    for line, row in enumerate(table.to_dict("records"), start=2):
        emotion = row.get("emotion", "").strip().lower()
        if emotion and emotion not in EMOTIONS:
            raise DataError(f"{place}, line {line}: {emotion!r} is none of {', '.join(EMOTIONS)}")
        found[os.path.normpath(row["path"])] = {"label": emotion, "speaker": row.get("speaker", "").strip()}
    return found


def label_and_speaker(path: str, labels: dict[str, dict], speakers: str) -> dict:
    """What is known of a file without hearing it: label and speaker, "" where unknown."""
    said = labels.get(path, {"label": "", "speaker": ""})
    parts = Path(path).parts
    speaker = {"labels": said["speaker"], "subfolder": parts[0] if len(parts) > 1 else "", "none": ""}[speakers]
    return {"label": said["label"] or ravdess_emotion(Path(path).stem), "speaker": speaker}
