"""Champion and challenger are scored on the same clips, neither on a speaker it has heard, and compared by rules."""

from __future__ import annotations

import hashlib
import io
import json
import shutil

import numpy as np
import pandas as pd
import pytest

from emotion import features
from emotion.evaluation import scores, shared_emotions
from emotion.evaluation.folds import splits
from emotion.features import feature_table
from emotion.models import decisions, external, promotion, registry, rescoring, stress
from emotion.models.adaptation import normalize_by_batch
from emotion.models.bundle import dumps, make_bundle
from emotion.models.classifier import Ensemble
from emotion.models.familiarity import Familiarity
from emotion.store import Store
from emotion.training import fitting
from emotion.vocabulary import EMOTIONS, FAMILIES, MODES, emotion_colours, label_set, probability_columns
from small_models import version_facts

PROBABILITIES = probability_columns(EMOTIONS)

SEED = 3
CHANCE = 0.25
LOGISTIC = FAMILIES[0]


def accuracy(labels: np.ndarray, probabilities: np.ndarray) -> float:
    return float((np.array(EMOTIONS)[probabilities.argmax(axis=1)] == labels).mean())


def facts(*, recipe: str | None = None, synthesized: bool = False, fingerprint: str = "f00d") -> dict:
    dataset = {"name": "noise", "notice": "", "synthesized": synthesized, "fingerprint": fingerprint}
    return version_facts("noise") | {"recipe": recipe or features.recipe_version(), "dataset": dataset}


@pytest.fixture(scope="module")
def noise(tmp_path_factory):
    """A champion trained on noise: it recognizes the clips that it was fitted on, and no other."""
    store, random = Store(str(tmp_path_factory.mktemp("home"))), np.random.default_rng(SEED)
    table = pd.DataFrame(
        {"emotion": np.resize(EMOTIONS, 144), "speaker": [f"s{number // 24}" for number in range(144)]}
    )
    table["samples_sha256"] = [f"clip {number}" for number in range(len(table))]
    values = random.normal(size=(len(table), 300)).astype(np.float32)
    folds = splits(table, seed=SEED, published=None)
    folds |= dict.fromkeys(("random", "random_adapted"), folds["random"][:2])
    folds |= dict.fromkeys(
        ("speaker_independent_batch", "speaker_independent_adapted"), folds["speaker_independent"][:2]
    )
    trained = fitting.train(LOGISTIC, table, values, folds=folds, seed=SEED)
    familiarity = Familiarity.fit(values, table["speaker"].to_numpy(), columns={"all": np.arange(300)})
    files = {}
    plain = trained.models["plain"]
    for family, model in ((LOGISTIC, plain), (Ensemble.family, Ensemble([plain] * 3))):
        bundle = make_bundle(
            models=dict.fromkeys(MODES, model),
            background={},
            training=trained.training,
            typical_information=1.0,
            familiarity=familiarity,
            feature_names=(),
            metadata={},
        )
        files[registry.bundle_name(family)] = dumps(bundle)
    files |= dict.fromkeys(map(registry.fold_models_name, FAMILIES), dumps(trained.folds))
    registry.register(store, "first", files=files, card="", facts=facts())
    decisions.promote_by_hand(store, version="first", family=LOGISTIC, reason="the first")
    return store, table, values, trained


@pytest.fixture
def pointer(noise):
    return registry.champion(noise[0])


def pointer_to(store, family: str) -> dict:
    sha256 = registry.entry(store, "first")["files"][registry.bundle_name(family)]["sha256"]
    return registry.champion(store) | {"family": family, "sha256": sha256}


def test_the_champion_recognizes_the_clips_it_was_fitted_on(noise):
    """What the tests below would find if a clip were scored by a model that has heard it."""
    _, table, values, trained = noise
    assert accuracy(table["emotion"].to_numpy(), trained.models["plain"].predict_proba(values)) > 0.35


@pytest.mark.parametrize("family", [LOGISTIC, Ensemble.family])
@pytest.mark.parametrize(
    "renamed",
    [
        lambda table: table["speaker"],
        lambda table: "other-" + table["speaker"],
        lambda table: table["speaker"].map(lambda name: f"s{(int(name[1]) + 1) % 6}"),
        lambda table: pd.Series(np.resize(["a", "b"], len(table))),
    ],
    ids=["same names", "new names", "names swapped", "names that mix speakers"],
)
def test_no_clip_is_scored_by_a_model_that_has_heard_it(noise, pointer, family, renamed):
    store, table, values, _ = noise
    again = table.assign(speaker=renamed(table))
    probabilities, counts = rescoring.rescore(store, pointer_to(store, family), again, values)
    assert accuracy(table["emotion"].to_numpy(), probabilities) < CHANCE
    assert counts == {"clips": 144, "held_out_clips": 144, "unheard_clips": 0}
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)


@pytest.mark.parametrize("name", ["s1", "new name", "s2"], ids=["same name", "new name", "another's name"])
def test_a_new_clip_of_a_heard_speaker_is_scored_by_the_model_that_held_her_out(noise, pointer, name):
    """One known clip identifies its speaker, whatever her name is now."""
    store, table, values, trained = noise
    rows = np.flatnonzero(table["speaker"] == "s1")
    again = table.iloc[rows].assign(speaker=name).reset_index(drop=True)
    again.loc[1:, "samples_sha256"] = [f"new {number}" for number in range(1, len(rows))]
    probabilities, counts = rescoring.rescore(store, pointer, again, values[rows])
    model = next(fold["model"] for fold in trained.folds if "s1" in fold["speakers"])
    np.testing.assert_array_equal(probabilities, model.predict_proba(values[rows]))
    assert counts["unheard_clips"] == 0


def test_unheard_speakers_are_scored_by_the_champion_itself(noise, pointer):
    store, table, values, trained = noise
    strangers = table.assign(speaker="x" + table["speaker"], samples_sha256="x" + table["samples_sha256"])
    probabilities, counts = rescoring.rescore(store, pointer, strangers, values)
    np.testing.assert_array_equal(probabilities, trained.models["plain"].predict_proba(values))
    assert counts == {"clips": 144, "held_out_clips": 0, "unheard_clips": 144}


