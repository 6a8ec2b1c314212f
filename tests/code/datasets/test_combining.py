"""Several datasets in one run: what is known of them together, and which of them do not go together."""

from __future__ import annotations

import itertools

import pandas as pd
import pytest

from emotion.datasets import combining, importing
from emotion.datasets.catalogue import read_catalogue
from emotion.errors import ConfigurationError, DataError
from emotion.settings import INCLUDE
from emotion.store import Store
from small_data import make_settings, wav


def facts(name: str, **others) -> dict:
    """The facts of a small dataset."""
    known = {
        "name": name,
        "title": name.upper(),
        "kind": "folder",
        "source": "disk",
        "citation": f"{name} (2020).",
        "commercial_use": True,
        "licence": {"id": "CC0", "name": "CC0", "url": "https://cc0.example", "model": "Free."},
        "synthesized": False,
        "complete": True,
        "warnings": [],
        "notice": "",
        "fingerprint": f"print of {name}",
        "emotions": {"sad": 3, "happy": 0},
        "left_out": {},
        "emotion_colours": {},
        "folds": None,
        "folds_scheme": None,
        "origin": "disk",
        "archives": [],
    }
    return known | dict.fromkeys(combining.ADDED, 3) | others


def test_one_dataset_keeps_its_facts():
    alone = facts("nemo", folds=[["a"], ["b"]])
    combined = combining.combined_facts([alone])
    assert combined == alone | {"datasets": [alone], "folds": {"nemo": [["a"], ["b"]]}}


def test_texts_are_joined_and_numbers_added():
    first = facts("a", notice="Be careful.", warnings=["Be careful."], left_out={"noise": 2})
    second = facts("b", emotions={"sad": 1, "bored": 4}, left_out={"noise": 1}, emotion_colours={"bored": "#123456"})
    both = combining.combined_facts([first, second])
    assert (both["name"], both["title"], both["kind"]) == ("a + b", "A + B", "folder")
    assert both["citation"] == "a (2020). b (2020)." and both["notice"] == "A: Be careful."
    assert both["warnings"] == ["A: Be careful."]
    assert all(both[key] == 6 for key in combining.ADDED)
    assert both["emotions"] == {"sad": 4, "happy": 0, "bored": 4} and both["left_out"] == {"noise": 3}
    assert both["emotion_colours"] == {"bored": "#123456"} and both["datasets"] == [first, second]
    assert both["licence"]["id"] == "CC0" and both["licence"]["url"] == "https://cc0.example"


def test_the_fingerprint_is_that_of_the_data_and_not_of_their_order():
    parts = [facts("a"), facts("b"), facts("c")]
    prints = {combining.combined_facts(order)["fingerprint"] for order in itertools.permutations(parts)}
    assert len(prints) == 1
    assert combining.combined_facts(parts[:2])["fingerprint"] not in prints


@pytest.mark.parametrize(
    ("first", "second", "together", "consequence"),
    [
        (True, True, True, combining.NO_LIMITS),
        (True, False, False, "The model is not for commercial use, because of B."),
        (None, False, False, "The model is not for commercial use, because of B."),
        (False, False, False, "The model is not for commercial use, because of A and B."),
        (True, None, None, "The rights in B are known to their owner alone:"),
    ],
)
def test_the_strictest_licence_holds(first, second, together, consequence):
    both = combining.combined_facts([facts("a", commercial_use=first), facts("b", commercial_use=second)])
    assert both["commercial_use"] is together
    assert both["licence"]["consequence"].startswith(consequence)
    assert both["licence"]["model"].startswith(both["licence"]["consequence"]) and both["licence"]["model"].endswith(
        "A: Free. B: Free."
    )


def test_one_synthesized_dataset_makes_the_whole_synthesized():
    """Half of the figures that choose its models would be on sounds that are no speech."""
    parts = [facts("real"), facts("generated", synthesized=True)]
    assert combining.combined_facts(parts)["synthesized"] and not combining.combined_facts(parts[:1] * 2)["synthesized"]


def test_licences_at_two_addresses_have_no_address_together():
    other = facts("a")["licence"] | {"id": "CC-BY", "url": "https://by.example"}
    both = combining.combined_facts([facts("a"), facts("b", licence=other)])
    assert both["licence"]["id"] == "CC0 + CC-BY" and both["licence"]["url"] is None


@pytest.mark.parametrize(
    ("datasets", "also_test_on", "sources", "message"),
    [
        ([], [], {}, "no dataset is named"),
        (["a", "b", "a"], [], {}, "a is named more than once"),
        (["a"], ["b", "b"], {}, "b is named more than once"),
        (["a", "b"], ["b"], {}, "b is named more than once; expected each dataset once, to train on or to test on"),
        (["a"], ["b"], {"c": "x", "b": "y"}, "a source is given for c, which the run does not use; it uses a, b"),
        (["a", "b"], [], {"a": "", "b": "x"}, "the source of a is empty"),
    ],
)
def test_names_that_do_not_go_together_are_refused(datasets, also_test_on, sources, message):
    with pytest.raises(ConfigurationError, match=message):
        combining.check_names(datasets, also_test_on, sources)


