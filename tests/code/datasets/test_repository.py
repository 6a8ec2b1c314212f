"""Corpora that are downloaded: the archive of a commit, and archives of which the record alone knows the checksum."""

import hashlib

import pytest
import yaml

from dataset_files import CORPORA, recordings, with_catalogue
from emotion.commands.local_airflow import free_port
from emotion.datasets.catalogue import find_entry
from emotion.datasets.download import fetch_archives
from emotion.datasets.http_client import Retry
from emotion.datasets.importing import is_ready, obtain, read_manifest
from emotion.datasets.repository import check_reachable
from emotion.errors import DataError, DownloadError
from emotion.settings import INCLUDE
from small_data import wav, write_zip
from zenodo_server import Fault, ZenodoServer

RETRY = Retry(attempts=3, first_delay=0.01, longest_delay=0.02, connect_timeout=0.5, read_timeout=0.5, silent_for=2.0)
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def archives(tmp_path):
    """A host with the archive of a commit of nEMO, and with the two releases of EMO-DB."""
    nemo = {f"nEMO-{COMMIT}/samples/{stem}.wav": wav(seed) for seed, stem in enumerate(CORPORA["nemo"])}
    emodb = {f"emodb_2.0/wav/{stem}.wav": wav(seed) for seed, stem in enumerate([*CORPORA["emodb"], "03a02La"])}
    zips = [
        write_zip(tmp_path / f"{COMMIT}.zip", nemo | {f"nEMO-{COMMIT}/README.md": b"x"}),
        write_zip(tmp_path / "emodb_2.0.zip", emodb | {"emodb_2.0/db.yaml": b"x"}),
    ]
    with ZenodoServer(zips, record=17651657) as server:
        yield server


def settings_for(place, server, **changes):
    document = yaml.safe_load((INCLUDE / "datasets.yaml").read_text(encoding="utf-8"))
    document["nemo"] |= {"archive": f"{server.url}/archives/{COMMIT}.zip", "clips": 6} | changes
    return with_catalogue(place, document).model_copy(update={"zenodo_url": server.url})


def test_the_archive_of_a_commit_is_fetched_once_and_its_checksum_recorded(place, archives):
    settings, store = place
    settings = settings_for(settings, archives)
    seen = []
    dataset = obtain(store, settings, "nemo", progress=lambda *step: seen.append(step), retry=RETRY)
    data = archives.files[f"{COMMIT}.zip"].read_bytes()
    assert dataset.facts["archives"] == [
        {
            "key": "nemo.zip",
            "bytes": len(data),
            "md5": hashlib.md5(data).hexdigest(),
            "sha256": hashlib.sha256(data).hexdigest(),
        }
    ]
    assert dataset.facts["origin"].endswith(f"{COMMIT}.zip") and dataset.facts["complete"]
    assert read_manifest(store, "nemo")["path"].tolist() == sorted(f"samples/{stem}.wav" for stem in CORPORA["nemo"])
    assert ("download", len(data), len(data), "B") in seen
    assert obtain(store, settings, "nemo", retry=RETRY) == dataset
    assert len(archives.asked()) == 1


def test_a_host_is_asked_before_anything_long_is_started(place, archives):
    entry = find_entry(settings_for(place[0], archives).catalogue, "nemo")
    check_reachable(entry, retry=RETRY)
    archives.faults["content"].append(Fault(status=503))
    check_reachable(entry, retry=RETRY)
    nowhere = entry.model_copy(update={"archive": f"http://127.0.0.1:{free_port()}/archives/{COMMIT}.zip"})
    with pytest.raises(DownloadError, match=r"cannot be reached.*make train DATASET=nemo SOURCE"):
        check_reachable(nowhere, retry=RETRY)