def sure(labels: np.ndarray, share: float) -> np.ndarray:
    """Probabilities that are right for the first ``share`` of each emotion's clips, wrong for the others."""
    codes = np.array([EMOTIONS.index(label) for label in labels])
    rank = pd.Series(codes).groupby(codes).cumcount().to_numpy()
    right = rank < share * np.bincount(codes)[codes]
    return np.eye(8)[np.where(right, codes, (codes + 1) % 8)]


def challenge(
    noise,
    *,
    store=None,
    probabilities=None,
    margin=0.01,
    drop=0.1,
    probability=0.9,
    synthesized=False,
    fingerprint="f00d",
    version="second",
    conditions=None,
    emotions=None,
) -> dict:
    noise_store, table, values, _ = noise
    return promotion.challenge(
        store or noise_store,
        challenger=facts(synthesized=synthesized, fingerprint=fingerprint)
        | {"version": version, "family": LOGISTIC}
        | ({"emotions": list(emotions)} if emotions else {}),
        challenger_model=lambda values: np.full((len(values), len(EMOTIONS)), 1 / len(EMOTIONS)),
        challenger_probabilities=sure(table["emotion"].to_numpy(), 0.8) if probabilities is None else probabilities,
        challenger_conditions=conditions,
        table=table,
        values=values,
        rules={"margin": margin, "min_probability": probability, "max_emotion_drop": drop},
        seed=SEED,
    )


def copy_of(noise, store, *, held_out: bool, recipe: str | None = None, synthesized: bool = False):
    """A store with the same champion, with or without its held-out predictions."""
    noise_store, table, _, trained = noise
    names = registry.entry(noise_store, "first")["files"]
    files = {name: noise_store.read_bytes(f"models/first/{name}") for name in names}
    if held_out:
        files[rescoring.HELD_OUT] = rescoring.held_out_file(table, {LOGISTIC: trained.predictions})
    registry.register(store, "first", files=files, card="", facts=facts(recipe=recipe, synthesized=synthesized))
    decisions.promote_by_hand(store, version="first", family=LOGISTIC, reason="the first")
    return store


