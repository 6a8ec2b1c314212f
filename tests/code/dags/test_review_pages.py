"""The page *Emotion review* without a browser: what it sends, to whom, and what it stores."""

from __future__ import annotations

import io
import json
import re

import pytest
import soundfile
from airflow.api_fastapi.app import create_auth_manager
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from airflow.api_fastapi.core_api.security import get_user
from airflow.models.dag import DagModel
from fastapi import FastAPI
from fastapi.testclient import TestClient

from emotion.review import clips, labels
from emotion.store import Store
from emotion_airflow import review_pages
from review_queues import EMOTIONS, HOSTILE, make_item, simple_queue, sound, write_queue

BATCH = "monday"
JSON = {"Content-Type": "application/json"}
EVIL_NAME = '"><img src=x onerror=alert(1)>'


class Account:
    """A person who is logged in, with Airflow's own check of what a role may do."""

    def __init__(self, app: FastAPI, name: str, role: str | None):
        self.client = TestClient(app, base_url="http://airflow.example", raise_server_exceptions=False)
        self.app = app
        self.user = SimpleAuthManagerUser(username=name, role=role)

    def request(self, method: str, path: str, **arguments):
        self.app.dependency_overrides[get_user] = lambda: self.user
        return self.client.request(method, f"/emotion-review{path}", **arguments)

    def get(self, path: str, **arguments):
        return self.request("GET", path, **arguments)

    def next(self, **query):
        return self.get("/api/next", params=query).json()

    def say(self, item, label: str, **changes):
        body = {"batch": item.batch, "audio": item.audio, "label": label, "blind": True} | changes
        return self.request("POST", "/api/labels", json=body)

    def undo(self, label: labels.Label):
        return self.request("POST", "/api/undo", json={"batch": label.batch, "audio": label.audio, "id": label.id})


@pytest.fixture
def app(settings, monkeypatch) -> FastAPI:
    monkeypatch.setenv("EMOTION_HOME", settings.home)
    monkeypatch.setattr(DagModel, "get_team_name", lambda dag_id: None)  # in Airflow's database, which is not there
    create_auth_manager()
    app = review_pages.application("/emotion-review")
    outer = FastAPI()
    outer.mount("/emotion-review", app)
    outer.dependency_overrides = app.dependency_overrides
    return outer


@pytest.fixture
def anna(app) -> Account:
    return Account(app, "anna", "USER")


@pytest.fixture
def items(store: Store):
    return simple_queue(store, BATCH, 3, path="secret-path.wav", reasons=("low_confidence",))


def stored(store: Store) -> list[labels.Label]:
    return labels.read(store)


def test_nothing_of_the_answer_is_sent_before_the_label_is_stored(anna, items, store):
    for path in ("/api/next", f"/api/clips/{BATCH}/{items[0].audio}", f"/api/clips/{BATCH}"):
        reply = anna.get(path)
        assert reply.status_code == 200
        assert not re.search("secret-path|low_confidence|0\\.62|probabilit|ensemble", reply.text)
    clip = anna.next()["clip"]
    assert clip["answer"] is None and clip["label"] is None and clip["emotions"] == [*EMOTIONS]
    item = next(item for item in items if item.audio == clip["audio"])
    reply = anna.say(item, "sad", note="slow", speaker="Ann").json()
    answer = reply["clip"]["answer"]
    assert (answer["emotion"], answer["path"], answer["reasons"]) == (
        item.answer["emotion"],
        "secret-path.wav",
        ["low_confidence"],
    )
    assert reply["overview"]["left"] == 2
    (label,) = stored(store)
    assert (label.person, label.label, label.note, label.speaker, label.blind) == ("anna", "sad", "slow", "Ann", True)
    assert label.shown == {
        "emotion": item.answer["emotion"],
        "confidence": 0.62,
        "version": "first",
        "family": "ensemble",
    }


def test_who_wants_to_see_the_answer_sees_it_and_the_label_is_not_blind(anna, items, store):
    assert anna.next(blind=False)["clip"]["answer"]["confidence"] == 0.62
    anna.say(items[0], "sad", blind=False)
    assert not stored(store)[0].blind


