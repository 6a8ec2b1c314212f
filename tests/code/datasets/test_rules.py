"""Rules for file names: which are refused with the catalogue, and what they say of a name."""

import time
from pathlib import Path

import pytest
import yaml

from dataset_files import own_folder, with_catalogue
from emotion.datasets.catalogue import find_entry, read_catalogue
from emotion.datasets.importing import is_ready, obtain, read_manifest
from emotion.datasets.name_matching import match_in_time, match_paths
from emotion.datasets.ravdess import ravdess_emotion
from emotion.datasets.rules import RAVDESS, Rule, read_name
from emotion.errors import ConfigurationError, DataError
from emotion.settings import INCLUDE
from small_data import ravdess_clips, wav, write_zip
from zenodo_server import catalogue

SHORT = r"(?P<emotion>[a-z]+)_(?P<speaker>\w+)"


def own_corpus(settings, text: str):
    """Settings whose catalogue has one entry, ``mine``, of kind folder with these lines of YAML."""
    return with_catalogue(settings, {"mine": {"kind": "folder"} | yaml.safe_load(text)})


def test_five_lines_describe_a_corpus(local):
    settings, store = local
    lines = r"""my-corpus:
  kind: folder
  rule: {pattern: '(?P<speaker>\d+)_(?P<statement>[A-Z]+)_(?P<emotion>[A-Z]+)_(?P<intensity>[A-Z]+)'}
  labels: {ANG: angry, BOR: bored, HAP: happy, NEU: neutral, SUR: null}
  emotions: {bored: "#aa8855", polite: null}
"""
    assert len(lines.splitlines()) == 5
    settings = with_catalogue(settings, yaml.safe_load(lines))
    codes = ("ANG", "BOR", "HAP", "NEU", "SUR")
    names = [f"10{actor:02d}_DFA_{code}_XX.wav" for actor in range(1, 4) for code in codes]
    source = own_folder(settings, {f"audio/{name}": wav(seed) for seed, name in enumerate(names)} | {"x.txt": b"x"})
    facts = obtain(store, settings, "my-corpus", source=source).facts
    assert facts["title"] == "my-corpus" and facts["licence"]["id"] == "own"
    assert facts["left_out"] == {"SUR": 3}
    assert facts["warnings"] == [] and facts["complete"]
    assert facts["emotions"] == {
        "neutral": 3,
        "calm": 0,
        "happy": 3,
        "sad": 0,
        "angry": 3,
        "fearful": 0,
        "disgust": 0,
        "surprised": 0,
        "bored": 3,
    }
    assert facts["emotion_colours"] == {"bored": "#aa8855"}
    row = read_manifest(store, "my-corpus").set_index("path").loc["audio/1001_DFA_BOR_XX.wav"]
    assert row[["emotion", "speaker", "actor", "statement", "intensity"]].tolist() == [
        "bored",
        "my-corpus:1001",
        "1001",
        "DFA",
        "XX",
    ]


