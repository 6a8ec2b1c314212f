"""Scores agree with scikit-learn's metrics, and folds keep the training side and the test side apart."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest
from sklearn import metrics

from emotion.errors import DataError
from emotion.evaluation.folds import dataset_folds, random_folds, random_split, speaker_folds
from emotion.evaluation.scores import accuracy_interval, compute_scores, fold_summary, slice_scores
from emotion.vocabulary import EMOTIONS, SCORES

LABELS = np.tile(np.repeat(EMOTIONS, 6), 6)
SPEAKERS = np.repeat([f"s{number}" for number in range(6)], 48)


def predictions(n: int, *, seed: int = 0, skill: float = 1.5) -> tuple[np.ndarray, np.ndarray]:
    """Labels of all eight emotions, and probabilities that favour the right one."""
    random = np.random.default_rng(seed)
    true = np.resize(np.arange(8), n)
    logits = random.normal(size=(n, 8))
    logits[np.arange(n), true] += skill
    return np.array(EMOTIONS)[true], np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def one_hot(emotions: list[str]) -> np.ndarray:
    return np.eye(8)[[EMOTIONS.index(emotion) for emotion in emotions]]


def test_scores_agree_with_scikit_learn():
    labels, probabilities = predictions(400)
    true, predicted = [EMOTIONS.index(label) for label in labels], probabilities.argmax(axis=1)
    scores = compute_scores(labels, probabilities, EMOTIONS)
    assert scores["n"] == 400
    assert scores["accuracy"] == pytest.approx(metrics.accuracy_score(true, predicted))
    assert scores["uar"] == pytest.approx(metrics.balanced_accuracy_score(true, predicted))
    for name, function in (
        ("precision_macro", metrics.precision_score),
        ("recall_macro", metrics.recall_score),
        ("f1_macro", metrics.f1_score),
    ):
        assert scores[name] == pytest.approx(function(true, predicted, average="macro"))
    assert scores["log_loss"] == pytest.approx(metrics.log_loss(true, probabilities))
    np.testing.assert_array_equal(scores["confusion"], metrics.confusion_matrix(true, predicted))
    assert sum(scores["confidence"]["histogram"]) == 400
    assert scores["per_emotion"]["sad"]["support"] == 50


def test_every_score_of_the_vocabulary_is_a_number():
    scores = compute_scores(*predictions(80), EMOTIONS)
    assert all(isinstance(scores[name], float) for name in SCORES)
    assert list(scores) == ["n", *SCORES, "confusion", "per_emotion", "confidence", "reliability"]


def test_emotions_that_do_not_occur_do_not_count():
    scores = compute_scores(np.array(["happy", "sad"]), one_hot(["happy", "sad"]), EMOTIONS)
    assert scores["f1_macro"] == scores["uar"] == scores["precision_macro"] == 1.0
    assert scores["per_emotion"]["calm"]["support"] == 0


def test_a_clip_recognized_as_an_emotion_that_does_not_occur():
    scores = compute_scores(np.array(["happy", "happy"]), one_hot(["happy", "calm"]), EMOTIONS)
    assert scores["accuracy"] == scores["uar"] == 0.5
    assert scores["f1_macro"] == pytest.approx(2 / 3)


def test_a_label_outside_the_label_set_is_refused():
    with pytest.raises(ValueError, match="found the label bored; expected one of happy, sad"):
        compute_scores(np.array(["happy", "bored"]), np.eye(2), ("happy", "sad"))


def test_scores_follow_the_label_set():
    """The order of the columns and of the tables is that of the label set that is given."""
    labels, emotions = np.array(["bored", "polite", "polite"]), ("angry", "polite", "bored")
    scores = compute_scores(labels, np.eye(3)[[2, 1, 2]], emotions)
    assert list(scores["per_emotion"]) == list(emotions) and scores["confusion"] == [[0, 0, 0], [0, 1, 1], [0, 0, 1]]
    assert scores["uar"] == 0.75, "no clip is angry"


def test_the_log_loss_of_a_certain_error_is_finite():
    scores = compute_scores(np.array(["happy"]), one_hot(["sad"]), EMOTIONS)
    assert scores["log_loss"] == pytest.approx(-np.log(1e-15))
    assert scores["ece"] == 1.0


def test_calibration_error_is_the_one_computed_by_hand():
    """Ten clips at confidence 0.75, of which five are right: 0.25 off. Ten at confidence 1, all right: 0 off."""
    sure, unsure = np.eye(8)[[1]], np.array([[0.75, 0.25, 0, 0, 0, 0, 0, 0]])
    labels = np.array(["calm"] * 10 + ["neutral"] * 5 + ["calm"] * 5)
    scores = compute_scores(labels, np.vstack([sure] * 10 + [unsure] * 10), EMOTIONS)
    assert scores["ece"] == pytest.approx(0.125)
    assert [row["count"] for row in scores["reliability"]] == [0, 0, 0, 0, 0, 0, 0, 10, 0, 10]
    assert scores["reliability"][0]["accuracy"] is None


def test_random_splits_are_stratified_and_the_same_for_the_same_seed():
    train, test = random_split(LABELS, seed=3)
    assert len(test) == pytest.approx(0.2 * len(LABELS), abs=1) and not set(train) & set(test)
    folds = random_folds(LABELS, seed=3)
    assert sorted(np.concatenate([test for _, test in folds])) == list(range(len(LABELS)))
    for train, test in folds:
        assert not set(train) & set(test)
        counts = pd.Series(LABELS[test]).value_counts()
        assert counts.max() - counts.min() <= 1
    for (_, test), (_, again) in zip(folds, random_folds(LABELS, seed=3), strict=True):
        np.testing.assert_array_equal(test, again)
    assert not np.array_equal(folds[0][1], random_folds(LABELS, seed=4)[0][1])


@pytest.mark.parametrize("published", [None, (("s0", "s3", "absent"), ("s1", "s2"), ("s4", "s5"), ("gone",))])
def test_whole_speakers_are_held_out(published):
    folds = speaker_folds(LABELS, SPEAKERS, seed=0, published=published and {"": published})
    assert len(folds) == (6 if published is None else 3)
    assert sorted(np.concatenate([test for _, test in folds])) == list(range(len(LABELS)))
    for train, test in folds:
        assert not set(SPEAKERS[train]) & set(SPEAKERS[test])
        assert len(train) + len(test) == len(LABELS)
    if published:
        assert set(SPEAKERS[folds[0][1]]) == {"s0", "s3"}


def test_there_are_no_more_folds_than_speakers():
    speakers = np.resize(["a", "b", "c"], len(LABELS))
    assert len(speaker_folds(LABELS, speakers, seed=0)) == 3


@pytest.mark.parametrize(
    ("speakers", "published", "message"),
    [
        (np.where(np.arange(288) < 5, "", SPEAKERS), None, "5 of 288 clips have no speaker"),
        (np.full(288, "s0"), None, r"found 1 speaker\(s\); expected at least 3"),
        (np.resize(["s0", "s1"], 288), None, r"found 2 speaker\(s\); expected at least 3"),
        (SPEAKERS, (("s0", "s1"), ("s2", "s3", "s4")), "do not list the speakers s5;"),
        (SPEAKERS, (("s0", "s1", "s2"), ("s2", "s3", "s4", "s5")), "list the speakers s2 more than once"),
        (SPEAKERS, (tuple(sorted(set(SPEAKERS))), ("x",)), "fewer than 2 of the speakers s0, s1, s2, s3, s4, s5"),
        (SPEAKERS, (("s0", "s1", "s2", "s3", "s4"), ("s5",)), "fewer than 2 of the speakers s0, s1, s2, s3, s4, s5"),
    ],
)
def test_speakers_that_cannot_be_held_out_are_refused(speakers, published, message):
    with pytest.raises(DataError, match=message):
        speaker_folds(LABELS, speakers, seed=0, published=published and {"": published})


def test_each_dataset_is_divided_by_itself_and_every_speaker_is_held_out_once():
    datasets = np.where(np.isin(SPEAKERS, ["s0", "s1"]), "small", "large")
    folds = speaker_folds(LABELS, SPEAKERS, datasets=datasets, seed=0, published={"small": (("s1",), ("s0",))})
    held_out = [set(SPEAKERS[test]) for _, test in folds]
    assert ["s1" in held_out[0], "s0" in held_out[1]] == [True, True], "the small dataset's folds are as published"
    assert len(folds) == 4, "the large one has four speakers"
    assert sorted(speaker for fold in held_out for speaker in fold) == sorted(set(SPEAKERS))


def test_a_speaker_of_two_datasets_is_held_out_of_both_at_once():
    datasets = np.resize(["speech", "song"], len(LABELS))
    folds = speaker_folds(LABELS, SPEAKERS, datasets=datasets, seed=0)
    assert len(folds) == 6
    for train, test in folds:
        assert not set(SPEAKERS[train]) & set(SPEAKERS[test])
    assert dataset_folds(LABELS, SPEAKERS, datasets) == [], "without its speakers, the other dataset has no clip left"


def test_a_dataset_of_one_speaker_can_be_held_out_beside_others():
    speakers = np.where(np.arange(len(LABELS)) < 20, "alone", SPEAKERS)
    datasets = np.where(speakers == "alone", "tiny", "large")
    folds = speaker_folds(LABELS, speakers, datasets=datasets, seed=0)
    assert ["alone" in speakers[test] for _, test in folds] == [True, *[False] * (len(folds) - 1)]
    ((_, tiny_test),) = [fold for fold in dataset_folds(LABELS, speakers, datasets) if fold[1][0] == 0]
    assert len(tiny_test) == 20


@pytest.mark.parametrize("clips", [2, 3, 12])
def test_a_dataset_of_few_clips_can_be_held_out_beside_others(clips):
    """Each clip is of another speaker, and there are one or two of each emotion."""
    tiny = np.arange(len(LABELS)) < clips
    speakers = np.where(tiny, [f"tiny{number}" for number in range(len(LABELS))], SPEAKERS)
    labels = np.where(tiny, np.resize(EMOTIONS[:6], len(LABELS)), LABELS)
    datasets = np.where(tiny, "tiny", "large")
    folds = speaker_folds(labels, speakers, datasets=datasets, seed=0)
    assert sorted(np.concatenate([test for _, test in folds])) == list(range(len(LABELS)))
    for train, test in folds:
        assert not set(speakers[train]) & set(speakers[test]) and (~tiny[test]).any()
    assert sum(tiny[test].any() for _, test in folds) == (2 if clips == 12 else 1)


def test_a_dataset_of_one_emotion_is_trained_on_and_never_held_out():
    datasets = np.where(np.isin(SPEAKERS, ["s0", "s1"]), "monotonous", "large")
    labels = np.where(datasets == "monotonous", "sad", LABELS)
    assert sorted(np.concatenate([test for _, test in speaker_folds(labels, SPEAKERS, datasets=datasets, seed=0)])) == (
        list(range(len(LABELS)))
    )
    assert dataset_folds(labels, SPEAKERS, datasets) == [], "one emotion is no test, and no training"


def test_datasets_without_shared_emotions_are_not_held_out():
    datasets = np.where(np.isin(SPEAKERS, ["s0", "s1", "s2"]), "x", "y")
    labels = np.where(datasets == "x", np.char.add("x ", LABELS), LABELS)
    assert dataset_folds(labels, SPEAKERS, datasets) == []
    labels[(datasets == "x") & (LABELS == "sad")] = "sad"
    assert dataset_folds(labels, SPEAKERS, datasets) == [], "one shared emotion is too few"


def test_datasets_of_one_speaker_each_are_held_out_one_by_one():
    speakers = np.repeat(["a", "b", "c"], len(LABELS) // 3)
    folds = speaker_folds(LABELS, speakers, datasets=speakers, seed=0)
    assert [set(speakers[test]) for _, test in folds] == [{"a"}, {"b"}, {"c"}]


def test_a_dataset_is_held_out_with_the_emotions_that_it_shares():
    labels = np.where(np.arange(len(LABELS)) % 16 == 0, "bored", LABELS)
    datasets = np.where(np.isin(SPEAKERS, ["s0", "s1", "s2"]), "x", "y")
    labels[datasets == "y"] = LABELS[datasets == "y"]
    (train, test), (_, other_test) = dataset_folds(labels, SPEAKERS, datasets)
    assert set(datasets[train]) == {"y"} and set(datasets[test]) == {"x"}
    assert "bored" not in labels[test] and len(test) == ((datasets == "x") & (labels != "bored")).sum()
    assert len(other_test) == (datasets == "y").sum()


@pytest.mark.parametrize("split", [random_split, random_folds])
def test_too_few_clips_to_split_are_refused(split):
    with pytest.raises(DataError, match=r"needs \d clips of each emotion; found 1 of calm"):
        split(np.array(["happy"] * 10 + ["calm"]), seed=0)
    with pytest.raises(DataError, match=r"clips of 1 emotion\(s\) \(happy\)"):
        split(np.array(["happy"] * 10), seed=0)


def test_slices_have_the_scores_of_their_clips():
    labels, probabilities = predictions(200)
    table = pd.DataFrame(
        {
            "emotion": labels,
            "gender": np.where(np.arange(200) < 80, "female", "male"),
            "intensity": "",
            "statement": np.where(np.arange(200) < 20, "", np.where(np.arange(200) % 2, "kids", "dogs")),
        }
    )
    slices = slice_scores(table, probabilities, EMOTIONS)
    assert set(slices) == {"gender", "statement"}, "the intensity of every clip is unknown"
    female = compute_scores(labels[:80], probabilities[:80], EMOTIONS)
    for key in ("n", "accuracy", "f1_macro", "uar"):
        assert slices["gender"]["values"]["female"][key] == female[key]
    accuracies = [figures["accuracy"] for figures in slices["gender"]["values"].values()]
    assert slices["gender"]["accuracy_gap"] == pytest.approx(max(accuracies) - min(accuracies))
    assert sum(figures["n"] for figures in slices["statement"]["values"].values()) == 180


def test_fold_summary_has_the_statistics_of_the_folds():
    folds = [{"accuracy": 0.5, "f1_macro": 0.4}, {"accuracy": 0.7, "f1_macro": 0.8}]
    summary = fold_summary(folds)
    assert summary["accuracy"] == {
        "mean": pytest.approx(0.6),
        "std": pytest.approx(0.1),
        "min": 0.5,
        "max": 0.7,
        "folds": [0.5, 0.7],
    }


@pytest.mark.parametrize(("right", "clips"), [(80, 100), (0, 7), (7, 7), (1, 1), (1399, 1440)])
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_accuracy_interval_is_that_of_wilson(right, clips, confidence):
    expected = binomtest(right, clips).proportion_ci(confidence, method="wilson")
    low, high = accuracy_interval(np.arange(clips) < right, confidence=confidence)
    assert (low, high) == (pytest.approx(expected.low, abs=1e-12), pytest.approx(expected.high, abs=1e-12))
    assert 0 <= low < high <= 1
