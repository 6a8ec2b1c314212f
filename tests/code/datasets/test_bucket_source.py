"""Recordings to train on in a bucket of a real S3 server: imported as from a disk, and read once."""

from __future__ import annotations

import io
import zipfile
from collections import Counter

import fsspec
import pytest

from dataset_files import OWN, own_folder
from emotion import bucket as buckets
from emotion.datasets import importing
from emotion.errors import ConfigurationError, DataError
from emotion.store import Store
from small_data import wav

FILES = {f"{word}/s{speaker}/{word}-{speaker}.wav": wav(10 * speaker + n) for n, word in enumerate(("sad", "happy"))
         for speaker in range(3)}  # fmt: skip
TABLE = "path,emotion,speaker\n" + "".join(f"{path},{path.split('/')[0]},{path.split('/')[1]}\n" for path in FILES)


@pytest.fixture
def in_bucket(settings, bucket):
    """Settings whose recordings lie on the disk and in the bucket."""
    return settings.model_copy(update={"recordings": (*settings.recordings, f"{bucket}/recordings")})


@pytest.fixture
def read(monkeypatch):
    """How often each object was asked for."""
    counts: Counter[str] = Counter()
    call = buckets._call

    def counted(name, **options):
        if name == "get_object":
            counts[options["Key"].removeprefix("recordings/")] += 1
        return call(name, **options)

    monkeypatch.setattr(buckets, "_call", counted)
    return counts


def put(url: str, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        fsspec.filesystem("s3").pipe_file(f"{url}/{name}", data)


def zipped(files: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return content.getvalue()


@pytest.mark.parametrize("kind", ["folder", "table", "csv", "zip"])
def test_an_import_from_a_bucket_is_that_from_a_disk(in_bucket, store, bucket, read, tmp_path, kind):
    files = FILES | ({"labels.csv": TABLE.encode()} if kind == "table" else {})
    files |= {"mine.csv": TABLE.encode(), ".hidden.wav": b"no"} if kind == "csv" else {}
    names = {"folder": "corpus", "table": "corpus", "csv": "corpus/mine.csv", "zip": "corpus.zip"}
    put(f"{bucket}/recordings", {"corpus.zip": zipped(files)} if kind == "zip" else {})
    put(f"{bucket}/recordings/corpus", {} if kind == "zip" else files)
    made = importing.obtain(store, in_bucket, OWN, source=f"{bucket}/recordings/{names[kind]}")
    assert set(read.values()) == {1}, "each object is read once"
    local = own_folder(in_bucket, files, "local")
    other = Store(str(tmp_path / "other"))
    expected = importing.obtain(other, in_bucket, OWN, source=local / "mine.csv" if kind == "csv" else local)
    assert made.facts["origin"] == f"{bucket}/recordings/{names[kind]}"
    assert made.facts | {"origin": ""} == expected.facts | {"origin": ""}
    assert importing.read_manifest(store, OWN).equals(importing.read_manifest(other, OWN))
    read.clear()
    assert importing.is_ready(store, in_bucket, OWN, source=names[kind])
    importing.obtain(store, in_bucket, OWN, source=names[kind])
    assert not read
    assert not list(store.scratch("datasets").rglob("*.wav")) and not list(store.scratch("datasets").rglob("*.zip"))


def test_only_what_changed_is_read_again(in_bucket, store, bucket, read):
    put(f"{bucket}/recordings/corpus", FILES)
    importing.obtain(store, in_bucket, OWN, source="corpus")
    read.clear()
    put(f"{bucket}/recordings/corpus", {"sad/s0/sad-0.wav": wav(50), "sad/s9/new.wav": wav(51)})
    importing.obtain(store, in_bucket, OWN, source="corpus")
    assert read == {"corpus/sad/s0/sad-0.wav": 1, "corpus/sad/s9/new.wav": 1}
    assert len(importing.read_manifest(store, OWN)) == len(FILES) + 1
    path = "datasets/labelled-folder/audio/happy/s1/happy-1.wav"
    store.write_bytes(path, b"damaged")  # and what is stored is not trusted blindly
    put(f"{bucket}/recordings/corpus", {"sad/s9/newer.wav": wav(52)})
    importing.obtain(store, in_bucket, OWN, source="corpus")
    assert read["corpus/happy/s1/happy-1.wav"] == 1 and store.read_bytes(path) == FILES["happy/s1/happy-1.wav"]


def test_an_import_that_a_server_cut_short_goes_on_where_it_stopped(in_bucket, store, bucket, read, monkeypatch):
    put(f"{bucket}/recordings/corpus", FILES)
    call = buckets._call

    def failing(name, **options):
        if options.get("Key", "").endswith("sad-2.wav"):
            raise OSError("500 Internal Server Error")
        return call(name, **options)

    with monkeypatch.context() as patch:
        patch.setattr(buckets, "_call", failing)
        with pytest.raises(OSError, match="500"):
            importing.obtain(store, in_bucket, OWN, source="corpus")
    importing.obtain(store, in_bucket, OWN, source="corpus")
    assert set(read.values()) == {1} and len(read) == len(FILES)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("s3://{bucket}/elsewhere", "lies outside the folders"),
        ("s3://another-bucket/recordings", "lies outside the folders"),
        ("s3://{bucket}/recordings/../x", "'..'"),
        ("s3://{bucket}/recordings/none", "is not there"),
        ("none.zip", "is not there"),
    ],
)
def test_a_source_is_confined_to_the_recordings(in_bucket, store, bucket, source, message):
    put(f"{bucket}/elsewhere", {"a.wav": b""})
    with pytest.raises(ConfigurationError, match=message):
        importing.obtain(store, in_bucket, OWN, source=source.format(bucket=bucket.removeprefix("s3://")))


@pytest.mark.parametrize("name", ["sad//a.wav", "sad/../a.wav", "sad/a\\b.wav", "sad/a\x01.wav"])
def test_names_that_cannot_be_stored_are_refused(in_bucket, store, bucket, name):
    name_of_bucket = bucket.removeprefix("s3://")
    fsspec.filesystem("s3").call_s3("put_object", Bucket=name_of_bucket, Key=f"recordings/corpus/{name}", Body=wav(1))
    with pytest.raises(DataError, match="rename it"):
        importing.obtain(store, in_bucket, OWN, source="corpus")
