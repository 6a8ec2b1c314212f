"""Runs on several datasets, through all stages: figures by dataset, a dataset to test on alone, and the promotion of
models that were trained on other datasets than the champion."""

from __future__ import annotations

import csv
import io
import socket
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from emotion import metrics
from emotion.datasets import synthesis
from emotion.errors import ConfigurationError, DataError
from emotion.evaluation.scores import compute_scores
from emotion.inference import CustomEmotionModel
from emotion.metrics import Emitter
from emotion.models import registry
from emotion.models.rescoring import HELD_OUT
from emotion.runs.scoring_run import ScoringRun
from emotion.runs.training_run import TrainingRun
from emotion.scoring.options import Options
from emotion.settings import Settings
from emotion.vocabulary import DATASET_PROTOCOLS, FAMILIES, SCORES, emotions_of, probabilities_of

CODES = {"01": "neutral", "03": "happy", "04": "sad", "05": "angry", "08": "surprised"}
"""Code of an emotion in the names of synthesized clips."""
SAMPLES = 24_000
"""Half a second of each clip: enough to tell these emotions apart, and quick to featurize."""
MODELS = (*FAMILIES, "ensemble")
SHARED = {"seed": 0, "speaker_folds": "published"}
LIMITS = {"clips_per_shard": 50, "min_seconds": 0.2, "max_seconds": 60}

LONG = "bored-or-tired-or-both_of_it-1-evening-5"
"""A declared emotion, with the longest name and every kind of letter that the catalogue takes."""
CATALOGUE = {
    "one": {
        "title": "Corpus One",
        "kind": "folder",
        "folder": "one",
        "licence": {"id": "CC0-1.0", "name": "CC0", "url": "https://one.example/cc0", "model": "Do what you want."},
        "commercial_use": True,
        "citation": "One (2001).",
    },
    "two": {
        "title": "Corpus Two",
        "kind": "folder",
        "labels": {"anger": "angry", "joy": "happy", "sorrow": "sad", "weary": LONG, "noise": None},
        "emotions": {LONG: "#123456"},
        "licence": {"id": "CC-BY-NC-4.0", "name": "BY-NC", "url": "https://two.example/nc", "model": "Not to be sold."},
        "commercial_use": False,
        "citation": "Two (2002).",
    },
    "three": {"title": "Corpus Three", "kind": "folder", "folder": "three", "citation": "Three (2003)."},
    "copied": {"kind": "folder", "folder": "copied"},
    "others": {"kind": "folder", "folder": "others", "emotions": {"polite": None, "bored": None}},
    "lonely": {"kind": "folder", "folder": "lonely"},
}
WORDS = {"happy": "joy", "sad": "sorrow", "angry": "anger", "surprised": "weary"}
"""What corpus two calls the emotions; its clips of LONG are synthesized as surprised ones."""


def synthesized(speakers: range, emotions: set[str], *, statements: tuple[str, ...] = ("01", "02")):
    """Clips of normal intensity: speaker, emotion, file name and content of each."""
    for name in synthesis.names(speakers=speakers.stop - 1):
        _, _, code, intensity, statement, _, actor = Path(name).stem.split("-")
        if int(actor) in speakers and CODES.get(code) in emotions and intensity == "01" and statement in statements:
            samples = synthesis.synthesize_clip(name)[:SAMPLES]
            yield actor, CODES[code], Path(name).name, synthesis.wav_bytes(samples)


def write_folders(folder: Path, clips) -> None:
    """A folder for each emotion, and in it one for each speaker."""
    for speaker, emotion, name, data in clips:
        path = folder / emotion / speaker / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def write_table(folder: Path, clips) -> None:
    """A table of labels with semicolons, and columns in an order of their own."""
    folder.mkdir(parents=True)
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8-sig") as file:
        rows = csv.writer(file, delimiter=";")
        rows.writerow(["speaker", "emotion", "path"])
        for speaker, emotion, name, data in clips:
            (folder / name).write_bytes(data)
            rows.writerow([speaker, emotion, name])


