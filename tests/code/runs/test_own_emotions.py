"""A model of emotions of one's own, from training to scoring: two are none of the standard ones, and none is happy."""

from __future__ import annotations

import io
import os
import shutil
import socket

import numpy as np
import pandas as pd
import pytest
import yaml

from emotion import metrics
from emotion.commands.main import main
from emotion.datasets import synthesis
from emotion.explanation.ranking import FACTS
from emotion.inference import CustomEmotionModel
from emotion.metrics import Emitter
from emotion.models import registry
from emotion.models.rescoring import HELD_OUT
from emotion.models.stress import CONDITION_PREDICTIONS
from emotion.monitoring.reference import REFERENCE, Reference
from emotion.runs.scoring_run import ScoringRun
from emotion.runs.training_run import TrainingRun
from emotion.scoring.options import Options
from emotion.settings import Settings
from emotion.vocabulary import FAMILIES, emotion_colours, emotions_of, probabilities_of
from small_models import trained_store  # noqa: F401

DATASET = "calls"
WORDS = {"01": "neutral", "05": "Anger", "04": "bored", "02": "polite", "03": "laughter"}
"""Code of an emotion in the names of synthesized clips → the word that the tables of labels have for it here."""
MEANING = {"Anger": "angry", "laughter": ""}
"""What words stand for that are no names of emotions; clips with laughter are left out."""
EMOTIONS = ("neutral", "angry", "bored", "polite")
DECLARED = {"polite": "#123456"}
CATALOGUE = {
    DATASET: {
        "title": "Our calls",
        "kind": "folder",
        "emotions": {"bored": None, **DECLARED},
        "labels": {"anger": "angry", "laughter": None},
    }
}
SPEAKERS = 4


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A training run on synthesized speech, whose selected model is the champion; the names of the metrics it sent."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "recordings").mkdir()
    (folder / "inbox").mkdir()
    (folder / "datasets.yaml").write_text(yaml.safe_dump(CATALOGUE), encoding="utf-8")
    settings = Settings.from_environment(
        {
            "EMOTION_DATASETS": str(folder / "datasets.yaml"),
            "EMOTION_HOME": str(folder / "home"),
            "EMOTION_RECORDINGS": str(folder / "recordings"),
            "EMOTION_INBOXES": str(folder / "inbox"),
        }
    )
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        server.bind(("127.0.0.1", 0))
        server.setblocking(False)
        run = TrainingRun(settings, "own", metrics.statsd_emitter(server.getsockname()))
        import_clips(run)
        train(run)
        sent = set()
        while True:
            try:
                sent.add(server.recv(2000).decode().split(":")[0].removeprefix("airflow."))
            except BlockingIOError:
                break
    return run, sent


