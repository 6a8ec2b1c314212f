"""The stages of a training run, each one function of paths and small values; the DAG draws them, nothing else.

Every stage reads what earlier ones left below ``runs/<run>/`` in the artifact store and writes there too, so that it
may run on any machine, be killed and be tried again.
"""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

import pandas as pd

from emotion import (
    comparison,
    datasets,
    drift,
    explanation,
    features,
    featurization,
    metrics,
    model_card,
    models,
    promotion,
    registry,
    report,
    training,
)
from emotion.errors import ConfigurationError
from emotion.labels import EMOTIONS, FAMILIES, PROTOCOLS
from emotion.models import Ensemble
from emotion.stages import Run

HEADLINE_SCORES = ("accuracy", "precision_macro", "recall_macro", "f1_macro", "uar", "log_loss", "ece")
TOP_FEATURES = 20
POLICIES = ("auto", "ask", "never")
ANSWERS = {True: "A person approved.", False: "A person refused.", None: "Nobody answered, which means no."}


class TrainingRun(Run):
    """One training run: its stages, in the order of the diagram."""

    folder = "runs"
    duration = metrics.STAGE_DURATION

    def download(self, *, dataset: str, source: str | None = None) -> dict:
        """Bring the dataset into the artifact store, with its manifest."""
        with self._stage("download") as progress:
            found = datasets.obtain(
                self.store,
                self.settings,
                dataset,
                source=Path(source) if source else None,
                progress=lambda stage, done, total, unit: progress(done, total),
            )
        self.store.write_json(self._key("dataset.json"), found.facts)
        return {"dataset": dataset, "clips": found.facts["clips"], "fingerprint": found.facts["fingerprint"]}

    def plan_shards(self, *, dataset: str, clips_per_shard: int, min_seconds: float, max_seconds: float) -> list[dict]:
        """Divide the clips without stored features into shards, one mapped task each."""
        with self._stage("plan_shards"):
            plan = featurization.plan(
                self.store,
                datasets.read_manifest(self.store, dataset),
                clips_per_shard=clips_per_shard,
                min_seconds=min_seconds,
                max_seconds=max_seconds,
            )
            self.store.write_table(self._key("refused.parquet"), plan.refused)
            shards = []
            for number, clips in enumerate(plan.shards, start=1):
                key = self._key(f"shards/{number:04d}.json")
                self.store.write_json(key, clips)
                shards.append({"shard": f"{number:04d}", "clips": len(clips)})
        for kind in ("total", "stored", "missing"):
            self.emitter.gauge(metrics.CLIPS, getattr(plan, kind), kind=kind)
        return shards

    def featurize(self, *, dataset: str, shard: str, max_seconds: float) -> dict:
        """Featurize one shard."""
        with self._stage("featurize", label=shard, unit="clips") as progress:
            clips = self.store.read_json(self._key(f"shards/{shard}.json"))
            done = featurization.featurize(
                self.store, datasets.audio_folder(dataset), clips, max_seconds=max_seconds, progress=progress
            )
        for outcome in ("featurized", "rejected"):
            self.emitter.count(metrics.FEATURIZED, done[outcome], outcome=outcome)
        if not done["stored"]:
            self.emitter.timing(metrics.CLIP_DURATION, done["seconds"] / len(clips))
        return done

    def collect(self, *, dataset: str, max_rejected_share: float) -> dict:
        """Join manifest and features to the run's table; list what cannot be used in ``rejected.csv``."""
        with self._stage("collect"):
            manifest = datasets.read_manifest(self.store, dataset)
            refused = self.store.read_table(self._key("refused.parquet"))
            collected = featurization.collect(self.store, manifest, refused)
            self.store.write_table(self._key("rejected.csv"), collected.rejected)
            featurization.check_rejected(collected.rejected, len(manifest), max_share=max_rejected_share)
            self.store.write_table(self._key("duplicates.csv"), collected.duplicates)
            self.store.write_table(self._key("table.parquet"), collected.table)
            self.store.write_table(self._key("augmented.parquet"), collected.augmented)
        counts = {
            "used": len(collected.table),
            "rejected": len(collected.rejected),
            "duplicates": len(collected.duplicates),
        }
        for kind, count in counts.items():
            self.emitter.gauge(metrics.CLIPS, count, kind=kind)
        return counts

    def train(self, *, family: str, seed: int, speaker_folds: str, search: bool) -> dict:
        """Train one family over every protocol and on all clips."""
        with self._stage(f"train_{family}", unit="fits") as progress:
            table, values = self._table()
            trained = training.train(
                family,
                table,
                values,
                augmented=self._augmented(table),
                views=list(features.views().values()),
                folds=self._folds(table, seed, speaker_folds),
                search=search,
                seed=seed,
                progress=progress,
            )
            bundle = models.bundle(
                plain=trained.plain,
                adapted=trained.adapted,
                background=trained.background,
                feature_names=features.feature_names(),
                metadata=self._metadata(seed),
            )
            files = {
                registry.bundle_name(family): models.dumps(bundle),
                registry.fold_models_name(family): models.dumps(trained.folds),
            }
            for name, data in files.items():
                self.store.write_bytes(self._key(f"train/{name}"), data)
            self.store.write_table(self._key(f"train/{family}_predictions.parquet"), trained.predictions)
            found = training.protocol_scores(table, trained.predictions) | trained.timings
            found["hyperparameters"] = trained.hyperparameters
            checksums = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
            self.store.write_json(self._key(f"train/{family}.json"), {"model": found, "sha256": checksums})
        self._emit_model(family, found)
        return {"family": family} | {
            protocol: round(found[protocol]["f1_macro"], 4) for protocol in PROTOCOLS
        }

    def compare(self, *, seed: int, speaker_folds: str) -> dict:
        """Put the three models and their soft vote side by side and choose one."""
        with self._stage("compare"):
            table, values = self._table()
            trained = {family: self.store.read_json(self._key(f"train/{family}.json")) for family in FAMILIES}
            ensemble_bundle = self._build_ensemble(seed)
            vote = training.vote(
                [self.store.read_table(self._key(f"train/{family}_predictions.parquet")) for family in FAMILIES]
            )
            self.store.write_table(self._key(f"train/{Ensemble.family}_predictions.parquet"), vote)
            found = {family: trained[family]["model"] for family in FAMILIES}
            found[Ensemble.family] = (
                training.protocol_scores(table, vote)
                | training.prediction_times(ensemble_bundle["plain"], values)
                | {key: sum(found[family][key] for family in FAMILIES) for key in ("fit_seconds", "training_seconds")}
            )
            selected, reason = comparison.select(found)
            dataset = self._dataset(table)
            result = {
                "run_id": self.run_id,
                "created": registry.now(),
                "seed": seed,
                "speaker_folds": speaker_folds,
                "recipe": features.RECIPE,
                "features": len(features.feature_names()),
                "packages": models.packages(),
                "selected": selected,
                "selection": {"protocol": comparison.PROTOCOL, "score": comparison.SCORE, "reason": reason},
                "notice": dataset["notice"] or None,
                "dataset": dataset,
                "models": found,
            }
            self.store.write_json(self._key("comparison.json"), result)
            self.store.write_table(self._key("comparison.csv"), report.comparison_rows(result))
        self._emit_model(Ensemble.family, found[Ensemble.family])
        return {"selected": selected, "reason": reason}

    def _build_ensemble(self, seed: int) -> dict:
        members = {family: self._load_trained(registry.bundle_name(family), family) for family in FAMILIES}
        bundle = models.bundle(
            plain=Ensemble([member["plain"] for member in members.values()]),
            adapted=Ensemble([member["adapted"] for member in members.values()]),
            background=members[FAMILIES[0]]["background"],
            feature_names=features.feature_names(),
            metadata=self._metadata(seed),
        )
        self.store.write_bytes(self._key(f"train/{registry.bundle_name(Ensemble.family)}"), models.dumps(bundle))
        return bundle

    def _load_trained(self, name: str, family: str):
        sha256 = self.store.read_json(self._key(f"train/{family}.json"))["sha256"][name]
        data = self.store.read_bytes(self._key(f"train/{name}"))
        models.verify(data, sha256=sha256, name=name)
        return models.unpickle(data)

    def explain(self, *, seed: int, explained_clips: int) -> dict:
        """SHAP values, importance and plots of every model, for a sample of the clips balanced over emotions."""
        with self._stage("explain", unit="models") as progress:
            table, values = self._table()
            share = min(1.0, explained_clips / len(table))
            rows = table.groupby("emotion", group_keys=False).sample(frac=share, random_state=seed).index.to_numpy()
            members = [self._load_trained(registry.bundle_name(family), family)["plain"] for family in FAMILIES]
            explained = {}
            for model in members:
                explained[model.family] = explanation.explain(model, values[rows], background=values)
                progress(len(explained), len(FAMILIES) + 1)
            explained[Ensemble.family] = explanation.combine(Ensemble(members), list(explained.values()))
            progress(len(explained), len(FAMILIES) + 1)
            top = {}
            for name, found in explained.items():
                importance = explanation.export(
                    self.store,
                    self._key("shap"),
                    family=name,
                    explanation=found,
                    feature_names=features.feature_names(),
                    clips=table.iloc[rows],
                )
                self._emit_importance(name, importance)
                top[name] = importance["feature"].head(3).tolist()
        return top

    def register_challenger(self, *, margin: float, max_emotion_drop: float, policy: str) -> dict:
        """Publish the run's models as a version, and hold the selected one against the champion."""
        if policy not in POLICIES:
            raise ConfigurationError(f"promotion policy {policy!r}; expected one of {', '.join(POLICIES)}")
        with self._stage("register_challenger"):
            result = self.store.read_json(self._key("comparison.json"))
            names = [registry.bundle_name(family) for family in (*FAMILIES, Ensemble.family)]
            names += [registry.fold_models_name(family) for family in FAMILIES]
            entry = registry.register(
                self.store,
                self.name,
                files={name: self.store.read_bytes(self._key(f"train/{name}")) for name in names}
                | {drift.REFERENCE: self._drift_reference(result["seed"])},
                card=model_card.render(result, version=self.name),
                facts={
                    "run_id": self.run_id,
                    "recipe": result["recipe"],
                    "feature_names": list(features.feature_names()),
                    "dataset": result["dataset"],
                    "selected": result["selected"],
                    "seed": result["seed"],
                    "scores": {
                        name: {
                            protocol: {score: found[protocol][score] for score in HEADLINE_SCORES}
                            for protocol in PROTOCOLS
                        }
                        for name, found in result["models"].items()
                    },
                },
            )
            table, values = self._table()
            predictions = self.store.read_table(self._key(f"train/{result['selected']}_predictions.parquet"))
            held_out = predictions[predictions["protocol"] == comparison.PROTOCOL].sort_values("row")
            challenge = promotion.challenge(
                self.store,
                challenger=entry | {"family": result["selected"]},
                challenger_probabilities=held_out[training.PROBABILITIES].to_numpy(),
                table=table.iloc[held_out["row"]].reset_index(drop=True),
                values=values[held_out["row"]],
                margin=margin,
                max_emotion_drop=max_emotion_drop,
            )
            self.store.write_json(self._key("challenge.json"), challenge)
            self._write_report(result, challenge, decision=None)
        return {key: challenge[key] for key in ("verdict", "reasons")} | {
            "version": entry["version"],
            "family": result["selected"],
            "policy": policy,
        }

    def _drift_reference(self, seed: int) -> bytes:
        table, values = self._table()
        predictions = {
            name: self.store.read_table(self._key(f"train/{name}_predictions.parquet"))
            for name in (*FAMILIES, Ensemble.family)
        }
        return drift.reference(
            values, table["speaker"].to_numpy(), predictions, names=features.feature_names(), seed=seed
        ).to_bytes()

    def promote(self, *, policy: str, approved: bool | None = None) -> dict:
        """Make the challenger the champion, or not, and record why.

        ``approved``: what a person answered where the policy is ``ask``; None where nobody answered.
        """
        with self._stage("promote"):
            challenge = self.store.read_json(self._key("challenge.json"))
            result = self.store.read_json(self._key("comparison.json"))
            reasons = list(challenge["reasons"])
            if challenge["verdict"] == "keep":
                promoted, by = False, "the rules"
            elif policy == "never":
                promoted, by = False, "policy"
                reasons.append("The promotion policy is never: the version is registered, the champion stays.")
            elif policy == "ask":
                promoted, by = bool(approved), "a person" if approved is not None else "nobody"
                reasons.append(ANSWERS[approved])
            else:
                promoted, by = True, "the rules"
            decision = registry.decide(
                self.store,
                {
                    "decision": "promoted" if promoted else "kept",
                    "version": challenge["challenger"]["version"],
                    "family": challenge["challenger"]["family"],
                    "policy": policy,
                    "by": by,
                    "reasons": reasons,
                },
            )
            self.store.write_json(self._key("decision.json"), decision)
            self._write_report(result, challenge, decision)
        self._emit_decision(decision, challenge)
        return decision

    def _write_report(self, result: dict, challenge: dict, decision: dict | None) -> None:
        page = report.render(
            comparison=result,
            challenge=challenge,
            decision=decision,
            shap=explanation.read_export(self.store, self._key("shap"), list(result["models"])),
        )
        self.store.write_bytes(self._key("report.html"), page.encode())

    def _table(self):
        table = self.store.read_table(self._key("table.parquet"))
        names = list(features.feature_names())
        values = table[names].to_numpy(dtype="float32")
        return table.drop(columns=names), values

    def _augmented(self, table: pd.DataFrame):
        """Features of the clips' augmented copies, shape (n_variants, n_clips, n_features)."""
        copies = self.store.read_table(self._key("augmented.parquet"))
        values = copies[list(features.feature_names())].to_numpy(dtype="float32")
        return values.reshape(len(features.VARIANTS), len(table), -1)

    def _folds(self, table: pd.DataFrame, seed: int, speaker_folds: str) -> dict:
        published = None
        facts = self.store.read_json(self._key("dataset.json"))
        if speaker_folds == "published":
            published = facts["folds"] and tuple(map(tuple, facts["folds"]))
        elif speaker_folds != "grouped":
            raise ConfigurationError(f"speaker folds {speaker_folds!r}; expected published or grouped")
        return training.splits(table, seed=seed, published=published)

    def _dataset(self, table: pd.DataFrame) -> dict:
        facts = self.store.read_json(self._key("dataset.json"))
        return facts | {
            "used": len(table),
            "rejected": len(self.store.read_table(self._key("rejected.csv"))),
            "duplicates": len(self.store.read_table(self._key("duplicates.csv"))),
            "speakers": int(table["speaker"].nunique()),
            "emotions": {emotion: int((table["emotion"] == emotion).sum()) for emotion in EMOTIONS},
            "seconds": float(table["duration"].sum()),
        }

    def _metadata(self, seed: int) -> dict:
        facts = self.store.read_json(self._key("dataset.json"))
        return {
            "version": self.name,
            "run_id": self.run_id,
            "recipe": features.RECIPE,
            "seed": seed,
            "dataset": {key: facts[key] for key in ("name", "title", "fingerprint", "licence", "synthesized")},
        }

    def _emit_model(self, name: str, found: dict) -> None:
        emit = self.emitter
        for protocol in PROTOCOLS:
            for score in HEADLINE_SCORES:
                emit.gauge(metrics.SCORE, found[protocol][score], model=name, protocol=protocol, score=score)
            for statistic in ("mean", "std", "min", "max"):
                value = found[protocol]["cv"]["f1_macro"][statistic]
                emit.gauge(metrics.CV_SCORE, value, model=name, protocol=protocol, statistic=statistic)
            for emotion, figures in found[protocol]["per_emotion"].items():
                if figures["support"]:
                    emit.gauge(metrics.EMOTION_F1, figures["f1"], model=name, protocol=protocol, emotion=emotion)
        for statistic in ("mean", "p10", "p50", "p90"):
            value = found[comparison.PROTOCOL]["confidence"][statistic]
            emit.gauge(metrics.TRAIN_CONFIDENCE, value, model=name, statistic=statistic)
        emit.gauge(metrics.FIT_SECONDS, found["fit_seconds"], model=name)
        for batch in ("single", "batch"):
            emit.gauge(metrics.PREDICT_MS, found[f"predict_ms_{batch}"], model=name, batch=batch)

    def _emit_importance(self, name: str, importance: pd.DataFrame) -> None:
        for row in importance.head(TOP_FEATURES).to_dict("records"):
            self.emitter.gauge(metrics.SHAP, row["share"], model=name, feature=row["feature"])
            for emotion in EMOTIONS:
                if emotion in row:
                    self.emitter.gauge(
                        metrics.SHAP_EMOTION, row[emotion], model=name, emotion=emotion, feature=row["feature"]
                    )

    def _emit_decision(self, decision: dict, challenge: dict) -> None:
        self.emitter.count(metrics.PROMOTION, decision=decision["decision"])
        self.emitter.gauge(metrics.RUN_FINISHED, time.time())
        side = "challenger" if decision["decision"] == "promoted" else "champion"
        if challenge[side] and challenge[side]["scores"]:
            for score in HEADLINE_SCORES:
                value = challenge[side]["scores"][score]
                self.emitter.gauge(metrics.CHAMPION_SCORE, value, protocol=comparison.PROTOCOL, score=score)
        if decision["decision"] == "promoted":
            self.emitter.gauge(metrics.CHAMPION_SINCE, time.time())
