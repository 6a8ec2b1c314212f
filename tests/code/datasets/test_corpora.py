"""The corpora of the shipped catalogue, with files named as they are published."""

import csv

import pytest

from dataset_files import CORPORA, EMODB, own_folder, recordings, write
from emotion.datasets.importing import is_ready, obtain, read_manifest
from emotion.errors import ConfigurationError, DataError
from small_data import wav, write_zip

BESIDES = {"README.md": b"x", "data.tsv": b"x", "VideoFlash/1001_DFA_ANG_XX.flv": b"x", "deep/.hidden.wav": b"x"}
"""Files that are no recordings."""


def labels(store, name):
    rows = read_manifest(store, name)
    return {
        path.rpartition(".")[0].removeprefix("AudioWAV/"): (emotion, actor, gender)
        for path, emotion, actor, gender in zip(
            rows["path"], rows["emotion"], rows["actor"], rows["gender"], strict=True
        )
    }


@pytest.mark.parametrize("name", CORPORA)
@pytest.mark.parametrize("form", ["folder", "zip", "flac in a zip with a folder around all"])
def test_a_corpus_is_read_by_the_names_of_its_files(local, name, form):
    settings, store = local
    ending = "flac" if "flac" in form else "wav"
    files = {f"{stem}.{ending}": wav(seed) for seed, stem in enumerate(CORPORA[name])} | BESIDES
    if form == "folder":
        source = own_folder(settings, files)
    else:
        top = "corpus-main/" if "around" in form else ""
        source = write_zip(recordings(settings) / "a.zip", {f"{top}{path}": data for path, data in files.items()})
    facts = obtain(store, settings, name, source=source).facts
    assert labels(store, name) == CORPORA[name]
    assert facts["left_out"] == {} and facts["clips"] == len(CORPORA[name])
    assert facts["language"] in ("Polish", "German", "English")
    expected = {"nemo": "4,481", "emodb": "535", "crema-d": "7,442", "tess": "2,800", "savee": "480"}.get(name)
    if expected:
        warning = f"Not the whole dataset: {source.name} has {len(CORPORA[name])} of {expected} clips."
        assert facts["warnings"][0].startswith(warning) and not facts["complete"]
    else:
        assert facts["warnings"] == [] and facts["complete"]


def test_both_releases_of_emodb_have_the_same_speakers_and_leave_boredom_out(local):
    settings, store = local
    source = own_folder(settings, {f"wav/{stem}.wav": wav(i) for i, stem in enumerate([*EMODB, "03a02La", "08a02Lb"])})
    for name in ("emodb", "emodb-2"):
        facts = obtain(store, settings, name, source=source).facts
        assert facts["left_out"] == {"L": 2} and facts["clips"] == len(EMODB)
        assert set(read_manifest(store, name)["speaker"]) == {f"emodb:{stem[:2]}" for stem in EMODB}


def test_a_clone_of_crema_d_with_its_mp3s_is_taken_once_and_a_name_outside_it_is_refused(local):
    settings, store = local
    names = ("1001_DFA_ANG_XX", "1002_IEO_SAD_LO")
    files = {f"AudioWAV/{stem}.wav": wav(seed) for seed, stem in enumerate(names)}
    source = own_folder(settings, files | {f"AudioMP3/{stem}.mp3": b"x" for stem in names})
    obtain(store, settings, "crema-d", source=source)
    rows = read_manifest(store, "crema-d")
    assert rows["path"].tolist() == list(files)
    assert rows["intensity"].tolist() == ["", "low"] and rows["statement"].tolist() == ["DFA", "IEO"]
    write(source, {"AudioWAV/1092_DFA_ANG_XX.wav": wav(9)})
    with pytest.raises(DataError, match="1 of 5 recordings .*the table gender by speaker has no '1092'"):
        obtain(store, settings, "crema-d", source=source)


def test_savee_keeps_clips_of_one_name_in_the_folders_of_its_speakers(local):
    settings, store = local
    source = own_folder(
        settings,
        {f"{who}/{clip}.wav": wav(sum(map(ord, who + clip))) for who in ("DC", "JE") for clip in ("a01", "n01")},
    )
    obtain(store, settings, "savee", source=source)
    assert labels(store, "savee").keys() == {"DC/a01", "DC/n01", "JE/a01", "JE/n01"}


@pytest.mark.parametrize("name, where", [("crema-d", "CheyneyComputerScience"), ("tess", "E8H2MF"), ("savee", "savee")])
def test_a_corpus_that_cannot_be_downloaded_says_where_it_is(local, name, where):
    settings, store = local
    with pytest.raises(ConfigurationError, match=rf"{name} needs a source.*SOURCE=.*Where to get them: .*{where}"):
        obtain(store, settings, name)
    assert not store.list(f"datasets/{name}")


def test_real_recordings_of_nemo_are_labelled_as_its_own_table_says(local, nemo):
    settings, store = local
    words = {"anger": "angry", "fear": "fearful", "happiness": "happy", "sadness": "sad"}
    with open(nemo / "manifest.csv", encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if int(row["path"].rpartition("_")[2].removesuffix(".flac")) < 12]
    published = {row["path"].rpartition("/")[2]: row for row in rows}
    source = own_folder(
        settings,
        {f"nEMO-main/samples/{name}": (nemo / "flac" / row["path"]).read_bytes() for name, row in published.items()},
    )
    facts = obtain(store, settings, "nemo", source=source).facts
    assert facts["speakers"] == 5 and facts["clips"] == len(published) > 100 and facts["unreadable"] == 0
    for row in read_manifest(store, "nemo").itertuples():
        expected = published[row.path.rpartition("/")[2]]
        assert row.emotion == words.get(expected["emotion"], expected["emotion"])
        assert (row.actor, row.gender, row.rate) == (expected["speaker"], expected["gender"], 24_000)
    assert is_ready(store, settings, "nemo", source=source)


def test_pointers_in_place_of_recordings_are_refused(local):
    settings, store = local
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize 76000\n"
    files = {f"AudioWAV/{stem}.wav": pointer % stem.encode() for stem in CORPORA["crema-d"]}
    with pytest.raises(DataError, match="AudioWAV/1001_DFA_ANG_XX.wav is a pointer of Git LFS.*git lfs pull"):
        obtain(store, settings, "crema-d", source=own_folder(settings, files))
