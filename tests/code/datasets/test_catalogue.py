"""The dataset catalogue: what is shipped, and how a wrong one is refused."""

import re

import pytest
import yaml
from pydantic import ValidationError

from emotion import metrics
from emotion.datasets.catalogue import (
    FolderEntry,
    RepositoryEntry,
    ReviewedEntry,
    SynthesizedEntry,
    ZenodoEntry,
    find_entry,
    read_catalogue,
    shared_translations,
)
from emotion.errors import ConfigurationError
from emotion.settings import INCLUDE
from emotion.vocabulary import EMOTIONS

SHIPPED = INCLUDE / "datasets.yaml"


@pytest.fixture
def document():
    return yaml.safe_load(SHIPPED.read_text(encoding="utf-8"))


def refused(tmp_path, document) -> str:
    """What is said of a catalogue that must be refused, with its path replaced by FILE."""
    file = tmp_path / "datasets.yaml"
    file.write_text(document if isinstance(document, str) else yaml.safe_dump(document), encoding="utf-8")
    with pytest.raises(ConfigurationError) as caught:
        read_catalogue(file)
    assert str(file) in str(caught.value)
    return str(caught.value).replace(str(file), "FILE")


def test_the_shipped_catalogue():
    entries = read_catalogue(SHIPPED)
    assert {name: type(entry) for name, entry in entries.items()} == {
        "ravdess-speech": ZenodoEntry,
        "ravdess-speech-song": ZenodoEntry,
        "nemo": RepositoryEntry,
        "emodb": ZenodoEntry,
        "emodb-2": ZenodoEntry,
        "crema-d": FolderEntry,
        "tess": FolderEntry,
        "savee": FolderEntry,
        "synthesized": SynthesizedEntry,
        "labelled-folder": FolderEntry,
        "reviewed": ReviewedEntry,
    }
    speech, song = entries["ravdess-speech-song"].archives
    assert (speech,) == entries["ravdess-speech"].archives
    assert (speech.bytes, speech.clips, len(speech.actors)) == (208_468_073, 1440, 24)
    assert (song.bytes, song.clips, len(song.actors)) == (225_505_317, 1012, 23)
    assert 18 in speech.actors and 18 not in song.actors


def test_ravdess_folds_hold_every_actor_once():
    for name in ("ravdess-speech", "ravdess-speech-song"):
        folds = find_entry(SHIPPED, name).folds
        assert folds.scheme == "emobox"
        assert [len(fold) for fold in folds.speakers] == [4] * 6
        assert sorted(sum(folds.speakers, ())) == [f"{actor:02d}" for actor in range(1, 25)]


def test_ravdess_is_not_for_commercial_use_and_its_licence_says_what_follows():
    for name in ("ravdess-speech", "ravdess-speech-song"):
        entry = find_entry(SHIPPED, name)
        assert entry.commercial_use is False
        assert entry.licence.id == "CC-BY-NC-SA-4.0"
        assert "not for commercial use" in entry.licence.model


def test_an_unknown_dataset_is_refused_with_a_list_of_the_known_ones():
    with pytest.raises(ConfigurationError, match="'ravdes'.*ravdess-speech, ravdess-speech-song, nemo"):
        find_entry(SHIPPED, "ravdes")


def test_words_for_emotions_are_compared_in_lower_case(tmp_path, document):
    document["labelled-folder"] |= {"labels": {"Anger ": "angry"}, "folder": "mine"}
    file = tmp_path / "datasets.yaml"
    file.write_text(yaml.safe_dump(document))
    entry = find_entry(file, "labelled-folder")
    assert entry.labels == {"anger": "angry"}
    assert entry.folder == "mine"


def test_an_entry_does_not_change():
    entry = find_entry(SHIPPED, "ravdess-speech")
    for holder, key in ((entry, "record"), (entry.licence, "id"), (entry.archives[0], "md5")):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(holder, key, "another")


