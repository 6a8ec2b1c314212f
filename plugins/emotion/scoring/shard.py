"""Scores the files of one shard: decoding, features, models, long recordings by windows."""

from __future__ import annotations

import io
import logging
import time
from itertools import islice
from typing import BinaryIO

import numpy as np
import pandas as pd

from emotion import features
from emotion.audio import decode
from emotion.audio.decode import Clip
from emotion.errors import AudioError
from emotion.inference import CustomEmotionModel
from emotion.inference.windows import file_windows, read
from emotion.monitoring.drift import Sketch
from emotion.scoring import inbox
from emotion.scoring.options import Options
from emotion.scoring.plan import decoded_paths, listed_file
from emotion.scoring.tables import CHALLENGER_COLUMNS, COLUMNS, LATENCIES, TIMELINE_COLUMNS
from emotion.vocabulary import EMOTIONS, PROBABILITIES

log = logging.getLogger(__name__)
LONG = 5
"""A recording longer than so many windows becomes a timeline."""
WINDOWS_AT_ONCE = 64
INTERNAL = "internal"
"""Reason of a file on which the code itself failed: a bug, which must not keep the other files from being
scored."""


class Shard:
    """The files of one shard on their way through decoding, features and models."""

    def __init__(self, models: list[CustomEmotionModel], plan: dict, sketch: Sketch):
        self.models = models
        self.sketch = sketch
        self._inboxes = decoded_paths(plan["inboxes"])
        self._options = Options(**plan["options"])
        self._rows: list[dict] = []
        self._timeline: list[dict] = []
        self._vectors: list[np.ndarray] = []

    def add(self, entry: dict) -> None:
        """Decode and featurize a file, or find out why it cannot be used; a long one is answered at once."""
        row = {key: entry[key] for key in ("path", "sha256", "label", "speaker")}
        row |= {"error": "", "message": "", "windows": 0, "vector": -1}
        row |= {"model": self.models[0].version, "family": self.models[0].family}
        self._rows.append(row)
        try:
            with inbox.reopen(listed_file(entry), inboxes=self._inboxes) as handle:
                start = time.perf_counter()
                clip = self._read_short(handle)
                if clip is None:
                    row |= self._answer_long(handle, entry)
                    return
                decoded = time.perf_counter()
                vector = features.extract(clip.samples)
                row |= {
                    "decode_ms": 1000 * (decoded - start),
                    "features_ms": 1000 * (time.perf_counter() - decoded),
                }
                row |= {"duration": clip.duration, "vector": len(self._vectors)}
                self._vectors.append(vector)
        except AudioError as error:
            row |= {"error": error.reason, "message": inbox.shown(str(error))}
        except Exception as error:
            log.exception("%s: scoring it failed", entry["path"])
            row |= {"error": INTERNAL, "message": inbox.shown(f"{type(error).__name__}: {error}")}

    def _read_short(self, handle: BinaryIO) -> Clip | None:
        """A clip, or None if the recording is a long one."""
        with decode.open_recording(handle) as recording:
            promised = (recording.frames or 0) / recording.sample_rate
        if promised > LONG * self._options.window_seconds:
            return None
        try:
            return read(handle)
        except AudioError as error:
            if error.reason == "too_long":  # its header did not say, or windows are long
                return None
            raise

    def _answer_long(self, handle: BinaryIO, entry: dict) -> dict:
        """One answer for the file, the mean of its windows' probabilities, each weighted by its length."""
        window = self._options.window_seconds
        windows = file_windows(handle, window=window, hop=window)
        found: list[dict] = []
        sums = np.zeros((len(self.models), len(EMOTIONS)))
        end = 0.0
        while some := list(islice(windows, WINDOWS_AT_ONCE)):
            end = some[-1].end
            answers: list[list[dict]] = []
            good = [one for one in some if one.vector is not None]
            if good:
                values, weights = (
                    np.array([one.vector for one in good]),
                    [one.end - one.start for one in good],
                )
                answers = [model.predict_features(values) for model in self.models]
                for total, of_model in zip(sums, answers, strict=True):
                    total += np.array(weights) @ _probabilities(of_model)
            own = iter(answers[0] if answers else [])
            for one in some:
                row = {"path": entry["path"], "sha256": entry["sha256"], "start": one.start, "end": one.end}
                found.append(row | ({"error": one.error.reason} if one.error else _flat(next(own)) | {"error": ""}))
        if not sums.any():
            raise AudioError(found[0]["error"], f"{entry['path']}: none of its {len(found)} windows can be used")
        self._timeline += found
        means = sums / sums.sum(axis=1, keepdims=True)
        row = {"duration": end, "windows": len(found), "mode": "plain"}
        row |= _best(means[0]) | dict(zip(PROBABILITIES, means[0].tolist(), strict=True))
        if len(self.models) > 1:
            row |= {f"challenger_{key}": value for key, value in _best(means[1]).items()}
        return row

    def predict(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """The shard's rows and timeline, once every file was added."""
        rows = [row for row in self._rows if row["vector"] >= 0]
        if rows:
            values = np.array(self._vectors)
            speakers = [row["speaker"] for row in rows]
            start = time.perf_counter()
            answers = self.models[0].predict_features(values, speakers=speakers)
            model_ms = 1000 * (time.perf_counter() - start) / len(rows)
            for row, answer in zip(rows, answers, strict=True):
                row |= _flat(answer) | {"mode": answer["mode"], "model_ms": model_ms}
                row |= {"total_ms": row["decode_ms"] + row["features_ms"] + model_ms}
            self.sketch.add(values)
            self.sketch.add_predictions(
                _probabilities(answers), np.array([row["mode"] for row in rows]), family=self.models[0].family
            )
            for model in self.models[1:]:
                for row, answer in zip(rows, model.predict_features(values, speakers=speakers), strict=True):
                    row |= {f"challenger_{key}": answer[key] for key in ("emotion", "confidence")}
        columns = COLUMNS + CHALLENGER_COLUMNS + ["vector", *(f"{stage}_ms" for stage in LATENCIES)]
        table = pd.DataFrame(self._rows, columns=columns)
        numbers = [
            "confidence",
            *PROBABILITIES,
            "duration",
            "challenger_confidence",
            *columns[-len(LATENCIES) :],
        ]
        table[numbers] = table[numbers].astype(float)
        words = ["emotion", "mode", "challenger_emotion"]
        table[words] = table[words].astype(object).where(table[words].notna(), "").astype(str)
        table["needs_listener"] = (table["error"] == "") & (table["confidence"] < self._options.min_confidence)
        timeline = pd.DataFrame(self._timeline, columns=TIMELINE_COLUMNS)
        figures = ["start", "end", "confidence", *PROBABILITIES]
        timeline[figures] = timeline[figures].astype(float)
        timeline["emotion"] = timeline["emotion"].astype(object).where(timeline["emotion"].notna(), "").astype(str)
        return table, timeline

    def vectors_file(self) -> bytes:
        """The features, rows as the column ``vector`` says, as an ``.npy`` file: explanations are made of
        them."""
        buffer = io.BytesIO()
        np.save(buffer, np.array(self._vectors, dtype=np.float32), allow_pickle=False)
        return buffer.getvalue()


def _probabilities(answers: list[dict]) -> np.ndarray:
    return np.array([list(answer["probabilities"].values()) for answer in answers])


def _flat(answer: dict) -> dict:
    found = {key: answer[key] for key in ("emotion", "confidence")}
    return found | dict(zip(PROBABILITIES, answer["probabilities"].values(), strict=True))


def _best(probabilities: np.ndarray) -> dict:
    best = int(probabilities.argmax())
    return {"emotion": EMOTIONS[best], "confidence": float(probabilities[best])}
