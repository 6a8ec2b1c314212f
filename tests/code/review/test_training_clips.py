"""The dataset of clips that listeners have labelled."""

import numpy as np
import pytest

from emotion.datasets.catalogue import find_entry
from emotion.datasets.importing import load, obtain, read_manifest
from emotion.errors import ConfigurationError
from emotion.evaluation.folds import dataset_folds, speaker_folds
from emotion.review import clips, labels, training_clips
from emotion.review.labels import Label
from emotion.store import Store
from emotion.vocabulary import REVIEWED
from review_data import label_all, make_queue
from small_data import make_settings

FIVE_OF_EACH = ["sad", "happy"] * 5


@pytest.fixture
def local(tmp_path):
    """Settings and a store in a folder."""
    settings = make_settings(tmp_path)
    return settings, Store(settings.home)


def import_reviewed(store, settings):
    entry = find_entry(settings.catalogue, REVIEWED)
    return obtain(store, settings, REVIEWED, reviewed=training_clips.source_clips(store, entry))


def test_clips_on_which_all_agree_are_trained_on_and_the_others_are_left_out(local):
    settings, store = local
    first = make_queue(store, "monday", range(10), speakers=["anna"] * 5 + ["ben"] * 5)
    label_all(store, first, FIVE_OF_EACH)
    others = make_queue(store, "tuesday", range(20, 25))
    label_all(store, others, ["sad", "several", "no_speech", "angry", "skip"])
    label_all(store, others, ["happy", "several", "no_speech", "angry", "skip"], person="bob")
    facts = import_reviewed(store, settings).facts
    manifest = read_manifest(store, REVIEWED)
    assert len(manifest) == 10, "a disagreement, words without an emotion, and an emotion with one clip"
    assert manifest["emotion"].value_counts().to_dict() == {"sad": 5, "happy": 5}
    assert set(manifest["sha256"]) == {item.audio for item in first.items}
    assert set(manifest["speaker"]) == {"reviewed:anna", "reviewed:ben"}
    assert facts["folds"] == [["reviewed:anna", "reviewed:ben"]] and "one group" in facts["notice"]
    assert not facts["synthesized"] and facts["commercial_use"] is None


def test_no_speaker_call_or_batch_is_on_both_sides(local):
    settings, store = local
    days = {"monday": ["anna"] * 6, "tuesday": ["anna"] * 2 + ["ben"] * 4, "friday": [""] * 6}
    for number, (batch, speakers) in enumerate(days.items()):
        made = make_queue(store, batch, range(10 * number, 10 * number + 6), speakers=speakers)
        label_all(store, made, ["sad", "happy"] * 3)
    call = make_queue(store, "call", range(50, 53), sha256="0f" * 32, start=1.0, end=3.0, channel="1")
    label_all(store, call, ["sad", "happy", "sad"])
    again = make_queue(store, "call-again", range(60, 63), sha256="0f" * 32, start=7.0, end=9.0, channel="2")
    label_all(store, again, ["sad", "happy", "sad"])
    facts = import_reviewed(store, settings).facts
    assert sorted(facts["folds"]) == [
        ["reviewed:anna", "reviewed:ben"],
        ["reviewed:batch friday"],
        ["reviewed:call 0f0f0f0f0f0f 1", "reviewed:call 0f0f0f0f0f0f 2"],
    ]
    manifest = read_manifest(store, REVIEWED)
    speakers = manifest["speaker"].to_numpy(str)
    published = {"": tuple(map(tuple, facts["folds"]))}
    tests = [
        sorted(set(speakers[test]))
        for _, test in speaker_folds(manifest["emotion"].to_numpy(str), speakers, seed=0, published=published)
    ]
    assert sorted(tests) == sorted(facts["folds"])


def test_it_is_made_again_when_a_label_comes_or_is_taken_back_and_only_then(local):
    settings, store = local
    made = make_queue(store, "monday", range(12))
    label_all(store, made, [*FIVE_OF_EACH, "skip", "skip"])
    first = import_reviewed(store, settings).facts
    stored = store.read_json("datasets/reviewed/dataset.json")
    assert import_reviewed(store, settings).facts == first
    assert store.read_json("datasets/reviewed/dataset.json") == stored
    labels.add(store, Label("monday", made.items[10].audio, "bob", "sad"))
    second = import_reviewed(store, settings).facts
    assert second["clips"] == 11 and second["fingerprint"] != first["fingerprint"]
    labels.withdraw(store, "monday", made.items[10].audio, "bob")
    assert import_reviewed(store, settings).facts["fingerprint"] == first["fingerprint"]
    assert load(store, REVIEWED).facts["folds"] == first["folds"]


def test_an_emotion_whose_audio_is_gone_is_no_clip_and_too_few_labels_are_an_error(local):
    settings, store = local
    with pytest.raises(ConfigurationError, match="has 0 clips of 0 emotions"):
        import_reviewed(store, settings)
    made = make_queue(store, "monday", range(12))
    label_all(store, made, [*FIVE_OF_EACH, "sad", "happy"])
    store.delete(clips.key_of(made.items[0].audio, "wav"))
    assert import_reviewed(store, settings).facts["clips"] == 11
    for item in made.items:
        store.delete(clips.key_of(item.audio, "wav"))
    labels.add(store, Label("monday", made.items[0].audio, "bob", "sad"))
    with pytest.raises(ConfigurationError, match="label more on the page Emotion review"):
        import_reviewed(store, settings)


def test_the_same_audio_with_two_emotions_in_two_batches_is_left_out(local):
    settings, store = local
    label_all(store, make_queue(store, "monday", range(12)), [*FIVE_OF_EACH, "sad", "happy"])
    label_all(store, make_queue(store, "tuesday", [0]), ["happy"])
    assert import_reviewed(store, settings).facts["clips"] == 11


def test_no_fold_trains_on_reviewed_clips_alone():
    datasets = np.repeat(["corpus", REVIEWED], 8)
    emotions, speakers = np.array(["sad", "happy"] * 8), np.repeat(list("abcd"), 4)
    (fold,) = dataset_folds(emotions, speakers, datasets)
    assert set(datasets[fold[1]]) == {REVIEWED}


def test_another_name_or_another_kind_is_refused(tmp_path):
    for text in ("reviewed: {title: a, kind: folder}", "mine: {title: a, kind: reviewed}"):
        file = tmp_path / "catalogue.yaml"
        file.write_text(text)
        with pytest.raises(
            ConfigurationError, match="expected the kind reviewed for the dataset that is named reviewed"
        ):
            find_entry(file, "mine")