def test_entries_share_the_words_that_they_translate_alike(tmp_path, document):
    document = {"labelled-folder": document["labelled-folder"]}
    document["a"] = document["labelled-folder"] | {"labels": {"mad": "angry", "Joy": "happy"}}
    document["b"] = document["labelled-folder"] | {"labels": {"mad": "disgust", "joy": "happy", "glum": "sad"}}
    (tmp_path / "datasets.yaml").write_text(yaml.safe_dump(document))
    entries = read_catalogue(tmp_path / "datasets.yaml")
    assert shared_translations(entries.values()) == {"joy": "happy", "glum": "sad"}


def test_words_of_the_shipped_corpora_are_shared_and_their_codes_are_not():
    assert shared_translations(read_catalogue(SHIPPED).values()) == {
        "anger": "angry",
        "fear": "fearful",
        "happiness": "happy",
        "sadness": "sad",
    }


def test_a_word_that_one_entry_leaves_out_and_another_declares_is_not_shared(tmp_path):
    text = "a: {kind: folder, labels: {boredom: null, mixed: null}}\n"
    (tmp_path / "a.yaml").write_text(text)
    assert shared_translations(read_catalogue(tmp_path / "a.yaml").values()) == {"boredom": None, "mixed": None}
    (tmp_path / "a.yaml").write_text(text + "b: {kind: folder, emotions: {boredom: null, bored: null}}\n")
    assert shared_translations(read_catalogue(tmp_path / "a.yaml").values()) == {"mixed": None, "bored": "bored"}


OPTIONAL = {"language", "emotions", "labels", "rule", "tables", "folder", "clips"}


@pytest.mark.parametrize("name", ["ravdess-speech-song", "nemo", "emodb", "synthesized"])
def test_every_key_is_needed_and_no_other_is_known(tmp_path, document, name):
    def holders(value, place):
        """Every mapping of an entry whose keys are fixed, with its place."""
        if isinstance(value, dict) and not place.endswith((".labels", ".tables", ".emotions")):
            yield value, place
            for key, inner in value.items():
                yield from holders(inner, f"{place}.{key}")
        if isinstance(value, list):
            for number, inner in enumerate(value):
                yield from holders(inner, f"{place}[{number}]")

    document = {name: document[name]}
    found = 0
    for holder, place in list(holders(document[name], name)):
        holder["colour"] = "blue"
        assert refused(tmp_path, document).startswith(f"FILE: {place}.colour: unknown key; expected ")
        del holder["colour"]
        for key in list(holder):
            if key in OPTIONAL and f"{place}.{key}" not in ("nemo.rule", "nemo.clips") and "archives" not in place:
                continue
            value = holder.pop(key)
            assert refused(tmp_path, document) == f"FILE: {place}: missing key {key}"
            holder[key] = value
            found += 1
    assert found > 10


