"""The stages of a scoring run: find what is new in an inbox, score it by shards, collect the predictions,
watch drift.

What a run finds lies below ``scores/<batch>/`` in the artifact store: ``plan.json`` (the files claimed,
written before the first is scored), ``parts/`` while it is under way, ``predictions.csv`` and ``.parquet``,
``timeline.csv`` and ``.parquet`` where there are long files, ``drift.json``, ``report.html``, and last
``summary.json``: a batch is there once that is. A stage may be killed anywhere and tried again; no file is
scored twice (see :mod:`emotion.ledger`).
"""

from __future__ import annotations

import io
import logging
import os
import re
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from emotion import audio, drift, evaluation, features, inbox, inference, ledger, metrics, progress, registry
from emotion import scoring_report as report
from emotion.drift import Reference, Sketch
from emotion.errors import AudioError, ConfigurationError, DataError, EmotionError
from emotion.inbox import File
from emotion.inference import CHAMPION, CustomEmotionModel
from emotion.labels import EMOTIONS
from emotion.metrics import Emitter
from emotion.settings import Settings
from emotion.sources import LABELS_FILE, ravdess_emotion
from emotion.stages import Run
from emotion.store import run_folder
from emotion.training import PROBABILITIES

log = logging.getLogger(__name__)

DAG = "emotion_scoring"
LATEST = "latest"
SPEAKERS = ("labels", "subfolder", "none")

LONG = 5
"""A recording longer than so many windows becomes a timeline."""
MAX_SHARDS = 1000
"""Airflow maps over at most 1,024 values; what is beyond is left for the next sweep."""
SHARD_BYTES = 256 << 20
"""A shard with a very long recording has few others, so that each takes minutes."""
WINDOWS_AT_ONCE = 64
TIMED_PER_SHARD = 50
"""Clips of a shard whose latency is sent as a metric; the quantiles in the summary are over all."""
MAX_LABELS_BYTES = 64 << 20
INTERNAL = "internal"
"""Reason of a file on which the code itself failed: a bug, which must not keep the other files from being
scored."""

COLUMNS = [
    "path",
    "sha256",
    "emotion",
    "confidence",
    *PROBABILITIES,
    "duration",
    "model",
    "family",
    "mode",
    "windows",
] + ["needs_listener", "label", "speaker", "error", "message"]
CHALLENGER_COLUMNS = ["challenger_emotion", "challenger_confidence"]
TIMELINE_COLUMNS = ["path", "sha256", "start", "end", "emotion", "confidence", *PROBABILITIES, "error"]
LATENCIES = ("decode", "features", "model", "total")
_FORMULA = re.compile(r"[=+\-@\t\r]")


class NothingToScore(EmotionError):
    """There is no new recording, or no model yet: no fault, and nothing to do."""


@dataclass(frozen=True)
class Options:
    """How to score.

    Attributes
    ----------
    window_seconds : float
        Length of the windows into which long recordings are cut.
    min_confidence : float
        Below it a clip ``needs_listener``.
    settle_seconds : float
        Files changed less than so long ago are left for the next sweep.
    files_per_shard : int
    rescore : bool
        Whether to score files again that the model has scored before.
    speakers : str
        Where speakers are named, for speaker-adapted prediction: ``labels`` (the column speaker of the labels
        file), ``subfolder`` (the first-level subfolders) or ``none``.
    labels : str or None
        A CSV in the folder with the columns path, emotion and, if wanted, speaker; a folder may lack it.
    """

    window_seconds: float = inference.WINDOW
    min_confidence: float = 0.5
    settle_seconds: float = 30.0
    files_per_shard: int = 200
    rescore: bool = False
    speakers: str = "labels"
    labels: str | None = LABELS_FILE

    def __post_init__(self) -> None:
        if self.speakers not in SPEAKERS:
            raise ConfigurationError(
                f"speakers from {self.speakers!r}; expected one of {', '.join(SPEAKERS)}"
            )
        shortest, longest = inference.MIN_WINDOW_SECONDS, inference.MAX_CLIP_SECONDS
        if not shortest <= self.window_seconds <= longest:
            raise ConfigurationError(
                f"windows of {self.window_seconds} s; expected {shortest:g} to {longest:g} s"
            )