@pytest.fixture(scope="module")
def settings(tmp_path_factory) -> Settings:
    folder = tmp_path_factory.mktemp("project")
    recordings = folder / "recordings"
    (folder / "inbox").mkdir()
    write_folders(recordings / "one", synthesized(range(1, 4), {"neutral", "happy", "sad", "angry"}))
    clips = [
        (speaker, WORDS[emotion], name, data)
        for speaker, emotion, name, data in synthesized(range(4, 7), {"happy", "sad", "angry", "surprised"})
    ]
    write_table(recordings / "two's, or so", [*clips, ("04", "noise", "noise.wav", b"no recording")])
    write_folders(recordings / "three", synthesized(range(7, 9), {"happy", "sad", "surprised"}))
    (folder / "catalogue.yaml").write_text(yaml.safe_dump(CATALOGUE, sort_keys=False))
    return Settings.from_environment(
        {
            "EMOTION_HOME": str(folder / "home"),
            "EMOTION_RECORDINGS": str(recordings),
            "EMOTION_INBOXES": str(folder / "inbox"),
            "EMOTION_DATASETS": str(folder / "catalogue.yaml"),
        }
    )


def obtain(run: TrainingRun, datasets: list[str], also_test_on: list[str]) -> dict:
    """The stages up to the table of the clips; what the last one returned."""
    sources = {"two": "two's, or so"} if "two" in datasets else {}
    run.download(datasets=datasets, sources=sources, also_test_on=also_test_on)
    for shard in run.plan_shards(**LIMITS):
        run.featurize(shard=shard["shard"], max_seconds=60)
    return run.collect(max_rejected_share=0)


def train(run: TrainingRun, datasets: list[str], also_test_on: list[str], *, stress_clips: int) -> dict:
    """All stages up to the challenge, without the explanations; the counts of the clips."""
    counts = obtain(run, datasets, also_test_on)
    for shard in run.plan_stress(stress_clips=stress_clips, clips_per_shard=10, **SHARED):
        run.featurize_stress(shard=shard["shard"], max_seconds=60)
    run.collect_stress()
    for family in FAMILIES:
        run.train(family=family, search=False, **SHARED)
    run.compare(**SHARED)
    return counts


def challenge(run: TrainingRun) -> dict:
    run.register_challenger(max_emotion_drop=1.0, policy="auto")
    return run.store.read_json(f"runs/{run.name}/challenge.json")


def received(server: socket.socket) -> set[str]:
    names = set()
    while True:
        try:
            names.add(server.recv(2000).decode().split(":")[0].removeprefix("airflow."))
        except BlockingIOError:
            return names


@pytest.fixture(scope="module")
def first(settings) -> TrainingRun:
    """A run on corpus one, whose selected model is the champion of all tests here."""
    run = TrainingRun(settings, "first", Emitter(None))
    train(run, ["one"], [], stress_clips=4)
    assert challenge(run)["verdict"] == "promote"
    run.promote(policy="auto")
    return run