def import_clips(run: TrainingRun) -> None:
    """Import synthesized clips with a table of labels, as a person has it."""
    folder = run.settings.recordings[0] / "mine"
    folder.mkdir()
    lines = ["path,emotion,speaker"]
    for name in synthesis.names(speakers=SPEAKERS):
        code, speaker = name[-18:-16], name[-6:-4]
        if code in WORDS:
            path = name.replace("/", "-")
            (folder / path).write_bytes(synthesis.wav_bytes(synthesis.synthesize_clip(name)))
            lines.append(f"{path},{WORDS[code]},{speaker}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    run.download(datasets=[DATASET], sources={DATASET: "mine"})


def train(run: TrainingRun) -> None:
    for shard in run.plan_shards(clips_per_shard=40, min_seconds=0.2, max_seconds=60):
        run.featurize(shard=shard["shard"], max_seconds=60)
    run.collect(max_rejected_share=0)
    shared = {"seed": 0, "speaker_folds": "published"}
    for shard in run.plan_stress(stress_clips=8, clips_per_shard=10, **shared):
        run.featurize_stress(shard=shard["shard"], max_seconds=60)
    run.collect_stress()
    for family in FAMILIES:
        run.train(family=family, search=False, **shared)
    run.compare(**shared)
    run.explain(seed=0, explained_clips=8)
    run.register_challenger(margin=0.0, max_emotion_drop=1.0, policy="auto")
    run.promote(policy="auto")


def test_the_clips_of_a_word_that_is_left_out_are_counted(own):
    run, _ = own
    dataset = run.store.read_json("runs/own/comparison.json")["dataset"]
    assert dataset["left_out"] == {"laughter": 4 * SPEAKERS} and dataset["used"] == 14 * SPEAKERS
    assert dataset["emotions"] == {"neutral": 8, "angry": 16, "bored": 16, "polite": 16}


def test_the_version_names_its_emotions_and_their_colours(own):
    run, _ = own
    [entry] = registry.versions(run.store)
    assert entry["emotions"] == list(EMOTIONS) and entry["emotion_colours"] == emotion_colours(EMOTIONS, DECLARED)
    assert entry["emotion_colours"]["polite"] == "#123456"
    assert registry.champion(run.store)["version"] == entry["version"] == "own"
    for family in (*FAMILIES, "ensemble"):
        model = CustomEmotionModel.named(run.store, f"own/{family}")
        assert model.emotions == EMOTIONS
        answer = model.predict_emotion_from_file(run.settings.recordings[0] / "mine/Actor_01-03-01-05-02-01-01-01.wav")
        assert tuple(answer["probabilities"]) == EMOTIONS and answer["emotion"] in EMOTIONS
        assert sum(answer["probabilities"].values()) == pytest.approx(1)
    card = run.store.read_bytes("models/own/model_card.md").decode()
    assert "Classifiers of 4 emotions (neutral, angry, bored, polite) of short speech recordings" in card
    assert "| bored | 16 |" in card and "happy" not in card


def test_everything_that_is_kept_has_the_columns_of_the_version(own):
    run, _ = own
    entry = registry.entry(run.store, "own")
    for name in (HELD_OUT, CONDITION_PREDICTIONS):
        kept = pd.read_parquet(io.BytesIO(registry.read_file(run.store, entry, name)))
        assert emotions_of(kept) == EMOTIONS, name
        np.testing.assert_allclose(probabilities_of(kept).sum(axis=1), 1)
    assert Reference.from_bytes(registry.read_file(run.store, entry, REFERENCE)).emotions.shape[1] == 4
    comparison = run.store.read_json("runs/own/comparison.json")
    assert comparison["emotions"] == list(EMOTIONS) == list(comparison["dataset"]["emotions"])
    for figures in comparison["models"].values():
        assert list(figures["speaker_independent"]["per_emotion"]) == list(EMOTIONS)
        assert np.array(figures["random"]["confusion"]).shape == (4, 4)
    assert comparison["models"][comparison["selected"]]["speaker_independent"]["f1_macro"] > 0.5
    for family in (*FAMILIES, "ensemble"):
        importance = pd.read_csv(run.store.open(f"runs/own/shap/{family}_importance.csv"))
        assert importance.columns.tolist() == [*FACTS, *EMOTIONS]


def test_the_report_and_the_metrics_have_these_emotions_and_no_other(own):
    run, sent = own
    page = run.store.read_bytes("runs/own/report.html").decode()
    assert "guessing at random among 4 emotions (0.250)" in page and ">polite</text>" in page
    assert "happy" not in page
    names = {name.split(".")[-1] for name in sent if name.startswith("emotion.training.emotion_f1.")}
    assert names == set(EMOTIONS)
    assert {name.split(".")[4] for name in sent if ".shap_emotion." in name} == set(EMOTIONS)


@pytest.fixture
def labelled(own):
    """New clips of a voice that was not trained on, with a table of labels of which the model does not know all.

    The clips whose names say happy have the word that is left out, and so no label.
    """
    run, _ = own
    box = run.settings.inboxes[0]
    for file in box.iterdir():
        file.unlink()
    labels, lines = {}, ["emotion;path"]
    for name in synthesis.names(speakers=SPEAKERS + 1)[-30:]:
        path = name.rpartition("/")[2]
        (box / path).write_bytes(synthesis.wav_bytes(synthesis.synthesize_clip(name)))
        word = WORDS.get(path[6:8], "sad")
        labels[path] = MEANING.get(word, word)
        lines.append(f"{word};{path}")
    (box / "labels.csv").write_text("\r\n".join(lines), encoding="utf-8-sig", newline="")
    return run, box, labels


def score(run: TrainingRun, batch: str, **arguments) -> ScoringRun:
    scoring = ScoringRun(run.settings, batch, Emitter(None))
    for shard in scoring.find_new_audio(folder=None, options=Options(settle_seconds=0), **arguments):
        scoring.score(part=shard["part"])
    scoring.collect_predictions()
    scoring.watch_drift()
    return scoring


def test_new_audio_is_scored_and_watched_by_the_emotions_of_the_version(labelled):
    run, box, labels = labelled
    samples = np.concatenate([synthesis.synthesize_clip(name) for name in synthesis.names(speakers=1)])
    (box / "long.wav").write_bytes(synthesis.wav_bytes(samples))
    score(run, "one")
    table = run.store.read_table("scores/one/predictions.parquet")
    summary = run.store.read_json("scores/one/summary.json")
    assert emotions_of(table) == EMOTIONS and set(table["emotion"]) <= set(EMOTIONS)
    assert emotions_of(pd.read_csv(run.store.open("scores/one/predictions.csv"))) == EMOTIONS
    assert emotions_of(run.store.read_table("scores/one/timeline.parquet")) == EMOTIONS
    assert list(summary["emotions"]) == list(EMOTIONS) and sum(summary["emotions"].values()) == 31
    known = [path for path, label in labels.items() if label in EMOTIONS]
    answers = table.set_index("path").loc[known]
    assert summary["labels_outside"] == 12 and summary["accuracy"]["n"] == len(known) == 14
    assert summary["accuracy"]["value"] == (answers["emotion"] == answers["label"]).mean() > 0.4
    assert summary["failures"] == [] and summary["drift"]["verdict"] in ("ok", "watch", "alarm")
    page = run.store.read_bytes("scores/one/report.html").decode()
    assert "12 files have a label that is no emotion of this model (neutral, angry, bored, polite)" in page
    assert 'background:#123456"></i>polite' in page and "</i>happy" not in page


def test_the_command_line_names_the_emotions(own, monkeypatch, capsys):
    run, _ = own
    monkeypatch.setenv("EMOTION_HOME", run.settings.home)
    assert main(["models"]) == 0
    assert "own knows 4 emotions: neutral, angry, bored, polite" in capsys.readouterr().out
    file = run.settings.recordings[0] / "mine/Actor_01-03-01-05-02-01-01-01.wav"
    assert main(["predict", str(file)]) == 0
    printed = capsys.readouterr().out
    assert all(f"\n  {emotion} " in printed for emotion in EMOTIONS) and "happy" not in printed


def test_models_with_different_label_sets_are_set_side_by_side(labelled, trained_store):  # noqa: F811
    """The other model knows the eight standard emotions: a label counts if both know it."""
    run = labelled[0]
    shutil.copytree(f"{trained_store.root}/models/first", f"{run.store.root}/models/first", copy_function=os.link)
    try:
        score(run, "two", model="own", challenger="first/random_forest")
    finally:
        shutil.rmtree(f"{run.store.root}/models/first")
    summary = run.store.read_json("scores/two/summary.json")
    table = run.store.read_table("scores/two/predictions.parquet")
    both = table[table["label"].isin(["neutral", "angry"])]
    compared = summary["comparison"]
    assert emotions_of(table) == EMOTIONS and len(both) == compared["labelled"] == 6
    assert summary["accuracy"]["n"] == 14 and summary["labels_outside"] == 12
    assert compared["agreement"] == pytest.approx((table["emotion"] == table["challenger_emotion"]).mean())
    assert compared["challenger_accuracy"]["value"] == (both["challenger_emotion"] == both["label"]).mean()