@pytest.mark.parametrize(
    "place, value, found, expected",
    [
        ("ravdess-speech.title", "", "'' (str)", "text"),
        ("ravdess-speech.title", 7, "7 (int)", "text"),
        ("ravdess-speech.kind", "ftp", "'ftp' (str)", "one of zenodo, repository, synthesized, folder"),
        ("ravdess-speech.record", "1188976", "'1188976' (str)", "a whole number above 0"),
        ("ravdess-speech.record", True, "True (bool)", "a whole number above 0"),
        ("ravdess-speech.speaker_prefix", "a:b", "'a:b' (str)", "lower-case letters, digits, - and _"),
        ("ravdess-speech.archives", [], "[] (list)", "a list of archives"),
        ("ravdess-speech.archives", None, "nothing", "a list of archives"),
        ("ravdess-speech.archives.0", "a.zip", "'a.zip' (str)", "the keys key, bytes"),
        ("ravdess-speech.archives.0.key", "../a.zip", "'../a.zip' (str)", "a file name that ends in .zip"),
        ("ravdess-speech.archives.0.key", "a.exe", "'a.exe' (str)", "a file name that ends in .zip"),
        ("ravdess-speech.archives.0.bytes", 0, "0 (int)", "a whole number above 0"),
        ("ravdess-speech.archives.0.bytes", 2.5, "2.5 (float)", "a whole number above 0"),
        ("ravdess-speech.archives.0.md5", "abc", "'abc' (str)", "32 hexadecimal digits, in quotes"),
        ("nemo.archive", "https://example.org/main.zip", "'https://example.org/main.zip' (str)", "digits of a commit"),
        ("nemo.rule", None, "nothing", "the keys pattern, tables"),
        ("ravdess-speech.archives.0.sha256", 12, "12 (int)", "64 hexadecimal digits, in quotes"),
        ("ravdess-speech.archives.0.channel", "video", "'video' (str)", "one of speech, song"),
        ("ravdess-speech.archives.0.actors", [1, "two"], "'two' (str)", "a whole number above 0"),
        ("ravdess-speech.licence", "CC0", "'CC0' (str)", "the keys id, name, url, model"),
        ("ravdess-speech.licence", {1: "CC0"}, "the key 1 (int)", "id, name, url, model, each under a name"),
        ("ravdess-speech.folds.speakers", [[1, 0], [2]], "0 (int)", "a speaker's name, or an actor's number"),
        ("ravdess-speech.commercial_use", "no", "'no' (str)", "true, false or null"),
        ("ravdess-speech.folds.speakers", [[1, 2]], "[[1, 2]] (list)", "two folds or more"),
        ("ravdess-speech.folds.speakers", [[1, 2], [2]], "[[1, 2], [2]] (list)", "no speaker in two of them"),
        ("synthesized.speakers", -1, "-1 (int)", "a whole number above 0"),
        ("labelled-folder.labels", [], "[] (list)", "words of your own for the emotions"),
        ("labelled-folder.labels", {True: "angry"}, "{True: 'angry'} (dict)", "quote a name"),
        ("labelled-folder.labels", {"mad": "mad"}, "'mad' (str)", f"one of {', '.join(EMOTIONS)}"),
        (
            "labelled-folder.labels",
            {"Anger": "angry", "anger ": "sad"},
            "{'Anger': 'angry', 'anger ': 'sad'} (dict)",
            "each word once",
        ),
        ("labelled-folder.folder", "../mine", "'../mine' (str)", "a path without '..'"),
    ],
)
def test_a_wrong_value_is_named_with_its_place(tmp_path, document, place, value, found, expected):
    holder = document
    *keys, last = [int(key) if key.isdigit() else key for key in place.split(".")]
    for key in keys:
        holder = holder[key]
    holder[last] = value
    message = refused(tmp_path, {keys[0]: document[keys[0]]})
    assert re.match(rf"FILE: {re.escape(keys[0])}[^ ]*: found ", message)
    assert f"found {found}; expected " in message
    assert expected in message


@pytest.mark.parametrize(
    "text, expected",
    [
        ("", "found nothing; expected one entry per dataset"),
        ("{}", "is empty"),
        ("- a\n- b\n", "found ['a', 'b'] (list)"),
        ("a: [", "is not valid YAML"),
        ("a: 1\na: 2\n", "'a' is there twice"),
        ("Über Daten: {kind: folder}", "'Über Daten' (str); expected lower-case letters"),
        ("mine: {title: x}", "mine: missing key kind"),
        ("mine: [kind, folder]", "mine: found ['kind', 'folder'] (list); expected a dataset's keys"),
        ("mine: {kind: folder, name: other}", "mine.name: unknown key"),
        ("mine: !!python/object/apply:os.getcwd []", "is not valid YAML"),
    ],
)
def test_a_file_that_is_no_catalogue_is_refused(tmp_path, text, expected):
    assert expected in refused(tmp_path, text)


def test_a_missing_or_binary_catalogue_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match="cannot be read .*EMOTION_DATASETS"):
        read_catalogue(tmp_path / "none.yaml")
    (tmp_path / "bytes.yaml").write_bytes(b"a: \xff")
    with pytest.raises(ConfigurationError, match="not valid YAML"):
        read_catalogue(tmp_path / "bytes.yaml")


@pytest.mark.parametrize(
    "text",
    [
        "!!timestamp soon",
        "!!int ''",
        "!!bool perhaps",
        "2026-13-45",
        "9" * 5000,
        "[" * 5000,
        "!!float x",
        "? {a: b}\n: c",
    ],
)
def test_a_value_that_yaml_cannot_make_is_an_error_of_the_catalogue(tmp_path, text):
    file = tmp_path / "datasets.yaml"
    file.write_text(text if text.startswith("?") else f"a: {text}\n")
    with pytest.raises(ConfigurationError, match="datasets.yaml"):
        read_catalogue(file)