def test_names_and_sources_that_go_together_are_taken():
    combining.check_names(["a", "b"], ["c"], {"c": "x", "a": "y"})


def clips(dataset: str, speakers: str, samples: str) -> pd.DataFrame:
    """A clip for each letter: of this speaker, with these samples."""
    return pd.DataFrame(
        {
            "dataset": dataset,
            "path": [f"{dataset}/{number}.wav" for number in range(len(samples))],
            "speaker": [f"x:{speaker}" if speaker != "-" else "" for speaker in speakers],
            "samples_sha256": list(samples),
        }
    )


def test_two_releases_of_a_corpus_have_the_same_speakers():
    catalogue = read_catalogue(INCLUDE / "datasets.yaml")
    for first, second in (("emodb", "emodb-2"), ("ravdess-speech", "ravdess-speech-song")):
        assert catalogue[first].speaker_prefix == catalogue[second].speaker_prefix


@pytest.mark.parametrize(
    ("external", "message"),
    [
        (clips("emodb-2", "bc", "34"), "emodb-2 shares 1 speakers with emodb"),
        (clips("other", "cd", "13"), "other shares 1 clips with emodb"),
        (pd.concat([clips("fine", "c", "3"), clips("other", "-", "2")]), "other shares 1 clips with emodb"),
    ],
)
def test_a_dataset_that_is_tested_on_may_share_nothing(external, message):
    with pytest.raises(DataError, match=message):
        combining.check_unheard(clips("emodb", "ab", "12"), external)


def test_clips_without_a_speaker_share_none():
    combining.check_unheard(clips("emodb", "a-", "12"), clips("other", "--", "34"))
    combining.check_unheard(clips("emodb", "a-", "12"), clips("other", "--", "34").head(0))


def check_copies(first: pd.DataFrame, second: pd.DataFrame) -> None:
    manifest = pd.concat([first, second], ignore_index=True)
    is_copy = manifest.duplicated("samples_sha256")
    table, duplicates = manifest[~is_copy], manifest.loc[is_copy, ["path", "samples_sha256"]]
    combining.check_copies(table, duplicates, manifest.drop(columns="samples_sha256"))


def test_copies_under_the_same_speakers_are_no_leak():
    """As the speech of RAVDESS is in RAVDESS's speech and song; and a copy within one dataset."""
    check_copies(clips("speech", "ab", "12"), clips("both", "abc", "123"))
    check_copies(clips("one", "ab", "11"), clips("two", "c", "3"))


@pytest.mark.parametrize(
    ("speakers", "message"),
    [("cd", "1 recordings of two are in one too, .* x:c is x:a"), ("-d", "without a name is x:a")],
)
def test_copies_under_other_speakers_are_refused(speakers, message):
    with pytest.raises(DataError, match=message):
        check_copies(clips("one", "ab", "12"), clips("two", speakers, "13"))


def test_a_dataset_without_a_clip_of_its_own_is_refused():
    with pytest.raises(DataError, match="both has no clip to train on that the datasets before it do not have too"):
        check_copies(clips("speech", "ab", "12"), clips("both", "a", "1"))


def test_paths_have_the_name_of_their_dataset_where_there_are_several(tmp_path):
    settings = make_settings(tmp_path, catalogue={name: {"kind": "folder", "folder": name} for name in ("one", "two")})
    store = Store(settings.home)
    for number, name in enumerate(("one", "two")):
        folder = settings.recordings[0] / name
        for emotion in ("happy", "sad"):
            (folder / emotion).mkdir(parents=True)
            (folder / emotion / "clip.wav").write_bytes(wav(10 * number + len(emotion)))
            (folder / emotion / "copy.wav").write_bytes(wav(10 * number + len(emotion)))
        importing.obtain(store, settings, name)
    alone, both = combining.read_manifests(store, ["two"]), combining.read_manifests(store, ["one", "two"])
    assert alone["path"].tolist() == ["happy/clip.wav", "happy/copy.wav", "sad/clip.wav", "sad/copy.wav"]
    assert both["dataset"].tolist() == ["one"] * 4 + ["two"] * 4 and both["path"][4] == "two/happy/clip.wav"
    assert both["duplicate_of"].tolist()[4:6] == ["", "two/happy/clip.wav"], "what is no copy is one of nothing"
    assert all(store.exists(key) for key in both["key"]) and (both["key"][4:].to_numpy() == alone["key"]).all()
    with pytest.raises(DataError, match="three"):
        combining.read_manifests(store, ["one", "three"])
