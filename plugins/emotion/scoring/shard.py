"""Scores the files of one shard: decoding, features, models; long recordings window by window."""

from __future__ import annotations

import io
import logging
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import chain, islice, tee
from typing import BinaryIO, NamedTuple

import numpy as np
import pandas as pd

from emotion import features
from emotion.audio import decode
from emotion.audio.channels import Channel, speaker_of
from emotion.audio.decode import Clip
from emotion.errors import AudioError, describe_failure
from emotion.features import quality
from emotion.features.quality import Quality
from emotion.inference import CustomEmotionModel
from emotion.inference.cutting import MAX_CLIP_SECONDS
from emotion.inference.windows import Window, channels_of, file_windows, read
from emotion.scoring import inbox
from emotion.scoring.ledger import content_of
from emotion.scoring.limits import listener_limits
from emotion.scoring.listing import TEMPORARY
from emotion.scoring.options import Options
from emotion.scoring.plan import Plan, decoded_paths, listed_file
from emotion.scoring.tables import HEARD, answer_columns, challenger_columns, clip_table, timeline_table
from emotion.store import Store
from emotion.workers import WORKER_FILES, Died, Workers

log = logging.getLogger(__name__)
WINDOWS_AT_ONCE = 64
"""Windows of a long recording that are given to the models together; memory holds no more of them."""
WORKER_BYTES = 32 << 20
"""Bytes for which one more process pays off, as :data:`WORKER_FILES` do."""
TOO_LARGE = "too_large"
"""Reason of a file for which memory ran out :data:`MEMORY_ATTEMPTS` times. It becomes known to the model, until it
changes."""
MEMORY_ATTEMPTS = 3
INTERNAL = "internal"
"""Reason of a file on which the code itself failed: a bug, which must not keep the other files from being scored. The
file becomes known to the model all the same, as the same code would fail on it again: once the code is corrected, score
it with ``rescore``."""


class ScoredFile(NamedTuple):
    """What became of a file of the plan."""

    rows: list[dict]
    """One for the file, or one for each channel. Of a usable clip, ``vector`` is its place in ``vectors``; else -1."""
    vectors: list[np.ndarray]
    """Features, float32 (n_features,)."""
    timeline: list[dict]
    """Rows of the windows of a long recording."""
    memory_errors: int | None
    """How often memory ran out for the file by now; None if that is what the plan says."""