def test_a_label_after_an_undo_is_not_blind_and_another_note_changes_nothing(anna, items, store):
    anna.say(items[0], "sad")
    anna.say(items[0], "sad", note="with a note")
    first, second = stored(store)
    assert first.blind and second.blind and second.note == "with a note"
    assert anna.undo(second).json()["clip"]["label"]["id"] == first.id, "the label without the note counts again"
    assert anna.undo(first).json()["clip"] | {"answer": 1} == anna.next()["clip"] | {
        "audio": items[0].audio,
        "duration": items[0].duration,
        "seen_before": True,
        "answer": 1,
    }
    assert anna.get(f"/api/clips/{BATCH}/{items[0].audio}").json()["answer"] is None
    anna.say(items[0], "happy")
    assert not stored(store)[-1].blind


def test_a_skipped_clip_comes_last_and_its_answer_stays_hidden(anna, items, store):
    order = []
    for _ in range(len(items)):
        order.append(anna.next()["clip"]["audio"])
        item = next(item for item in items if item.audio == order[-1])
        reply = anna.say(item, "skip").json()
        assert reply["clip"]["answer"] is None and reply["overview"]["left"] == 3
    assert len(set(order)) == 3 and anna.next()["clip"]["audio"] == order[0]
    anna.say(next(item for item in items if item.audio == order[0]), "sad")
    assert stored(store)[-1].blind, "to skip a clip shows nothing of it"


def test_two_people_label_a_clip_and_their_agreement_is_shown(app, anna, store):
    items = simple_queue(store, BATCH, 4, people=2)
    bob = Account(app, "bob", "OP")
    for person, words in ((anna, "neutral happy sad angry"), (bob, "neutral happy sad sad")):
        for item, word in zip(items, words.split(), strict=True):
            reply = person.say(item, word).json()
    figures = reply["overview"]["figures"]
    assert (figures["items"], figures["done"], figures["double"]) == (4, 4, 4) and 0.5 < figures["alpha"] < 1
    assert anna.next()["clip"] is None
    assert [label["label"] for label in anna.next()["overview"]["recent"]] == ["angry", "sad", "happy", "neutral"]


def test_two_people_at_once_get_different_clips_while_there_are_others(app, anna, items):
    bob = Account(app, "bob", "USER")
    shown = [person.next()["clip"]["audio"] for person in (anna, bob, Account(app, "carla", "USER"))]
    assert len(set(shown)) == 3
    assert Account(app, "dora", "USER").next()["clip"]["audio"] in shown


def test_only_the_own_label_can_be_taken_back(app, anna, items, store):
    anna.say(items[0], "sad")
    (label,) = stored(store)
    assert Account(app, "bob", "ADMIN").undo(label).status_code == 404
    assert labels.standing(stored(store))[items[0].key]["anna"].label == "sad"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (JSON, 200),  # a program with a token
        (JSON | {"Origin": "http://airflow.example", "Sec-Fetch-Site": "same-origin"}, 200),
        (JSON | {"Origin": "http://airflow.example"}, 200),  # http from another machine: no Sec-Fetch-Site
        (JSON | {"Sec-Fetch-Site": "cross-site"}, 403),
        (JSON | {"Sec-Fetch-Site": "same-site", "Origin": "http://wiki.example"}, 403),
        (JSON | {"Sec-Fetch-Site": "none"}, 403),
        (JSON | {"Origin": "http://evil.example"}, 403),
        (JSON | {"Origin": "http://airflow.example.evil.example"}, 403),
        (JSON | {"Origin": "null"}, 403),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content-Type": "multipart/form-data; boundary=x"}, 415),
        ({}, 415),
    ],
)
def test_a_request_of_another_site_is_refused_and_stores_nothing(anna, items, store, headers, status):
    anna.say(items[0], "sad")
    (label,) = stored(store)
    body = {"batch": BATCH, "audio": items[0].audio}
    for path, more in (("labels", {"label": "happy", "blind": True}), ("undo", {"id": label.id})):
        reply = anna.request("POST", f"/api/{path}", content=json.dumps(body | more), headers=headers)
        assert reply.status_code == status
        assert "access-control-allow-origin" not in reply.headers
    assert len(stored(store)) == (3 if status == 200 else 1)