class ScoringRun(Run):
    """One scoring run: its stages, in the order of the diagram."""

    folder = "scores"
    duration = metrics.SCORING_STAGE
    watch: Callable[[str, int, int], None] = staticmethod(lambda stage, done, total: None)
    """Told stage, files done and files in all."""

    def find_new_audio(
        self,
        *,
        folder: str | None,
        model: str = CHAMPION,
        challenger: str | None = None,
        options: Options,
        scheduled: bool = False,
    ) -> list[dict]:
        """Claim the files of an inbox that the model has not scored, and divide them into shards.

        Parameters
        ----------
        folder : str or None
            A folder in one of the inboxes; None: all inboxes.
        model, challenger : str
            ``champion``, ``<version>`` or ``<version>/<family>``; the challenger also ``latest``, the newest
            version that is not the model's. With a challenger, files are new that either has not scored.
        options : Options
        scheduled : bool
            Whether nobody is waiting: a missing champion or inbox then is nothing to do.

        Raises
        ------
        NothingToScore
        ConfigurationError
            If a folder or a model is not there.
        """
        if scheduled and model == CHAMPION and registry.champion(self.store) is None:
            raise NothingToScore(
                "No champion yet: the sweep waits until emotion_training has promoted a model."
            )
        inboxes = self.settings.inboxes
        folders = (
            [inbox.confine(folder, inboxes)] if folder else [Path(os.path.realpath(path)) for path in inboxes]
        )
        if not folder:
            folders = [path for path in folders if path.is_dir()]
            if not folders and scheduled:
                raise NothingToScore(f"No inbox yet: {os.pathsep.join(map(str, inboxes))} is not there.")
            if not folders:
                raise ConfigurationError(
                    f"the inbox {os.pathsep.join(map(str, inboxes))} is not there: make it"
                )
        return self._find(folders, inboxes, model, challenger, options, alone_as=DAG)

    def _find(
        self,
        folders: list[Path],
        inboxes: tuple[Path, ...],
        model: str,
        challenger: str | None,
        options: Options,
        *,
        alone_as: str | None = None,
    ) -> list[dict]:
        with self._stage("find_new_audio", unit="files") as tell, ledger.lock(self.store, "plan"):
            if not self.store.exists(self._key("plan.json")):
                models = self._resolve(model, challenger)
                ledger.claim(self.store, self.name, alone_as or socket.gethostname())
                plan = self._make_plan(folders, inboxes, models, options, alone_as=alone_as, tell=tell)
                if not plan["files"]:
                    for batch in [self.name, *plan["took_over"]]:
                        ledger.release(self.store, batch)
                    self.store.delete(f"scores/{self.name}")
                    raise NothingToScore(_nothing(plan))
                self.store.write_json(self._key("plan.json"), plan)
            plan = self._plan()
            for batch in plan["took_over"]:
                ledger.release(self.store, batch)
        sizes = Counter(entry["part"] for entry in plan["files"])
        return [
            {"part": part, "shard": part.rpartition("/")[2], "files": count} for part, count in sizes.items()
        ]

    def _resolve(self, model: str, challenger: str | None) -> list[dict]:
        """The models, pinned: the champion may change while the run is under way."""
        found = [CustomEmotionModel.named(self.store, model)]
        if challenger == LATEST:
            others = [
                entry for entry in registry.versions(self.store) if entry["version"] != found[0].version
            ]
            if not others:
                raise ConfigurationError(
                    f"there is no version besides {found[0].version} to set against it: train one"
                )
            challenger = others[-1]["version"]
        if challenger:
            found.append(CustomEmotionModel.named(self.store, challenger))
            if found[0].name == found[1].name:
                raise ConfigurationError(
                    f"{found[0].name} is set against itself; name another version or family"
                )
        return [
            {
                "version": one.version,
                "family": one.family,
                "name": one.name,
                "created": one.entry["created"],
                "dataset": one.entry["dataset"].get("title", one.entry["dataset"]["name"]),
                "notice": one.entry["dataset"].get("notice", ""),
                "scores": one.entry["scores"][one.family],
            }
            for one in found
        ]

    def _make_plan(
        self,
        folders: list[Path],
        inboxes: tuple[Path, ...],
        models: list[dict],
        options: Options,
        *,
        alone_as: str | None,
        tell: Callable[[int, int], None],
    ) -> dict:
        plan = {
            "batch": self.name,
            "run_id": self.run_id,
            "created": registry.now(),
            "folders": [inbox.shown(str(folder)) for folder in folders],
            "inboxes": [os.fsencode(os.path.realpath(path)).hex() for path in inboxes],
            "models": models,
            "options": asdict(options),
            "files": [],
            "known": 0,
            "left": {},
            "took_over": [],
        }
        claimed = self._claimed_by_others(plan, alone_as)
        names = [one["name"] for one in models]
        known = [] if options.rescore else [ledger.read(self.store, name) for name in names]
        restamped: list[dict] = []

        def is_known(place: str, stamp: str, sha256: str | None) -> bool:
            if claimed.has(place, stamp, sha256):
                return True
            found = bool(known) and all(one.has(place, stamp, sha256) for one in known)
            if found and sha256 is not None:
                restamped.append({"place": place, "stamp": stamp, "sha256": sha256})
            return found

        fresh: list[dict] = []
        for folder in folders:
            listing = inbox.look(
                folder,
                inboxes=inboxes,
                settle_seconds=options.settle_seconds,
                is_known=is_known,
                skip=frozenset([options.labels] if options.labels else []),
                limit=MAX_SHARDS * options.files_per_shard - len(fresh),
                progress=tell,
            )
            labels = _read_labels(folder, options.labels, inboxes) if listing.files else {}
            for found in listing.files:
                entry = asdict(found) | _told(found.path, labels, options.speakers)
                if len(folders) > 1:
                    entry["path"] = inbox.shown(found.where)
                fresh.append(entry)
            plan["known"] += listing.known
            plan["left"] = dict(Counter(plan["left"]) + Counter(listing.left))
        if restamped:
            for name in names:
                ledger.record(self.store, name, f"restamped-{self.name}", restamped)
        shards = _shards(fresh, options.files_per_shard)
        if beyond := sum(map(len, shards[MAX_SHARDS:])):
            plan["left"]["over_limit"] = plan["left"].get("over_limit", 0) + beyond
        for number, shard in enumerate(shards[:MAX_SHARDS], start=1):
            plan["files"] += [entry | {"part": self._key(f"parts/{number:04d}")} for entry in shard]
        return plan

    def _claimed_by_others(self, plan: dict, alone_as: str | None) -> ledger.Known:
        """Files of other batches under way; what dead ones have computed already is taken over into the
        plan."""
        names = {one["name"] for one in plan["models"]}
        taken: list[dict] = []
        for claim in ledger.claims(self.store):
            batch = claim["batch"]
            key = f"scores/{batch}/plan.json"
            if batch == self.name:
                continue
            if self.store.exists(f"scores/{batch}/summary.json"):
                self._close(self.store.read_json(key))
                continue
            dead = ledger.is_dead(self.store, claim, alone_as=alone_as)
            if dead:
                plan["took_over"].append(batch)
            if not self.store.exists(key):
                continue
            other = self.store.read_json(key)
            if dead:
                self.store.write_json(f"scores/{batch}/taken_over.json", {"by": self.name})
                if all(other[name] == plan[name] for name in ("folders", "models", "options")):
                    done = {part for part in _parts(other) if self.store.exists(f"{part}.parquet")}
                    plan["files"] += [entry for entry in other["files"] if entry["part"] in done]
            elif names & {one["name"] for one in other["models"]}:
                taken += other["files"]
        taken += plan["files"]
        return ledger.Known(
            stamps={(entry["place"], entry["stamp"]) for entry in taken},
            contents={(entry["place"], entry["sha256"]) for entry in taken if entry["sha256"]},
        )

    def score(self, *, part: str) -> dict:
        """Score the files of one shard, with every model of the run."""
        plan = self._plan()
        entries = [entry for entry in plan["files"] if entry["part"] == part]
        if self._is_committed() or self.store.exists(f"{part}.parquet"):
            return {"files": len(entries), "scored": 0, "rejected": 0}
        with self._stage("score", label=part.rpartition("/")[2], unit="files") as tell:
            scored = _Shard(self._models, plan, Sketch(self._reference))
            for number, entry in enumerate(entries):
                scored.add(entry)
                tell(number + 1, len(entries))
            table, timeline = scored.predict()
            self.store.write_bytes(f"{part}.npz", scored.sketch.to_bytes())
            self.store.write_bytes(f"{part}.npy", scored.vectors_file())
            self.store.write_table(f"{part}-timeline.parquet", timeline)
            self.store.write_table(f"{part}.parquet", table)  # last: the part is there once this is
        self._emit_shard(table)
        rejected = int((table["error"] != "").sum())
        return {"files": len(entries), "scored": len(entries) - rejected, "rejected": rejected}

    def collect_predictions(self) -> dict:
        """Put the shards together: the predictions, the timelines of long files, and the figures on them."""
        plan = self._plan()
        if self._is_committed():
            return self._brief(self.store.read_json(self._key("summary.json")))
        with self._stage("collect_predictions"):
            table = self._gather(plan, ".parquet").sort_values("path", kind="stable", ignore_index=True)
            timeline = self._gather(plan, "-timeline.parquet").sort_values(
                ["path", "start"], ignore_index=True
            )
            figures = summarize(table, plan, seconds=self._scoring_seconds())
            columns = COLUMNS + CHALLENGER_COLUMNS * (len(plan["models"]) > 1)
            self.store.write_table(self._key("predictions.parquet"), table[columns])
            self.store.write_table(self._key("predictions.csv"), for_spreadsheets(table[columns]))
            if len(timeline):
                self.store.write_table(self._key("timeline.parquet"), timeline)
                self.store.write_table(self._key("timeline.csv"), for_spreadsheets(timeline))
            self.store.write_json(self._key("figures.json"), figures)
        self._emit_batch(table, figures)
        return self._brief(figures)

    def watch_drift(self) -> dict:
        """Judge whether the batch is the kind of audio the model was trained on, write the report, close the
        batch."""
        plan = self._plan()
        if not self._is_committed():
            with self._stage("watch_drift"):
                sketch = Sketch(self._reference)
                for part in _parts(plan):
                    sketch.merge(self.store.read_bytes(f"{part}.npz"))
                verdict = drift.judge(sketch)
                self.store.write_json(self._key("drift.json"), verdict)
                summary = self.store.read_json(self._key("figures.json")) | {"drift": verdict}
                self._write_report(plan, summary)
                self.store.write_json(self._key("summary.json"), summary)
            self._emit_drift(verdict)
        self._close(plan)
        return self._brief(self.store.read_json(self._key("summary.json")))

    def _close(self, plan: dict) -> None:
        """Make a committed batch's files known, end its claim, and clear its working files away."""
        for one in plan["models"]:
            ledger.record(self.store, one["name"], plan["batch"], plan["files"])
        ledger.release(self.store, plan["batch"])
        for batch in [plan["batch"], *plan["took_over"]]:
            self.store.delete(f"scores/{batch}/parts")
        self.store.delete(f"scores/{plan['batch']}/figures.json")

    def _is_committed(self) -> bool:
        return self.store.exists(self._key("summary.json"))

    def _plan(self) -> dict:
        if self.store.exists(self._key("taken_over.json")):
            by = self.store.read_json(self._key("taken_over.json"))["by"]
            raise DataError(
                f"batch {self.name} was given up, and its files were taken over by batch {by}: look there; "
                "to score again, start a new run"
            )
        return self.store.read_json(self._key("plan.json"))

    @cached_property
    def _models(self) -> list[CustomEmotionModel]:
        return [CustomEmotionModel.named(self.store, one["name"]) for one in self._plan()["models"]]

    @cached_property
    def _reference(self) -> Reference:
        entry = registry.entry(self.store, self._plan()["models"][0]["version"])
        return Reference.from_bytes(registry.read_file(self.store, entry, drift.REFERENCE))

    def _gather(self, plan: dict, ending: str) -> pd.DataFrame:
        return pd.concat([self.store.read_table(part + ending) for part in _parts(plan)], ignore_index=True)

    def _scoring_seconds(self) -> float:
        states = progress.read(self.store, self._key("progress"))
        return sum(
            state["finished"] - state["started"]
            for state in states
            if state["stage"] == "score" and state["finished"]
        )

    def _brief(self, figures: dict) -> dict:
        brief = {key: figures[key] for key in ("batch", "files", "scored", "needs_listener")}
        return brief | ({"drift": figures["drift"]["verdict"]} if "drift" in figures else {})

    def _write_report(self, plan: dict, summary: dict) -> None:
        table = self.store.read_table(self._key("predictions.parquet"))
        timeline = (
            self.store.read_table(self._key("timeline.parquet")) if summary["timelines"] else pd.DataFrame()
        )
        page = report.render(summary, table, timeline, listen=list(self._worth_hearing(plan, table)))
        self.store.write_bytes(self._key("report.html"), page.encode())

    def _worth_hearing(self, plan: dict, table: pd.DataFrame) -> Iterator[dict]:
        """The least certain clips: an excerpt to listen to, and what spoke for and against the answer."""
        clips = table[(table["error"] == "") & (table["windows"] == 0)]
        rows = clips.nsmallest(report.LISTEN, "confidence", keep="first")
        entries = {(entry["path"], entry["sha256"]): entry for entry in plan["files"]}
        inboxes = _paths(plan["inboxes"])
        for row in rows.to_dict("records"):
            entry = entries[row["path"], row["sha256"]]
            try:
                with inbox.reopen(_file(entry), inboxes=inboxes) as handle:
                    excerpt = report.excerpt(inference.read(handle))
            except AudioError as error:
                excerpt, row["message"] = None, inbox.shown(str(error))
            yield row | {"audio": excerpt} | self._explanation(entry)

    def _explanation(self, entry: dict) -> dict:
        """Why the model answered as it did; an adapted answer needs the speaker's other clips of the
        shard."""
        part = self.store.read_table(f"{entry['part']}.parquet", ["path", "sha256", "speaker", "vector"])
        vectors = np.load(io.BytesIO(self.store.read_bytes(f"{entry['part']}.npy")), allow_pickle=False)
        rows = part[part["vector"] >= 0]
        if entry["speaker"]:
            rows = rows[rows["speaker"] == entry["speaker"]]
        else:
            rows = rows[(rows["path"] == entry["path"]) & (rows["sha256"] == entry["sha256"])]
        wanted = ((rows["path"] == entry["path"]) & (rows["sha256"] == entry["sha256"])).to_numpy()
        answers = self._models[0].predict_features(
            vectors[rows["vector"]], speakers=rows["speaker"].tolist(), explain=wanted
        )
        return answers[int(wanted.argmax())]["explanation"]

    def _emit_shard(self, table: pd.DataFrame) -> None:
        emit = self.emitter
        good = table[table["error"] == ""]
        emit.count(metrics.SCORED, len(good), outcome="scored")
        emit.count(metrics.SCORED, len(table) - len(good), outcome="rejected")
        emit.count(metrics.AUDIO_SECONDS, round(good["duration"].sum()))
        for reason, count in table.loc[table["error"] != "", "error"].value_counts().items():
            emit.count(metrics.SCORING_REJECTED, int(count), reason=str(reason))
        for emotion, count in good["emotion"].value_counts().items():
            emit.count(metrics.PREDICTED, int(count), emotion=str(emotion))
        clips = table[table["vector"] >= 0]
        for stage in LATENCIES:
            for milliseconds in clips[f"{stage}_ms"].head(TIMED_PER_SHARD):
                emit.timing(metrics.LATENCY, milliseconds / 1000, stage=stage)

    def _emit_batch(self, table: pd.DataFrame, figures: dict) -> None:
        for stage, quantiles in figures["latency_ms"].items():
            for quantile, value in quantiles.items():
                self.emitter.gauge(metrics.LATENCY_QUANTILE, value, stage=stage, quantile=quantile)
        for statistic in ("mean", "p10", "p50", "p90"):
            if figures["scored"]:
                self.emitter.gauge(
                    metrics.BATCH_CONFIDENCE, figures["confidence"][statistic], statistic=statistic
                )
        for emotion, rows in table[table["error"] == ""].groupby("emotion"):
            for statistic, value in _spread(rows["confidence"]).items():
                self.emitter.gauge(metrics.CONFIDENCE, value, emotion=str(emotion), statistic=statistic)

    def _emit_drift(self, verdict: dict) -> None:
        emit = self.emitter
        emit.gauge(metrics.DRIFT_VERDICT, drift.VERDICTS.index(verdict["verdict"]))
        if verdict["features"]:
            emit.gauge(metrics.DRIFT_SHARE, verdict["features"]["share"], signal="features")
            emit.gauge(metrics.DRIFT_SHARE, verdict["features"]["shift"], signal="shift")
            emit.gauge(metrics.DRIFT_SHARE, verdict["emotions"]["psi"], signal="emotions")
            emit.gauge(metrics.DRIFT_SHARE, verdict["confidence"]["ks"], signal="confidence")
        for moved in verdict["top"]:
            emit.gauge(metrics.DRIFT_FEATURE, moved["psi"], feature=moved["feature"])

    @contextmanager
    def _stage(self, stage: str, *, label: str = "", unit: str = "") -> Iterator[Callable[[int, int], None]]:
        with super()._stage(stage, label=label, unit=unit) as written:

            def tell(done: int, total: int) -> None:
                written(done, total)
                self.watch(stage, done, total)

            yield tell


