"""Clips that are unlike all of training are unfamiliar; those of a speaker who was held out are not."""

import numpy as np
import pytest

import sounds
from emotion import features
from emotion.inference import CustomEmotionModel
from emotion.models.familiarity import VIEWS, Familiarity
from small_models import trained_store  # noqa: F401


@pytest.fixture(scope="module")
def model(trained_store):  # noqa: F811
    return CustomEmotionModel.from_store(trained_store)


@pytest.mark.parametrize("kind", sorted(sounds.FIRST | sounds.SECOND))
def test_a_sound_that_is_no_speech_is_unfamiliar(model, kind):
    rng = np.random.default_rng(len(kind))
    for _ in range(3):
        sound = sounds.at_random_level(rng, (sounds.FIRST | sounds.SECOND)[kind](rng))
        answer = model.predict_emotion_from_array(sound, 16_000)
        assert answer["unfamiliar"] and answer["unfamiliarity"] > 1


def test_at_most_5_percent_of_the_clips_of_new_speakers_are_unfamiliar():
    rng = np.random.default_rng(0)
    speakers = np.repeat([f"s{number}" for number in range(24)], 50)
    offsets = np.repeat(rng.normal(0, 0.5, (24, 60)), 50, axis=0)
    values = (offsets + rng.normal(size=(1200, 60))).astype(np.float32)
    known = np.isin(speakers, [f"s{number}" for number in range(16)])
    familiarity = Familiarity.fit(values[known], speakers[known], columns={"all": np.arange(60)})
    assert (familiarity.unfamiliarity(values[~known]) > 1).mean() <= 0.05
    assert (familiarity.unfamiliarity(values[~known] * 4) > 1).mean() >= 0.95


def test_what_copies_show_is_familiar():
    rng = np.random.default_rng(0)
    values, speakers = rng.normal(size=(400, 30)).astype(np.float32), np.repeat(["a", "b", "c", "d"], 100)
    columns = {"all": np.arange(30)}
    alone = Familiarity.fit(values, speakers, columns=columns)
    with_copies = Familiarity.fit(values, speakers, columns=columns, copies=values[None] + 8)
    new = rng.normal(size=(100, 30)).astype(np.float32) + 8
    assert (alone.unfamiliarity(new) > 1).all()
    assert (with_copies.unfamiliarity(new) > 1).mean() <= 0.1


def test_one_speaker_is_too_few():
    with pytest.raises(ValueError, match="clips of 1 speaker; expected at least two"):
        Familiarity.fit(np.eye(8, dtype=np.float32), np.repeat("a", 8), columns={"all": np.arange(8)})


def test_the_views_are_those_of_the_recipe():
    assert set(VIEWS) <= set(features.views())
