"""Clips are normalized by their speaker or folder where that has enough clips that show a mix of emotions."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from emotion import features
from emotion.errors import ConfigurationError
from emotion.features import feature_table
from emotion.features.feature_table import ORIGINAL
from emotion.inference import CustomEmotionModel
from emotion.inference.adapting import MIN_BATCH_CLIPS, Part
from emotion.models.adaptation import normalize_by_batch
from small_models import trained_store  # noqa: F401


@pytest.fixture(scope="module")
def model(trained_store) -> CustomEmotionModel:  # noqa: F811
    """The ensemble: its answers to a mix of the clips differ enough to show the mix, which not each family's do."""
    return CustomEmotionModel.named(trained_store, "first/ensemble")


@pytest.fixture(scope="module")
def clips(trained_store) -> tuple[np.ndarray, np.ndarray]:  # noqa: F811
    """Features, and RAVDESS's code of the emotion, of the clips that the small models were trained on."""
    stored = feature_table.stored(trained_store)
    stored = stored[stored["variant"] == ORIGINAL]
    path_of = {
        hashlib.sha256(trained_store.read_bytes(key)).hexdigest(): key for key in trained_store.list("corpus", "*.wav")
    }
    codes = [path_of[sha256].rpartition("/")[2].split("-")[2] for sha256 in stored["sha256"]]
    return stored[list(features.feature_names())].to_numpy(dtype=np.float32), np.array(codes)


def part(values: np.ndarray, *, folder: str = "f", speaker: str = "") -> Part:
    return Part([folder] * len(values), [speaker] * len(values), lambda: values)


@pytest.mark.parametrize("change", [lambda values: values, lambda values: 3 * values + values.std(axis=0)])
def test_a_folder_with_a_mix_is_normalized_by_its_clips(model, clips, change):
    values = change(clips[0])
    answers = model.predict_features(values)
    assert {answer["mode"] for answer in answers} == {"batch"}
    normalized = normalize_by_batch(values, model._bundle["training"])
    expected = model._bundle["batch"].predict_proba(normalized)
    np.testing.assert_allclose([list(answer["probabilities"].values()) for answer in answers], expected, atol=1e-5)


def test_clips_of_one_emotion_show_less_variety_than_a_mix(model, clips):
    values, codes = clips
    [mix] = model.find_groups([part(values)], "auto")
    for code in np.unique(codes):
        clips_of_emotion = values[np.resize(np.flatnonzero(codes == code), MIN_BATCH_CLIPS)]  # some of them twice
        [one_emotion] = model.find_groups([part(clips_of_emotion)], "auto")
        assert one_emotion.judgement.plain_share < mix.judgement.plain_share
        assert {answer["mode"] for answer in model.predict_features(clips_of_emotion)} == {"plain"}
        forced = model.predict_features(clips_of_emotion, adaptation="batch")
        assert {answer["mode"] for answer in forced} == {"batch"}, "who asks for batch gets it"


def test_a_speaker_comes_before_the_folder(model, clips):
    values = clips[0]
    speakers = ["anna"] * (len(values) // 2) + [""] * (len(values) - len(values) // 2)
    modes = [answer["mode"] for answer in model.predict_features(values, speakers=speakers)]
    assert modes == ["speaker" if speaker else "batch" for speaker in speakers]
    assert {answer["mode"] for answer in model.predict_features(values, speakers=speakers, adaptation="none")} == {
        "plain"
    }


def test_the_division_into_parts_changes_nothing(model, clips):
    values = clips[0]
    whole = model.find_groups([part(values)], "auto")
    cuts = [part(values[start : start + 7]) for start in range(0, len(values), 7)]
    pieces = model.find_groups([*cuts, part(values[:3] + 1, folder="other")], "auto")
    first, second = whole.of_clip("f", ""), pieces.of_clip("f", "")
    np.testing.assert_allclose(second.statistics.centre, first.statistics.centre, rtol=1e-9)
    np.testing.assert_allclose(second.statistics.scale, first.statistics.scale, rtol=1e-9)
    assert second.judgement == pytest.approx(first.judgement)


def test_too_few_clips_are_not_judged(model, clips):
    groups = model.find_groups([part(clips[0][: MIN_BATCH_CLIPS - 1])], "auto")
    [group] = groups
    assert not group.is_used and group.judgement is None and "too few" in group.reason
    assert groups.of_clip("f", "") is None
    assert group.to_json() | {"reason": ""} == {
        "mode": "batch", "name": "f", "clips": MIN_BATCH_CLIPS - 1, "used": False, "reason": "",
        "shows_mix": None, "plain_share": None, "required_plain_share": None, "batch_share": None,
    }  # fmt: skip


def test_another_word_is_refused(model, clips):
    for answer in (lambda: model.predict_features(clips[0], adaptation="room"),
                   lambda: list(model.predict_batch(iter([]), adaptation="room"))):  # fmt: skip
        with pytest.raises(ConfigurationError, match="adaptation 'room'; expected one of none, batch, speaker, auto"):
            answer()