class _Shard:
    """The files of one shard on their way through decoding, features and models."""

    def __init__(self, models: list[CustomEmotionModel], plan: dict, sketch: Sketch):
        self.models = models
        self.sketch = sketch
        self._inboxes = _paths(plan["inboxes"])
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
            with inbox.reopen(_file(entry), inboxes=self._inboxes) as handle:
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

    def _read_short(self, handle: BinaryIO) -> audio.Clip | None:
        """A clip, or None if the recording is a long one."""
        with audio.open_recording(handle) as recording:
            promised = (recording.frames or 0) / recording.sample_rate
        if promised > LONG * self._options.window_seconds:
            return None
        try:
            return inference.read(handle)
        except AudioError as error:
            if error.reason == "too_long":  # its header did not say, or windows are long
                return None
            raise

    def _answer_long(self, handle: BinaryIO, entry: dict) -> dict:
        """One answer for the file, the mean of its windows' probabilities, each weighted by its length."""
        window = self._options.window_seconds
        windows = inference.file_windows(handle, window=window, hop=window)
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
                found.append(
                    row | ({"error": one.error.reason} if one.error else _flat(next(own)) | {"error": ""})
                )
        if not sums.any():
            raise AudioError(
                found[0]["error"], f"{entry['path']}: none of its {len(found)} windows can be used"
            )
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
        table["needs_listener"] = (table["error"] == "") & (
            table["confidence"] < self._options.min_confidence
        )
        timeline = pd.DataFrame(self._timeline, columns=TIMELINE_COLUMNS)
        figures = ["start", "end", "confidence", *PROBABILITIES]
        timeline[figures] = timeline[figures].astype(float)
        timeline["emotion"] = (
            timeline["emotion"].astype(object).where(timeline["emotion"].notna(), "").astype(str)
        )
        return table, timeline

    def vectors_file(self) -> bytes:
        """The features, rows as the column ``vector`` says, as an ``.npy`` file: explanations are made of
        them."""
        buffer = io.BytesIO()
        np.save(buffer, np.array(self._vectors, dtype=np.float32), allow_pickle=False)
        return buffer.getvalue()