@pytest.mark.parametrize(
    "rule, message",
    [
        ("x", "mine.rule: found 'x' (str); expected the keys pattern, tables"),
        ({"patern": "x"}, "mine.rule.patern: unknown key; expected pattern, tables"),
        ({"tables": {}}, "mine.rule: missing key pattern"),
        ({"pattern": []}, "mine.rule.pattern: found [] (list); expected a regular expression, or a list of them"),
        ({"pattern": "(?P<emotion>a"}, "mine.rule.pattern[0]: found '(?P<emotion>a' (str); expected a regular"),
        ({"pattern": "(?P<speaker>a)"}, "expected a group (?P<emotion>…) in every pattern"),
        ({"pattern": [SHORT, "(?P<speaker>a)"]}, "mine.rule.pattern[1]: found"),
        ({"pattern": "(?P<emotion>a)(?P<mood>b)"}, "not mood; (?:…) groups without a name"),
        ({"pattern": r"(?P<emotion>(\w+)+)x"}, "no repetition and no choice within a repetition"),
        ({"pattern": r"(?P<emotion>(a|ab)*)x"}, "no repetition and no choice within a repetition"),
        ({"pattern": r"(?P<emotion>(?:a*){50})x"}, "no repetition and no choice within a repetition"),
        ({"pattern": "(?P<emotion>a)" + "b" * 1000}, "at most 1000 characters"),
        ({"pattern": SHORT, "tables": []}, "mine.rule.tables: found [] (list); expected tables, each under a name"),
        ({"pattern": SHORT, "tables": {"gender": {"a": "male"}}}, "tables named for a group of the pattern"),
        ({"pattern": SHORT, "tables": {"gender by statement": {"a": "b"}}}, "not 'gender by statement'"),
        ({"pattern": SHORT, "tables": {"emotion by speaker": {"a": "b"}}}, "not 'emotion by speaker'"),
        ({"pattern": SHORT, "tables": {"mood by speaker": {"a": "b"}}}, "not 'mood by speaker'"),
        ({"pattern": SHORT, "tables": {"speaker": {1: "b"}}}, "mine.rule.tables.speaker: found {1: 'b'} (dict)"),
        ({"pattern": SHORT, "tables": {"speaker": {"1": 2}}}, "quote a number"),
    ],
)
def test_a_wrong_rule_is_refused_with_the_catalogue_and_its_place(local, rule, message):
    settings = with_catalogue(local[0], {"mine": {"kind": "folder", "rule": rule}})
    with pytest.raises(ConfigurationError) as caught:
        read_catalogue(settings.catalogue)
    assert str(caught.value).startswith(f"{settings.catalogue}: mine.rule")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "pattern", [r"(?P<emotion>[a-z]+)(?:_\w+)?", r"(?P<emotion>a|b)\d{2}", r"(?i)(?P<emotion>\w+)"]
)
def test_a_pattern_that_ends_is_taken(pattern):
    assert Rule.model_validate({"pattern": pattern}).pattern == (pattern,)


def test_a_pattern_that_never_ends_is_stopped():
    started = time.monotonic()
    with pytest.raises(TimeoutError, match="no answer within 1 s"):
        match_in_time([r"(\w+)+x"], ["a" * 200], seconds=1)
    assert time.monotonic() - started < 20


def test_a_rule_that_takes_too_long_is_an_error_of_the_data(local, monkeypatch):
    settings, store = local
    monkeypatch.setattr("emotion.datasets.rules.SECONDS", 1)
    slow = "_".join([r"\w+"] * 9)
    settings = own_corpus(settings, rf"rule: {{pattern: '(?P<emotion>\w+)_{slow}!'}}")
    source = own_folder(settings, {"_" * 200 + ".wav": wav(1)})
    with pytest.raises(
        DataError, match="the rule of mine cannot be used: its pattern gave no answer within 1 s for 1 nam"
    ):
        obtain(store, settings, "mine", source=source)


def test_names_are_compared_as_a_whole_and_a_path_from_the_start_of_a_folder():
    assert match_paths(["(?P<emotion>[a-z]+)"], ["x/sad", "sad1", "sad\n", "a" * 255, "a" * 256]) == [
        {"emotion": "sad"},
        None,
        None,
        {"emotion": "a" * 255},
        None,
    ]
    pattern = r"(?P<speaker>[A-Z]+)/(?P<emotion>[a-z]+)"
    assert match_paths([pattern], ["DC/sad", "a/b/DC/sad", "aDC/sad", "DC/x/sad", "sad"]) == [
        {"speaker": "DC", "emotion": "sad"},
        {"speaker": "DC", "emotion": "sad"},
        None,
        None,
        None,
    ]
    assert match_in_time([pattern], ["DC/sad\n", "DC/süß", "é/DC/sad"], 60) == [
        None,
        None,
        {"speaker": "DC", "emotion": "sad"},
    ]


def test_tables_translate_groups_and_give_columns_by_other_groups():
    rule = Rule.model_validate(
        {
            "pattern": r"(?P<speaker>\w+?)-(?P<emotion>\w+)(?:-(?P<intensity>\w+))?",
            "tables": {
                "gender by speaker": {"Anna": "female"},
                "speaker": {"a": "Anna", "b": "Ben"},
                "intensity": {"2": "strong"},
            },
        }
    )
    assert read_name(rule, "a-sad-2") == {
        "speaker": "Anna",
        "emotion": "sad",
        "intensity": "strong",
        "gender": "female",
    }
    assert read_name(rule, "a-sad") == {"speaker": "Anna", "emotion": "sad", "intensity": "", "gender": "female"}
    assert read_name(rule, "b-sad") == "the table gender by speaker has no 'Ben'"
    assert read_name(rule, "a-sad-3") == "the table intensity has no '3'"
    assert read_name(rule, "sad") == "no pattern fits"