@pytest.fixture(scope="module")
def both(settings, first) -> tuple[TrainingRun, dict, dict, set[str]]:
    """A run on corpora one and two that is tested on corpus three too, its counts, challenge and metrics."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        server.bind(("127.0.0.1", 0))
        server.setblocking(False)
        run = TrainingRun(settings, "both", metrics.statsd_emitter(server.getsockname()))
        counts = train(run, ["one", "two"], ["three"], stress_clips=8)
        run.explain(seed=0, explained_clips=8)
        return run, counts, challenge(run), received(server)


def comparison_of(run: TrainingRun) -> dict:
    return run.store.read_json(f"runs/{run.name}/comparison.json")


def test_the_facts_of_all_datasets_are_joined(both):
    run, counts, _, _ = both
    dataset = comparison_of(run)["dataset"]
    assert dataset["name"] == "one + two" and dataset["title"] == "Corpus One + Corpus Two"
    assert counts == {"used": 48, "rejected": 0, "duplicates": 0} and dataset["used"] == 48
    assert [(each["name"], each["used"], each["speakers"]) for each in dataset["datasets"]] == [
        ("one", 24, 3),
        ("two", 24, 3),
    ]
    assert dataset["emotions"] == {"neutral": 6, "happy": 12, "sad": 12, "angry": 12, LONG: 6}
    assert dataset["left_out"] == {"noise": 1}, "the word of corpus two that its entry maps to null"
    assert comparison_of(run)["emotion_colours"][LONG] == "#123456"
    assert dataset["commercial_use"] is False and dataset["licence"]["id"] == "CC0-1.0 + CC-BY-NC-4.0"
    assert dataset["licence"]["model"] == (
        "The model is not for commercial use, because of Corpus Two. Corpus One: Do what you want. Corpus Two: Not to "
        "be sold."
    )
    assert dataset["citation"] == "One (2001). Two (2002)."
    entry = registry.entry(run.store, "both")
    assert [each["name"] for each in entry["dataset"]["datasets"]] == ["one", "two"]
    card = run.store.read_bytes("models/both/model_card.md").decode()
    assert all(text in card for text in ("Corpus One", "Corpus Two", "Not to be sold.", "because of Corpus Two"))


def test_every_protocol_has_the_figures_of_each_dataset_and_their_mean(both):
    run = both[0]
    table, _ = run.artifacts.clips()
    for name, figures in comparison_of(run)["models"].items():
        predictions = run.artifacts.predictions(name)
        assert set(DATASET_PROTOCOLS) <= set(figures), "one and two are held out in turn"
        for protocol in ("random", "speaker_independent", "speaker_independent_batch", *DATASET_PROTOCOLS):
            rows = predictions[predictions["protocol"] == protocol]
            by_dataset = figures[protocol]["datasets"]
            assert list(by_dataset) == ["one", "two"]
            for dataset, scores in by_dataset.items():
                part = rows[(table["dataset"].iloc[rows["row"]] == dataset).to_numpy()]
                expected = compute_scores(part["emotion"].to_numpy(), probabilities_of(part), emotions_of(part))
                assert scores == {key: expected[key] for key in ("n", *SCORES)} | {
                    "confidence": expected["confidence"]["mean"]
                }
            for score in SCORES:
                mean = np.mean([scores[score] for scores in by_dataset.values()])
                assert figures[protocol]["mean_of_datasets"][score] == pytest.approx(mean)


def test_a_dataset_is_held_out_whole_and_tested_on_the_emotions_that_it_shares(both):
    run = both[0]
    table, _ = run.artifacts.clips()
    predictions = run.artifacts.predictions("ensemble")
    for protocol in DATASET_PROTOCOLS:
        rows = predictions[predictions["protocol"] == protocol]
        assert sorted(rows["row"]) == table.index[table["emotion"].isin(["happy", "sad", "angry"])].tolist()
        assert table["dataset"].iloc[rows["row"]].groupby(rows["fold"].to_numpy()).unique().map(list).tolist() == [
            ["one"],
            ["two"],
        ]
        assert (rows[["p_neutral", f"p_{LONG}"]] == 0).all(axis=None)
        np.testing.assert_allclose(probabilities_of(rows).sum(axis=1), 1)
    folds = run.artifacts.splits(table, **SHARED)
    for (train_side, test), held_out in zip(folds["unheard_dataset"], ("one", "two"), strict=True):
        assert set(table["dataset"].iloc[test]) == {held_out} and held_out not in set(table["dataset"].iloc[train_side])


def test_the_models_are_chosen_by_unheard_speakers_conditions_and_unheard_datasets(both):
    comparison = comparison_of(both[0])
    for name, figures in comparison["models"].items():
        clean = figures["speaker_independent"]["mean_of_datasets"]["f1_macro"]
        outside = figures["stress"]["plain"]["mean_f1_macro"]
        unheard = figures["unheard_dataset"]["mean_of_datasets"]["f1_macro"]
        expected = (clean + outside) / 4 + unheard / 2
        assert comparison["selection"]["figures"][name] == pytest.approx(expected)
    figures = comparison["selection"]["figures"]
    assert comparison["selected"] == max(figures, key=figures.get)
    ordered = sorted(figures.values())
    assert comparison["selection"]["lead"]["difference"] == pytest.approx(ordered[-1] - ordered[-2])
    assert "half on unheard datasets" in comparison["selection"]["reason"]


def test_a_dataset_that_is_tested_on_alone_is_in_no_fit(both):
    run = both[0]
    comparison = comparison_of(run)
    table, _ = run.artifacts.clips()
    tested, values = run.artifacts.external_clips()
    assert set(tested["dataset"]) == {"three"} and len(tested) == 12 and "three" not in set(table["dataset"])
    assert [facts["title"] for facts in comparison["external_datasets"]] == ["Corpus Three"]
    for name in MODELS:
        figures = comparison["models"][name]["external"]["three"]
        assert figures["emotions"] == ["happy", "sad"] and figures["plain"]["n"] == 8, "no model knows surprised"
        assert list(figures) == ["emotions", "plain", "batch", "speaker"]
        assert set(figures["batch"]) == {"n", "accuracy", "uar", "f1_macro", "ece", "confidence"}
        model = run.artifacts.models(name)["plain"]
        shared = tested["emotion"].isin(["happy", "sad"]).to_numpy()
        columns = [model.label_set.index(emotion) for emotion in ("happy", "sad")]
        answers = np.array(["happy", "sad"])[model.predict_proba(values[shared])[:, columns].argmax(axis=1)]
        assert figures["plain"]["accuracy"] == (answers == tested["emotion"][shared]).mean()
    assert comparison["external"] == comparison["models"][comparison["selected"]]["external"]


def test_the_champion_is_tested_on_the_same_clips(both):
    run, _, result, _ = both
    external = result["external"]
    assert external["challenger"] == comparison_of(run)["external"] and external["missing"] == []
    first = run.store.read_json("runs/first/comparison.json")
    assert first["external"] == {} and external["champion"]["three"]["emotions"] == ["happy", "sad"]
    assert external["champion"]["three"]["plain"]["n"] == 8


def test_a_challenger_on_both_datasets_is_judged_on_the_clips_of_both(both):
    """The champion's answers for its own clips are kept with it; those of the other dataset it has never heard."""
    result = both[2]
    assert result["champion"]["version"] == "first"
    known = 18 + 18 + 6  # happy, sad and angry clips of both; the neutral ones of one
    assert {key: result["champion"][key] for key in ("held_out_clips", "unheard_clips")} == {
        "held_out_clips": 24,
        "unheard_clips": 18,
    }
    assert [(row["dataset"], row["clips"]) for row in result["per_dataset"]] == [("one", 24), ("two", 18)]
    assert result["difference"]["clips"] == known and result["difference"]["speakers"] == 6
    assert result["overall"] == result["stress"]["overall"]
    assert "Clips of other emotions did not count." in " ".join(result["reasons"])
    assert "clips of the champion's data are missing" not in " ".join(result["reasons"])
    assert result["verdict"] in ("promote", "keep")


