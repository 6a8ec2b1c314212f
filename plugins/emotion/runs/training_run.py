"""The stages of a training run, each one a method of paths and small values; the DAG draws them and does nothing else.

Every stage reads what earlier ones left below ``runs/<run>/`` in the artifact store and writes there too, so that it
may run on any machine, be killed and be tried again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import pandas as pd

from emotion import features, metrics
from emotion.datasets import combining, importing
from emotion.evaluation.bootstrap import LEAST_PROBABILITY
from emotion.evaluation.held_out import protocol_scores, soft_vote
from emotion.evaluation.selection import PROTOCOL, select
from emotion.evaluation.suspicious import suspicious_labels
from emotion.explanation import export
from emotion.explanation.values import Explanation, combine, explain_predictions
from emotion.features import condition_table, feature_table
from emotion.metrics import Emitter
from emotion.models import decisions, external, promotion, registry, stress
from emotion.models.adaptation import typical_information
from emotion.models.bundle import Bundle, make_bundle
from emotion.models.classifier import Classifier, Ensemble
from emotion.models.familiarity import Familiarity
from emotion.models.registry import VersionEntry
from emotion.models.rescoring import HELD_OUT, held_out_file
from emotion.monitoring import reference
from emotion.monitoring.reference import REFERENCE
from emotion.progress import StageProgress, no_progress
from emotion.reports import model_card, training_report
from emotion.runs import collecting, listening, mlflow_mirror, training_metrics, training_results
from emotion.runs.run import Run
from emotion.runs.training_artifacts import EXTERNAL_FACTS, MODELS, SUSPICIOUS, TrainingArtifacts
from emotion.scoring.tables import for_spreadsheets
from emotion.settings import Settings
from emotion.training import fitting
from emotion.vocabulary import FAMILIES, emotion_colours, label_set, probabilities_of, protocols_of


class TrainingRun(Run):
    """One training run: its stages, in the order of the diagram. Parameters as in :class:`Run`."""

    folder = "runs"
    duration = metrics.STAGE_DURATION

    def __init__(self, settings: Settings, run_id: str, emitter: Emitter, progress: StageProgress = no_progress):
        super().__init__(settings, run_id, emitter, progress)
        self.artifacts = TrainingArtifacts(self.store, f"{self.folder}/{self.name}")

    def download(
        self,
        *,
        datasets: Sequence[str],
        sources: Mapping[str, str] | None = None,
        also_test_on: Sequence[str] = (),
        scheduled: bool = False,
    ) -> dict:
        """Bring the datasets into the artifact store, with their manifests.

        Parameters
        ----------
        datasets : sequence of str
            Names in the catalogue, to train on.
        sources : mapping, optional
            Name → the folder, zip or CSV that a dataset is taken from.
        also_test_on : sequence of str
            Names in the catalogue, to test on alone.
        scheduled : bool
            Whether the reviewed clips are added once they can be used.
        """
        sources = sources or {}
        datasets = collecting.with_reviewed(self.store, self.settings, datasets) if scheduled else datasets
        combining.check_names(datasets, also_test_on, sources)
        importing.check_entries(self.settings, (*datasets, *also_test_on), sources)
        with self._stages("download") as progress:
            facts = {
                name: collecting.obtain(self.store, self.settings, name, source=sources.get(name), progress=progress)
                for name in (*datasets, *also_test_on)
            }
        combined = combining.combined_facts([facts[name] for name in datasets])
        self.store.write_json(self._key(EXTERNAL_FACTS), [facts[name] for name in also_test_on])
        self.store.write_json(self._key("dataset.json"), combined)
        return {"dataset": combined["name"], "clips": combined["clips"], "fingerprint": combined["fingerprint"]}

    def plan_shards(self, *, clips_per_shard: int, min_seconds: float, max_seconds: float) -> list[dict]:
        """Divide the clips without stored features into shards, one for each mapped task."""
        with self._stage("plan_shards"):
            plan = feature_table.plan(
                self.store,
                self.artifacts.manifest(),
                clips_per_shard=clips_per_shard,
                min_seconds=min_seconds,
                max_seconds=max_seconds,
            )
            self.store.write_table(self._key("refused.parquet"), plan.refused)
            shards = []
            for number, clips in enumerate(plan.shards, start=1):
                self.store.write_json(self._key(f"shards/{number:04d}.json"), clips)
                shards.append({"shard": f"{number:04d}", "clips": len(clips)})
        for kind in ("total", "stored", "missing"):
            self.emitter.gauge(metrics.CLIPS, getattr(plan, kind), kind=kind)
        return shards

    def featurize(self, *, shard: str, max_seconds: float) -> dict:
        """Compute and store the features of one shard."""
        with self._stage("featurize", label=shard, unit="clips") as progress:
            clips = self.store.read_json(self._key(f"shards/{shard}.json"))
            done = feature_table.featurize(self.store, clips, max_seconds=max_seconds, progress=progress)
        for outcome in ("featurized", "rejected"):
            self.emitter.count(metrics.FEATURIZED, done[outcome], outcome=outcome)
        if not done["stored"]:
            self.emitter.timing(metrics.CLIP_DURATION, done["seconds"] / len(clips))
        return done

    def collect(self, *, max_rejected_share: float) -> dict:
        """Write the usable clips and their features; list those that cannot be used in ``rejected.csv``.

        ``max_rejected_share`` holds for each dataset. The clips of the datasets that are tested on alone go to a table
        of their own.
        """
        with self._stage("collect"):
            manifest = self.artifacts.manifest()
            refused = self.store.read_table(self._key("refused.parquet"))
            tested_on = [facts["name"] for facts in self.artifacts.external_facts()]
            clips = collecting.collect(self.store, manifest, refused, tested_on=tested_on)
            self.store.write_table(self._key("rejected.csv"), for_spreadsheets(clips.rejected))
            collecting.check(clips, manifest, max_rejected_share=max_rejected_share)
            collected = clips.training
            self.store.write_table(self._key("duplicates.csv"), for_spreadsheets(collected.duplicates))
            self.artifacts.save_clips(collected.table, clips.external)
            self._fit_familiarity()
        counts = {
            "used": len(collected.table),
            "rejected": len(clips.rejected),
            "duplicates": len(collected.duplicates),
        }
        for kind, count in counts.items():
            self.emitter.gauge(metrics.CLIPS, count, kind=kind)
        return counts

    def plan_stress(self, *, stress_clips: int, clips_per_shard: int, seed: int, speaker_folds: str) -> list[dict]:
        """Draw the clips that are tested under recording conditions; divide those without stored features into shards.

        ``stress_clips``: how many clips are drawn; 0 for none, and there is no stress table.
        """
        with self._stage("plan_stress"):
            table, _ = self.artifacts.clips()
            folds = self.artifacts.splits(table, seed=seed, speaker_folds=speaker_folds)
            sample = condition_table.draw_sample(table, [test for _, test in folds[PROTOCOL]], stress_clips)
            plan = condition_table.plan(self.store, sample, clips_per_shard=clips_per_shard)
            self.store.write_json(self._key("stress/sample.json"), plan.sample)
            shards = []
            for number, clips in enumerate(plan.shards, start=1):
                self.store.write_json(self._key(f"stress/{number:04d}.json"), clips)
                shards.append({"shard": f"{number:04d}", "clips": len(clips)})
        return shards

    def featurize_stress(self, *, shard: str, max_seconds: float) -> dict:
        """Compute and store the features of one shard of clips under recording conditions."""
        with self._stage("featurize_stress", label=shard, unit="clips") as progress:
            clips = self.store.read_json(self._key(f"stress/{shard}.json"))
            return condition_table.featurize(self.store, clips, max_seconds=max_seconds, progress=progress)

    def collect_stress(self) -> dict:
        """Join the features of the sampled clips under all recording conditions to one table."""
        with self._stage("collect_stress"):
            sample = self.store.read_json(self._key("stress/sample.json"))
            self.store.write_table(self._key("stress/table.parquet"), condition_table.collect(self.store, sample))
        return {"clips": len(sample)}

    def train(self, *, family: str, seed: int, speaker_folds: str, search: bool) -> dict:
        """Train one family by every protocol and on all clips."""
        with self._stage(f"train_{family}", unit="fits") as progress:
            table, values = self.artifacts.clips()
            trained = fitting.train(
                family,
                table,
                values,
                augmented=self.artifacts.augmented(),
                conditions=self.artifacts.conditions(values),
                views=list(features.views().values()),
                folds=self.artifacts.splits(table, seed=seed, speaker_folds=speaker_folds),
                search=search,
                seed=seed,
                progress=progress,
            )
            bundle = make_bundle(
                models=trained.models,
                background=trained.background,
                training=trained.training,
                typical_information=typical_information(trained.predictions),
                familiarity=self.artifacts.familiarity(),
                feature_names=features.feature_names(),
                metadata=self._metadata(seed),
            )
            figures = protocol_scores(table, trained.predictions, seed=seed) | trained.timings
            figures["stress"] = training_results.stress(trained.condition_predictions)
            figures["hyperparameters"] = trained.hyperparameters
            self.artifacts.save_trained(family, bundle, trained, figures)
        training_metrics.emit_model(self.emitter, family, figures)
        return {"family": family} | {name: round(figures[name]["f1_macro"], 4) for name in protocols_of(figures)}

    def compare(self, *, seed: int, speaker_folds: str) -> dict:
        """Compare the three models and their ensemble, and select one."""
        with self._stage("compare"):
            table, values = self.artifacts.clips()
            models = {family: self.artifacts.figures(family) for family in FAMILIES}
            vote = soft_vote([self.artifacts.predictions(family) for family in FAMILIES])
            by_family = self.artifacts.condition_predictions(FAMILIES)
            condition_vote = soft_vote(list(by_family.values())) if by_family else None
            ensemble = self._ensemble_bundle(seed, vote)
            self.artifacts.save_ensemble(ensemble, vote, condition_vote)
            models[Ensemble.family] = (
                protocol_scores(table, vote, seed=seed)
                | {"stress": training_results.stress(condition_vote)}
                | fitting.prediction_times(ensemble["plain"], values)
                | {key: sum(models[family][key] for family in FAMILIES) for key in ("fit_seconds", "training_seconds")}
            )
            for name, external_figures in self._external_scores().items():
                models[name]["external"] = external_figures
            result = training_results.comparison(
                run_id=self.run_id,
                seed=seed,
                speaker_folds=speaker_folds,
                dataset=self.artifacts.dataset(table),
                models=models,
                stress=self.artifacts.stress_facts(table),
                external_datasets=self.artifacts.external_facts(),
                selection=select(
                    models,
                    table,
                    {name: self.artifacts.predictions(name) for name in models},
                    self.artifacts.condition_predictions(MODELS),
                    seed=seed,
                ),
            )
            self.store.write_json(self._key("comparison.json"), result)
            self.store.write_table(self._key("comparison.csv"), training_report.comparison_rows(result))
            suspicious = suspicious_labels(table, self.artifacts.predictions(result["selected"]))
            self.store.write_table(self._key(SUSPICIOUS), for_spreadsheets(suspicious))
        training_metrics.emit_model(self.emitter, Ensemble.family, models[Ensemble.family])
        for name, model_figures in models.items():
            training_metrics.emit_external(self.emitter, name, model_figures["external"])
        return {"selected": result["selected"], "reason": result["selection"]["reason"]}

    def _external_scores(self) -> dict[str, dict]:
        """The figures of each model on the datasets that are tested on alone; {} where there are none."""
        table, values = self.artifacts.external_clips()
        if table.empty:
            return {name: {} for name in MODELS}
        training = self.artifacts.bundle(FAMILIES[0])["training"]
        return {name: external.external_scores(self.artifacts.models(name), training, table, values) for name in MODELS}

    def explain(self, *, seed: int, explained_clips: int) -> dict:
        """SHAP values, importance and plots of every model, for a sample of the clips balanced over emotions.

        Returns the share of each group of features in the contributions, by model, the largest first.
        """
        with self._stage("explain", unit="models") as progress:
            table, values = self.artifacts.clips()
            share = min(1.0, explained_clips / len(table))
            rows = table.groupby("emotion", group_keys=False).sample(frac=share, random_state=seed).index.to_numpy()
            background = self.artifacts.background(values, seed)
            members = [cast(Classifier, self.artifacts.bundle(family)["plain"]) for family in FAMILIES]
            declared = self.artifacts.dataset_facts().get("emotion_colours")
            colours = emotion_colours(label_set(table["emotion"]), declared)
            explanations: dict[str, Explanation] = {}
            for member in members:
                explanations[member.family] = explain_predictions(member, values[rows], background=background)
                progress(len(explanations), len(MODELS))
            explanations[Ensemble.family] = combine(
                Ensemble(members), [explanations[member.family] for member in members]
            )
            progress(len(explanations), len(MODELS))
            shares = {}
            for name, explanation in explanations.items():
                importance, by_group = export.export(
                    self.store,
                    self._key("shap"),
                    family=name,
                    explanation=explanation,
                    feature_names=features.feature_names(),
                    clips=table.iloc[rows],
                    colours=colours,
                )
                training_metrics.emit_importance(self.emitter, name, importance)
                training_metrics.emit_groups(self.emitter, name, by_group)
                shares[name] = by_group[by_group["subgroup"] == ""].set_index("group")["share"].round(3).to_dict()
        return shares

    def register_challenger(
        self, *, policy: str, max_emotion_drop: float, margin: float = 0.0, min_probability: float = LEAST_PROBABILITY
    ) -> dict:
        """Register the models of the run as a version, and compare the selected one with the champion.

        Raises ConfigurationError for an unknown promotion policy.
        """
        training_results.check_policy(policy)
        with self._stage("register_challenger"):
            result = self.store.read_json(self._key("comparison.json"))
            entry = self._register(result)
            table, values = self.artifacts.clips()
            predictions = self.artifacts.predictions(result["selected"])
            held_out = predictions[predictions["protocol"] == PROTOCOL].sort_values("row")
            conditions = self.artifacts.condition_predictions([result["selected"]])
            selected = self.artifacts.models(result["selected"])["plain"]
            challenge = promotion.challenge(
                self.store,
                challenger={**entry, "family": result["selected"]},
                challenger_probabilities=probabilities_of(held_out),
                challenger_model=selected.predict_proba,
                challenger_conditions=conditions and stress.answers_by_clip(table, conditions[result["selected"]]),
                table=table.iloc[held_out["row"]].reset_index(drop=True),
                values=values[held_out["row"]],
                rules={"margin": margin, "min_probability": min_probability, "max_emotion_drop": max_emotion_drop},
                seed=result["seed"],
            )
            tested = external.compare(
                self.store, result["external"], *self.artifacts.external_clips(), model=selected, seed=result["seed"]
            )
            challenge["verdict"], reasons = external.weigh(challenge["verdict"], tested)
            challenge["external"], challenge["reasons"] = tested, challenge["reasons"] + reasons
            self.store.write_json(self._key("challenge.json"), challenge)
            self._write_report(result, challenge, decision=None)
        training_metrics.emit_challenge(self.emitter, challenge)
        return {key: challenge[key] for key in ("verdict", "reasons")} | {
            "version": entry["version"],
            "family": result["selected"],
            "policy": policy,
            "asks": training_results.asks_a_person(challenge["verdict"], policy),
            "report": self._key("report.html"),
        }

    def promote(self, *, policy: str, approved: bool | None = None) -> dict:
        """Make the challenger the champion, or keep the champion, and record why.

        ``approved``: what a person answered; None if nobody was asked or nobody answered.
        """
        with self._stage("promote"):
            challenge = self.store.read_json(self._key("challenge.json"))
            result = self.store.read_json(self._key("comparison.json"))
            decision = training_results.promotion_decision(challenge, policy=policy, approved=approved)
            decision = decisions.decide(self.store, decision, compared_with=challenge["champion"])
            self.store.write_json(self._key("decision.json"), decision)
            self._write_report(result, challenge, decision)
        pointer = registry.champion(self.store) if decision["decision"] == "promoted" else challenge["champion"]
        training_metrics.emit_decision(self.emitter, decision, challenge, pointer)
        mlflow_mirror.mirror_after_change(self.store, self.settings, decision["version"])
        return decision

    def _register(self, result: dict) -> VersionEntry:
        """Register the run's models, under the run's name unless that is the name of other models already."""
        table, _ = self.artifacts.clips()
        groups = export.read_groups(self.store, self._key("shap"), result["selected"])
        files = self.artifacts.files() | {
            REFERENCE: self._drift_reference(result["seed"]),
            HELD_OUT: held_out_file(table, {name: self.artifacts.predictions(name) for name in MODELS}),
        }
        if predictions := self.artifacts.condition_predictions(MODELS):
            files[stress.CONDITION_PREDICTIONS] = stress.condition_file(table, predictions)
        return registry.register_run(
            self.store,
            self.name,
            files=files,
            card=lambda version: model_card.render(result, version=version, groups=groups),
            facts=training_results.version_facts(result),
        )

    def _ensemble_bundle(self, seed: int, vote: pd.DataFrame) -> Bundle:
        of_member = self.artifacts.bundle(FAMILIES[0])
        return make_bundle(
            models=self.artifacts.models(Ensemble.family),
            background=of_member["background"],
            training=of_member["training"],
            typical_information=typical_information(vote),
            familiarity=of_member["familiarity"],
            feature_names=features.feature_names(),
            metadata=self._metadata(seed),
        )

    def _fit_familiarity(self) -> None:
        """Learn what the clips and their copies show, for the bundles of all families."""
        table, values = self.artifacts.clips()
        speakers, copies = table["speaker"].to_numpy(), self.artifacts.augmented()
        if len(set(speakers)) < 2:
            return  # the training tasks refuse such a table, and say why
        self.artifacts.save_familiarity(Familiarity.fit(values, speakers, columns=features.views(), copies=copies))

    def _metadata(self, seed: int) -> dict:
        return training_results.bundle_metadata(
            run_id=self.run_id, seed=seed, dataset_facts=self.artifacts.dataset_facts()
        )

    def _drift_reference(self, seed: int) -> bytes:
        table, values = self.artifacts.clips()
        return reference.build_reference(
            values,
            table["speaker"].to_numpy(),
            {name: self.artifacts.predictions(name) for name in MODELS},
            names=features.feature_names(),
            quality=table,
            seed=seed,
        ).to_bytes()

    def _write_report(self, result: dict, challenge: Mapping, decision: dict | None) -> None:
        page = training_report.render(
            comparison=result,
            challenge=challenge,
            decision=decision,
            shap=export.read_export(self.store, self._key("shap"), list(result["models"])),
            suspicious=listening.suspicious_clips(self.store, self._key(SUSPICIOUS)),
        )
        self.store.write_bytes(self._key("report.html"), page.encode())
