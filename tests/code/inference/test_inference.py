"""Inference: the path of training to the bit, in any container and block size; refusals; bounded memory."""

from __future__ import annotations

import hashlib
import inspect
import itertools
import json
import os
import pickle
import shutil
import subprocess
import sys
import textwrap
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from sklearn.ensemble import RandomForestClassifier

from emotion import features
from emotion.audio import decode
from emotion.errors import AudioError, BundleError, ConfigurationError, DataError
from emotion.explanation.ranking import top_contributions
from emotion.explanation.values import Explainer
from emotion.features import feature_table
from emotion.features.feature_table import ORIGINAL
from emotion.inference import CustomEmotionModel
from emotion.inference.adapting import Group
from emotion.inference.answer_queue import MIN_SPEAKER_CLIPS, ROWS_AT_ONCE
from emotion.inference.windows import read, stream_windows
from emotion.models import decisions, registry
from emotion.models.adaptation import normalize_by_speaker
from emotion.settings import PROJECT, Settings
from emotion.store import Store
from emotion.vocabulary import EMOTIONS, FAMILIES, MODES

pytest_plugins = ("small_models",)

MODELS = (*FAMILIES, "ensemble")


@pytest.fixture(scope="module")
def corpus(trained_store) -> list[Path]:
    return [Path(trained_store.url(key)) for key in trained_store.list("corpus", "*.wav")]


@pytest.fixture(scope="module")
def model(trained_store) -> CustomEmotionModel:
    return CustomEmotionModel.from_store(trained_store)


@pytest.fixture(scope="module")
def voice(corpus) -> tuple[np.ndarray, int]:
    """About 8 s of speech, float32, at 48 kHz."""
    parts = [soundfile.read(path, dtype="float32") for path in corpus[:4]]
    return np.concatenate([samples for samples, _ in parts]), parts[0][1]


# --- the path of training -----------------------------------------------------------------------------------


def originals(store):
    """The features of every clip itself, by sha256."""
    stored = feature_table.stored(store)
    stored = stored[stored["variant"] == ORIGINAL]
    return stored.set_index("sha256")[list(features.feature_names())]


def test_a_clip_gets_the_vector_that_featurization_stored(trained_store, corpus):
    stored = originals(trained_store)
    assert len(stored) == len(corpus)
    for path in corpus:
        vector = features.extract(read(path).samples)
        expected = stored.loc[hashlib.sha256(path.read_bytes()).hexdigest()].to_numpy(dtype=np.float32)
        assert vector.tobytes() == expected.tobytes()


@pytest.mark.ravdess
def test_a_real_clip_gets_the_vector_that_featurization_stored(ravdess, tmp_path):
    store = Store(str(tmp_path))
    paths = sorted(ravdess.glob("Actor_0[12]/*.wav"))[::15]
    clips = []
    for path in paths:
        store.write_bytes(f"audio/{path.name}", path.read_bytes())
        clips.append({"key": f"audio/{path.name}", "sha256": hashlib.sha256(path.read_bytes()).hexdigest()})
    feature_table.featurize(store, clips, max_seconds=60)
    stored = originals(store)
    for path, clip in zip(paths, clips, strict=True):
        vector = features.extract(read(path).samples)
        assert vector.tobytes() == stored.loc[clip["sha256"]].to_numpy(dtype=np.float32).tobytes()


@pytest.mark.parametrize("family", MODELS)
def test_an_answer_is_the_models_own_in_plain_values(trained_store, corpus, family):
    model = CustomEmotionModel(
        trained_store.url(f"models/first/{family}_emotion_model.pkl"),
        settings=Settings.from_environment({"EMOTION_HOME": trained_store.root}),
    )
    answer = model.predict_emotion_from_file(corpus[5])
    assert json.loads(json.dumps(answer, allow_nan=False)) == answer
    vector = features.extract(decode.load(corpus[5]).samples)[None]
    entry = registry.entry(trained_store, "first")
    bundle = registry.load(trained_store, entry, registry.bundle_name(family), recipe=features.recipe_version())
    expected = bundle["plain"].predict_proba(vector)[0]
    assert tuple(answer["probabilities"]) == EMOTIONS
    assert list(answer["probabilities"].values()) == expected.tolist()
    assert sum(answer["probabilities"].values()) == pytest.approx(1)
    assert answer["emotion"] == EMOTIONS[expected.argmax()]
    assert answer["confidence"] == expected.max()
    assert answer["duration"] == soundfile.info(corpus[5]).duration
    assert (answer["model"], answer["family"], answer["mode"]) == ("first", family, "plain")
    assert (model.version, model.family, model.name) == ("first", family, f"first/{family}")
    assert model.emotions == EMOTIONS and model.metadata["seed"] == entry["seed"] and model.entry == entry


