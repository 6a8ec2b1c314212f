"""A whole training run, stage by stage as the DAG calls them, on a few recordings."""

from __future__ import annotations

import socket

import numpy as np
import pandas as pd
import pytest

from emotion import metrics, progress
from emotion.audio.conditions import CONDITIONS
from emotion.errors import ConfigurationError, DataError
from emotion.evaluation.stress import SUMMARIES
from emotion.inference import CustomEmotionModel
from emotion.models import decisions, registry, rescoring, stress
from emotion.reports.training_report import LISTEN
from emotion.runs.training_metrics import TOP_FEATURES
from emotion.runs.training_run import TrainingRun
from emotion.vocabulary import FAMILIES, MODES, PROTOCOLS, SCORES, probability_columns
from small_data import make_settings, wav
from small_models import version_facts

EMOTIONS = ("happy", "sad")
"""The emotions of the clips of the run."""
PROBABILITIES = probability_columns(EMOTIONS)

DATASET = "labelled-folder"
MODELS = (*FAMILIES, "ensemble")
SHARED = {"seed": 0, "speaker_folds": "published"}


def make(settings, emitter) -> TrainingRun:
    return TrainingRun(settings, "run:1", emitter)


def stress_table(run: TrainingRun, *, stress_clips: int = 12, **shared) -> list[dict]:
    """The stages that compute features under recording conditions; the shards that they were divided into."""
    shards = run.plan_stress(stress_clips=stress_clips, clips_per_shard=10, **(SHARED | shared))
    for shard in shards:
        run.featurize_stress(shard=shard["shard"], max_seconds=60)
    run.collect_stress()
    return shards