@pytest.mark.parametrize(
    "fault", [Fault(status=503), Fault(cut=900), Fault(cut=900, then="reset"), Fault(corrupt=True)]
)
def test_a_broken_answer_is_asked_for_again(local, archives, fault):
    settings, store = local
    archives.faults["content"].append(fault)
    assert obtain(store, settings_for(settings, archives), "nemo", retry=RETRY).facts["clips"] == 6
    assert len(archives.asked()) == 2


def test_what_is_not_the_archive_is_refused_and_says_what_to_do(local, archives):
    settings, store = local
    archives.faults["content"].extend([Fault(corrupt=True)] * 3)
    with pytest.raises(
        DownloadError, match=r"no whole zip.*Given up: fetch it by hand from https://github.com/amu-cai"
    ):
        obtain(store, settings_for(settings, archives), "nemo", retry=RETRY)
    with pytest.raises(DataError, match="sends more than 1,000 bytes"):
        obtain(store, settings_for(settings, archives, expanded_bytes=1000), "nemo", retry=RETRY)
    with pytest.raises(DataError, match=r"has the SHA-256 [0-9a-f]{64}; the catalogue .* expects 0{64}"):
        obtain(store, settings_for(settings, archives, sha256="0" * 64), "nemo", retry=RETRY)
    with pytest.raises(DataError, match="the archives do not hold what it says: found 6 of 4,481 clips"):
        obtain(store, settings_for(settings, archives, clips=4481), "nemo", retry=RETRY)
    with pytest.raises(DataError, match="answers 404.*make train DATASET=nemo SOURCE="):
        obtain(
            store, settings_for(settings, archives, archive=f"{archives.url}/archives/{'0' * 40}"), "nemo", retry=RETRY
        )
    assert not store.list("datasets/nemo")


def test_an_archive_fetched_by_hand_is_taken_and_stands_for_the_download_if_its_checksum_is_known(local, archives):
    settings, store = local
    source = recordings(settings) / "by-hand.zip"
    source.write_bytes(archives.files[f"{COMMIT}.zip"].read_bytes())
    settings = settings_for(settings, archives)
    obtain(store, settings, "nemo", source=source)
    assert not is_ready(store, settings, "nemo")
    settings = settings_for(settings, archives, sha256=hashlib.sha256(source.read_bytes()).hexdigest())
    obtain(store, settings, "nemo", source=source)
    assert is_ready(store, settings, "nemo") and archives.log == []


def test_an_archive_of_unknown_checksum_is_compared_with_the_record(place, archives):
    settings, store = place
    settings = settings_for(settings, archives)
    facts = obtain(store, settings, "emodb-2", retry=RETRY).facts
    assert facts["left_out"] == {"L": 1} and facts["clips"] == 6 and facts["complete"]
    assert facts["archives"][0]["md5"] == hashlib.md5(archives.files["emodb_2.0.zip"].read_bytes()).hexdigest()
    assert is_ready(store, settings, "emodb-2")


def test_an_archive_that_is_not_what_the_record_lists_is_refused(local, archives):
    settings, store = local
    settings = settings_for(settings, archives)
    listed = archives.document["files"][1]
    for change, message in (
        ({"checksum": "md5:" + "0" * 32}, "has the MD5 [0-9a-f]{32}; the catalogue expects 0{32}"),
        ({"checksum": "sha1:" + "0" * 40}, "has checksum sha1:0+; expected md5:"),
        ({"key": "other.zip"}, "has no emodb_2.0.zip; it has"),
    ):
        archives.document["files"][1] = listed | change
        with pytest.raises(DataError, match=message):
            obtain(store, settings, "emodb-2", retry=RETRY)
    assert not store.list("datasets/emodb-2")


def test_what_is_there_is_not_fetched_again_though_the_record_is_asked(local, archives, tmp_path):
    settings = settings_for(local[0], archives)
    folder = tmp_path / "scratch"
    folder.mkdir()
    for _ in range(2):
        fetch_archives(settings, find_entry(settings.catalogue, "emodb-2"), folder, retry=RETRY)
    assert len(archives.asked()) == 1 and len(archives.asked("record")) == 2