def test_a_forest_answers_as_scikit_learns_does(trained_store):
    model = CustomEmotionModel.named(trained_store, "first/random_forest")
    bundle = registry.load(
        trained_store, model.entry, registry.bundle_name("random_forest"), recipe=features.recipe_version()
    )
    classifier = bundle["plain"]
    assert isinstance(classifier.pipeline[-1], RandomForestClassifier)
    rows = model._bundle["background"]["plain"][:7]
    assert np.array_equal(classifier.margins(rows), classifier.pipeline.predict_proba(rows))


@pytest.mark.parametrize("family", MODELS)
def test_a_bundle_without_scikit_learn_answers_and_explains_as_with_it(trained_store, family):
    model = CustomEmotionModel.named(trained_store, f"first/{family}")
    bundle = registry.load(trained_store, model.entry, registry.bundle_name(family), recipe=features.recipe_version())
    rows = np.concatenate([bundle["background"]["plain"], 3 * bundle["background"]["batch"] + 1])
    for mode in MODES:
        for count in (1, 33, len(rows)):
            expected = bundle[mode].predict_proba(rows[:count])
            assert np.array_equal(model._bundle[mode].predict_proba(rows[:count]), expected)
    assert np.array_equal(model._bundle["familiarity"].unfamiliarity(rows), bundle["familiarity"].unfamiliarity(rows))
    explained, expected = (
        Explainer(each["plain"], each["background"]["plain"]).explain_probabilities(rows[:2])
        for each in (model._bundle, bundle)
    )
    assert np.array_equal(explained.values, expected.values)


def test_files_read_by_two_processes_get_the_same_answers(model, corpus, tmp_path):
    (tmp_path / "no audio.wav").write_bytes(b"not audio")
    files = [*corpus[:12], tmp_path / "no audio.wav", tmp_path / "missing.wav", *corpus[12:20]]
    for adaptation in ("auto", "none"):
        expected = list(model.predict_batch(files, adaptation=adaptation))
        assert list(model.predict_batch(files, adaptation=adaptation, jobs=2)) == expected