def test_a_viewer_hears_and_may_not_label(app, items, store):
    vera = Account(app, "vera", "VIEWER")
    page = vera.get("/")
    assert page.status_code == 200 and "It may not label" in page.text and 'data-labels=""' in page.text
    assert vera.next()["clip"]["audio"]
    assert vera.get(f"/api/audio/{BATCH}/{items[0].audio}").status_code == 200
    assert vera.say(items[0], "sad").status_code == 403
    anna = Account(app, "anna", "USER")
    anna.say(items[0], "sad")
    assert vera.undo(stored(store)[0]).status_code == 403
    assert len(stored(store)) == 1
    assert 'data-labels="yes"' in anna.get("/").text


def test_an_account_without_a_role_sees_nothing(app, items, store):
    nobody = Account(app, "nobody", None)
    paths = [
        "/",
        f"/batches/{BATCH}",
        "/dags/emotion_scoring",
        "/dags/other/runs/1",
        "/api/next",
        f"/api/clips/{BATCH}",
    ]
    paths += [f"/api/{kind}/{BATCH}/{items[0].audio}" for kind in ("clips", "audio", "picture")]
    for path in paths:
        reply = nobody.get(path)
        assert reply.status_code == 403 and reply.json() == {"detail": "Forbidden"}, path
    assert nobody.say(items[0], "sad").status_code == 403 and not stored(store)


def test_audio_is_sent_in_the_parts_that_a_player_asks_for(anna, items, store):
    path = f"/api/audio/{BATCH}/{items[0].audio}"
    audio = store.read_bytes(clips.key_of(items[0].audio, "wav"))
    whole = anna.get(path)
    assert (whole.status_code, whole.content) == (200, audio)
    assert whole.headers["content-type"] == "audio/wav" and whole.headers["accept-ranges"] == "bytes"
    assert "sandbox" in whole.headers["content-security-policy"]
    assert whole.headers["cross-origin-resource-policy"] == "same-origin"
    size = len(audio)
    for asked, (start, end) in {
        "bytes=0-": (0, size),
        "bytes=100-199": (100, 200),
        "bytes=-44": (size - 44, size),
    }.items():
        part = anna.get(path, headers={"Range": asked})
        assert (part.status_code, part.content) == (206, audio[start:end])
        assert part.headers["content-range"] == f"bytes {start}-{end - 1}/{size}"
    beyond = anna.get(path, headers={"Range": f"bytes={size}-"})
    assert (beyond.status_code, beyond.headers["content-range"], beyond.content) == (416, f"bytes */{size}", b"")
    for odd in ("bytes=0-1,4-5", "bytes=-", "lines=1-2", "bytes=9-3"):
        assert anna.get(path, headers={"Range": odd}).status_code == 200


@pytest.mark.parametrize(
    ("file_format", "subtype", "content_type"),
    [
        ("WAV", "PCM_24", "audio/wav"),
        ("FLAC", "PCM_24", "audio/wav"),
        ("MP3", "MPEG_LAYER_III", "audio/mpeg"),
        ("AIFF", "PCM_16", "audio/wav"),
        ("OGG", "VORBIS", "audio/wav"),
        ("WAV", "GSM610", "audio/wav"),
    ],
)
def test_a_browser_gets_a_format_that_it_plays(anna, store, file_format, subtype, content_type):
    audio = sound(1, file_format=file_format, subtype=subtype)
    (item,) = write_queue(store, BATCH, [(make_item(BATCH, 0, audio, suffix="any"), audio)])
    reply = anna.get(f"/api/audio/{BATCH}/{item.audio}")
    assert (reply.status_code, reply.headers["content-type"]) == (200, content_type)
    if (file_format, subtype) not in (("WAV", "PCM_24"), ("MP3", "MPEG_LAYER_III")):
        info = soundfile.info(io.BytesIO(reply.content))
        assert (info.format, info.subtype, info.channels) == ("WAV", "PCM_16", 1)
        assert info.duration == pytest.approx(item.duration, abs=0.05)
    else:
        assert reply.content == audio
    assert anna.get(f"/api/picture/{BATCH}/{item.audio}").json()["seconds"] == pytest.approx(item.duration, abs=0.05)


def test_only_audio_of_a_queue_is_served(anna, items, store):
    store.write_bytes("reviews/audio/ab/ab12.wav", sound(50))
    store.write_bytes("scores/monday/secret.wav", sound(51))
    for path in ("monday/ab12", "monday/..%2f..%2fsecret", f"none/{items[0].audio}", f"..%2fmonday/{items[0].audio}"):
        for kind in ("audio", "picture", "clips"):
            assert anna.get(f"/api/{kind}/{path}").status_code == 404


