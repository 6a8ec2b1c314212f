"""The stages of a scoring run: find what is new in an inbox, score it by shards, collect the predictions,
watch drift.

What a run finds lies below ``scores/<batch>/`` in the artifact store: ``plan.json`` (the files claimed,
written before the first is scored), ``parts/`` while it is under way, ``predictions.csv`` and ``.parquet``,
``timeline.csv`` and ``.parquet`` where there are long files, ``drift.json``, ``report.html``, and last
``summary.json``: a batch is there once that is. A stage may be killed anywhere and tried again; no file is
scored twice (see :mod:`emotion.scoring.ledger`).
"""

from __future__ import annotations

import io
import os
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from emotion import metrics, progress
from emotion.datasets.catalogue import read_catalogue, shared_translations
from emotion.errors import AudioError, ConfigurationError, DataError
from emotion.inference import CHAMPION, CustomEmotionModel, windows
from emotion.metrics import Emitter
from emotion.models import registry
from emotion.monitoring import drift
from emotion.monitoring.drift import VERDICTS, Sketch
from emotion.monitoring.reference import REFERENCE, Reference
from emotion.reports import batch_report
from emotion.runs.run import Run
from emotion.scoring import inbox, ledger
from emotion.scoring.labels import find_labels, label_and_speaker, read_labels
from emotion.scoring.ledger import Known
from emotion.scoring.options import NothingToScore, Options
from emotion.scoring.plan import MAX_SHARDS, cut_into_shards, decoded_paths, listed_file, nothing_new_message, part_keys
from emotion.scoring.shard import Shard
from emotion.scoring.summary import spread, summarize
from emotion.scoring.tables import CHALLENGER_COLUMNS, COLUMNS, LATENCIES, for_spreadsheets
from emotion.settings import Settings
from emotion.store import run_folder