def test_letters_with_accents_are_the_same_in_both_forms_of_unicode(local):
    settings, store = local
    settings = own_corpus(
        settings, "rule: {pattern: '(?P<emotion>[^_]+)_(?P<speaker>.+)'}\nlabels: {Ärger: angry, Öde: sad}"
    )
    source = own_folder(settings, {"A\u0308rger_a.wav": wav(1), "öde_b 🎤.wav": wav(2)})
    obtain(store, settings, "mine", source=source)
    manifest = read_manifest(store, "mine")
    assert manifest["emotion"].tolist() == ["angry", "sad"] and manifest["actor"].tolist() == ["a", "b 🎤"]


def test_recordings_that_do_not_fit_are_refused_with_their_number_and_the_first_three(local):
    settings, store = local
    settings = own_corpus(settings, rf"rule: {{pattern: '{SHORT}', tables: {{speaker: {{a: Anna, b: Ben}}}}}}")
    names = ["sad_a.wav", "happy_b.wav", "sad_c.wav", "x/1.wav", "x/2.wav", "x/3.wav"]
    source = own_folder(settings, {name: wav(seed) for seed, name in enumerate(names)} | {"1.txt": b"x"})
    with pytest.raises(DataError) as caught:
        obtain(store, settings, "mine", source=source)
    assert str(caught.value).startswith(
        f"4 of 6 recordings in {source} do not fit the rule of mine, such as sad_c.wav (the table speaker has no 'c'); "
        f"x/1.wav (no pattern fits); x/2.wav (no pattern fits). Expected, without the ending, what fits {SHORT};"
    )
    assert store.list("datasets/mine") == []


@pytest.mark.parametrize(
    "names, message",
    [
        ([], "has 0 recordings of fewer than two emotions; expected recordings with names that fit"),
        (["sad_a"], "has 1 recordings of fewer than two emotions"),
        (
            ["glad_a", "sad_a"],
            r"glad \(1 clips; first: glad_a.wav\).*under mine, as in labels: {glad: angry}, or to null",
        ),
        (["sad_a\n", "happy_b"], "unprintable character in its name"),
    ],
)
def test_a_source_that_cannot_be_used_is_refused(local, names, message):
    settings, store = local
    settings = own_corpus(settings, rf"rule: {{pattern: '{SHORT}'}}")
    source = own_folder(settings, {f"{name}.wav": wav(seed) for seed, name in enumerate(names)})
    with pytest.raises(DataError, match=message):
        obtain(store, settings, "mine", source=source)


def test_some_names_with_a_speaker_and_some_without_are_refused(local):
    settings, store = local
    settings = own_corpus(settings, r"rule: {pattern: '(?P<emotion>[a-z]+)(?:_(?P<speaker>\w+))?'}")
    source = own_folder(settings, {"sad_a.wav": wav(1), "happy.wav": wav(2)})
    with pytest.raises(DataError, match="1 of 2 clips have no speaker, such as happy.wav"):
        obtain(store, settings, "mine", source=source)


def test_a_zip_is_read_by_the_whole_path_and_stored_without_its_one_folder(local):
    settings, store = local
    settings = own_corpus(settings, "rule: {pattern: '(?P<speaker>[A-Z]+)/(?P<emotion>[a-z]+)'}")
    files = {"DC/sad.wav": wav(1), "DC/happy.flac": wav(2), "DC/labels.csv": b"x", "DC/db.yaml": b"["}
    source = write_zip(settings.recordings[0] / "a.zip", files)
    obtain(store, settings, "mine", source=source)
    assert read_manifest(store, "mine")["path"].tolist() == ["happy.flac", "sad.wav"]
    assert read_manifest(store, "mine")["actor"].tolist() == ["DC", "DC"]


def test_a_recording_in_several_formats_or_folders_is_taken_once(local):
    settings, store = local
    settings = own_corpus(settings, rf"rule: {{pattern: '{SHORT}'}}")
    files = {
        "mp3/sad_a.mp3": b"1",
        "wav/sad_a.wav": wav(1),
        "flac/happy_a.flac": wav(2),
        "mp3/happy_a.mp3": b"2",
        "mp3/calm_a.mp3": b"3",
        "mirror/wav/sad_a.WAV": wav(1),
        "second day/sad_a.wav": wav(3),
    }
    obtain(store, settings, "mine", source=own_folder(settings, files))
    assert read_manifest(store, "mine")["path"].tolist() == [
        "flac/happy_a.flac",
        "mirror/wav/sad_a.WAV",
        "mp3/calm_a.mp3",
        "second day/sad_a.wav",
    ]