def test_the_metrics_are_of_the_label_set_of_the_run(both):
    sent = both[3]
    prefix = "emotion.training.emotion_f1."
    assert {name.split(".")[-1] for name in sent if name.startswith(prefix)} == {
        "neutral",
        "happy",
        "sad",
        "angry",
        LONG,
    }
    assert metrics.CLIPS.path(kind="used") in sent
    assert metrics.SCORE.path(model="ensemble", protocol="speaker_independent", score="f1_macro") in sent


def test_labels_that_may_be_wrong_are_listed_with_their_dataset(both):
    run = both[0]
    data = run.store.read_bytes("runs/both/suspicious_labels.csv")
    listed = pd.read_csv(io.BytesIO(data))
    predictions = run.artifacts.predictions(comparison_of(run)["selected"])
    held_out = predictions[predictions["protocol"] == "speaker_independent"]
    predicted = np.array(emotions_of(held_out))[probabilities_of(held_out).argmax(axis=1)]
    assert len(listed) == (predicted != held_out["emotion"]).sum() > 0
    assert (listed["emotion"] != listed["predicted"]).all() and listed["p_label"].is_monotonic_increasing
    assert (listed["p_label"] < listed["p_predicted"]).all() and set(listed["dataset"]) <= {"one", "two"}
    table = run.artifacts.clips()[0].set_index("path")
    assert (table.loc[listed["path"], "emotion"].to_numpy() == listed["emotion"]).all()
    assert all(run.store.exists(key) for key in listed["key"]), "each can be listened to"


@pytest.fixture(scope="module")
def other(settings, first) -> tuple[TrainingRun, dict]:
    """A run on corpus two alone against the champion of corpus one."""
    run = TrainingRun(settings, "other", Emitter(None))
    train(run, ["two"], ["one"], stress_clips=0)
    return run, challenge(run)