class FileScorer:
    """Decodes and featurizes one file after the other, in any process; a long recording is answered at once.

    Parameters
    ----------
    plan : Plan
        Its files do not matter.
    training_clips : frozenset of str, or None
        From :func:`emotion.scoring.heard.training_clips`.
    load_models : callable
        Gives the model, and the challenger if there is one. Called for the first long recording.
    """

    def __init__(
        self,
        plan: Plan,
        training_clips: frozenset[str] | None,
        load_models: Callable[[], list[CustomEmotionModel]],
    ):
        self._load_models = load_models
        self._training_clips = training_clips
        self._model = plan["models"][0]
        self._inboxes = decoded_paths(plan["inboxes"])
        self._options = Options(**plan["options"])

    @cached_property
    def _models(self) -> list[CustomEmotionModel]:
        return self._load_models()

    def __call__(self, entry: dict) -> ScoredFile:
        """Decode and featurize a file of the plan, or say why it cannot be used.

        Its channels get a row each if they are scored separately. An error of the disk concerns the whole file.
        """
        count, entry_read = entry.get("memory_errors", 0), entry
        try:
            with inbox.reopen(listed_file(entry), inboxes=self._inboxes) as (handle, sha256):
                entry_read = entry | {"sha256": sha256}
                parts = channels_of(handle, self._options.channels)
                scored = [self._score(handle, entry_read, channel) for channel in parts]
        except MemoryError as error:
            return self._not_scored(entry_read, *_out_of_memory(entry, describe_failure(error)))
        except OSError as error:
            log.warning("%s: left for the next sweep (%s)", entry["path"], describe_failure(error))
            return self._not_scored(entry_read, {"error": TEMPORARY, "message": inbox.shown(describe_failure(error))})
        except Exception as error:
            return self._not_scored(entry_read, _refusal(entry, error), 0 if count else None)
        vectors: list[np.ndarray] = []
        for row, vector, _ in scored:  # only now is it certain that no read of the file failed
            if vector is not None:
                row["vector"] = len(vectors)
                vectors.append(vector)
        timeline = [window for _, _, windows in scored for window in windows]
        return ScoredFile([row for row, _, _ in scored], vectors, timeline, 0 if count else None)

    def died(self, entry: dict, death: Died) -> ScoredFile:
        """What becomes of a file whose process ended while it was at work on it: as if memory had run out."""
        columns, count = _out_of_memory(entry, f"{death} while it scored the file")
        if (
            columns["error"] == TOO_LARGE and death.exit_code != -signal.SIGKILL
        ):  # by the decoder, say, and not for memory
            message = (
                f"{entry['path']} ended the process that scored it {MEMORY_ATTEMPTS} times (the last time: {death})"
            )
            columns = {"error": INTERNAL, "message": inbox.shown(message)}
        return self._not_scored(entry, columns, count)

    def _not_scored(self, entry: dict, columns: dict, memory_errors: int | None = None) -> ScoredFile:
        return ScoredFile([self._row(entry) | columns], [], [], memory_errors)

    def _row(self, entry: dict, channel: Channel | None = None) -> dict:
        """The row of a file, or of a channel of it, before it has an answer."""
        row = {key: entry[key] for key in ("path", "sha256", "label", "speaker")}
        row |= {"error": "", "message": "", "windows": 0, "vector": -1, "channel": ""}
        row |= {"model": self._model["version"], "family": self._model["family"]}
        if channel is not None and channel.number is not None:
            row["channel"] = str(channel.number)
            row["speaker"] = speaker_of(channel, entry["speaker"] or entry["path"])
        return row | ({"message": channel.note} if channel else {})

    def _score(self, handle: BinaryIO, entry: dict, channel: Channel) -> tuple[dict, np.ndarray | None, list[dict]]:
        """The row of a file or channel, its features if it is short, and its timeline if it is long.

        A channel that cannot be used does not keep the others from being scored.
        """
        row = self._row(entry, channel)
        start = time.perf_counter()
        try:
            clip = self._read_short(handle, channel)
            if clip is None:
                columns, timeline = self._answer_long(handle, row)
                return row | columns, None, timeline
            columns, vector = self._featurize(clip, start)
            return row | columns, vector, []
        except (OSError, MemoryError):
            raise
        except Exception as error:
            return row | _refusal(entry, error), None, []

    def _read_short(self, handle: BinaryIO, channel: Channel) -> Clip | None:
        """The clip, or None if the recording is a long one."""
        try:
            return read(handle, channel=channel.number, max_seconds=min(self._options.long_seconds, MAX_CLIP_SECONDS))
        except AudioError as error:
            if error.reason == "too_long":
                return None
            raise

    def _featurize(self, clip: Clip, start: float) -> tuple[dict, np.ndarray]:
        """Columns of a clip's row, and its features. ``start``: when decoding began."""
        decoded = time.perf_counter()
        vector = features.extract(clip.samples)
        if not np.isfinite(vector).all():  # the models would refuse the whole shard
            raise ArithmeticError(f"{np.count_nonzero(~np.isfinite(vector))} features are not finite")
        columns: dict = {
            "decode_ms": 1000 * (decoded - start),
            "features_ms": 1000 * (time.perf_counter() - decoded),
            "duration": clip.duration,
        } | quality.measure(clip.samples)._asdict()
        if self._training_clips is not None:
            columns["heard_in_training"] = HEARD if clip.samples_sha256 in self._training_clips else "no"
        return columns, vector

    def _answer_long(self, handle: BinaryIO, row: dict) -> tuple[dict, list[dict]]:
        """One answer for a long recording: the mean of its windows' probabilities, weighted by their lengths.

        A channel is one speaker under one condition, so its windows are answered together, and normalized as asked for.

        Returns columns of the row, and the rows of its timeline.
        """
        seconds, segments = self._options.window_seconds, self._options.segments
        channel = int(row["channel"]) if row["channel"] else None
        windows = file_windows(handle, window=seconds, hop=seconds, segments=segments, channels=[channel])
        timeline: list[dict] = []
        sums = [np.zeros(len(model.emotions)) for model in self._models]
        end, mode, unusable = 0.0, "plain", None
        distances: list[float] = []
        qualities: list[Quality] = []
        while block := list(islice(windows, WINDOWS_AT_ONCE if channel is None else None)):
            end = block[-1].end
            answers = self._answer_windows(block, row["speaker"] if channel else "")
            if answers[0]:
                mode = answers[0][0]["mode"]
                lengths = np.array([window.end - window.start for window in block if window.vector is not None])
                for model, total, model_answers in zip(self._models, sums, answers, strict=True):
                    total += lengths @ probability_matrix(model_answers, model.emotions)
            unusable = unusable or next((window.error for window in block if window.error), None)
            timeline += _timeline_rows(row, block, answers[0])
            distances += [answer["unfamiliarity"] for answer in answers[0]]
            qualities += [window.quality for window in block if window.vector is not None]
        if unusable and not sums[0].any():
            raise _none_usable(row, len(timeline), segments, unusable)
        if segments == "utterances":
            end = max(end, _stated_seconds(handle))
        means = [
            _mean_answer(total / total.sum(), model.emotions) for model, total in zip(self._models, sums, strict=True)
        ]
        columns = {"duration": end, "windows": len(timeline), "mode": mode} | answer_columns(means[0])
        columns |= {"unfamiliarity": float(np.median(distances))} | quality.of_windows(qualities)._asdict()
        if len(self._models) > 1:
            columns |= challenger_columns(means[1])
        return columns, timeline

    def _answer_windows(self, block: list[Window], speaker: str) -> list[list[dict]]:
        """The answers of each model for the usable windows of a block, in their order."""
        vectors = [window.vector for window in block if window.vector is not None]
        if not vectors:
            return [[] for _ in self._models]
        adaptation = self._options.adaptation if speaker else "none"
        return [
            model.predict_features(np.array(vectors), speakers=[speaker] * len(vectors), adaptation=adaptation)
            for model in self._models
        ]