FORMATS = [
    *[("WAV", subtype, 48_000, 1) for subtype in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE")],
    *[("WAV", "PCM_16", rate, 1) for rate in (8_000, 11_025, 22_050, 96_000)],
    *[("WAV", "FLOAT", 44_100, channels) for channels in range(2, 9)],
    ("FLAC", "PCM_24", 96_000, 8),
    ("FLAC", "PCM_16", 16_000, 2),
    ("OGG", "VORBIS", 44_100, 2),
    ("OGG", "OPUS", 48_000, 1),
    ("MP3", "MPEG_LAYER_III", 44_100, 2),
    ("AIFF", "PCM_16", 32_000, 1),
]


@pytest.mark.parametrize(("container", "subtype", "rate", "channels"), FORMATS)
def test_a_file_and_its_samples_get_the_same_answer(model, voice, tmp_path, container, subtype, rate, channels):
    samples = voice[0][: 2 * rate] * 0.9
    path = tmp_path / "clip"
    levels = np.linspace(1, 0.5, channels, dtype=np.float32)
    soundfile.write(path, np.outer(samples, levels), rate, format=container, subtype=subtype)
    decoded, _ = soundfile.read(path, dtype="float32", always_2d=channels > 1)
    answer = model.predict_emotion_from_file(path)
    assert answer == model.predict_emotion_from_array(decoded, rate)
    assert answer == model.predict_emotion_from_array(np.asfortranarray(decoded), float(rate))
    assert answer["duration"] == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_32"])
def test_integers_have_their_own_full_scale(model, voice, tmp_path, subtype):
    path = tmp_path / "clip.wav"
    soundfile.write(path, voice[0][:96_000], 48_000, subtype=subtype)
    if subtype == "PCM_U8":
        data = path.read_bytes()
        samples = np.frombuffer(data, dtype=np.uint8)[data.index(b"data") + 8 :]
    else:
        samples, _ = soundfile.read(path, dtype=f"int{subtype[4:]}")
    assert model.predict_emotion_from_array(samples, 48_000) == model.predict_emotion_from_file(path)


def test_doubles_are_taken_as_floats(model, voice):
    samples, rate = voice
    assert model.predict_emotion_from_array(samples.astype(float), rate) == model.predict_emotion_from_array(*voice)


SPEECH = np.random.default_rng(0).normal(0, 0.1, 16_000)
NAN = np.where(np.arange(16_000) == 7, np.nan, SPEECH)


@pytest.mark.parametrize(
    ("samples", "rate", "reason", "message"),
    [
        (np.zeros(16_000), 16_000, "silent", "silent"),
        (np.full(16_000, 0.3), 16_000, "silent", "silent"),
        (NAN, 16_000, "not_finite", "NaN"),
        (SPEECH[:1000], 16_000, "too_short", "0.062 s"),
        (np.zeros(0), 16_000, "empty", "no samples"),
        (np.tile(SPEECH, 61), 16_000, "too_long", "60 s"),
        (SPEECH[None], 16_000, "not_audio", "16000 channels"),
        (SPEECH.reshape(2, 2, -1), 16_000, "not_audio", r"\(2, 2, 4000\)"),
        (np.float32(1), 16_000, "not_audio", r"\(\)"),
        (SPEECH + 1j, 16_000, "not_audio", "complex128"),
        (SPEECH, 0, "not_audio", "0 Hz"),
        (SPEECH, float("nan"), "not_audio", "nan Hz"),
    ],
)
def test_samples_that_cannot_be_used(model, samples, rate, reason, message):
    with pytest.raises(AudioError, match=message) as caught:
        model.predict_emotion_from_array(samples, rate)
    assert caught.value.reason == reason


# --- loading ------------------------------------------------------------------------------------------------


class Trap:
    """A pickle of it creates the file when it is loaded."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.fixture
def trap(trained_store, tmp_path) -> Path:
    """A registered bundle, random_forest_emotion_model.pkl, that must not be unpickled."""
    entry = registry.entry(trained_store, "first")
    data = pickle.dumps(Trap(tmp_path / "sprung"))
    name = registry.bundle_name("random_forest")
    entry["files"][name]["sha256"] = hashlib.sha256(data).hexdigest()
    (tmp_path / name).write_bytes(data)
    (tmp_path / "version.json").write_text(json.dumps(entry))
    return tmp_path / name


def test_the_trap_springs(trap):
    pickle.loads(trap.read_bytes())
    assert (trap.parent / "sprung").exists()


WRONG = {
    "format": (("format", "emotion-model/0"), "bundle format 'emotion-model/0'; this code reads .* Train again"),
    "recipe": (
        ("recipe", "v0"),
        f"feature recipe 'v0'; this code computes recipe '{features.RECIPE_VERSION}'. Train again",
    ),
    "scikit-learn": (("packages", {"scikit-learn": "1.2.3"}), "scikit-learn 1.2.3"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_this_code_must_not_load_is_not_unpickled(trap, what):
    (key, value), message = WRONG[what]
    entry_file = trap.parent / "version.json"
    entry_file.write_text(json.dumps(json.loads(entry_file.read_text()) | {key: value}))
    with pytest.raises(BundleError, match=message):
        CustomEmotionModel(trap, trust=True)
    assert not (trap.parent / "sprung").exists()


@pytest.mark.parametrize("what", WRONG)
def test_a_champion_that_this_code_must_not_load_is_refused(trap, settings, store, what):
    """``emotion predict`` and scoring runs load the champion in one of these two ways."""
    (key, value), message = WRONG[what]
    facts = json.loads((trap.parent / "version.json").read_text())
    for written_by_register in ("version", "created", "format", "packages", "files"):
        del facts[written_by_register]
    registry.register(store, "old", files={trap.name: trap.read_bytes()}, card="", facts=facts)
    decisions.promote_by_hand(store, version="old", family="random_forest", reason="it was good then")
    store.write_json("models/old/version.json", registry.entry(store, "old") | {key: value})
    for load in (lambda: CustomEmotionModel(settings=settings), lambda: CustomEmotionModel.named(store, "champion")):
        with pytest.raises(BundleError, match=message):
            load()
    assert not (trap.parent / "sprung").exists()


def test_the_checks_are_made_in_order(trap):
    """Everything is wrong. Each fault is reported in turn as the one before is corrected, and nothing is unpickled."""
    entry_file = trap.parent / "version.json"
    good = json.loads(entry_file.read_text())
    entry = json.loads(entry_file.read_text())
    for (key, value), _ in WRONG.values():
        entry[key] = value
    entry["files"][trap.name]["sha256"] = "0" * 64
    entry_file.unlink()

    def complaint() -> str:
        with pytest.raises(BundleError) as caught:
            CustomEmotionModel(trap, trust=True)
        assert not (trap.parent / "sprung").exists()
        return str(caught.value)

    assert "version.json" in complaint()
    entry_file.write_text("{")
    assert "cannot be read" in complaint()
    entry_file.write_text("{}")
    assert "does not list" in complaint()
    for key, message in (
        ("files", "sha256"),
        ("format", "format"),
        ("recipe", "recipe"),
        ("packages", "scikit-learn"),
    ):
        entry_file.write_text(json.dumps(entry))
        assert message in complaint()
        entry[key] = good[key]


def test_a_damaged_bundle_is_refused(trained_store, tmp_path):
    shutil.copytree(trained_store.url("models/first"), tmp_path / "copy")
    path = tmp_path / "copy" / registry.bundle_name("logistic_regression")
    settings = Settings.from_environment({"EMOTION_HOME": trained_store.root})
    assert CustomEmotionModel(path, settings=settings).version == "first"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(BundleError, match="changed or damaged"):
        CustomEmotionModel(path, settings=settings)
    with pytest.raises(BundleError, match="changed or damaged"):
        CustomEmotionModel(path, trust=True)


def test_a_bundle_from_elsewhere_is_loaded_only_if_it_is_trusted(trap, trained_store):
    """Its entry says that it is a bundle of ``first``, and has its checksum; that proves nothing."""
    settings = Settings.from_environment({"EMOTION_HOME": trained_store.root})
    with pytest.raises(BundleError, match=r"has no version 'first' with this .*pass trust=True"):
        CustomEmotionModel(trap, settings=settings)
    assert not (trap.parent / "sprung").exists()
    with pytest.raises(Exception, match="subscriptable"):  # it is no model, and was loaded
        CustomEmotionModel(trap, settings=settings, trust=True)
    assert (trap.parent / "sprung").exists()


def test_a_champion_that_is_not_the_promoted_bundle_is_refused(trap, settings, store):
    facts = json.loads((trap.parent / "version.json").read_text())
    for written_by_register in ("version", "created", "format", "packages", "files"):
        del facts[written_by_register]
    registry.register(store, "old", files={trap.name: b"the promoted one"}, card="", facts=facts)
    decisions.promote_by_hand(store, version="old", family="random_forest", reason="good")
    entry = registry.entry(store, "old")
    entry["files"][trap.name]["sha256"] = hashlib.sha256(trap.read_bytes()).hexdigest()
    store.write_json("models/old/version.json", entry)
    store.write_bytes(f"models/old/{trap.name}", trap.read_bytes())
    with pytest.raises(BundleError, match="champion.json says"):
        CustomEmotionModel(settings=settings)
    assert not (trap.parent / "sprung").exists()


@pytest.mark.parametrize("name", ["random_forest_fold_models.pkl", "model.pkl", "version.json"])
def test_what_is_no_bundle(tmp_path, name):
    with pytest.raises(BundleError, match="no model bundle"):
        CustomEmotionModel(tmp_path / name)


def test_a_missing_bundle(tmp_path):
    with pytest.raises(BundleError, match="random_forest_emotion_model.pkl is not there"):
        CustomEmotionModel(tmp_path / "random_forest_emotion_model.pkl")


def test_the_champion_is_the_default(trained_store, tmp_path):
    settings = Settings.from_environment({"EMOTION_HOME": trained_store.root})
    assert CustomEmotionModel(settings=settings).name == "first/logistic_regression"
    with pytest.raises(ConfigurationError, match="no champion"):
        CustomEmotionModel(settings=Settings.from_environment({"EMOTION_HOME": str(tmp_path)}))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("champion", "first/logistic_regression"),
        ("second", "second/logistic_regression"),
        ("second/ensemble", "second/ensemble"),
    ],
)
def test_models_by_name(trained_store, name, expected):
    assert CustomEmotionModel.named(trained_store, name).name == expected


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("third", "versions: first, second"),
        ("first/best", "has no best"),
        ("../first", "not a path below"),
        ("", "no model"),
    ],
)
def test_no_such_model(trained_store, name, message):
    with pytest.raises(ConfigurationError, match=message):
        CustomEmotionModel.named(trained_store, name)


def code_blocks(text: str) -> list[str]:
    """The literal blocks (``::``) of a docstring."""
    lines = inspect.cleandoc(text).splitlines()
    blocks = []
    for number, line in enumerate(lines):
        if line.endswith("::"):
            inside = itertools.takewhile(lambda line: not line or line.startswith("    "), lines[number + 1 :])
            blocks.append(textwrap.dedent("\n".join(inside)))
    return blocks


def test_the_examples_of_the_class_run(trained_store, corpus, voice, tmp_path, monkeypatch, capsys):
    (tmp_path / "champion").mkdir()
    for name in ("version.json", registry.bundle_name("random_forest")):
        shutil.copy(trained_store.url(f"models/first/{name}"), tmp_path / "champion")
    for name, path in zip(("call.wav", "a.wav", "b.wav"), corpus, strict=False):
        shutil.copy(path, tmp_path / name)
    soundfile.write(tmp_path / "meeting.flac", *voice)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EMOTION_HOME", trained_store.root)
    names = {"CustomEmotionModel": CustomEmotionModel, "soundfile": soundfile}
    blocks = code_blocks(CustomEmotionModel.__doc__)
    assert len(blocks) == 3
    for block in blocks:
        exec(block, names)
    printed = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[0] for line in printed[:2]] == ["a.wav", "b.wav"] and printed[2][:2] == ["0.0", "3.0"]
    assert {line[-1] for line in printed} <= set(EMOTIONS)


COMPILED = """
import runpy, sys
from numba.core.dispatcher import Dispatcher
from emotion.inference import CustomEmotionModel

def compiled():
    modules = [module for name, module in list(sys.modules.items()) if name.startswith("emotion.")]
    names = [(name, value) for module in modules for name, value in vars(module).items()]
    loops = [(name, value) for name, value in names if isinstance(value, Dispatcher)]
    return {f"{name} {signature}" for name, value in loops for signature in value.signatures}

runpy.run_path("docker/compile_loops.py")
before = compiled()
CustomEmotionModel().predict_emotion_from_file(sys.argv[1], explain=True)
print(len(before), *(compiled() - before))
"""


def test_an_answer_in_the_image_compiles_nothing(trained_store, corpus):
    done = subprocess.run(
        [sys.executable, "-c", COMPILED, corpus[0]],
        env=os.environ | {"EMOTION_HOME": trained_store.root},
        cwd=PROJECT,
        check=True,
        capture_output=True,
        text=True,
    )
    number, *missing = done.stdout.split(maxsplit=1)
    assert int(number) > 10 and not missing


# --- explanations -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", MODELS)
def test_an_explanation_needs_nothing_but_the_bundle(trained_store, corpus, family, tmp_path):
    for name in ("version.json", registry.bundle_name(family)):
        shutil.copy(trained_store.url(f"models/first/{name}"), tmp_path)
    model = CustomEmotionModel(tmp_path / registry.bundle_name(family), trust=True)
    plain, explained = (model.predict_emotion_from_file(corpus[3], explain=explain) for explain in (False, True))
    reasons = explained.pop("explanation")
    assert explained == plain
    json.dumps(reasons, allow_nan=False)
    vector = dict(zip(features.feature_names(), features.extract(decode.load(corpus[3]).samples), strict=True))
    assert reasons["towards"] or reasons["against"]
    for side, sign in (("towards", 1), ("against", -1)):
        strengths = [sign * reason["contribution"] for reason in reasons[side]]
        assert strengths == sorted(strengths, reverse=True) and all(strength > 0 for strength in strengths)
        for reason in reasons[side]:
            assert reason["value"] == vector[reason["feature"]]
            assert reason["description"] == features.describe(reason["feature"])


@pytest.mark.parametrize("family", MODELS)
def test_groups_add_up_to_the_confidence(trained_store, corpus, family):
    """In every mode; the words of a mode compare with what features are normalized by."""
    model = CustomEmotionModel.from_store(trained_store, "second", family)
    rows = np.stack([features.extract(decode.load(path).samples) for path in corpus[:12]])
    said = {"plain": "than usual", "batch": "in this batch", "speaker": "than this speaker's usual"}
    for mode, than in said.items():
        statistics = model._bundle["training"]
        group = None if mode == "plain" else Group(mode, "one", 12, True, "", statistics, None)
        answers = model.predict_in_groups(rows, [group] * 12, explain=True)
        for answer in answers:
            reasons = answer["explanation"]
            added = reasons["base_value"] + sum(part["contribution"] for part in reasons["groups"])
            assert answer["mode"] == mode and reasons["scale"] == "probability"
            assert added == pytest.approx(answer["confidence"], abs=1e-6)
            assert reasons["output"] == pytest.approx(answer["confidence"], abs=1e-6)
            assert reasons["sentence"].startswith(f"{answer['emotion']}, {answer['confidence']:.2f}: ")
        assert any(than in answer["explanation"]["sentence"] for answer in answers)


def test_only_the_answers_asked_for_are_explained(model):
    rows = model._bundle["background"]["plain"][:5]
    explain = np.array([False, True, False, False, True])
    answers = model.predict_features(rows, adaptation="none", explain=explain)
    assert ["explanation" in answer for answer in answers] == explain.tolist()
    explainer = Explainer(model._bundle["plain"], model._bundle["background"]["plain"])
    whole = explainer.explain_probabilities(rows)
    expected = top_contributions(whole, 4, answers[4]["emotion"], 5, feature_names=features.feature_names())
    assert [reason["feature"] for reason in answers[4]["explanation"]["towards"]] == [
        reason["feature"] for reason in expected["towards"]
    ]


def test_an_explanation_that_fails_costs_no_answer(model, corpus, monkeypatch, caplog):
    """Only the clip that cannot be explained has no explanation, and its answer says why."""
    explained = list(model.predict_batch(corpus[:3], explain=True))
    worst = features.extract(decode.load(corpus[1]).samples)

    def fail_for_one(explainer, rows):
        if (rows == worst).all(axis=1).any():
            raise DataError("the contributions miss the model's output")
        return explain(explainer, rows)

    explain = Explainer.explain_probabilities
    monkeypatch.setattr(Explainer, "explain_probabilities", fail_for_one)
    answers = list(model.predict_batch(corpus[:3], explain=True))
    assert [answer["explanation"] is None for answer in answers] == [False, True, False]
    assert answers[1].pop("no_explanation") == "the contributions miss the model's output"
    for answer, expected in zip(answers, explained, strict=True):
        del answer["explanation"], expected["explanation"]
        assert answer == expected
    json.dumps(answers, allow_nan=False)
    assert "gets no explanation" in caplog.text


# --- batches ------------------------------------------------------------------------------------------------


@pytest.fixture
def hostile(corpus, tmp_path) -> dict[Path, str]:
    """Files that cannot be used, each with its reason."""
    good = corpus[0].read_bytes()
    files = {
        "missing.wav": (None, "unreadable"),
        "empty.wav": (b"", "empty"),
        "header.wav": (good[:44], "truncated"),
        "truncated.wav": (good[:-1000], "truncated"),
        "text\n'\"🎤.wav": (b"It is no recording.", "not_audio"),
        "n" * 300 + ".wav": (None, "unreadable"),
    }
    reasons = {}
    for name, (data, reason) in files.items():
        path = tmp_path / name
        if data is not None:
            path.write_bytes(data)
        reasons[path] = reason
    soundfile.write(tmp_path / "silence.wav", np.zeros(16_000), 16_000)
    soundfile.write(tmp_path / "long.flac", np.tile(SPEECH, 61), 16_000)
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "folder.wav").mkdir()
    return reasons | {
        tmp_path / "silence.wav": "silent",
        tmp_path / "long.flac": "too_long",
        tmp_path / "pipe.wav": "not_file",
        tmp_path / "folder.wav": "not_file",
        Path("/dev/zero"): "not_file",
    }


def test_a_batch_goes_on_after_bad_files(model, corpus, hostile):
    paths = [path for pair in itertools.zip_longest(corpus, hostile) for path in pair if path]
    answers = list(model.predict_batch(map(str, paths)))
    assert [answer["path"] for answer in answers] == list(map(str, paths))
    for path, answer in zip(paths, answers, strict=True):
        if path in hostile:
            assert answer.keys() == {"path", "error", "message"}
            assert answer["error"] == hostile[path]
        else:
            alone = model.predict_emotion_from_file(path)
            assert answer["emotion"] == alone["emotion"]
            assert answer["confidence"] == pytest.approx(alone["confidence"], abs=1e-5)
            assert answer.keys() == alone.keys() | {"path"}


def test_a_bad_file_alone_raises_its_reason(model, hostile):
    for path, reason in hostile.items():
        with pytest.raises(AudioError) as caught:
            model.predict_emotion_from_file(path)
        assert caught.value.reason == reason


@pytest.mark.parametrize("bad", [False, True])
def test_a_batch_without_end_is_answered_while_it_is_read(model, corpus, bad, tmp_path):
    drawn = 0

    def paths():
        nonlocal drawn
        for number in itertools.count():
            drawn += 1
            yield tmp_path if bad and number else corpus[0]

    answers = list(itertools.islice(model.predict_batch(paths()), ROWS_AT_ONCE + 1))
    assert answers[0]["emotion"] in EMOTIONS
    assert drawn <= 2 * ROWS_AT_ONCE


@pytest.fixture(scope="module")
def ensemble(trained_store) -> CustomEmotionModel:
    """Its answers to a mix of the clips differ enough to show the mix, which not each family's do."""
    return CustomEmotionModel.named(trained_store, "first/ensemble")


def test_speakers_with_enough_clips_are_normalized_by_them(ensemble, corpus, tmp_path):
    vectors = np.array([features.extract(decode.load(path).samples) for path in corpus])
    (tmp_path / "empty.wav").touch()
    # 12 clips of a; 12 of b, of which 3 cannot be used; 4 of c; 6 of nobody known
    spoken = [("a", row) for row in range(12)] + [("b", row) for row in range(12, 21)] + [("b", None)] * 3
    spoken += [("c", row) for row in range(21, 25)] + [("", row) for row in range(25, 31)]
    order = np.random.default_rng(1).permutation(len(spoken))
    speakers = [spoken[i][0] for i in order]
    rows = [spoken[i][1] for i in order]
    paths = [tmp_path / "empty.wav" if row is None else corpus[row] for row in rows]
    answers = list(ensemble.predict_batch(paths, speakers=speakers, adaptation="speaker"))
    assert [answer["path"] for answer in answers] == list(map(str, paths))
    entry = ensemble.entry
    normalized = normalize_by_speaker(vectors[:12], np.zeros(12))
    for answer, speaker, row in zip(answers, speakers, rows, strict=True):
        if row is None:
            assert answer["error"] == "empty"
            continue
        if speaker == "a":
            expected = ensemble._bundle["speaker"].predict_proba(normalized[row][None])[0]
        else:
            expected = ensemble._bundle["plain"].predict_proba(vectors[row][None])[0]
        assert answer["mode"] == ("speaker" if speaker == "a" else "plain")
        np.testing.assert_allclose(list(answer["probabilities"].values()), expected, atol=1e-5)
    assert MIN_SPEAKER_CLIPS == 10 and entry["version"] == "first"


def test_features_of_speakers_are_answered_as_their_files(model, corpus):
    paths, speakers = corpus[:16], ["a"] * 10 + ["b"] * 6
    vectors = np.array([features.extract(decode.load(path).samples) for path in paths])
    by_file = list(model.predict_batch(paths, speakers=speakers, adaptation="speaker"))
    by_features = model.predict_features(vectors, speakers=speakers, adaptation="speaker")
    for file_answer, features_answer in zip(by_file, by_features, strict=True):
        assert file_answer["mode"] == features_answer["mode"]
        assert file_answer["confidence"] == pytest.approx(features_answer["confidence"], abs=1e-5)
    assert model.predict_features(np.empty((0, vectors.shape[1]))) == []


def test_a_speaker_is_answered_before_the_next_is_read(ensemble, corpus):
    drawn = []
    paths = (drawn.append(path) or path for path in corpus[:24])
    answers = ensemble.predict_batch(paths, speakers=["a"] * 12 + ["b"] * 12)
    assert next(answers)["mode"] == "speaker"
    assert len(drawn) == 12
    assert len(list(answers)) == 23


def test_a_speaker_a_path(model, corpus):
    with pytest.raises(ValueError, match="zip"):
        list(model.predict_batch(corpus[:2], speakers=["a"]))


# --- streams ------------------------------------------------------------------------------------------------


def blocks_of(samples: np.ndarray, size: int):
    for start in range(0, len(samples), size):
        yield samples[start : start + size]


@pytest.mark.parametrize("size", [160, 1_000, 7_777, 10**9])
@pytest.mark.parametrize(("rate", "channels"), [(8_000, 1), (44_100, 2)])
def test_a_stream_is_answered_as_arrays_are(model, voice, size, rate, channels):
    samples = voice[0][: int(5.5 * rate)]
    if channels > 1:
        samples = np.outer(samples, [1, 0.3]).astype(np.float32)
    answers = list(model.predict_stream(blocks_of(samples, size), rate, window=2.0, hop=0.75))
    assert [(answer["start"], answer["end"]) for answer in answers] == [
        *[(start, start + 2.0) for start in (0, 0.75, 1.5, 2.25, 3.0)],
        (3.75, 5.5),
    ]
    for answer in answers:
        start, end = answer.pop("start"), answer.pop("end")
        alone = model.predict_emotion_from_array(samples[int(start * rate) : int(end * rate)], rate)
        assert alone.pop("duration") == end - start
        assert answer == alone


def test_blocks_may_be_of_any_type_and_reused(model, voice):
    whole = (voice[0][:96_000] * 32_767).astype(np.int16)
    buffer = np.empty((480, 1), dtype=np.int16)

    def blocks():
        for block in blocks_of(whole, 480):
            buffer[:, 0] = block
            yield buffer

    (answer,) = model.predict_stream(blocks(), 48_000, window=2.0)
    assert answer["probabilities"] == model.predict_emotion_from_array(whole, 48_000)["probabilities"]


def test_a_window_is_answered_once_its_last_sample_has_come(model, voice):
    samples, rate = voice
    drawn = 0

    def blocks():
        nonlocal drawn
        for block in blocks_of(samples, rate // 10):
            drawn += 1
            yield block

    answers = model.predict_stream(blocks(), rate, window=3.0, hop=1.0)
    for arrived in (30, 40, 50):
        assert next(answers)["end"] == arrived / 10
        assert drawn == arrived


def test_a_window_in_which_nobody_speaks(model, voice):
    samples = np.concatenate([voice[0][:32_000], np.zeros(32_000, np.float32), voice[0][:32_000]])
    samples[70_000] = np.nan
    answers = list(model.predict_stream([samples], 16_000, window=2.0, hop=2.0))
    assert answers[0]["emotion"] in EMOTIONS
    assert answers[1].keys() == {"start", "end", "error", "message"}
    assert (answers[1]["start"], answers[1]["end"], answers[1]["error"]) == (2.0, 4.0, "silent")
    assert answers[2]["error"] == "not_finite"


@pytest.mark.parametrize(
    ("seconds", "ends"),
    [
        (1.0, [1.0]),
        (3.0, [3.0]),
        (3.9, [3.0, 3.9]),
        (4.5, [3.0, 4.5]),
        (4.6, [3.0, 4.5, 4.6]),
        (5.9, [3.0, 4.5, 5.9]),
    ],
)
def test_what_is_left_at_the_end(seconds, ends):
    windows = list(stream_windows([np.tile(SPEECH, 6)[: int(seconds * 16_000)]], 16_000))
    assert [window.end for window in windows] == ends


def test_what_is_left_does_not_count_if_it_is_too_short():
    windows = list(stream_windows([np.tile(SPEECH, 4)[:62_000]], 16_000, window=3.0, hop=3.0))
    assert [window.end for window in windows] == [3.0]


@pytest.mark.parametrize("samples", [np.empty(0), SPEECH[:15_000]])
def test_a_stream_without_a_window(samples):
    with pytest.raises(AudioError, match="at least 1 s") as caught:
        list(stream_windows([samples], 16_000))
    assert caught.value.reason == "too_short"


@pytest.mark.parametrize(
    ("window", "hop"), [(0.5, 0.5), (61, 1), (3, 0), (3, 3.1), (float("nan"), 1), (3, float("nan"))]
)
def test_windows_that_make_no_sense(window, hop):
    with pytest.raises(ConfigurationError, match="windows of"):
        next(stream_windows([SPEECH], 16_000, window=window, hop=hop))


@pytest.mark.parametrize(
    ("block", "rate"), [(SPEECH, 0), (SPEECH, float("nan")), (SPEECH[None], 16_000), ("sound", 16_000)]
)
def test_streams_that_are_no_audio(block, rate):
    with pytest.raises(AudioError) as caught:
        next(stream_windows([block], rate))
    assert caught.value.reason == "not_audio"


# --- long files ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["wav", "flac", "ogg"])
def test_a_timeline_is_the_stream_of_a_file(model, voice, tmp_path, ending):
    path = tmp_path / f"long.{ending}"
    soundfile.write(path, np.outer(voice[0], [1, 0.5]), voice[1])
    samples, rate = soundfile.read(path, dtype="float32")
    answers = list(model.predict_timeline(path))
    assert answers == list(model.predict_stream([samples], rate))
    with open(path, "rb") as handle:
        assert answers == list(model.predict_timeline(handle))
    assert answers[-1]["end"] == pytest.approx(len(samples) / rate)


def test_a_timeline_of_what_is_cut_short_ends_with_the_reason(model, voice, tmp_path):
    path = tmp_path / "long.flac"
    soundfile.write(path, voice[0], voice[1])
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
    answers = []
    with pytest.raises(AudioError) as caught:
        for answer in model.predict_timeline(path):
            answers.append(answer)
    assert caught.value.reason == "truncated"
    assert answers[0]["end"] == 3.0


def test_a_timeline_of_a_bad_file(model, hostile):
    for path, reason in hostile.items():
        if reason not in ("silent", "too_long"):
            with pytest.raises(AudioError) as caught:
                list(model.predict_timeline(path))
            assert caught.value.reason == reason


def test_an_hour_takes_no_more_memory_than_a_minute(model, voice, tmp_path):
    """Speech at both ends and silence between, so that an hour of windows is cut, and few are featurized."""
    rate = 8_000
    speech = voice[0][: 3 * rate]
    peaks, timelines = [], []
    for seconds in (60, 3600):
        path = tmp_path / f"{seconds}.wav"
        with soundfile.SoundFile(path, "w", rate, 1, subtype="PCM_U8") as file:
            file.write(speech)
            for _ in range(seconds // 6 - 1):
                file.write(np.zeros(6 * rate, dtype=np.float32))
            file.write(speech)
        next(model.predict_timeline(path))
        tracemalloc.start()
        answers = list(model.predict_timeline(path, window=3.0, hop=3.0))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        timelines.append(answers)
    assert [len(answers) for answers in timelines] == [20, 1200]
    for answers in timelines:
        assert answers[0]["emotion"] in EMOTIONS and answers[-1]["emotion"] in EMOTIONS
        assert {answer["error"] for answer in answers[1:-1]} == {"silent"}
    kept = 1200 * 2_000  # the answers themselves, which the list holds; the file's samples would be 115 MB
    assert peaks[1] < peaks[0] + kept


def test_frames_of_a_table_are_not_needed(model, corpus):
    """Values may come from a stored table as well: the answer is the same."""
    vector = features.extract(decode.load(corpus[0]).samples)
    table = pd.DataFrame([vector], columns=list(features.feature_names()))
    assert model.predict_features(table.to_numpy()) == model.predict_features(vector[None])
