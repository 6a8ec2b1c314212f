"""Scores the files of one shard: decoding, features, models; long recordings window by window."""

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
from emotion.errors import AudioError, describe_failure
from emotion.features import quality
from emotion.features.quality import Quality
from emotion.inference import CustomEmotionModel
from emotion.inference.windows import Window, file_windows, read
from emotion.scoring import inbox
from emotion.scoring.inbox import TEMPORARY
from emotion.scoring.limits import listener_limits
from emotion.scoring.options import Options
from emotion.scoring.plan import Plan, decoded_paths, listed_file
from emotion.scoring.tables import HEARD, answer_columns, challenger_columns, clip_table, timeline_table
from emotion.vocabulary import EMOTIONS

log = logging.getLogger(__name__)
LONG = 5
"""A recording that is longer than this many windows gets a timeline."""
WINDOWS_AT_ONCE = 64
"""Windows of a long recording that are given to the models together; memory holds no more of them."""
INTERNAL = "internal"
"""Reason of a file on which the code itself failed: a bug, which must not keep the other files from being scored. The
file becomes known to the model all the same, as the same code would fail on it again: once the code is corrected, score
it with ``rescore``."""


class Shard:
    """The files of one shard on their way through decoding, features and models.

    Call :meth:`add` with each file, then :meth:`predict` once.

    Parameters
    ----------
    models : list of CustomEmotionModel
        The model, and the challenger if there is one.
    plan : Plan
    training_clips : frozenset of str, or None
        From :func:`emotion.scoring.heard.training_clips`.
    """

    def __init__(self, models: list[CustomEmotionModel], plan: Plan, training_clips: frozenset[str] | None):
        self.models = models
        self._training_clips = training_clips
        self._inboxes = decoded_paths(plan["inboxes"])
        self._options = Options(**plan["options"])
        self._limits = listener_limits(self._options, plan["models"][0])
        self._rows: list[dict] = []
        self._timeline: list[dict] = []
        self._vectors: list[np.ndarray] = []

    def add(self, entry: dict) -> None:
        """Decode and featurize a file of the plan, or record why it cannot be used; a long one is answered at once."""
        row = {key: entry[key] for key in ("path", "sha256", "label", "speaker")}
        row |= {"error": "", "message": "", "windows": 0, "vector": -1}
        row |= {"model": self.models[0].version, "family": self.models[0].family}
        self._rows.append(row)
        try:
            with inbox.reopen(listed_file(entry), inboxes=self._inboxes) as handle:
                start = time.perf_counter()
                clip = self._read_short(handle)
                columns, timeline = self._answer_long(handle, entry) if clip is None else ({}, [])
            # Only now is it certain that no read of the file failed.
            row |= columns if clip is None else self._featurize(clip, start)
            self._timeline += timeline
        except AudioError as error:
            row |= {"error": error.reason, "message": inbox.shown(str(error))}
        except (OSError, MemoryError) as error:
            log.warning("%s: left for the next sweep (%s)", entry["path"], describe_failure(error))
            row |= {"error": TEMPORARY, "message": inbox.shown(describe_failure(error))}
        except Exception as error:
            log.exception("%s: scoring it failed", entry["path"])
            row |= {"error": INTERNAL, "message": inbox.shown(describe_failure(error))}

    def predict(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """The shard's table and timelines, once every file was added.

        Returns
        -------
        tuple of pandas.DataFrame
            See :func:`emotion.scoring.tables.clip_table` and :func:`emotion.scoring.tables.timeline_table`.
        """
        rows = [row for row in self._rows if row["vector"] >= 0]
        if rows:
            self._answer_clips(rows)
        return clip_table(self._rows, limits=self._limits), timeline_table(self._timeline)

    @property
    def vectors(self) -> np.ndarray:
        """The features, float32 (n_clips, n_features), rows as the column ``vector`` says."""
        return np.array(self._vectors, dtype=np.float32)

    def vectors_file(self) -> bytes:
        """The features as an ``.npy`` file. Explanations are computed from them."""
        buffer = io.BytesIO()
        np.save(buffer, self.vectors, allow_pickle=False)
        return buffer.getvalue()

    def _read_short(self, handle: BinaryIO) -> Clip | None:
        """The clip, or None if the recording is a long one."""
        with decode.open_recording(handle) as recording:
            stated_seconds = (recording.frames or 0) / recording.sample_rate
        if stated_seconds > LONG * self._options.window_seconds:
            return None
        try:
            return read(handle)
        except AudioError as error:
            if error.reason == "too_long":  # the header states no length, or windows are long
                return None
            raise

    def _featurize(self, clip: Clip, start: float) -> dict:
        """Keep the clip's features; returns columns of its row. ``start``: when decoding began."""
        decoded = time.perf_counter()
        vector = features.extract(clip.samples)
        if not np.isfinite(vector).all():  # the models would refuse the whole shard
            raise ArithmeticError(f"{np.count_nonzero(~np.isfinite(vector))} features are not finite")
        columns: dict = {
            "decode_ms": 1000 * (decoded - start),
            "features_ms": 1000 * (time.perf_counter() - decoded),
            "duration": clip.duration,
            "vector": len(self._vectors),
        } | quality.measure(clip.samples)._asdict()
        if self._training_clips is not None:
            columns["heard_in_training"] = HEARD if clip.samples_sha256 in self._training_clips else "no"
        self._vectors.append(vector)
        return columns

    def _answer_clips(self, rows: list[dict]) -> None:
        """Fill in the answers for all clips of the shard together."""
        values = self.vectors
        speakers = [row["speaker"] for row in rows]
        start = time.perf_counter()
        answers = self.models[0].predict_features(values, speakers=speakers)
        model_ms = 1000 * (time.perf_counter() - start) / len(rows)
        for row, answer in zip(rows, answers, strict=True):
            row |= answer_columns(answer) | {"mode": answer["mode"], "model_ms": model_ms}
            row["unfamiliarity"] = answer["unfamiliarity"]
            row |= {"total_ms": row["decode_ms"] + row["features_ms"] + model_ms}
        for challenger in self.models[1:]:
            answers = challenger.predict_features(values, speakers=speakers)
            for row, answer in zip(rows, answers, strict=True):
                row |= challenger_columns(answer)

    def _answer_long(self, handle: BinaryIO, entry: dict) -> tuple[dict, list[dict]]:
        """One answer for a long recording: the mean of its windows' probabilities, weighted by their lengths.

        Returns columns of the file's row, and the rows of its timeline.
        """
        seconds = self._options.window_seconds
        windows = file_windows(handle, window=seconds, hop=seconds)
        timeline: list[dict] = []
        sums = np.zeros((len(self.models), len(EMOTIONS)))
        end = 0.0
        distances: list[float] = []
        qualities: list[Quality] = []
        while block := list(islice(windows, WINDOWS_AT_ONCE)):
            end = block[-1].end
            answers = self._answer_windows(block)
            if answers[0]:
                lengths = np.array([window.end - window.start for window in block if window.vector is not None])
                for total, model_answers in zip(sums, answers, strict=True):
                    total += lengths @ probability_matrix(model_answers)
            timeline += _timeline_rows(entry, block, answers[0])
            distances += [answer["unfamiliarity"] for answer in answers[0]]
            qualities += [window.quality for window in block if window.vector is not None]
        if not sums.any():
            raise AudioError(timeline[0]["error"], f"{entry['path']}: none of its {len(timeline)} windows can be used")
        means = sums / sums.sum(axis=1, keepdims=True)
        columns = {"duration": end, "windows": len(timeline), "mode": "plain"} | answer_columns(_mean_answer(means[0]))
        columns |= {"unfamiliarity": float(np.median(distances))} | quality.of_windows(qualities)._asdict()
        if len(self.models) > 1:
            columns |= challenger_columns(_mean_answer(means[1]))
        return columns, timeline

    def _answer_windows(self, block: list[Window]) -> list[list[dict]]:
        """The answers of each model for the usable windows of a block, in their order."""
        vectors = [window.vector for window in block if window.vector is not None]
        if not vectors:
            return [[] for _ in self.models]
        return [model.predict_features(np.array(vectors)) for model in self.models]


def probability_matrix(answers: list[dict]) -> np.ndarray:
    """The probabilities of answers, float64 (n, 8), in the order of :data:`emotion.vocabulary.EMOTIONS`.

    >>> probability_matrix([{"probabilities": {emotion: float(emotion == "calm") for emotion in reversed(EMOTIONS)}}])
    array([[0., 1., 0., 0., 0., 0., 0., 0.]])
    """
    return np.array([[answer["probabilities"][emotion] for emotion in EMOTIONS] for answer in answers])


def _timeline_rows(entry: dict, block: list[Window], answers: list[dict]) -> list[dict]:
    """The rows of a block of windows; ``answers``: one for each usable window."""
    rows = []
    remaining = iter(answers)
    for window in block:
        row = {"path": entry["path"], "sha256": entry["sha256"], "start": window.start, "end": window.end}
        if window.error:
            row |= {"error": window.error.reason}
        else:
            row |= answer_columns(next(remaining)) | {"error": ""}
        rows.append(row)
    return rows


def _mean_answer(probabilities: np.ndarray) -> dict:
    """The answer that mean probabilities (8,) give."""
    best = int(probabilities.argmax())
    return {
        "emotion": EMOTIONS[best],
        "confidence": float(probabilities[best]),
        "probabilities": dict(zip(EMOTIONS, probabilities.tolist(), strict=True)),
    }