DAG = "emotion_scoring"
LATEST = "latest"
TIMED_PER_SHARD = 50
"""Clips of a shard whose latency is sent as a metric; the quantiles in the summary are over all."""


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
            raise NothingToScore("No champion yet: the sweep waits until emotion_training has promoted a model.")
        inboxes = self.settings.inboxes
        folders = [inbox.confine(folder, inboxes)] if folder else [Path(os.path.realpath(path)) for path in inboxes]
        if not folder:
            folders = [path for path in folders if path.is_dir()]
            if not folders and scheduled:
                raise NothingToScore(f"No inbox yet: {os.pathsep.join(map(str, inboxes))} is not there.")
            if not folders:
                raise ConfigurationError(f"the inbox {os.pathsep.join(map(str, inboxes))} is not there: make it")
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
                    raise NothingToScore(nothing_new_message(plan))
                self.store.write_json(self._key("plan.json"), plan)
            plan = self._plan()
            for batch in plan["took_over"]:
                ledger.release(self.store, batch)
        sizes = Counter(entry["part"] for entry in plan["files"])
        return [{"part": part, "shard": part.rpartition("/")[2], "files": count} for part, count in sizes.items()]

    def _resolve(self, model: str, challenger: str | None) -> list[dict]:
        """The models, pinned: the champion may change while the run is under way."""
        found = [CustomEmotionModel.named(self.store, model)]
        if challenger == LATEST:
            others = [entry for entry in registry.versions(self.store) if entry["version"] != found[0].version]
            if not others:
                raise ConfigurationError(f"there is no version besides {found[0].version} to set against it: train one")
            challenger = others[-1]["version"]
        if challenger:
            found.append(CustomEmotionModel.named(self.store, challenger))
            if found[0].name == found[1].name:
                raise ConfigurationError(f"{found[0].name} is set against itself; name another version or family")
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
            labels_file = find_labels(folder, options.labels, inboxes) if listing.files else None
            labels = read_labels(labels_file, self._translations) if labels_file else {}
            for found in listing.files:
                entry = asdict(found) | label_and_speaker(found.path, labels, options.speakers)
                if len(folders) > 1:
                    entry["path"] = inbox.shown(found.where)
                fresh.append(entry)
            plan["known"] += listing.known
            plan["left"] = dict(Counter(plan["left"]) + Counter(listing.left))
        if restamped:
            for name in names:
                ledger.record(self.store, name, f"restamped-{self.name}", restamped)
        shards = cut_into_shards(fresh, options.files_per_shard)
        if beyond := sum(map(len, shards[MAX_SHARDS:])):
            plan["left"]["over_limit"] = plan["left"].get("over_limit", 0) + beyond
        for number, shard in enumerate(shards[:MAX_SHARDS], start=1):
            plan["files"] += [entry | {"part": self._key(f"parts/{number:04d}")} for entry in shard]
        return plan

    def _claimed_by_others(self, plan: dict, alone_as: str | None) -> Known:
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
                    done = {part for part in part_keys(other) if self.store.exists(f"{part}.parquet")}
                    plan["files"] += [entry for entry in other["files"] if entry["part"] in done]
            elif names & {one["name"] for one in other["models"]}:
                taken += other["files"]
        taken += plan["files"]
        return Known(
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
            scored = Shard(self._models, plan, Sketch(self._reference))
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
            timeline = self._gather(plan, "-timeline.parquet").sort_values(["path", "start"], ignore_index=True)
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
                for part in part_keys(plan):
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
    def _translations(self) -> dict[str, str]:
        """Words for emotions that the dataset catalogue translates; read only where a folder has labels."""
        return shared_translations(read_catalogue(self.settings.catalogue).values())

    @cached_property
    def _models(self) -> list[CustomEmotionModel]:
        return [CustomEmotionModel.named(self.store, one["name"]) for one in self._plan()["models"]]

    @cached_property
    def _reference(self) -> Reference:
        entry = registry.entry(self.store, self._plan()["models"][0]["version"])
        return Reference.from_bytes(registry.read_file(self.store, entry, REFERENCE))

    def _gather(self, plan: dict, ending: str) -> pd.DataFrame:
        return pd.concat([self.store.read_table(part + ending) for part in part_keys(plan)], ignore_index=True)

    def _scoring_seconds(self) -> float:
        states = progress.read(self.store, self._key("progress"))
        return sum(
            state["finished"] - state["started"] for state in states if state["stage"] == "score" and state["finished"]
        )

    def _brief(self, figures: dict) -> dict:
        brief = {key: figures[key] for key in ("batch", "files", "scored", "needs_listener")}
        return brief | ({"drift": figures["drift"]["verdict"]} if "drift" in figures else {})

    def _write_report(self, plan: dict, summary: dict) -> None:
        table = self.store.read_table(self._key("predictions.parquet"))
        timeline = self.store.read_table(self._key("timeline.parquet")) if summary["timelines"] else pd.DataFrame()
        page = batch_report.render(summary, table, timeline, listen=list(self._worth_hearing(plan, table)))
        self.store.write_bytes(self._key("report.html"), page.encode())

    def _worth_hearing(self, plan: dict, table: pd.DataFrame) -> Iterator[dict]:
        """The least certain clips: an excerpt to listen to, and what spoke for and against the answer."""
        clips = table[(table["error"] == "") & (table["windows"] == 0)]
        rows = clips.nsmallest(batch_report.LISTEN, "confidence", keep="first")
        entries = {(entry["path"], entry["sha256"]): entry for entry in plan["files"]}
        inboxes = decoded_paths(plan["inboxes"])
        for row in rows.to_dict("records"):
            entry = entries[row["path"], row["sha256"]]
            try:
                with inbox.reopen(listed_file(entry), inboxes=inboxes) as handle:
                    excerpt = batch_report.excerpt(windows.read(handle))
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
                self.emitter.gauge(metrics.BATCH_CONFIDENCE, figures["confidence"][statistic], statistic=statistic)
        for emotion, rows in table[table["error"] == ""].groupby("emotion"):
            for statistic, value in spread(rows["confidence"]).items():
                self.emitter.gauge(metrics.CONFIDENCE, value, emotion=str(emotion), statistic=statistic)

    def _emit_drift(self, verdict: dict) -> None:
        emit = self.emitter
        emit.gauge(metrics.DRIFT_VERDICT, VERDICTS.index(verdict["verdict"]))
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
            raise ConfigurationError(f"another process is at work on batch {name}; wait for it, or name another batch")
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