def start_scorer(home: str, plan: Plan, training_clips: frozenset[str] | None) -> FileScorer:
    """A scorer for a process of its own (:class:`emotion.workers.Workers`), which opens the artifact store itself."""
    store = Store(home)
    return FileScorer(
        plan, training_clips, lambda: [CustomEmotionModel.named(store, model["name"]) for model in plan["models"]]
    )


@contextmanager
def scored_by_workers(
    entries: Iterator[dict], home: str, plan: Plan, training_clips: frozenset[str] | None, *, jobs: int
) -> Iterator[Iterator[ScoredFile] | None]:
    """What becomes of files of the plan, in their order, by at most ``jobs`` processes.

    None where one process does it sooner.
    """
    first = list(islice(entries, WORKER_FILES * jobs))
    work = max(len(first) // WORKER_FILES, sum(entry["size"] for entry in first) // WORKER_BYTES)
    count = min(jobs, len(first), work)
    if count < 2:
        yield None
        return
    without_shards: Plan = {**plan, "shards": []}
    scorer = start_scorer(home, without_shards, training_clips)
    with Workers(start_scorer, (home, without_shards, training_clips), count=count) as workers:
        sent, kept = tee(chain(first, entries))
        results = zip(kept, workers.map(sent), strict=True)
        yield (scorer.died(entry, each) if isinstance(each, Died) else each for entry, each in results)


class Shard:
    """The files of one shard on their way to the shard's table.

    Call :meth:`add` with what became of each file, then :meth:`predict` once.

    Parameters
    ----------
    models : list of CustomEmotionModel
        The model, and the challenger if there is one.
    plan : Plan

    Attributes
    ----------
    memory_errors : dict
        How often memory ran out, for :func:`emotion.scoring.ledger.note_memory_errors`: by place and sha256, for the
        files for which it changed.
    """

    def __init__(self, models: list[CustomEmotionModel], plan: Plan):
        self.models = models
        self.memory_errors: dict[tuple[str, str], int] = {}
        self._limits = listener_limits(Options(**plan["options"]), plan["models"][0])
        self._rows: list[dict] = []
        self._timeline: list[dict] = []
        self._vectors: list[np.ndarray] = []

    def add(self, entry: dict, scored: ScoredFile) -> None:
        """Add a file of the plan."""
        for row in scored.rows:
            if row["vector"] >= 0:
                row["vector"] += len(self._vectors)
        self._rows += scored.rows
        self._vectors += scored.vectors
        self._timeline += scored.timeline
        if scored.memory_errors is not None:
            self.memory_errors[entry["place"], content_of(entry)] = scored.memory_errors

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
        emotions = self.models[0].emotions
        table = clip_table(self._rows, emotions=emotions, limits=self._limits)
        return table, timeline_table(self._timeline, emotions=emotions)

    @property
    def vectors(self) -> np.ndarray:
        """The features, float32 (n_clips, n_features), rows as the column ``vector`` says."""
        return np.array(self._vectors, dtype=np.float32)

    def vectors_file(self) -> bytes:
        """The features as an ``.npy`` file. Explanations are computed from them."""
        buffer = io.BytesIO()
        np.save(buffer, self.vectors, allow_pickle=False)
        return buffer.getvalue()

    def _answer_clips(self, rows: list[dict]) -> None:
        """Fill in the plain answers for all clips of the shard together."""
        values = self.vectors
        start = time.perf_counter()
        answers = self.models[0].predict_features(values, adaptation="none")
        model_ms = 1000 * (time.perf_counter() - start) / len(rows)
        for row, answer in zip(rows, answers, strict=True):
            row |= answer_columns(answer) | {"mode": answer["mode"], "model_ms": model_ms}
            row["unfamiliarity"] = answer["unfamiliarity"]
            row |= {"total_ms": row["decode_ms"] + row["features_ms"] + model_ms}
        for challenger in self.models[1:]:
            answers = challenger.predict_features(values, adaptation="none")
            for row, answer in zip(rows, answers, strict=True):
                row |= challenger_columns(answer)


def _out_of_memory(entry: dict, cause: str) -> tuple[dict, int]:
    """Columns of the row of a file for which memory ran out, and how often it has by now. The file is left for the next
    sweep, or refused: then it counts from 0 again, once it has changed."""
    count = entry.get("memory_errors", 0) + 1
    if count < MEMORY_ATTEMPTS:
        log.warning("%s: left for the next sweep (%s)", entry["path"], cause)
        return {"error": TEMPORARY, "message": inbox.shown(cause)}, count
    message = (
        f"{entry['path']} needs more memory than there is: memory ran out {count} times while it was scored. Split "
        f"the recording, or score it with rescore on a machine with more memory (the last time: {cause})"
    )
    return {"error": TOO_LARGE, "message": inbox.shown(message)}, 0


def _stated_seconds(handle: BinaryIO) -> float:
    """The duration that a recording's header states; 0 if it states none."""
    with decode.open_recording(handle) as recording:
        return (recording.frames or 0) / recording.sample_rate


def _none_usable(row: dict, count: int, segments: str, error: AudioError) -> AudioError:
    """Why a long recording gets no answer; ``error``: that of its first window or utterance without one."""
    name = f"channel {row['channel']} of {row['path']}" if row["channel"] else row["path"]
    if count == 1:
        return AudioError(error.reason, f"{name}: {error}")
    return AudioError(error.reason, f"{name}: none of its {count} {segments} can be used: {error}")


def _refusal(entry: dict, error: Exception) -> dict:
    """The columns that say why a file or channel gets no answer."""
    if isinstance(error, AudioError):
        reason = TEMPORARY if error.reason == "changed" else error.reason  # the content of the plan may come back
        return {"error": reason, "message": inbox.shown(str(error))}
    log.error("%s: scoring it failed", entry["path"], exc_info=error)
    return {"error": INTERNAL, "message": inbox.shown(describe_failure(error))}


def probability_matrix(answers: list[dict], emotions: Sequence[str]) -> np.ndarray:
    """The probabilities of answers, float64 (n, n_emotions), in the order of ``emotions``.

    >>> probability_matrix([{"probabilities": {"bored": 0.25, "calm": 0.75}}], ("calm", "bored"))
    array([[0.75, 0.25]])
    """
    return np.array([[answer["probabilities"][emotion] for emotion in emotions] for answer in answers])


def _timeline_rows(recording: dict, block: list[Window], answers: list[dict]) -> list[dict]:
    """The rows of a block of windows; ``recording``: its row; ``answers``: one for each usable window."""
    place = {key: recording[key] for key in ("path", "sha256", "channel")}
    rows = []
    remaining = iter(answers)
    for window in block:
        row = place | {"start": window.start, "end": window.end}
        if window.error:
            row |= {"error": window.error.reason}
        else:
            row |= answer_columns(next(remaining)) | {"error": ""}
        rows.append(row)
    return rows


def _mean_answer(probabilities: np.ndarray, emotions: Sequence[str]) -> dict:
    """The answer that the mean probabilities of the emotions give."""
    best = int(probabilities.argmax())
    return {
        "emotion": emotions[best],
        "confidence": float(probabilities[best]),
        "probabilities": dict(zip(emotions, probabilities.tolist(), strict=True)),
    }