def damage(store, name: str) -> None:
    data = store.read_bytes(f"models/first/{name}")
    store.write_bytes(f"models/first/{name}", data[: len(data) // 2])


def test_without_a_champion_the_challenger_is_promoted(noise, store):
    result = challenge(noise, store=store)
    assert result["verdict"] == "promote" and result["champion"] is None and result["difference"] is None
    assert result["reasons"] == ["There is no champion yet."]


def test_a_better_challenger_is_promoted_and_the_reasons_give_the_evidence(noise):
    result = challenge(noise)
    gain = result["challenger"]["scores"]["f1_macro"] - result["champion"]["scores"]["f1_macro"]
    assert result["verdict"] == "promote" and result["champion"]["held_out_clips"] == 144
    assert result["difference"]["difference"] == pytest.approx(gain) and result["difference"]["probability"] > 0.999
    low, high = result["difference"]["interval"]
    assert f"difference {gain:+.3f}, 95% interval {low:+.3f} to {high:+.3f}" in result["reasons"][0]
    assert "better is 1.00; at least 0.90 is required" in result["reasons"][1]
    assert "144 clips of 6 speakers" in result["reasons"][0] and len(result["reasons"]) == 3
    assert "clean clips alone: this run tested no clip under recording conditions" in result["reasons"][2]
    assert [row["emotion"] for row in result["per_emotion"]] == list(EMOTIONS)
    assert all(row["interval"][0] <= row["change"] <= row["interval"][1] for row in result["per_emotion"])


def test_a_lead_that_may_be_chance_does_not_promote(noise, pointer):
    """One more clip right, of one speaker: higher by more than the old margin of 0.005, and no evidence."""
    store, table, values, _ = noise
    answers, _ = rescoring.rescore(store, pointer, table, values)
    labels = table["emotion"].to_numpy()
    wrong = np.flatnonzero(np.array(EMOTIONS)[answers.argmax(axis=1)] != labels)
    answers = answers.copy()
    answers[wrong[0]] = np.eye(8)[EMOTIONS.index(labels[wrong[0]])]
    result = challenge(noise, probabilities=answers, margin=0.0)
    assert result["difference"]["difference"] > 0.005
    assert result["verdict"] == "keep" and 0.5 < result["difference"]["probability"] < 0.9
    assert challenge(noise, probabilities=answers, margin=0.0, probability=0.55)["verdict"] == "promote"


def test_the_margin_must_be_reached(noise):
    gain = challenge(noise)["difference"]["difference"]
    assert challenge(noise, margin=gain)["verdict"] == "promote"
    result = challenge(noise, margin=gain + 1e-9)
    assert result["verdict"] == "keep" and "The lead is smaller than the margin" in result["reasons"][-2]


def test_an_equal_challenger_does_not_replace_the_champion(noise, pointer):
    store, table, values, _ = noise
    same, _ = rescoring.rescore(store, pointer, table, values)
    result = challenge(noise, probabilities=same, margin=0.0)
    assert result["verdict"] == "keep" and result["difference"]["probability"] == 0.5


def test_a_worse_challenger_does_not_replace_the_champion(noise):
    assert challenge(noise, probabilities=sure(noise[1]["emotion"].to_numpy(), 0.0))["verdict"] == "keep"


def test_no_emotion_may_get_worse_beyond_chance(noise, pointer):
    store, table, values, _ = noise
    labels = table["emotion"].to_numpy()
    champion, _ = rescoring.rescore(store, pointer, table, values)
    recall = {e: (np.array(EMOTIONS)[champion.argmax(axis=1)] == labels)[labels == e].mean() for e in EMOTIONS}
    lost = max(recall, key=recall.get)
    worse_for_one = sure(labels, 0.9)
    worse_for_one[labels == lost] = np.eye(8)[(EMOTIONS.index(lost) + 1) % 8]
    kept = challenge(noise, probabilities=worse_for_one, drop=0.0)
    assert kept["verdict"] == "keep" and any(f"F1 of {lost} would fall" in reason for reason in kept["reasons"])
    assert [row["emotion"] for row in kept["per_emotion"] if row["too_much"]] == [lost]
    assert challenge(noise, probabilities=worse_for_one, drop=1.0)["verdict"] == "promote"


def test_few_speakers_are_thin_evidence(noise, store):
    _, table, values, _ = noise
    rows = np.flatnonzero(table["speaker"].isin(["s0", "s1", "s2"]))
    few = (noise[0], table.iloc[rows].reset_index(drop=True), values[rows], noise[3])
    result = challenge(few)
    assert result["reasons"][-2].startswith("The evidence is thin: with 3 speaker(s), fewer than 5")


def test_synthesized_speech_never_replaces_real_recordings(noise):
    result = challenge(noise, synthesized=True)
    assert result["verdict"] == "keep" and "synthesized speech never replaces" in result["reasons"][0]
    assert result["champion"]["scores"] is None and result["per_emotion"] == []


def test_the_champion_itself_is_no_challenger(noise):
    result = challenge(noise, version="first")
    assert (result["verdict"], result["reasons"]) == ("keep", ["This model is the champion already."])


def test_a_version_that_was_deleted_and_made_again_is_not_the_champion_already(noise, tmp_path):
    """The promoted model is gone, so a person decides."""
    home = tmp_path / "home"
    shutil.copytree(noise[0].root, home)
    entry = json.loads((home / "models/first/version.json").read_text())
    entry["files"][registry.bundle_name(LOGISTIC)]["sha256"] = "0" * 64
    (home / "models/first/version.json").write_text(json.dumps(entry))
    result = challenge((Store(str(home)), *noise[1:]), version="first")
    assert result["verdict"] == "ask" and "promote a version that you trust" in result["reasons"][1]


# --- Stored predictions, and doubt --------------------------------------------------------------------------


def test_stored_predictions_are_those_that_the_fold_models_make(noise, store, pointer):
    copy_of(noise, store, held_out=True)
    noise_store, table, values, _ = noise
    stored = rescoring.stored_answers(store, pointer, table)
    rescored, counts = rescoring.rescore(noise_store, pointer, table, values)
    np.testing.assert_allclose(stored.probabilities, rescored, atol=1e-6)
    assert stored.counts == counts and stored.rows.tolist() == list(range(144))


def test_only_clips_that_both_have_predictions_for_are_compared(noise, store, pointer):
    copy_of(noise, store, held_out=True)
    _, table, _values, _ = noise
    shuffled = table.sample(frac=1, random_state=SEED).reset_index(drop=True)
    shuffled.loc[:99, "samples_sha256"] = [f"new {number}" for number in range(100)]
    stored = rescoring.stored_answers(store, pointer, shuffled)
    assert stored.rows.tolist() == list(range(100, 144)) and stored.counts["clips"] == 44
    whole = rescoring.stored_answers(store, pointer, table)
    order = [table.index[table["samples_sha256"] == clip][0] for clip in shuffled["samples_sha256"][100:]]
    np.testing.assert_array_equal(stored.probabilities, whole.probabilities[order])


@pytest.mark.parametrize("harm", ["damaged", "missing"])
@pytest.mark.parametrize("held_out", [True, False], ids=["stored predictions", "no stored predictions"])
def test_harm_to_the_fold_models_promotes_nothing(noise, store, harm, held_out):
    """Stored predictions decide all the same; without them, a person does."""
    copy_of(noise, store, held_out=held_out)
    name = registry.fold_models_name(LOGISTIC)
    damage(store, name) if harm == "damaged" else store.delete(f"models/first/{name}")
    labels = noise[1]["emotion"].to_numpy()
    result = challenge(noise, store=store, probabilities=sure(labels, 0.05))
    assert result["verdict"] == ("keep" if held_out else "ask")
    assert (result["difference"] is not None) == held_out
    if not held_out:
        assert "stays unless a person decides otherwise" in result["reasons"][0]
        assert name in result["reasons"][1]
    assert challenge(noise, store=store)["verdict"] == ("promote" if held_out else "ask")


def test_damaged_stored_predictions_are_made_again_by_the_fold_models(noise, store):
    copy_of(noise, store, held_out=True)
    damage(store, rescoring.HELD_OUT)
    result = challenge(noise, store=store)
    assert result["verdict"] == "promote" and result["champion"]["held_out_clips"] == 144


@pytest.mark.parametrize("content", [None, b"", b"{", b"[]", b'{"files": null}'])
def test_harm_to_the_champions_entry_promotes_nothing(noise, store, content):
    copy_of(noise, store, held_out=True)
    key = "models/first/version.json"
    store.delete(key) if content is None else store.write_bytes(key, content)
    result = challenge(noise, store=store)
    assert result["verdict"] == "ask" and result["champion"]["scores"] is None


@pytest.mark.parametrize(("share", "verdict"), [(0.05, "keep"), (0.8, "promote")])
def test_a_champion_of_another_recipe_is_compared_by_its_stored_predictions(noise, store, share, verdict):
    copy_of(noise, store, held_out=True, recipe="another")
    result = challenge(noise, store=store, probabilities=sure(noise[1]["emotion"].to_numpy(), share))
    assert result["verdict"] == verdict and result["champion"]["clips"] == 144
    assert result["reasons"][-1].startswith(f"This code cannot load the champion first ({LOGISTIC})")
    assert "feature recipe 'another'" in result["reasons"][-1]


def test_a_champion_of_another_recipe_without_stored_predictions_is_left_to_a_person(noise, store):
    copy_of(noise, store, held_out=False, recipe="another")
    result = challenge(noise, store=store)
    assert result["verdict"] == "ask" and "feature recipe 'another'" in " ".join(result["reasons"])


def test_a_better_challenger_of_other_data_is_left_to_a_person(noise):
    result = challenge(noise, fingerprint="beef")
    assert result["verdict"] == "ask" and result["difference"]["probability"] > 0.999
    assert "trained on different data (challenger: noise, beef; champion: noise, f00d)" in result["reasons"][-1]
    worse = sure(noise[1]["emotion"].to_numpy(), 0.0)
    assert challenge(noise, fingerprint="beef", probabilities=worse)["verdict"] == "keep"


def test_real_recordings_replace_synthesized_speech_by_the_rules(noise, store):
    copy_of(noise, store, held_out=True, synthesized=True)
    assert challenge(noise, store=store, fingerprint="beef")["verdict"] == "promote"
    worse = sure(noise[1]["emotion"].to_numpy(), 0.0)
    assert challenge(noise, store=store, fingerprint="beef", probabilities=worse)["verdict"] == "keep"


def test_a_champion_whose_pointer_has_another_checksum_is_not_scored(noise, store):
    copy_of(noise, store, held_out=False)
    store.write_json(registry.CHAMPION, registry.champion(store) | {"sha256": "0" * 64})
    result = challenge(noise, store=store)
    assert result["verdict"] == "ask" and "champion.json says" in " ".join(result["reasons"])


# --- Recording conditions -----------------------------------------------------------------------------------

OUTSIDE = ("clean", "mp3", "telephone")


def spread(labels: np.ndarray, share: float) -> np.ndarray:
    """Probabilities that are right for about this share of the clips of each speaker, wrong for the others."""
    codes = np.array([EMOTIONS.index(label) for label in labels])
    right = np.random.default_rng(1).random(len(codes)) < share
    return np.eye(8)[np.where(right, codes, (codes + 1) % 8)]


def condition_predictions(table: pd.DataFrame, shares: dict[str, float], *, rows: int = 144) -> pd.DataFrame:
    """Predictions for the first clips, right for these shares of them under each condition, in mode ``plain``; and
    all right in another mode."""
    labels, frames = table["emotion"].to_numpy()[:rows], []
    for mode, of_mode in (("plain", shares), ("batch", dict.fromkeys(shares, 1.0))):
        for condition, share in of_mode.items():
            frame = pd.DataFrame(spread(labels, share), columns=PROBABILITIES)
            frames.append(frame.assign(mode=mode, condition=condition, row=range(rows), emotion=labels))
    return pd.concat(frames, ignore_index=True)


def champion_with(noise, store, *, clean: float, outside: float | None, rows: int = 144):
    """A store with a champion of these shares of right answers; without answers under conditions for None."""
    noise_store, table, _, _ = noise
    labels = table["emotion"].to_numpy()
    predictions = pd.DataFrame(spread(labels, clean), columns=PROBABILITIES)
    predictions = predictions.assign(protocol="speaker_independent", row=range(144), emotion=labels)
    files = {
        name: noise_store.read_bytes(f"models/first/{name}") for name in registry.entry(noise_store, "first")["files"]
    }
    files[rescoring.HELD_OUT] = rescoring.held_out_file(table, {LOGISTIC: predictions})
    if outside is not None:
        shares = {condition: clean if condition == "clean" else outside for condition in OUTSIDE}
        tested = condition_predictions(table, shares, rows=rows)
        files[stress.CONDITION_PREDICTIONS] = stress.condition_file(table, {LOGISTIC: tested, "other": tested})
    registry.register(store, "first", files=files, card="", facts=facts())
    decisions.promote_by_hand(store, version="first", family=LOGISTIC, reason="the first")
    return store


def challenger_with(noise, store, *, clean: float, outside: float, **options) -> dict:
    table = noise[1]
    shares = {condition: clean if condition == "clean" else outside for condition in OUTSIDE}
    tested = stress.answers_by_clip(table, condition_predictions(table, shares))
    probabilities = spread(table["emotion"].to_numpy(), clean)
    return challenge(
        noise, store=store, probabilities=probabilities, conditions=tested, margin=0.0, drop=1.0, **options
    )


def test_a_challenger_that_gains_in_the_studio_and_loses_outside_is_not_promoted(noise, store):
    champion_with(noise, store, clean=0.6, outside=0.6)
    result = challenger_with(noise, store, clean=0.7, outside=0.3)
    assert result["difference"]["probability"] > 0.99, "clean clips alone would promote it"
    assert result["verdict"] == "keep" and result["stress"]["outside"]["interval"][1] < 0
    assert any("under recording conditions would fall, beyond chance" in reason for reason in result["reasons"])
    assert any("recording conditions, on 144 of such clips" in reason for reason in result["reasons"])


def test_a_gain_beyond_what_is_lost_outside_does_not_promote_either(noise, store):
    """Better on the mean with certainty, and worse outside: neither may fall."""
    champion_with(noise, store, clean=0.3, outside=0.6)
    result = challenger_with(noise, store, clean=0.95, outside=0.4)
    assert result["stress"]["overall"]["probability"] > 0.99 and result["verdict"] == "keep"
    reverse = champion_with(noise, type(store)(f"{store.root}/reverse"), clean=0.6, outside=0.2)
    result = challenger_with(noise, reverse, clean=0.4, outside=0.95)
    assert result["stress"]["overall"]["probability"] > 0.99 and result["verdict"] == "keep"
    assert any("macro F1 on clean clips would fall, beyond chance" in reason for reason in result["reasons"])


def test_a_challenger_that_is_equal_in_the_studio_and_better_outside_is_promoted(noise, store):
    champion_with(noise, store, clean=0.6, outside=0.3)
    result = challenger_with(noise, store, clean=0.6, outside=0.6)
    assert result["difference"]["probability"] == 0.5 and result["verdict"] == "promote"
    compared = result["stress"]
    assert compared["conditions"] == ["mp3", "telephone"], "clean clips are no condition outside"
    labels = noise[1]["emotion"].to_numpy()
    assert compared["champion_accuracy"] == pytest.approx(accuracy(labels, spread(labels, 0.3)))
    assert compared["challenger_accuracy"] == pytest.approx(accuracy(labels, spread(labels, 0.6)))
    assert not any("clean clips alone" in reason for reason in result["reasons"])


def test_only_clips_that_both_were_tested_on_are_compared(noise, store):
    champion_with(noise, store, clean=0.6, outside=0.6, rows=96)
    assert challenger_with(noise, store, clean=0.6, outside=0.6)["stress"]["outside"]["clips"] == 96


@pytest.mark.parametrize(
    ("outside", "version", "cause"),
    [
        (None, "the same", "the champion's version keeps no predictions under recording conditions"),
        (0.6, "another", "tested on other clips, or under other versions of the conditions"),
    ],
)
def test_without_common_tests_clean_clips_alone_decide_and_the_reasons_say_so(
    noise, store, monkeypatch, outside, version, cause
):
    champion_with(noise, store, clean=0.4, outside=outside)
    if version == "another":
        monkeypatch.setattr(stress, "CONDITIONS_VERSION", "another")
    result = challenger_with(noise, store, clean=0.9, outside=0.1)
    assert result["stress"] is None and result["verdict"] == "promote"
    assert "compared on clean clips alone" in result["reasons"][-1] and cause in result["reasons"][-1]


def test_a_damaged_file_of_answers_under_conditions_is_named(noise, store):
    champion_with(noise, store, clean=0.4, outside=0.6)
    damage(store, stress.CONDITION_PREDICTIONS)
    result = challenger_with(noise, store, clean=0.9, outside=0.1)
    assert result["stress"] is None and stress.CONDITION_PREDICTIONS in result["reasons"][-1]


# --- Other label sets ---------------------------------------------------------------------------------------


def renamed(noise, words: dict[str, str]):
    """The clips with other emotions in place of some; the label set of a challenger that was trained on them."""
    store, table, values, trained = noise
    table = table.assign(emotion=table["emotion"].replace(words))
    return (store, table, values, trained), label_set(table["emotion"])


def answers_of(table: pd.DataFrame, emotions: tuple[str, ...], share: float) -> np.ndarray:
    """Probabilities (n_clips, n_emotions), none of them 0, that are right for about this share of the clips."""
    random = np.random.default_rng(2)
    codes = np.array([emotions.index(label) for label in table["emotion"]])
    right = random.random(len(codes)) < share
    sure = np.eye(len(emotions))[np.where(right, codes, (codes + 1) % len(emotions))]
    return 0.6 * sure + 0.4 * random.dirichlet(np.ones(len(emotions)), len(codes))


@pytest.mark.parametrize("held_out", [True, False], ids=["stored predictions", "fold models"])
def test_models_with_other_emotions_are_compared_on_those_that_both_know(noise, store, held_out):
    copy_of(noise, store, held_out=held_out)
    clips, emotions = renamed(noise, {"happy": "bored"})
    assert emotions == ("neutral", "calm", "sad", "angry", "fearful", "disgust", "surprised", "bored")
    answers = answers_of(clips[1], emotions, 0.9)
    result = challenge(clips, store=store, probabilities=answers, emotions=emotions)
    shared = tuple(emotion for emotion in EMOTIONS if emotion != "happy")
    assert [row["emotion"] for row in result["per_emotion"]] == list(shared)
    kept = (clips[1]["emotion"] != "bored").to_numpy()
    part = answers[kept][:, [emotions.index(emotion) for emotion in shared]]
    labels = clips[1]["emotion"].to_numpy()[kept]
    expected = scores.compute_scores(labels, part / part.sum(axis=1, keepdims=True), shared)
    assert result["challenger"]["scores"] == expected and result["champion"]["scores"]["n"] == 126
    assert result["champion"]["clips"] == result["difference"]["clips"] == 126
    assert result["verdict"] == "promote"
    assert "compared on the 7 emotions that both know: neutral, calm, sad," in " ".join(result["reasons"])


def test_a_champion_with_emotions_of_its_own_is_compared_on_the_shared_ones(noise, store):
    """The champion knows bored and polite in place of happy and sad; the challenger knows the standard emotions."""
    (_, table, _, _), emotions = renamed(noise, {"happy": "bored", "sad": "polite"})
    columns = probability_columns(emotions)
    champion = pd.DataFrame(answers_of(table, emotions, 0.3), columns=columns).assign(emotion=table["emotion"])
    held_out = champion.assign(protocol="speaker_independent", row=range(144))
    tested = pd.concat([held_out.assign(mode="plain", condition=condition) for condition in OUTSIDE])
    files = {
        registry.bundle_name(LOGISTIC): b"of no use here",
        rescoring.HELD_OUT: rescoring.held_out_file(table, {LOGISTIC: held_out}),
        stress.CONDITION_PREDICTIONS: stress.condition_file(table, {LOGISTIC: tested}),
    }
    own = {"emotions": list(emotions), "emotion_colours": emotion_colours(emotions)}
    registry.register(store, "first", files=files, card="", facts=facts() | own)
    decisions.promote_by_hand(store, version="first", family=LOGISTIC, reason="the first")
    result = challenger_with(noise, store, clean=0.9, outside=0.9)
    assert result["verdict"] == "promote" and result["champion"]["clips"] == 108
    assert result["stress"]["outside"]["clips"] == 108 and result["stress"]["conditions"] == ["mp3", "telephone"]
    shared = [emotion for emotion in EMOTIONS if emotion not in ("happy", "sad")]
    assert [row["emotion"] for row in result["per_emotion"]] == shared
    kept = ~table["emotion"].isin(["bored", "polite"]).to_numpy()
    part = champion[probability_columns(shared)].to_numpy()[kept]
    right = np.array(shared)[part.argmax(axis=1)] == table["emotion"].to_numpy()[kept]
    assert result["stress"]["champion_accuracy"] == pytest.approx(right.mean())
    assert "compared on the 6 emotions that both know" in " ".join(result["reasons"])


@pytest.mark.parametrize("known", [0, 1])
def test_models_that_share_fewer_than_two_emotions_are_left_to_a_person(noise, store, known):
    copy_of(noise, store, held_out=True)
    clips, emotions = renamed(noise, {emotion: f"own {emotion}" for emotion in EMOTIONS[known:]})
    result = challenge(clips, store=store, probabilities=answers_of(clips[1], emotions, 1.0), emotions=emotions)
    assert result["verdict"] == "ask" and result["champion"]["scores"] is None
    cause = "the two models share 1 emotion(s) (neutral)" if known else "the two models share no emotion"
    assert f"Cause: {cause}; at least 2 are needed to compare them." in result["reasons"]


def test_the_same_emotions_are_compared_as_they_are(noise, store):
    """No reason speaks of emotions, and nothing is scaled."""
    copy_of(noise, store, held_out=True)
    named = challenge(noise, store=store, emotions=EMOTIONS)
    assert named == challenge(noise, store=store) and "emotions" not in " ".join(named["reasons"])


def test_a_row_without_any_probability_for_the_shared_emotions_becomes_uniform():
    certain = np.eye(3)
    restricted = shared_emotions.restrict(certain, ("happy", "sad", "bored"), ("happy", "sad"))
    assert restricted.tolist() == [[1, 0], [0, 1], [0.5, 0.5]]
    assert shared_emotions.restrict(certain, ("happy", "sad", "bored"), ("happy", "sad", "bored")) is certain


# --- Several datasets ---------------------------------------------------------------------------------------


def of_two_datasets(noise, **changes) -> tuple:
    """The clips of ``noise``: those of two speakers are one dataset, those of four another."""
    store, table, values, trained = noise
    datasets = np.where(table["speaker"].isin(["s0", "s1"]), "small", "large")
    return store, table.assign(dataset=datasets, **changes), values, trained


def sure_by_dataset(table: pd.DataFrame, shares: dict[str, float]) -> np.ndarray:
    """Probabilities that are right for about these shares of the clips of each dataset."""
    parts = {name: spread(table["emotion"].to_numpy(), share) for name, share in shares.items()}
    return np.where((table["dataset"] == "small").to_numpy()[:, None], parts["small"], parts["large"])


def champion_of_datasets(noise, store, shares: dict[str, float], **dataset):
    """A store with a champion of two datasets with these shares of right answers."""
    noise_store, table, _, _ = noise
    predictions = pd.DataFrame(sure_by_dataset(table, shares), columns=PROBABILITIES)
    predictions = predictions.assign(protocol="speaker_independent", row=range(144), emotion=table["emotion"])
    names = registry.entry(noise_store, "first")["files"]
    files = {name: noise_store.read_bytes(f"models/first/{name}") for name in names}
    files[rescoring.HELD_OUT] = rescoring.held_out_file(table, {LOGISTIC: predictions})
    known = facts()
    registry.register(store, "first", files=files, card="", facts=known | {"dataset": known["dataset"] | dataset})
    decisions.promote_by_hand(store, version="first", family=LOGISTIC, reason="the first")
    return store


def test_each_dataset_counts_the_same(noise, store):
    """Better on more clips, and worse on the mean over datasets; the other way round, it is promoted."""
    noise = of_two_datasets(noise)
    table = noise[1]
    champion_of_datasets(noise, store, {"small": 0.9, "large": 0.5})
    worse = challenge(noise, store=store, probabilities=sure_by_dataset(table, {"small": 0.5, "large": 0.8}), drop=1.0)
    assert worse["difference"]["difference"] > 0 > worse["overall"]["difference"] and worse["verdict"] == "keep"
    assert [(row["dataset"], row["clips"], row["speakers"]) for row in worse["per_dataset"]] == [
        ("small", 48, 2),
        ("large", 96, 4),
    ]
    means = [row["challenger_f1"] - row["champion_f1"] for row in worse["per_dataset"]]
    assert worse["overall"]["difference"] == pytest.approx(np.mean(means))
    for row in worse["per_dataset"]:
        rows = (table["dataset"] == row["dataset"]).to_numpy()
        part = sure_by_dataset(table, {"small": 0.5, "large": 0.8})[rows]
        expected = scores.compute_scores(table["emotion"].to_numpy()[rows], part, EMOTIONS)["f1_macro"]
        assert row["challenger_f1"] == pytest.approx(expected)
    better = challenge(noise, store=store, probabilities=sure_by_dataset(table, {"small": 1.0, "large": 0.8}))
    assert better["verdict"] == "promote" and "Mean of the macro F1 over the datasets" in " ".join(better["reasons"])
    assert f"On small, 48 clips: challenger {better['per_dataset'][0]['challenger_f1']:.3f}" in better["reasons"][1]


def test_no_dataset_may_get_worse_beyond_chance(noise, store):
    """A large gain elsewhere does not pay for it."""
    noise = of_two_datasets(noise)
    champion_of_datasets(noise, store, {"small": 0.8, "large": 0.1})
    probabilities = sure_by_dataset(noise[1], {"small": 0.4, "large": 1.0})
    kept = challenge(noise, store=store, probabilities=probabilities, drop=0.05)
    assert kept["overall"]["probability"] > 0.99 and kept["verdict"] == "keep"
    assert [row["too_much"] for row in kept["per_dataset"]] == [True, False]
    assert any(reason.startswith("The macro F1 on small would fall, beyond chance") for reason in kept["reasons"])
    assert challenge(noise, store=store, probabilities=probabilities, drop=1.0)["verdict"] == "promote"


@pytest.mark.parametrize(("gains_on", "verdict"), [("reviewed", "ask"), ("large", "keep")])
def test_a_person_weighs_a_gain_on_reviewed_clips_against_a_loss(noise, store, gains_on, verdict):
    noise = of_two_datasets(noise)
    champion_of_datasets(noise, store, {"small": 0.8, "large": 0.1})
    probabilities = sure_by_dataset(noise[1], {"small": 0.4, "large": 1.0})
    noise[1]["dataset"] = noise[1]["dataset"].replace("large", gains_on)
    result = challenge(noise, store=store, probabilities=probabilities, drop=0.05)
    assert result["verdict"] == verdict
    assert any("a person has to decide" in reason for reason in result["reasons"]) == (verdict == "ask")
    worse = sure_by_dataset(noise[1].replace(gains_on, "large"), {"small": 0.1, "large": 0.1})
    assert challenge(noise, store=store, probabilities=worse, drop=0.05)["verdict"] == "keep"


def test_clips_of_one_dataset_have_no_figures_by_dataset(noise, store):
    copy_of(noise, store, held_out=True)
    result = challenge(noise, store=store)
    assert result["per_dataset"] == []
    assert result["overall"] == {key: value for key, value in result["difference"].items() if key != "per_emotion"}


@pytest.mark.parametrize(("clips", "verdict"), [(144, "promote"), (130, "promote"), (129, "ask"), (72, "ask")])
def test_a_person_is_asked_where_a_tenth_of_the_champions_clips_is_missing(noise, store, clips, verdict):
    """The challenger is of other data: it has so many of the champion's 144 clips."""
    copy_of(noise, store, held_out=True)
    noise_store, table, values, trained = noise
    part = (noise_store, table.iloc[:clips].reset_index(drop=True), values[:clips], trained)
    result = challenge(part, store=store, fingerprint="beef")
    assert result["verdict"] == verdict and result["champion"]["clips"] == clips
    assert ("clips of the champion's data are missing" in result["reasons"][-1]) == (verdict == "ask")
    assert challenge(part, store=store)["verdict"] == "promote", "with the champion's data nobody is asked"


def test_clips_that_only_the_challenger_has_are_scored_by_the_champion(noise, store):
    """Half the speakers are new to it: it answers for them itself, and as it was kept for the others."""
    copy_of(noise, store, held_out=True)
    noise_store, table, values, trained = noise
    is_new = table["speaker"].isin(["s3", "s4", "s5"])
    table = table.assign(
        speaker=table["speaker"].where(~is_new, "new " + table["speaker"]),
        samples_sha256=table["samples_sha256"].where(~is_new, "new " + table["samples_sha256"]),
    )
    result = challenge((noise_store, table, values, trained), store=store)
    counts = {key: result["champion"][key] for key in ("clips", "held_out_clips", "unheard_clips")}
    assert counts == {"clips": 144, "held_out_clips": 72, "unheard_clips": 72}
    kept = rescoring.stored_answers(store, registry.champion(store), table)
    answers = np.empty((144, 8))
    answers[kept.rows] = kept.probabilities
    answers[is_new] = trained.models["plain"].predict_proba(values[is_new])
    expected = scores.compute_scores(table["emotion"].to_numpy(), answers, EMOTIONS)["f1_macro"]
    assert result["champion"]["scores"]["f1_macro"] == pytest.approx(expected)


def test_a_champion_of_another_recipe_is_compared_on_the_clips_that_it_kept_answers_for(noise, store):
    copy_of(noise, store, held_out=True, recipe="another")
    noise_store, table, values, trained = noise
    renamed = table["samples_sha256"].where(table["speaker"] == "s0", "new " + table["samples_sha256"])
    result = challenge((noise_store, table.assign(samples_sha256=renamed), values, trained), store=store)
    assert result["champion"]["clips"] == 24
    assert any(
        reason.startswith("Clips are missing from the comparison:") and "feature recipe 'another'" in reason
        for reason in result["reasons"]
    )


def store_features(store, table: pd.DataFrame) -> None:
    """Features of these clips, as the run that trained the champion left them; each clip's first one is its row."""
    names = list(features.feature_names())
    rows = pd.DataFrame(np.zeros((len(table), len(names)), dtype=np.float32), columns=names)
    rows[names[0]] = np.arange(len(table), dtype=np.float32)
    keys = pd.DataFrame(dict.fromkeys(feature_table.KEYS, np.nan), index=range(len(table)))
    keys = keys.assign(sha256=table["samples_sha256"], samples_sha256=table["samples_sha256"])
    keys = keys.assign(variant=feature_table.ORIGINAL, reason="", message="")
    store.write_table(f"features/{features.recipe_version()}/a-at-most-60s.parquet", pd.concat([keys, rows], axis=1))


def on_other_data(noise, store, table: pd.DataFrame) -> dict:
    """The challenge of a model that is right about every clip of ``table``, and of the champion's own."""
    labels = noise[1]["emotion"].to_numpy()
    return promotion.challenge(
        store,
        challenger=facts(fingerprint="beef") | {"version": "second", "family": LOGISTIC},
        challenger_model=lambda values: np.eye(8)[
            [EMOTIONS.index(label) for label in labels[values[:, 0].astype(int)]]
        ],
        challenger_probabilities=np.eye(8)[[EMOTIONS.index(label) for label in table["emotion"]]],
        challenger_conditions=None,
        table=table,
        values=np.random.default_rng(1).normal(size=(len(table), 300)).astype(np.float32),
        rules={"margin": 0.0, "min_probability": 0.9, "max_emotion_drop": 0.1},
        seed=SEED,
    )


def strangers(noise, clips: int = 48) -> pd.DataFrame:
    table = noise[1].iloc[:clips]
    return table.assign(speaker="b:" + table["speaker"], samples_sha256="b " + table["samples_sha256"], dataset="b")


@pytest.mark.parametrize("are_stored", [True, False])
def test_the_champions_own_clips_are_scored_by_the_challenger(noise, store, are_stored):
    """As far as their features are there; a person is asked where they are not."""
    copy_of(noise, store, held_out=True)
    if are_stored:
        store_features(store, noise[1])
    result = on_other_data(noise, store, strangers(noise))
    assert result["challenger"]["scores"]["f1_macro"] == 1.0
    assert result["champion"]["clips"] == (48 + 144 if are_stored else 48)
    assert result["champion"]["unheard_clips"] == 48
    assert result["verdict"] == ("promote" if are_stored else "ask")


def test_the_clips_of_a_champion_of_earlier_code_have_the_name_of_its_dataset(noise, store):
    """Its kept answers have no column with the dataset."""
    copy_of(noise, store, held_out=True)
    key = f"models/first/{rescoring.HELD_OUT}"
    buffer = io.BytesIO()
    pd.read_parquet(io.BytesIO(store.read_bytes(key))).drop(columns="dataset").to_parquet(buffer, index=False)
    store.write_bytes(key, buffer.getvalue())
    entry = store.read_json("models/first/version.json")
    entry["files"][rescoring.HELD_OUT]["sha256"] = hashlib.sha256(buffer.getvalue()).hexdigest()
    store.write_json("models/first/version.json", entry)
    store_features(store, noise[1])
    result = on_other_data(noise, store, strangers(noise))
    assert [(row["dataset"], row["clips"]) for row in result["per_dataset"]] == [("b", 48), ("noise", 144)]


def test_the_challenger_does_not_score_voices_that_it_has_heard_under_another_name(noise, store):
    """One recording of s0 is among its own, as another speaker's: of s0, no other clip is scored by it."""
    copy_of(noise, store, held_out=True)
    store_features(store, noise[1])
    table = strangers(noise).reset_index(drop=True)
    table.loc[0, "samples_sha256"] = noise[1]["samples_sha256"][0]
    result = on_other_data(noise, store, table)
    assert result["champion"]["clips"] == 48 + 5 * 24


# --- Datasets that are tested on alone ----------------------------------------------------------------------


def external_table(noise, *, clips: int = 48) -> tuple[pd.DataFrame, np.ndarray]:
    return strangers(noise, clips).assign(dataset="b").reset_index(drop=True), noise[2][:clips]


def compared(noise, store, challenger, table, values):
    return external.compare(store, challenger, table, values, model=noise[3].models["plain"], seed=0)


def test_a_challenger_that_falls_on_a_dataset_that_neither_has_heard_is_not_promoted(noise, store):
    """The champion is right on it, as it was fitted on the same values under other names; the challenger guesses."""
    copy_of(noise, store, held_out=True)
    table, values = external_table(noise)
    champion = noise[3].models["plain"]

    class Guesser:
        label_set = champion.label_set

        def predict_proba(self, rows):
            return np.roll(champion.predict_proba(rows), 1, axis=1)

    result = external.compare(store, {"b": {}}, table, values, model=Guesser(), seed=0)
    assert result["leads"]["b"]["difference"] < -0.5 and result["leads"]["b"]["interval"][1] < 0
    verdict, reasons = external.weigh("promote", result)
    assert verdict == "keep" and "on b would fall, beyond chance" in reasons[-1]
    same = compared(noise, store, {"b": {}}, table, values)
    assert external.weigh("promote", same)[0] == "promote" and same["leads"]["b"]["difference"] == 0


def test_the_champion_answers_for_a_dataset_that_it_has_not_heard(noise, store):
    copy_of(noise, store, held_out=True)
    table, values = external_table(noise)
    result = compared(noise, store, {"b": {}}, table, values)
    assert result["missing"] == [] and list(result["champion"]) == ["b"]
    right = accuracy(table["emotion"].to_numpy(), noise[3].models["plain"].predict_proba(values))
    assert result["champion"]["b"]["plain"]["accuracy"] == pytest.approx(right)
    assert result["champion"]["b"]["plain"]["n"] == 48 and set(result["champion"]["b"]) == {"emotions", *MODES}


@pytest.mark.parametrize(
    "known",
    [{"speaker": "s0"}, {"samples_sha256": "clip 7"}, {"samples_sha256": "clip 7", "speaker": ""}],
    ids=["speaker", "clip", "clip without a speaker"],
)
def test_a_dataset_of_which_the_champion_has_heard_a_clip_or_a_speaker_is_no_test(noise, store, known):
    copy_of(noise, store, held_out=True)
    table, values = external_table(noise)
    for column, value in known.items():
        table.loc[5, column] = value
    other = table.assign(dataset="c", samples_sha256="c" + table["samples_sha256"], speaker="c")
    both = pd.concat([table, other], ignore_index=True)
    result = compared(noise, store, {}, both, np.concatenate([values, values]))
    assert list(result["champion"]) == ["c"]
    assert result["missing"] == ["The champion was trained on clips or speakers of b."]


@pytest.mark.parametrize(
    ("harm", "cause"),
    [
        (lambda noise, store: copy_of(noise, store, held_out=False), "does not say which clips it was trained on"),
        (lambda noise, store: copy_of(noise, store, held_out=True, recipe="another"), "feature recipe 'another'"),
        (lambda noise, store: damage(copy_of(noise, store, held_out=True), rescoring.HELD_OUT), "damaged"),
    ],
    ids=["earlier code", "another recipe", "damaged file"],
)
def test_a_champion_that_cannot_be_tested_is_missing_with_the_cause(noise, store, harm, cause):
    harm(noise, store)
    table, values = external_table(noise)
    result = compared(noise, store, {"b": {"emotions": []}}, table, values)
    assert result["champion"] == {} and result["challenger"] == {"b": {"emotions": []}}
    (missing,) = result["missing"]
    assert missing.startswith("The champion was not tested:") and cause in missing


def test_without_a_champion_or_a_dataset_nothing_is_missing(noise, store):
    table, values = external_table(noise)
    assert compared(noise, store, {}, table, values) == {"challenger": {}, "champion": {}, "missing": [], "leads": {}}
    copy_of(noise, store, held_out=True)
    assert compared(noise, store, {}, table.head(0), values[:0])["missing"] == []


def test_a_dataset_with_one_emotion_of_the_champion_is_missing(noise, store):
    copy_of(noise, store, held_out=True)
    table, values = external_table(noise)
    table["emotion"] = np.where(table["emotion"] == "happy", "happy", "bored")
    result = compared(noise, store, {}, table, values)
    assert result["champion"] == {} and "b has the emotions happy, bored, and the model knows" in result["missing"][0]


def test_chance_is_one_over_the_emotions_that_a_dataset_has(noise):
    """Probabilities of other emotions do not count, and clips of emotions that the model does not know neither."""
    table, values = external_table(noise)
    trained = noise[3]
    table["emotion"] = table["emotion"].replace(dict.fromkeys(EMOTIONS[:5], "bored"))
    figures = external.external_scores(trained.models, trained.training, table, values)["b"]
    kept = table["emotion"].isin(EMOTIONS[5:]).to_numpy()
    assert figures["emotions"] == list(EMOTIONS[5:]) and figures["plain"]["n"] == kept.sum() == 18
    part = trained.models["plain"].predict_proba(values[kept])[:, 5:]
    right = np.array(EMOTIONS[5:])[part.argmax(axis=1)] == table["emotion"][kept]
    assert figures["plain"]["accuracy"] == pytest.approx(right.mean())
    assert figures["plain"]["confidence"] == pytest.approx((part / part.sum(axis=1, keepdims=True)).max(axis=1).mean())
    batch = normalize_by_batch(values, trained.training)[kept]
    part = trained.models["batch"].predict_proba(batch)[:, 5:]
    right = np.array(EMOTIONS[5:])[part.argmax(axis=1)] == table["emotion"][kept]
    assert figures["batch"]["accuracy"] == pytest.approx(right.mean()), "all clips of the dataset are the batch"
    table.loc[0, "speaker"] = ""
    assert "speaker" not in external.external_scores(trained.models, trained.training, table, values)["b"]