def test_an_entry_of_kind_folder_needs_nothing_but_its_kind(tmp_path):
    (tmp_path / "a.yaml").write_text("calls: {kind: folder}\n")
    entry = find_entry(tmp_path / "a.yaml", "calls")
    assert (entry.title, entry.licence.id, entry.commercial_use, entry.folds, entry.folder) == (
        "calls",
        "own",
        None,
        None,
        None,
    )
    assert entry.licence == find_entry(SHIPPED, "labelled-folder").licence


def test_a_catalogue_of_before_there_were_rules_is_read_as_it_was(tmp_path, document):
    entry = document["ravdess-speech"]
    del entry["rule"], entry["language"]
    (tmp_path / "a.yaml").write_text(yaml.safe_dump({"ravdess-speech": entry}))
    assert find_entry(tmp_path / "a.yaml", "ravdess-speech").naming == find_entry(SHIPPED, "ravdess-speech").rule


def test_two_emotions_have_two_metrics(tmp_path):
    """What the catalogue takes as a name stays as it is in the name of a metric."""
    names = ["so-so", "so_so", "soso", "a" * 40, "a" * 39]
    emotions = ", ".join(f"{name}: null" for name in names)
    (tmp_path / "a.yaml").write_text(f"mine:\n  kind: folder\n  emotions: {{{emotions}}}\n")
    declared = find_entry(tmp_path / "a.yaml", "mine").emotions
    paths = [metrics.EMOTION_F1.path(model="ensemble", protocol="random", emotion=name) for name in declared]
    assert [path.split(".")[-1] for path in paths] == names


@pytest.mark.parametrize(
    "lines, message",
    [
        ("emotions: [bored]", "mine.emotions: found ['bored'] (list); expected names of further emotions"),
        ("emotions: {Bored: null}", "mine.emotions: found {'Bored': None} (dict); expected names of further emotions"),
        (
            "emotions: {'so so': null}",
            "expected names of further emotions (lower-case letters, digits, _ and -, at most 40)",
        ),
        ("emotions: {so.so: null}", "expected names of further emotions"),
        ("emotions: {'so:so': null}", "expected names of further emotions"),
        (f"emotions: {{{'a' * 41}: null}}", "at most 40"),
        ("emotions: {'bored\\n': null}", "expected names of further emotions"),
        ("emotions: {yes: null}", "expected names of further emotions"),
        (
            "emotions: {angry: null}",
            "expected emotions besides the eight that every model knows; angry is",
        ),
        ("emotions: {bored: red}", "mine.emotions.bored: found 'red' (str); expected a colour as in '#aa8855'"),
        ("emotions: {bored: '#aa88551'}", "expected a colour"),
        ("labels: {x: bored}", "mine.labels.x: found 'bored' (str); expected one of neutral, calm"),
        ("labels: {x: bored}\nemotions: {boring: null}", "surprised, boring, or null to leave such clips out"),
        ("labels: {x: ''}", "mine.labels.x: found '' (str)"),
        ("language: ''", "mine.language: found '' (str); expected text"),
        ("clips: 0", "mine.clips: found 0 (int); expected a whole number above 0"),
    ],
)
def test_what_an_entry_says_of_emotions_is_checked(tmp_path, lines, message):
    document = {"mine": {"kind": "folder"} | yaml.load(lines, yaml.SafeLoader)}
    assert message in refused(tmp_path, document)


def test_two_colours_of_one_emotion_are_refused_with_both_entries(tmp_path):
    entries = "a: {kind: folder, emotions: {bored: '#AA8855'}}\nb: {kind: folder, emotions: {bored: %s}}\n"
    assert "a.emotions and b.emotions give bored two colours, #aa8855 and #aa8856" in refused(
        tmp_path, entries % "'#aa8856'"
    )
    for same in ("'#aa8855'", "null"):
        (tmp_path / "datasets.yaml").write_text(entries % same)
        assert list(read_catalogue(tmp_path / "datasets.yaml")) == ["a", "b"]