def test_a_challenger_on_another_dataset_is_judged_on_the_champions_clips_too(other):
    run, result = other
    assert [(row["dataset"], row["clips"]) for row in result["per_dataset"]] == [("two", 18), ("one", 18)]
    assert result["champion"]["held_out_clips"] == 18 and result["champion"]["unheard_clips"] == 18
    table, values = run.artifacts.external_clips()
    model = run.artifacts.models(comparison_of(run)["selected"])["plain"]
    shared = ("happy", "sad", "angry")
    clips = table["emotion"].isin(shared).to_numpy()
    columns = [model.label_set.index(emotion) for emotion in shared]
    expected = compute_scores(
        table["emotion"].to_numpy()[clips], model.predict_proba(values[clips])[:, columns], shared
    )
    assert result["per_dataset"][1]["challenger_f1"] == pytest.approx(expected["f1_macro"]), "by the challenger itself"
    kept = pd.read_parquet(io.BytesIO(run.store.read_bytes(f"models/first/{HELD_OUT}")))
    kept = kept[(kept["family"] == result["champion"]["family"]) & kept["emotion"].isin(shared)]
    answers = kept[[f"p_{emotion}" for emotion in shared]].to_numpy()
    expected = compute_scores(kept["emotion"].to_numpy(), answers, shared)
    assert result["per_dataset"][1]["champion_f1"] == pytest.approx(expected["f1_macro"]), "as kept with its version"
    means = [row["difference"] for row in result["per_dataset"]]
    assert result["overall"]["difference"] == pytest.approx(np.mean(means))


def test_the_champion_is_not_tested_on_clips_that_it_has_heard(other):
    """Corpus one is no external dataset for the model that was trained on it."""
    external = other[1]["external"]
    assert list(external["challenger"]) == ["one"] and external["champion"] == {}
    assert external["missing"] == ["The champion was trained on clips or speakers of one."]


def test_a_run_on_one_dataset_has_no_figures_by_dataset(other):
    for figures in comparison_of(other[0])["models"].values():
        assert not set(DATASET_PROTOCOLS) & set(figures)
        assert "datasets" not in figures["speaker_independent"]
        assert "mean_of_datasets" not in figures["speaker_independent"]


def test_new_audio_is_scored_by_a_model_of_several_datasets(both):
    run = both[0]
    box = run.settings.inboxes[0]
    lines = ["path,emotion"]
    for _, emotion, name, data in synthesized(range(9, 10), {"happy", "sad", "surprised"}):
        (box / name).write_bytes(data)
        lines.append(f"{name},{WORDS[emotion]}")
    (box / "labels.csv").write_text("\n".join(lines) + "\n")
    scoring = ScoringRun(run.settings, "batch", Emitter(None))
    options = Options(settle_seconds=0)
    for shard in scoring.find_new_audio(folder=None, options=options, model="both/ensemble"):
        scoring.score(part=shard["part"])
    scoring.collect_predictions()
    scoring.watch_drift()
    summary = run.store.read_json("scores/batch/summary.json")
    table = run.store.read_table("scores/batch/predictions.parquet")
    assert emotions_of(table) == ("neutral", "happy", "sad", "angry", LONG) and len(table) == 6
    assert set(table["label"]) == {"happy", "sad", LONG}, "the words of corpus two hold for labels too"
    assert summary["failures"] == [] and summary["accuracy"]["n"] == 6
    assert CustomEmotionModel.named(run.store, "both/ensemble").emotions == emotions_of(table)


# What is refused


def refused(settings: Settings, datasets: list[str], also_test_on: list[str]) -> str:
    run = TrainingRun(settings, "-".join(["refused", *datasets, *also_test_on]), Emitter(None))
    with pytest.raises((DataError, ConfigurationError)) as caught:
        obtain(run, datasets, also_test_on)
    return str(caught.value)


