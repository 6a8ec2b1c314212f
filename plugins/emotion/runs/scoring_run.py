"""The stages of a scoring run: find what is new in an inbox, score it by shards, collect the predictions,
watch drift.

The artifacts of a run lie below ``scores/<batch>/`` in the artifact store: ``plan.json`` (the files that the batch has
claimed, written before the first one is scored), ``parts/`` while the run is under way, ``predictions.csv`` and
``.parquet``, ``timeline.csv`` and ``.parquet`` if there are long files, ``drift.json``, ``report.html``, and last
``summary.json``: the batch is complete once that file is there. A stage may be killed anywhere and tried again; no
file is scored twice (see :mod:`emotion.scoring.batches` and :mod:`emotion.scoring.ledger`).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from emotion import metrics
from emotion import progress as stage_progress
from emotion.errors import ConfigurationError, DataError, StoreError, describe_failure
from emotion.inference import CHAMPION, CustomEmotionModel
from emotion.inference.adapting import Groups
from emotion.models import registry
from emotion.models.documents import known_emotions
from emotion.monitoring import changes, drift
from emotion.monitoring.drift import Sketch
from emotion.monitoring.reference import REFERENCE, Reference
from emotion.reports import batch_report
from emotion.review.clips import expire
from emotion.review.making import make_queue
from emotion.runs import accuracy_in_use, scoring_metrics, scoring_report, training_metrics
from emotion.runs.run import Run
from emotion.scoring import batches, inbox, ledger
from emotion.scoring.adapted import adapt, find_groups, read_part, read_vectors
from emotion.scoring.heard import training_clips
from emotion.scoring.joined import join_parts
from emotion.scoring.limits import listener_limits
from emotion.scoring.listing import TEMPORARY
from emotion.scoring.options import NothingToScore, Options
from emotion.scoring.plan import Plan, Request, find_shard, part_keys, read_files
from emotion.scoring.shard import FileScorer, ScoredFile, Shard, scored_by_workers
from emotion.scoring.summary import summarize
from emotion.scoring.tables import HEARD
from emotion.settings import Folder
from emotion.vocabulary import probability_columns

log = logging.getLogger(__name__)
DAG = "emotion_scoring"


class ScoringRun(Run):
    """One scoring run: its stages, in the order of the diagram."""

    folder = "scores"
    duration = metrics.SCORING_STAGE

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
            ``champion``, ``<version>`` or ``<version>/<family>``; the challenger may also be ``latest``, the newest
            version that is not the model's. With a challenger, a file is new if either model has not scored it.
        options : Options
        scheduled : bool
            Whether nobody waits for the run: then a missing champion or inbox means that there is nothing to do.

        Returns
        -------
        list of dict
            The shards: part (the key of its files in the store), shard (its number) and files (how many).

        Raises
        ------
        NothingToScore
        ConfigurationError
            If a folder or a model is not there.
        """
        champion = registry.champion(self.store)
        if champion:
            training_metrics.emit_champion(self.emitter, champion)
        if scheduled and model == CHAMPION and champion is None:
            raise NothingToScore("No champion yet: the sweep waits until emotion_training has promoted a model.")
        inboxes = self.settings.inboxes
        folders = [inbox.confine(folder, inboxes)] if folder else _all_there(inboxes)
        if not folders and scheduled:
            raise NothingToScore(f"No inbox yet: {os.pathsep.join(map(str, inboxes))} is not there.")
        if not folders:
            raise ConfigurationError(f"the inbox {os.pathsep.join(map(str, inboxes))} is not there: make it")
        request = Request(
            folders, inboxes, model, challenger, options, self.settings.catalogue, self.settings.inbox_days
        )
        return self.claim(request, alone_as=DAG)

    def claim(self, request: Request, *, alone_as: str | None = None) -> list[dict]:
        """Plan what a request asks for, and claim the files; returns the shards."""
        with self._stage("find_new_audio", unit="files") as progress, self.store.lock("scoring/plan") as held:
            plan = batches.open_batch(
                self.store,
                request,
                batch=self.name,
                run_id=self.run_id,
                alone_as=alone_as,
                progress=progress,
                lock=held,
            )
        return [
            {"part": shard["part"], "shard": shard["part"].rpartition("/")[2], "files": shard["files"]}
            for shard in plan["shards"]
        ]

    def score(self, *, part: str, scored: Iterator[ScoredFile] | None = None) -> dict:
        """Score the files of one shard with every model of the run; returns how many were scored and rejected.

        The others are left for the next sweep. ``scored``: what became of the files, in their order, if other processes
        decode and featurize them.
        """
        entries = self._entries(part)
        if self._is_scored(part):
            return {"files": len(entries), "scored": 0, "rejected": 0}
        with self._stage("score", label=part.rpartition("/")[2], unit="files") as progress:
            shard = Shard(self._models, self._plan())
            for number, entry in enumerate(entries, start=1):
                shard.add(entry, self._scorer(entry) if scored is None else next(scored))
                progress(number, len(entries))
            table, timeline = shard.predict()
            self.store.write_bytes(f"{part}.npy", shard.vectors_file())
            self.store.write_table(f"{part}-timeline.parquet", timeline)
            batches.note_checksums(self.store, self._plan(), part, table)
            self.store.write_table(f"{part}.parquet", table)  # last: the part is complete once this file is there
            for (place, sha256), count in shard.memory_errors.items():
                ledger.note_memory_errors(self.store, place, sha256, count)
        table = table[table["error"] != TEMPORARY]
        scoring_metrics.emit_shard(self.emitter, table)
        rejected = int((table["error"] != "").sum())
        return {"files": len(entries), "scored": len(table) - rejected, "rejected": rejected}

    def _entries(self, part: str) -> list[dict]:
        """The files of a shard."""
        plan = self._plan()
        return read_files(self.store, plan, find_shard(plan, part))

    def _is_scored(self, part: str) -> bool:
        return self._is_committed() or self.store.exists(f"{part}.parquet")

    @cached_property
    def _scorer(self) -> FileScorer:
        """Scores files in this process."""
        return FileScorer(self._plan(), self._training_clips, lambda: self._models)

    @cached_property
    def _training_clips(self) -> frozenset[str] | None:
        versions = {model["version"] for model in self._plan()["models"]}
        return training_clips(self.store, [registry.entry(self.store, version) for version in sorted(versions)])

    def scored_elsewhere(self, shards: list[dict], jobs: int) -> AbstractContextManager[Iterator[ScoredFile] | None]:
        """What becomes of the files of all shards that are not scored yet: see :func:`scored_by_workers`."""
        parts = (shard["part"] for shard in shards if not self._is_scored(shard["part"]))
        entries = (entry for part in parts for entry in self._entries(part))
        return scored_by_workers(entries, self.store.root, self._plan(), self._training_clips, jobs=jobs)

    def collect_predictions(self) -> dict:
        """Join the shards: the predictions, the timelines of long files, and the figures of the batch."""
        plan = self._plan()
        if self._is_committed():
            return self._brief(self.store.read_json(self._key("summary.json")))
        with self._stage("collect_predictions"):
            adaptation = self._judge_groups()
            try:
                table, left = join_parts(self.store, plan, self._adapted if not adaptation["failures"] else self._plain)
            except _AdaptationError as error:
                adaptation["failures"].append(_failure("adaptation", error.cause))
                table, left = join_parts(self.store, plan, self._plain)
            figures = summarize(table, plan, left=left, seconds=self._scoring_seconds()) | adaptation
            self.store.write_json(self._key("figures.json"), figures)
        scoring_metrics.emit_batch(self.emitter, table, figures)
        return self._brief(figures)

    def watch_drift(self) -> dict:
        """Judge whether the batch is like the audio that the model was trained on; write the report and close the
        batch.

        The predictions are there, and the batch is closed whatever fails here: ``failures`` in ``summary.json`` and the
        report say what failed and why. Returns the verdict as ``drift``, and its reasons as ``cause``.
        """
        plan = self._plan()
        if not self._is_committed():
            with self._stage("watch_drift"):
                summary = self.store.read_json(self._key("figures.json"))
                summary["drift"] = verdict = self._judge_drift(plan, summary["failures"])
                summary |= self._accuracy(plan, verdict, summary["failures"])
                summary["review"] = self._queue_for_review(plan, verdict["verdict"], summary["failures"])
                self._write_report(plan, summary)
                self._plan()  # raises if another batch has taken over this one meanwhile
                self.store.write_json(self._key("summary.json"), summary)
            scoring_metrics.emit_drift(self.emitter, verdict)
            scoring_metrics.emit_accuracy(self.emitter, summary)
        batches.close_batch(self.store, plan)
        return self._brief(self.store.read_json(self._key("summary.json")))

    def _plain(self, part: str) -> pd.DataFrame:
        """The table of a part as it was stored; writes its sketch."""
        table, vectors = read_part(self.store, part), read_vectors(self.store, part)
        self._write_sketch(part, table, vectors)
        return table

    def _adapted(self, part: str) -> pd.DataFrame:
        """The table of a part with clips normalized by their groups; writes its sketch."""
        vectors = read_vectors(self.store, part)
        try:
            table = adapt(read_part(self.store, part), vectors, self._models, self._groups, limits=self._limits)
        except StoreError:
            raise
        except Exception as error:
            raise _AdaptationError(error) from error
        self._write_sketch(part, table, vectors)
        return table

    def _judge_groups(self) -> dict:
        """What the summary says of the groups. If they cannot be judged, the plain answers stand, and ``failures`` says
        so."""
        try:
            return {"adaptation": [group.to_json() for group in self._groups[0]], "failures": []}
        except StoreError:
            raise  # the store fails at the moment: the task is tried again
        except Exception as error:
            return {"adaptation": [], "failures": [_failure("adaptation", error)]}

    @cached_property
    def _limits(self) -> dict[str, float]:
        plan = self._plan()
        return listener_limits(Options(**plan["options"]), plan["models"][0])

    @cached_property
    def _groups(self) -> list[Groups]:
        """Of each model."""
        return [find_groups(self.store, self._plan(), model) for model in self._models]

    def _write_sketch(self, part: str, table: pd.DataFrame, vectors: np.ndarray) -> None:
        """Write the sketch of a shard's clips, by which drift is judged. Nothing is written if that fails, which costs
        no prediction."""
        try:
            sketch = Sketch(self._reference)
            new = (table["vector"] >= 0) & (table["heard_in_training"] != HEARD)
            sketch.add_clips(table[new], vectors, family=self._models[0].family)
            content = sketch.to_bytes()
        except StoreError:
            raise
        except Exception:
            log.warning("the clips of a shard cannot be compared with the training set", exc_info=True)
            return
        self.store.write_bytes(f"{part}.npz", content)

    def _judge_drift(self, plan: Plan, failures: list[dict]) -> dict:
        """Write and return the verdict on drift; adds to ``failures`` if there is none."""
        try:
            sketch = Sketch(self._reference)
            for part in part_keys(plan):
                if not self.store.exists(f"{part}.npz"):
                    raise DataError(
                        f"the clips of {part} could not be compared with the training set; the log of the task "
                        "collect_predictions says why"
                    )
                sketch.merge(self.store.read_bytes(f"{part}.npz"))
            verdict = drift.judge(sketch)
            verdict["last_batches"] = self._compare_with_last(plan, verdict, failures)
            self.store.write_json(self._key("drift.json"), verdict)
        except StoreError:
            raise  # the store fails at the moment: the task is tried again
        except Exception as error:
            failures.append(_failure("drift", error))
            verdict = drift.not_judged(f"Drift could not be judged: {describe_failure(error)}.")
            self.store.write_json(self._key("drift.json"), verdict)
        return verdict

    def _accuracy(self, plan: Plan, verdict: dict, failures: list[dict]) -> dict:
        """The accuracy of the batch, estimated, and of the model in use so far; adds to ``failures`` what fails."""
        key = self._key("predictions.parquet")
        emotions = known_emotions(plan["models"][0])
        table = self.store.read_table(key, [*accuracy_in_use.COLUMNS, *probability_columns(emotions)])
        figures, faults = accuracy_in_use.of_batch(self.store, plan["models"][0], table, drift=verdict)
        failures += [{"step": "accuracy", "path": "", "message": fault} for fault in faults]
        return figures

    def _queue_for_review(self, plan: Plan, drift_verdict: str, failures: list[dict]) -> dict:
        """Write the queue of clips that a person should hear, and delete audio whose time is over; returns how many
        clips are in the queue. Adds to ``failures`` if that fails."""
        size = Options(**plan["options"]).review_clips
        queued = 0
        try:
            if size and (made := make_queue(self.store, plan, size=size, drift=drift_verdict)):
                queued = len(made.items)
            expire(self.store, self.settings.review_days)
        except StoreError:
            raise  # the store fails at the moment: the task is tried again
        except Exception as error:
            failures.append(_failure("review", error))
        return {"clips": queued}

    def _compare_with_last(self, plan: Plan, verdict: dict, failures: list[dict]) -> dict | None:
        """What has changed since the last batches of the model; None if there are none, or if this fails, which costs
        no verdict and adds to ``failures``."""
        try:
            version = plan["models"][0]["version"]
            return changes.note_batch(self.store, version, self.name, verdict["groups"]) if verdict["groups"] else None
        except StoreError:
            raise  # the store fails at the moment: the task is tried again
        except Exception as error:
            failures.append(_failure("last_batches", error))
            return None

    def _is_committed(self) -> bool:
        return batches.is_committed(self.store, self.name)

    def _plan(self) -> Plan:
        return batches.read_plan(self.store, self.name)

    @cached_property
    def _models(self) -> list[CustomEmotionModel]:
        return [CustomEmotionModel.named(self.store, model["name"]) for model in self._plan()["models"]]

    @cached_property
    def _reference(self) -> Reference:
        entry = registry.entry(self.store, self._plan()["models"][0]["version"])
        return Reference.from_bytes(registry.read_file(self.store, entry, REFERENCE))

    def _scoring_seconds(self) -> float:
        states = stage_progress.read(self.store, self._key("progress"))
        return sum(
            state["finished"] - state["started"] for state in states if state["stage"] == "score" and state["finished"]
        )

    def _brief(self, figures: dict) -> dict:
        brief = {key: figures[key] for key in ("batch", "files", "scored", "needs_listener")}
        if drift := figures.get("drift"):
            brief |= {"drift": drift["verdict"], "cause": " ".join(drift["reasons"])}
        return brief

    def _write_report(self, plan: Plan, summary: dict) -> None:
        """Write the report, or a page that says why there is none; adds what failed to the summary's ``failures``."""
        failures = summary["failures"]
        try:
            is_adapted = all(failure["step"] != "adaptation" for failure in failures)
            groups = self._groups[0] if is_adapted else None
            page = scoring_report.render(self.store, plan, summary, self._models[0], groups, failures)
        except StoreError:
            raise  # the store fails at the moment: the task is tried again
        except Exception as error:
            failures.append(_failure("report", error))
            page = batch_report.render_failures(summary)
        self.store.write_bytes(self._key("report.html"), page.encode())


def _all_there(inboxes: tuple[Folder, ...]) -> list[Folder]:
    """The inboxes that are there, folders as real paths; an empty folder of a bucket is there too."""
    places = [inbox if isinstance(inbox, str) else Path(os.path.realpath(inbox)) for inbox in inboxes]
    return [place for place in places if isinstance(place, str) or place.is_dir()]


class _AdaptationError(Exception):
    """Clips cannot be normalized by their groups; the message says why."""

    def __init__(self, cause: Exception):
        super().__init__(str(cause))
        self.cause = cause


def _failure(step: str, error: Exception) -> dict:
    """An entry of ``failures`` in the summary: step, path (of the clip that it concerns, if it is one) and message."""
    log.warning("%s: it failed; the predictions are complete", step, exc_info=error)
    return {"step": step, "path": "", "message": describe_failure(error)}