def test_a_repetition_is_a_number(local):
    settings, store = local
    settings = own_corpus(settings, rf"rule: {{pattern: '{SHORT}-(?P<repetition>\w)'}}")
    with pytest.raises(DataError, match="its repetition 'x' is no whole number"):
        obtain(store, settings, "mine", source=own_folder(settings, {"sad_a-x.wav": wav(1)}))
    source = own_folder(settings, {"sad_a-1.wav": wav(1), "happy_a-2.wav": wav(2)}, name="other")
    obtain(store, settings, "mine", source=source)
    assert read_manifest(store, "mine")["repetition"].tolist() == [2, 1]


def test_a_changed_rule_or_label_imports_again_and_a_changed_text_does_not(local):
    settings, store = local
    text = f"rule: {{pattern: '{SHORT}'}}\nlabels: {{x: sad}}"
    settings = own_corpus(settings, text)
    source = own_folder(settings, {"x_a.wav": wav(1), "happy_b.wav": wav(2)})
    obtain(store, settings, "mine", source=source)
    settings = own_corpus(settings, text + "\nlanguage: Danish\ntitle: Mine")
    assert is_ready(store, settings, "mine", source=source)
    facts = obtain(store, settings, "mine", source=source).facts
    assert (facts["language"], facts["title"]) == ("Danish", "Mine")
    for changed in (text.replace("sad", "angry"), text + "\nemotions: {bored: null}", text.replace("a-z", "a-y")):
        assert not is_ready(store, own_corpus(settings, changed), "mine", source=source)


# RAVDESS


def test_the_rule_of_ravdess_in_the_catalogue_is_the_rule_of_entries_without_one():
    for name in ("ravdess-speech", "ravdess-speech-song"):
        entry = find_entry(INCLUDE / "datasets.yaml", name)
        assert entry.rule == RAVDESS
        assert entry.model_copy(update={"rule": None}).naming == RAVDESS


def test_every_ravdess_name_is_read_as_published():
    emotions = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
    for code, emotion in enumerate(emotions, start=1):
        assert ravdess_emotion(f"03-02-{code:02d}-01-02-01-24") == emotion
    assert read_name(RAVDESS, "Actor_07/03-01-06-02-01-02-07") == {
        "channel": "speech",
        "emotion": "fearful",
        "intensity": "strong",
        "statement": "kids",
        "repetition": "02",
        "speaker": "07",
        "gender": "male",
    }
    for name in ("01-01-01-01-01-01-01", "03-01-09-01-01-01-01", "03-01-01-02-01-01-01", "03-01-02-01-01-00-01", "x"):
        assert ravdess_emotion(name) == ""


def test_an_emotion_of_ravdess_can_be_left_out_and_the_dataset_stays_whole(local):
    settings, store = local
    clips = ravdess_clips(range(1, 3))
    document = catalogue([write_zip(settings.recordings[0] / "a.zip", clips)])
    document["ravdess-speech"]["labels"] = {"calm": None}
    del document["ravdess-speech"]["rule"]
    facts = obtain(store, with_catalogue(settings, document), "ravdess-speech", source=Path("a.zip")).facts
    assert facts["complete"] and facts["warnings"] == []
    assert facts["left_out"] == {"calm": 4} and facts["emotions"]["calm"] == 0 and facts["clips"] == len(clips) - 4


def test_a_record_of_zenodo_may_have_a_rule_of_its_own(local):
    settings, store = local
    source = write_zip(settings.recordings[0] / "a.zip", {"sad_OAF.wav": wav(1), "glad_YAF.wav": wav(2)})
    document = catalogue([write_zip(settings.recordings[0] / "b.zip", ravdess_clips(range(1, 3)))])
    document["ravdess-speech"] |= {"rule": {"pattern": SHORT}, "labels": {"glad": "happy"}}
    facts = obtain(store, with_catalogue(settings, document), "ravdess-speech", source=source).facts
    assert facts["warnings"][0].startswith("Not the whole dataset: a.zip has 2 of 32 clips.")
    assert read_manifest(store, "ravdess-speech")["speaker"].tolist() == ["ravdess:YAF", "ravdess:OAF"]