def until_promote(run: TrainingRun, *, policy: str = "auto") -> dict:
    """Every stage before the promotion, with what the DAG gives them."""
    run.download(datasets=[DATASET], sources={DATASET: "mine"})
    shards = run.plan_shards(clips_per_shard=30, min_seconds=0.2, max_seconds=60)
    for shard in shards:
        run.featurize(shard=shard["shard"], max_seconds=60)
    counts = run.collect(max_rejected_share=0.05)
    stress_shards = stress_table(run)
    for family in FAMILIES:
        run.train(family=family, search=False, **SHARED)
    return {
        "shards": shards,
        "stress_shards": stress_shards,
        "counts": counts,
        "compare": run.compare(**SHARED),
        "explain": run.explain(seed=0, explained_clips=8),
        "challenge": run.register_challenger(margin=0.0, max_emotion_drop=1.0, policy=policy),
    }


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run on sixty clips of noise of two emotions and three speakers; its UDP metrics."""
    settings = make_settings(tmp_path_factory.mktemp("project"))
    folder = settings.recordings[0] / "mine"
    folder.mkdir()
    lines = ["path,emotion,speaker"]
    for number in range(60):
        (folder / f"{number}.wav").write_bytes(wav(number))
        lines.append(f"{number}.wav,{('happy', 'sad')[number % 2]},{'abc'[number // 2 % 3]}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        server.bind(("127.0.0.1", 0))
        server.setblocking(False)
        run = make(settings, metrics.statsd_emitter(server.getsockname()))
        returned = until_promote(run)
        returned["decision"] = run.promote(policy="auto")
        sent = []
        while True:
            try:
                sent.append(server.recv(2000).decode().split(":")[0].removeprefix("airflow."))
            except BlockingIOError:
                break
    return run, returned, set(sent)


def test_the_run_leaves_what_it_promises(trained):
    run, returned, _ = trained
    store, folder = run.store, f"runs/{run.name}"
    assert [shard["clips"] for shard in returned["shards"]] == [30, 30]
    assert returned["counts"] == {"used": 60, "rejected": 0, "duplicates": 0}
    for name in (
        "comparison.json",
        "comparison.csv",
        "report.html",
        "rejected.csv",
        "challenge.json",
        "decision.json",
    ):
        assert store.exists(f"{folder}/{name}"), name
    assert store.list(f"{folder}/shap", "*.png") and store.list(f"{folder}/shap", "*.parquet")
    for family in MODELS:
        assert store.exists(f"models/{run.name}/{family}_emotion_model.pkl")
    listed = pd.read_csv(store.open(f"{folder}/suspicious_labels.csv"))
    report = store.read_bytes(f"{folder}/report.html").decode()
    assert len(listed) > 0 and report.count("<audio controls") == min(len(listed), LISTEN)
    card = store.read_bytes(f"models/{run.name}/model_card.md").decode()
    assert "licence" in card.lower() and "## What it listens to" in card and "| voice quality |" in card
    assert (
        report.count('<table class="matrix groups">') == len(MODELS) and report.count('<th scope="row">tempo</th>') > 3
    )


def test_comparison(trained):
    run, returned, _ = trained
    comparison = run.store.read_json(f"runs/{run.name}/comparison.json")
    assert set(comparison["models"]) == set(MODELS) and comparison["selected"] == returned["compare"]["selected"]
    assert comparison["dataset"]["used"] == 60 and comparison["dataset"]["speakers"] == 3
    assert comparison["selection"]["lead"]["speakers"] == 3
    for model in comparison["models"].values():
        low, high = model["speaker_independent"]["f1_macro_interval"]
        assert low <= model["speaker_independent"]["f1_macro"] <= high
        assert set(PROTOCOLS) <= set(model)
        for protocol in PROTOCOLS:
            assert model[protocol]["n"] == 60
            assert set(SCORES) <= set(model[protocol])
        assert model["fit_seconds"] > 0 and model["predict_ms_single"] > 0


def test_the_stress_table_is_of_unheard_speakers_in_every_mode(trained):
    run, returned, _ = trained
    comparison = run.store.read_json(f"runs/{run.name}/comparison.json")
    assert sum(shard["clips"] for shard in returned["stress_shards"]) == 12 and len(returned["stress_shards"]) == 3
    assert (comparison["stress"]["clips"], comparison["stress"]["speakers"]) == (12, 3)
    assert list(comparison["stress"]["conditions"]) == list(CONDITIONS)
    table, _ = run.artifacts.clips()
    for name, model in comparison["models"].items():
        predictions = run.store.read_table(f"runs/{run.name}/stress/{name}_predictions.parquet")
        assert len(predictions) == len(MODES) * (1 + len(CONDITIONS)) * 12
        assert (predictions["emotion"].to_numpy() == table["emotion"].to_numpy()[predictions["row"]]).all()
        for mode in MODES:
            by_condition = model["stress"][mode]
            assert set(by_condition) == {"clean", *CONDITIONS, *SUMMARIES}
            accuracies = [by_condition[condition]["accuracy"] for condition in CONDITIONS]
            assert by_condition["mean_accuracy"] == pytest.approx(np.mean(accuracies))
            assert by_condition["clean"]["changed"] == 0
            assert by_condition["worst_ece"] >= by_condition["clean"]["ece"]
        clean = predictions[(predictions["mode"] == "plain") & (predictions["condition"] == "clean")]
        held_out = run.artifacts.predictions(name)
        held_out = held_out[held_out["protocol"] == "speaker_independent"].set_index("row").loc[clean["row"]]
        np.testing.assert_allclose(clean[PROBABILITIES], held_out[PROBABILITIES], atol=1e-6)
    figures = comparison["selection"]["figures"]
    assert comparison["selected"] == max(figures, key=figures.get)
    selected = comparison["models"][comparison["selected"]]
    outside = selected["stress"]["plain"]["mean_f1_macro"]
    assert max(figures.values()) == pytest.approx((selected["speaker_independent"]["f1_macro"] + outside) / 2)


def test_a_version_keeps_its_predictions_under_conditions(trained):
    run, _, _ = trained
    entry = registry.entry(run.store, run.name)
    assert stress.CONDITION_PREDICTIONS in entry["files"]
    stored = run.store.read_table(f"models/{run.name}/{stress.CONDITION_PREDICTIONS}")
    assert stored.groupby("family").size().to_dict() == dict.fromkeys(MODELS, 12 * (1 + len(CONDITIONS)))
    table, _ = run.artifacts.clips()
    assert set(stored["samples_sha256"]) < set(table["samples_sha256"])


def test_without_a_stress_table_clean_clips_alone_decide(trained, tmp_path):
    run, _, _ = trained
    other = copy_of(run, tmp_path)
    assert stress_table(other, stress_clips=0) == []
    for family in FAMILIES:
        other.train(family=family, search=False, **SHARED)
    other.compare(**SHARED)
    comparison = other.store.read_json(f"runs/{run.name}/comparison.json")
    assert comparison["stress"] is None and {model["stress"] for model in comparison["models"].values()} == {None}
    assert "conditions" not in comparison["selection"]["reason"]
    challenge = other.register_challenger(max_emotion_drop=1.0, policy="auto")
    assert challenge["version"] == f"{run.name}-2", "a version without these predictions is another one"
    assert stress.CONDITION_PREDICTIONS not in registry.entry(other.store, challenge["version"])["files"]
    report = other.store.read_bytes(f"runs/{run.name}/report.html").decode()
    assert "No clip was tested under recording conditions" in report


def test_the_first_model_becomes_champion(trained):
    run, returned, _ = trained
    pointer = registry.champion(run.store)
    assert returned["decision"]["decision"] == "promoted"
    assert (pointer["version"], pointer["family"]) == (run.name, returned["compare"]["selected"])
    entry = registry.entry(run.store, run.name)
    assert entry["run_id"] == "run:1" and entry["dataset"]["name"] == DATASET


def test_held_out_figures_are_what_rescoring_the_champion_finds(trained):
    """The same clips, each by the model that has not heard its speaker: the same probabilities."""
    run, _, _ = trained
    table, values = run.artifacts.clips()
    for family in FAMILIES:
        rows = run.store.read_table(f"runs/{run.name}/train/{family}_predictions.parquet")
        rows = rows[rows["protocol"] == "speaker_independent"].sort_values("row")
        bundle = registry.entry(run.store, run.name)["files"][registry.bundle_name(family)]
        pointer = registry.champion(run.store) | {"family": family, "sha256": bundle["sha256"]}
        rescored, counts = rescoring.rescore(run.store, pointer, table, values)
        np.testing.assert_allclose(rescored, rows[[f"p_{emotion}" for emotion in EMOTIONS]], atol=1e-6)
        assert counts["unheard_clips"] == 0


def test_metrics_are_those_of_the_table(trained):
    run, returned, sent = trained
    pointer = registry.champion(run.store)
    assert metrics.CHAMPION.path(version=pointer["version"], family=pointer["family"]) in sent
    stages = ("plan_shards", "featurize", "collect", "plan_stress", "featurize_stress", "collect_stress", "compare")
    for stage in ("download", *stages, "explain", "promote"):
        assert metrics.STAGE_DURATION.path(stage=stage) in sent
    for model in MODELS:
        for protocol in PROTOCOLS:
            assert metrics.SCORE.path(model=model, protocol=protocol, score="f1_macro") in sent
        assert metrics.STRESS_CHANGED.path(model=model, mode="batch", condition="mp3") in sent
        assert metrics.STRESS_SUMMARY.path(model=model, mode="speaker", summary="worst_ece") in sent
    shares = returned["explain"]["ensemble"]
    assert list(shares.values()) == sorted(shares.values(), reverse=True) and 0.99 < sum(shares.values()) < 1.01
    for group in shares:
        assert metrics.SHAP_GROUP.path(model="ensemble", group=group) in sent
        assert metrics.SHAP_GROUP_EMOTION.path(model="ensemble", emotion="sad", group=group) in sent
    assert sum(name.startswith("emotion.training.shap.ensemble.") for name in sent) == TOP_FEATURES
    assert metrics.PROMOTION.path(decision="promoted") in sent


def test_a_second_run_featurizes_nothing_and_changes_no_figure(trained):
    run, _, _ = trained
    again = TrainingRun(run.settings, "run:2", metrics.Emitter(None))
    again.download(datasets=[DATASET], sources={DATASET: "mine"})
    limits = {"clips_per_shard": 30, "min_seconds": 0.2, "max_seconds": 60}
    assert again.plan_shards(**limits) == []
    again.collect(max_rejected_share=0.05)
    assert stress_table(again) == []
    again.train(family=FAMILIES[0], search=False, **SHARED)
    for stage in ("train", "stress"):
        keys = [f"runs/{each_run.name}/{stage}/{FAMILIES[0]}_predictions.parquet" for each_run in (run, again)]
        pd.testing.assert_frame_equal(*map(run.store.read_table, keys))


def test_a_changed_bundle_stops_the_run(trained, tmp_path):
    run, _, _ = trained
    key = f"runs/{run.name}/train/{registry.bundle_name(FAMILIES[0])}"
    data = run.store.read_bytes(key)
    run.store.write_bytes(key, data + b"x")
    try:
        with pytest.raises(Exception, match="damaged"):
            run.compare(**SHARED)
    finally:
        run.store.write_bytes(key, data)


def test_unknown_choices_are_refused(trained):
    run, _, _ = trained
    with pytest.raises(ConfigurationError, match="policy 'maybe'; expected one of auto, ask, never"):
        run.register_challenger(margin=0.0, max_emotion_drop=1.0, policy="maybe")
    with pytest.raises(ConfigurationError, match="speaker folds 'none'; expected published or grouped"):
        run.train(family=FAMILIES[0], seed=0, speaker_folds="none", search=False)


def copy_of(run: TrainingRun, folder) -> TrainingRun:
    """The run with its version, in a store where nothing was decided yet."""
    other = make(run.settings.model_copy(update={"home": str(folder)}), metrics.Emitter(None))
    for key in (*run.store.list(f"runs/{run.name}"), *run.store.list(f"models/{run.name}")):
        other.store.write_bytes(key, run.store.read_bytes(key))
    return other


def test_a_version_keeps_its_held_out_predictions(trained):
    run, _, _ = trained
    stored = run.store.read_table(f"models/{run.name}/{rescoring.HELD_OUT}")
    assert rescoring.HELD_OUT in registry.entry(run.store, run.name)["files"]
    table, values = run.artifacts.clips()
    for family in MODELS:
        rows = stored[stored["family"] == family].set_index("samples_sha256").loc[table["samples_sha256"]]
        assert rows["speaker"].tolist() == table["speaker"].tolist()
        assert rows["emotion"].tolist() == table["emotion"].tolist()
        bundle = registry.entry(run.store, run.name)["files"][registry.bundle_name(family)]
        pointer = registry.champion(run.store) | {"family": family, "sha256": bundle["sha256"]}
        rescored, _ = rescoring.rescore(run.store, pointer, table, values)
        np.testing.assert_allclose(rows[PROBABILITIES], rescored, atol=1e-6)


def test_a_cleared_run_with_other_models_is_another_version(trained, tmp_path):
    """The report, the decision and what the next task gets name the version that was registered."""
    run, _, _ = trained
    other = copy_of(run, tmp_path)
    other.promote(policy="auto")
    other_seed = SHARED | {"seed": 1}
    for family in FAMILIES:
        other.train(family=family, search=False, **other_seed)
    other.compare(**other_seed)
    challenge = other.register_challenger(max_emotion_drop=1.0, min_probability=0.5, policy="ask")
    again = other.register_challenger(max_emotion_drop=1.0, min_probability=0.5, policy="ask")
    name = f"{run.name}-2"
    assert challenge["version"] == again["version"] == name and challenge["report"] == f"runs/{run.name}/report.html"
    document = other.store.read_json(f"runs/{run.name}/challenge.json")
    assert document["challenger"]["version"] == name and document["champion"]["version"] == run.name
    assert name in other.store.read_bytes(f"models/{name}/model_card.md").decode()
    decision = other.promote(policy="ask", approved=True)
    assert (decision["version"], decision["decision"]) == (
        name,
        {"promote": "promoted", "keep": "kept"}[challenge["verdict"]],
    )
    assert name in other.store.read_bytes(f"runs/{run.name}/report.html").decode()
    for version in (run.name, name):
        metadata = CustomEmotionModel.from_store(other.store, version).metadata
        assert (metadata["version"], metadata["run_id"]) == (version, "run:1")
    assert [past["version"] for past in registry.history(other.store)] == [run.name, name]
    assert len(registry.versions(other.store)) == 2


def register_copy(store, version: str, name: str) -> None:
    """Register the models of a version under another name."""
    files = {file: store.read_bytes(f"models/{version}/{file}") for file in registry.entry(store, version)["files"]}
    registry.register(store, name, files=files, card="", facts=version_facts(name))


@pytest.mark.parametrize("is_forgotten", [False, True])
def test_an_unreadable_champion_costs_no_run(trained, tmp_path, is_forgotten):
    """The version is registered and nothing is promoted. The decision writes the pointer again, from the history; from
    then on the two are compared."""
    run, _, _ = trained
    other = copy_of(run, tmp_path)
    register_copy(other.store, run.name, "urgent")
    selected = other.store.read_json(f"runs/{run.name}/comparison.json")["selected"]  # no better than itself
    decisions.promote_by_hand(other.store, version="urgent", family=selected, reason="the first")
    other.store.write_bytes(registry.CHAMPION, other.store.read_bytes(registry.CHAMPION)[:20])
    rules = {"max_emotion_drop": 1.0, "policy": "auto"}
    challenge = other.register_challenger(**rules)
    assert challenge["verdict"] == "keep" and not challenge["asks"]
    assert "champion.json is damaged" in challenge["reasons"][0] and run.name in challenge["reasons"][1]
    assert other.promote(policy="auto")["decision"] == "kept"
    assert other.store.read_json(registry.CHAMPION)["version"] == "urgent"
    assert "champion.json is damaged" in other.store.read_bytes(f"runs/{run.name}/report.html").decode()
    for key in (registry.CHAMPION, registry.HISTORY) if is_forgotten else ():
        other.store.delete(key)
    other.register_challenger(**rules)
    decision = other.promote(policy="auto")
    assert decision["decision"] == ("promoted" if is_forgotten else "kept")
    assert "unreadable" not in str(decision)
    assert registry.champion(other.store)["version"] == (run.name if is_forgotten else "urgent")


def test_an_answer_does_not_replace_a_champion_that_came_meanwhile(trained, tmp_path):
    run, _, _ = trained
    other = copy_of(run, tmp_path)
    register_copy(other.store, run.name, "urgent")
    decisions.promote_by_hand(other.store, version="urgent", family=FAMILIES[0], reason="at once")
    decision = other.promote(policy="ask", approved=True)
    assert decision["decision"] == "kept" and registry.champion(other.store)["version"] == "urgent"
    assert "changed meanwhile" in other.store.read_bytes(f"runs/{run.name}/report.html").decode()


@pytest.mark.parametrize(
    ("policy", "verdict", "approved", "decision", "by"),
    [
        ("auto", "promote", None, "promoted", "the rules"),
        ("auto", "keep", None, "kept", "the rules"),
        ("never", "promote", None, "kept", "policy"),
        ("ask", "promote", None, "kept", "nobody"),
        ("ask", "promote", False, "kept", "a person"),
        ("ask", "promote", True, "promoted", "a person"),
        ("ask", "keep", True, "kept", "the rules"),
        ("auto", "ask", None, "kept", "nobody"),
        ("auto", "ask", True, "promoted", "a person"),
        ("never", "ask", True, "kept", "policy"),
    ],
)
def test_who_decides(trained, tmp_path, monkeypatch, policy, verdict, approved, decision, by):
    run, _, _ = trained
    other = copy_of(run, tmp_path)
    store = other.store
    challenge = store.read_json(f"runs/{run.name}/challenge.json")
    store.write_json(f"runs/{run.name}/challenge.json", challenge | {"verdict": verdict})
    recorded = other.promote(policy=policy, approved=approved)
    assert (recorded["decision"], recorded["by"]) == (decision, by)
    if (policy, verdict) == ("ask", "promote"):
        reasons = {True: "A person approved.", False: "A person refused.", None: "Nobody answered, which means no."}
        assert recorded["reasons"][-1] == reasons[approved]
    assert (registry.champion(store) is None) == (decision == "kept")


def test_no_step_works_before_the_one_it_needs(tmp_path):
    run = make(make_settings(tmp_path), metrics.Emitter(None))
    with pytest.raises(DataError, match="was the step that writes it run"):
        run.compare(**SHARED)


@pytest.fixture
def few(settings) -> TrainingRun:
    """A run on a few recordings, of which one is broken and one a copy; a spreadsheet would compute their names."""
    folder = settings.recordings[0] / "mine"
    folder.mkdir()
    lines = ["path,emotion,speaker"]
    names = ["0.wav", "1.wav", "2.wav", "=copy.wav", "@broken.wav"]
    for number, name in enumerate(names):
        content = b"RIFF, and no more" if "broken" in name else wav(0 if "copy" in name else number)
        (folder / name).write_bytes(content)
        lines.append(f"{name},{('happy', 'sad', 'happy', 'happy', 'sad')[number]},a")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    run = make(settings, metrics.statsd_emitter(None))
    run.download(datasets=[DATASET], sources={DATASET: "mine"})
    return run


def test_each_stage_of_an_import_has_its_own_progress(few):
    states = progress.read(few.store, f"runs/{few.name}/progress")
    counts = [(state["stage"], state["unit"], state["done"], state["total"]) for state in states]
    assert counts == [("download", "", 0, 0), ("check", "clips", 5, 5), ("import", "clips", 5, 5)]
    assert None not in [state["finished"] for state in states]


def test_a_spreadsheet_computes_nothing_from_the_names_of_files(few):
    for shard in few.plan_shards(clips_per_shard=30, min_seconds=0.2, max_seconds=60):
        few.featurize(shard=shard["shard"], max_seconds=60)
    few.collect(max_rejected_share=0.5)
    for name, path in (("rejected", "./@broken.wav"), ("duplicates", "./=copy.wav")):
        cells = few.store.read_table(f"runs/{few.name}/{name}.csv").to_numpy().ravel()
        texts = [cell for cell in cells if isinstance(cell, str)]
        assert path in texts
        assert not [text for text in texts if text[0] in "=+-@\t\r"]