def test_a_clip_whose_audio_is_gone_says_so_and_can_be_skipped(anna, items, store):
    item = items[0]
    store.delete(clips.key_of(item.audio, item.suffix))
    assert anna.get(f"/api/clips/{BATCH}/{item.audio}").json()["kept"] is False
    reply = anna.get(f"/api/audio/{BATCH}/{item.audio}")
    assert reply.status_code == 404 and "not kept any more" in reply.json()["detail"]
    assert anna.get(f"/api/picture/{BATCH}/{item.audio}").status_code == 404
    assert anna.say(item, "skip").status_code == 200


def test_audio_that_cannot_be_decoded_is_no_server_error(anna, store):
    (item,) = write_queue(store, BATCH, [(make_item(BATCH, 0, sound(0), suffix="wav"), b"no audio at all")])
    for kind in ("audio", "picture"):
        assert anna.get(f"/api/{kind}/{BATCH}/{item.audio}").status_code == 404


@pytest.mark.parametrize(
    "changes",
    [
        {"label": "furious"},
        {"label": ""},
        {"note": "x" * 2_001},
        {"note": "a\x1b[2J"},
        {"speaker": "x" * 201},
        {"blind": "yes"},
        {"person": "bob"},
        {"withdraws": "1"},
        {"label": None},
    ],
)
def test_what_is_no_label_is_refused_and_not_stored(anna, items, store, changes):
    assert anna.say(items[0], **({"label": "sad"} | changes)).status_code == 422
    assert not stored(store)


def test_unknown_batches_and_clips_are_not_found(anna, items):
    for path in ("/batches/none", "/api/next?batch=none", "/api/clips/none", "/api/next?batch=..%2Fmonday"):
        assert anna.get(path).status_code == 404, path
    assert anna.say(items[0], "sad", batch="none").status_code == 404
    assert anna.say(items[0], "sad", audio="00").status_code == 404
    assert anna.get(f"/batches/{BATCH}").status_code == 200


def test_an_empty_store_has_no_clip_and_no_error(anna):
    reply = anna.next()
    assert reply["clip"] is None
    assert reply["overview"]["left"] == 0 and reply["overview"]["figures"]["items"] == 0
    assert anna.get("/").status_code == 200


def test_the_tabs_of_a_dag_and_of_a_run(anna, items):
    assert 'data-batch=""' in anna.get("/dags/emotion_scoring").text
    run = anna.get("/dags/emotion_scoring/runs/manual__2026-01-02T03:04:05%2B00:00").text
    assert 'data-batch="manual__2026-01-02T03-04-05-00-00-422e87"' in run
    other = anna.get(f"/dags/{EVIL_NAME.replace('/', '')}".replace(">", "%3E").replace("<", "%3C"))
    assert other.status_code == 200 and "has no clips to review" in other.text and "<img" not in other.text


def test_pages_run_their_own_script_alone(app, store):
    evil = Account(app, EVIL_NAME, "USER")
    page = evil.get("/")
    policy = page.headers["content-security-policy"]
    nonce = re.search("script-src 'nonce-([^']+)'", policy)[1]
    assert "unsafe" not in policy and "default-src 'none'" in policy and "frame-ancestors 'self'" in policy
    assert page.text.count(f'nonce="{nonce}"') == page.text.count("<script") + page.text.count("<style") == 3
    assert nonce not in evil.get("/").text
    assert "<img" not in page.text and " style=" not in page.text and "http" not in page.text.replace("http-equiv", "")
    assert page.headers["x-content-type-options"] == "nosniff" and page.headers["cache-control"] == "no-store"


def test_hostile_names_and_notes_travel_as_text_in_json(app, store):
    audio = sound(3)
    (item,) = write_queue(store, BATCH, [(make_item(BATCH, 0, audio, path=HOSTILE, speaker=EVIL_NAME), audio)])
    evil = Account(app, EVIL_NAME, "USER")
    reply = evil.say(item, "sad", note=HOSTILE, speaker=EVIL_NAME)
    assert reply.headers["content-type"] == "application/json" and reply.headers["x-content-type-options"] == "nosniff"
    assert reply.json()["clip"]["answer"]["path"] == HOSTILE
    assert reply.json()["clip"]["label"]["note"] == HOSTILE
    assert stored(store)[0].person == EVIL_NAME