def score_folder(
    settings: Settings,
    folder: str | os.PathLike,
    *,
    model: str = CHAMPION,
    challenger: str | None = None,
    batch: str | None = None,
    options: Options | None = None,
    emitter: Emitter | None = None,
    progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> dict:
    """Score a folder in this process, as the DAG does; returns what ``summary.json`` holds.

    Parameters
    ----------
    settings : Settings
    folder : path
        Any folder; links that lead out of it are not followed.
    model, challenger : str
        See :meth:`ScoringRun.find_new_audio`.
    batch : str, optional
        Name of the batch. The name of one that was cut short: it goes on where it stopped.
    options : Options, optional
    emitter : Emitter, optional
    progress : callable
        Told stage, files done and files in all.

    Raises
    ------
    NothingToScore
    ConfigurationError
        If the folder or the model is not there, or another process works on the batch.
    """
    place = Path(os.path.realpath(folder))
    if not place.is_dir():
        raise ConfigurationError(f"{folder} is not a folder; expected one with recordings")
    name = batch or time.strftime("folder-%Y%m%dT%H%M%S-", time.gmtime()) + f"{os.getpid()}"
    run = ScoringRun(settings, name, emitter or Emitter(None))
    with ledger.lock(run.store, run_folder(name), wait=False) as held:
        if not held:
            raise ConfigurationError(
                f"another process is at work on batch {name}; wait for it, or name another batch"
            )
        run.watch = progress
        shards = run._find([place], (place,), model, challenger, options or Options())
        before, total = 0, sum(shard["files"] for shard in shards)
        for shard in shards:
            run.watch = lambda stage, done, _, before=before: progress(stage, before + done, total)
            run.score(part=shard["part"])
            before += shard["files"]
        run.watch = progress
        run.collect_predictions()
        run.watch_drift()
    return run.store.read_json(f"scores/{run.name}/summary.json")


def summarize(table: pd.DataFrame, plan: dict, *, seconds: float) -> dict:
    """The figures on a batch's predictions, for ``summary.json``.

    ``table`` has the columns of the parts; ``seconds`` is the work spent on scoring, over all shards.
    """
    good, bad = table[table["error"] == ""], table[table["error"] != ""]
    clips = good[good["vector"] >= 0]
    labelled = good[good["label"] != ""]
    options = plan["options"]
    found = {
        "batch": plan["batch"],
        "run_id": plan["run_id"],
        "created": plan["created"],
        "folders": plan["folders"],
        "model": plan["models"][0],
        "challenger": plan["models"][1] if len(plan["models"]) > 1 else None,
        "options": options,
        "files": len(table),
        "scored": len(good),
        "rejected": {str(reason): int(count) for reason, count in bad["error"].value_counts().items()},
        "known": plan["known"],
        "left_for_next_sweep": plan["left"],
        "audio_seconds": float(good["duration"].sum()),
        "emotions": {emotion: int((good["emotion"] == emotion).sum()) for emotion in EMOTIONS},
        "confidence": _spread(good["confidence"]) | {"histogram": _histogram(good["confidence"])},
        "needs_listener": int(good["needs_listener"].sum()),
        "modes": {mode: int((good["mode"] == mode).sum()) for mode in drift.MODES},
        "timelines": int((good["windows"] > 0).sum()),
        "latency_ms": {
            stage: {
                "p50": float(clips[f"{stage}_ms"].median()),
                "p95": float(clips[f"{stage}_ms"].quantile(0.95)),
            }
            for stage in LATENCIES
            if len(clips)
        },
        "clips_per_second": len(good) / seconds if seconds else None,
        "accuracy": _accuracy(labelled["emotion"] == labelled["label"]) if len(labelled) else None,
        "comparison": None,
    }
    if found["challenger"]:
        found["comparison"] = _compare(good, labelled)
    return found


def _compare(good: pd.DataFrame, labelled: pd.DataFrame) -> dict:
    """Two models side by side: agreement, disagreements and, where labels are known, who is right more often.

    McNemar's exact test asks whether the clips that just one of them gets right are evenly divided between
    them.
    """
    differ = good[good["emotion"] != good["challenger_emotion"]]
    columns = ["path", "emotion", "confidence", "challenger_emotion", "challenger_confidence", "label"]
    found = {
        "clips": len(good),
        "agreement": 1 - len(differ) / len(good) if len(good) else None,
        "disagreements": len(differ),
        "listed": differ.nlargest(report.LISTED, "confidence")[columns].to_dict("records"),
        "labelled": len(labelled),
    }
    if not len(labelled):
        return found
    ours, theirs = (
        labelled["emotion"] == labelled["label"],
        labelled["challenger_emotion"] == labelled["label"],
    )
    only_ours, only_theirs = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
    return found | {
        "accuracy": _accuracy(ours),
        "challenger_accuracy": _accuracy(theirs),
        "only_model_right": only_ours,
        "only_challenger_right": only_theirs,
        "mcnemar_p": float(binomtest(only_ours, only_ours + only_theirs).pvalue)
        if only_ours + only_theirs
        else 1.0,
    }


def _accuracy(right: pd.Series) -> dict:
    low, high = evaluation.accuracy_interval(right.to_numpy())
    return {"n": len(right), "value": float(right.mean()), "low": low, "high": high}


def for_spreadsheets(table: pd.DataFrame) -> pd.DataFrame:
    """A table whose text cells no spreadsheet takes for a formula (CWE-1236).

    A path is led by ``./``, which leads to the same file; any other text by an apostrophe. The Parquet file
    beside the CSV has the text as it is.
    """
    guarded = table.copy()
    for column in guarded.columns[[not pd.api.types.is_numeric_dtype(kind) for kind in guarded.dtypes]]:
        lead = "./" if column == "path" else "'"
        guarded[column] = [
            lead + text if isinstance(text, str) and _FORMULA.match(text) else text
            for text in guarded[column]
        ]
    return guarded


def _read_labels(folder: Path, name: str | None, inboxes: tuple[Path, ...]) -> dict[str, dict]:
    """What the folder's labels file says, by path; {} where there is none. Raises DataError if it cannot be
    used."""
    if not name or not os.path.lexists(folder / name):
        return {}
    place = folder / name
    if not place.is_file() or not any(
        place.resolve().is_relative_to(os.path.realpath(root)) for root in inboxes
    ):
        raise DataError(
            f"{place} is no regular file of the inbox; expected a CSV with the columns path and emotion"
        )
    if place.stat().st_size > MAX_LABELS_BYTES:
        raise DataError(f"{place} has {place.stat().st_size:,} bytes; expected at most {MAX_LABELS_BYTES:,}")
    try:
        table = pd.read_csv(place, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (ValueError, OSError) as error:  # UnicodeDecodeError and pandas' parser errors are ValueErrors
        raise DataError(
            f"{place} cannot be read as CSV ({error}); expected the columns path and emotion"
        ) from error
    if not {"path"} < set(table.columns) or not {"emotion", "speaker"} & set(table.columns):
        raise DataError(
            f"{place} has the columns {', '.join(table.columns)}; expected path, emotion and, if wanted, "
            "speaker"
        )
    found = {}
    for line, row in enumerate(table.to_dict("records"), start=2):
        emotion = row.get("emotion", "").strip().lower()
        if emotion and emotion not in EMOTIONS:
            raise DataError(f"{place}, line {line}: {emotion!r} is none of {', '.join(EMOTIONS)}")
        found[os.path.normpath(row["path"])] = {"label": emotion, "speaker": row.get("speaker", "").strip()}
    return found


def _told(path: str, labels: dict[str, dict], speakers: str) -> dict:
    """What is known of a file without hearing it: label and speaker, "" where unknown."""
    said = labels.get(path, {"label": "", "speaker": ""})
    parts = Path(path).parts
    speaker = {"labels": said["speaker"], "subfolder": parts[0] if len(parts) > 1 else "", "none": ""}[
        speakers
    ]
    return {"label": said["label"] or ravdess_emotion(Path(path).stem), "speaker": speaker}


def _shards(entries: list[dict], size: int) -> list[list[dict]]:
    """Cut files into shards of at most ``size`` and about SHARD_BYTES, each speaker's together as far as that
    goes.

    A speaker with more clips than a shard holds is divided evenly, so that each part is enough to adapt to.
    """
    by_speaker: dict[str, list[dict]] = {}
    for entry in sorted(entries, key=lambda entry: (entry["speaker"], entry["path"])):
        by_speaker.setdefault(entry["speaker"], []).append(entry)
    groups = [[entry] for entry in by_speaker.pop("", [])]
    for own in by_speaker.values():
        pieces = -(-len(own) // size)
        groups += [own[len(own) * i // pieces : len(own) * (i + 1) // pieces] for i in range(pieces)]
    shards: list[list[dict]] = []
    for group in groups:
        full = not shards or len(shards[-1]) + len(group) > size
        if full or sum(entry["size"] for entry in shards[-1]) + group[0]["size"] > SHARD_BYTES:
            shards.append([])
        shards[-1] += group
    return shards


def _parts(plan: dict) -> list[str]:
    return list(dict.fromkeys(entry["part"] for entry in plan["files"]))


def _file(entry: dict) -> File:
    return File(**{name.name: entry[name.name] for name in fields(File)})


def _paths(hexadecimal: list[str]) -> tuple[Path, ...]:
    return tuple(Path(os.fsdecode(bytes.fromhex(path))) for path in hexadecimal)


def _probabilities(answers: list[dict]) -> np.ndarray:
    return np.array([list(answer["probabilities"].values()) for answer in answers])


def _flat(answer: dict) -> dict:
    found = {key: answer[key] for key in ("emotion", "confidence")}
    return found | dict(zip(PROBABILITIES, answer["probabilities"].values(), strict=True))


def _best(probabilities: np.ndarray) -> dict:
    best = int(probabilities.argmax())
    return {"emotion": EMOTIONS[best], "confidence": float(probabilities[best])}


def _spread(values: pd.Series) -> dict:
    if not len(values):
        return dict.fromkeys(("mean", "p10", "p50", "p90"))
    p10, p50, p90 = values.quantile([0.1, 0.5, 0.9])
    return {"mean": float(values.mean()), "p10": float(p10), "p50": float(p50), "p90": float(p90)}


def _histogram(values: pd.Series) -> list[int]:
    return np.histogram(values, bins=20, range=(0, 1))[0].tolist()


def _nothing(plan: dict) -> str:
    waiting = sum(plan["left"].values())
    more = f"; {waiting} are left for the next sweep ({', '.join(plan['left'])})" if waiting else ""
    names = " and ".join(one["name"] for one in plan["models"])
    return f"Nothing new for {names} in {', '.join(plan['folders'])}: {plan['known']} files are known{more}."