@pytest.fixture(scope="module")
def more(settings) -> Settings:
    """The settings, with further corpora that are like those of the runs."""
    recordings = settings.recordings[0]
    of_one = list(synthesized(range(1, 4), {"neutral", "happy", "sad", "angry"}))
    write_table(recordings / "copied", [(f"x{speaker}", e, f"copy-{name}", data) for speaker, e, name, data in of_one])
    write_folders(
        recordings / "others",
        [
            (speaker, {"surprised": "polite", "neutral": "bored"}[emotion], name, data)
            for speaker, emotion, name, data in synthesized(range(10, 13), {"surprised", "neutral"})
        ],
    )
    write_folders(recordings / "lonely", synthesized(range(13, 14), {"happy", "sad", "angry"}))
    return settings


def test_a_dataset_to_test_on_with_clips_of_the_others_is_refused(more):
    """The same bytes under other names of files and speakers."""
    message = refused(more, ["one"], ["copied"])
    assert "copied shares 24 clips with one, so it is no test of unheard speakers" in message


def test_datasets_with_the_same_recordings_under_other_speakers_are_refused(more):
    message = refused(more, ["one", "copied"], [])
    assert "24 recordings of copied are in one too, under other speakers' names: copied:x0" in message
    assert "leave out one of the two datasets" in message


def test_a_dataset_to_test_on_without_shared_emotions_is_refused_before_training(more):
    message = refused(more, ["one"], ["others"])
    assert "others has the emotions bored, polite, and the model knows neutral, happy, sad, angry" in message


def test_a_wrong_name_or_source_is_refused_before_anything_is_imported(more, tmp_path):
    settings = more.model_copy(update={"home": str(tmp_path)})
    run = TrainingRun(settings, "run", Emitter(None))
    cases = [
        (["one", "nonsense"], [], {}, "no dataset 'nonsense'"),
        (["one"], ["nonsense"], {}, "no dataset 'nonsense'"),
        (["one", "two"], [], {"two": "nowhere"}, "nowhere is not there"),
        (["one", "two"], [], {}, "two needs a source"),
        (["one", "two", "one"], [], {}, "one is named more than once"),
        (["one"], ["one"], {}, "one is named more than once"),
        (["one"], [], {"two": "two's, or so"}, "a source is given for two, which the run does not use; it uses one"),
        (["one"], [], {"one": " "}, "the source of one is empty"),
        ([], ["one"], {}, "no dataset is named"),
    ]
    for datasets, also_test_on, sources, message in cases:
        with pytest.raises(ConfigurationError, match=message):
            run.download(datasets=datasets, sources=sources, also_test_on=also_test_on)
    assert not run.store.list("datasets"), "not even corpus one, which comes first"


def test_a_recording_of_two_datasets_that_are_tested_on_counts_in_both(more):
    run = TrainingRun(more, "twice", Emitter(None))
    obtain(run, ["two"], ["one", "copied"])
    tested, _ = run.artifacts.external_clips()
    assert tested.groupby("dataset").size().to_dict() == {"one": 24, "copied": 24}


def test_a_dataset_of_one_speaker_is_trained_on_beside_others(more):
    """It can be held out; the others cannot, as it has too few speakers to train on alone."""
    run = TrainingRun(more, "lonely", Emitter(None))
    obtain(run, ["one", "lonely"], [])
    run.plan_stress(stress_clips=0, clips_per_shard=10, **SHARED)
    run.collect_stress()
    returned = run.train(family=FAMILIES[0], search=False, **SHARED)
    figures = run.artifacts.figures(FAMILIES[0])
    assert set(DATASET_PROTOCOLS) <= set(returned)
    assert list(figures["unheard_dataset"]["datasets"]) == ["lonely"] and figures["unheard_dataset"]["n"] == 6
    assert figures["speaker_independent"]["datasets"]["lonely"]["n"] == 6


def test_datasets_without_shared_emotions_are_trained_on_together(more):
    """Neither can be held out: the other side does not show its emotions."""
    run = TrainingRun(more, "apart", Emitter(None))
    obtain(run, ["one", "others"], [])
    run.plan_stress(stress_clips=0, clips_per_shard=10, **SHARED)
    run.collect_stress()
    assert not set(DATASET_PROTOCOLS) & set(run.train(family=FAMILIES[0], search=False, **SHARED))
    figures = run.artifacts.figures(FAMILIES[0])
    assert {name: scores["n"] for name, scores in figures["random"]["datasets"].items()} == {"one": 24, "others": 12}
