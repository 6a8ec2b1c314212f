"""The page *Emotion review* in headless Chromium, in a real Airflow with a login: by keyboard, two people at once."""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import requests

from browser import Browser, chromium
from emotion.commands.local_airflow import LocalAirflow, free_port
from emotion.review import clips, labels
from emotion.store import Store
from review_queues import HOSTILE, make_item, simple_queue, sound, write_queue

pytestmark = [pytest.mark.airflow, pytest.mark.browser]

ROLES = {"anna": "user", "bob": "user", "vera": "viewer"}
KEYS = {"1": "neutral", "2": "happy", "3": "sad", "4": "angry", "5": "calm", "s": "several", "n": "none_of_these"}
KEYS |= {"x": "no_speech", "c": "cannot_tell"}
SHOWN = "document.querySelector('#clip:not([hidden]), #done:not([hidden])')"
IN_FRAME = f"return document.readyState === 'complete' && Boolean(frames[0]?.{SHOWN})"
EVIL = "<img src=x onerror=\"document.title='owned'\">'\"\u202e"


@pytest.fixture(scope="module")
def airflow(tmp_path_factory):
    """Airflow's API server alone, with three accounts; the password is the name."""
    folder = tmp_path_factory.mktemp("review")
    passwords = folder / "passwords.json"
    passwords.write_text(json.dumps({name: name for name in ROLES}))
    extra = {
        "AIRFLOW__CORE__DAGS_FOLDER": str(folder / "dags"),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "False",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{name}:{role}" for name, role in ROLES.items()),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
        "EMOTION_HOME": str(folder / "home"),
    }
    airflow = LocalAirflow(folder / "airflow", free_port(), extra)
    airflow.home.mkdir()
    airflow._migrate()
    airflow.start("api-server", "--host", "127.0.0.1", "--port", str(airflow.port), "--workers", "1")
    try:
        when(lambda: requests.get(f"{airflow.url}/api/v2/monitor/health", timeout=5).ok, 120)
        yield airflow
    finally:
        airflow.stop()


@pytest.fixture
def store(airflow):
    """The store of that Airflow, without reviews."""
    store = Store(airflow.env["EMOTION_HOME"])
    store.delete("reviews")
    return store


@pytest.fixture(scope="module")
def anna(airflow):
    with person("anna", airflow) as browser:
        yield browser


def when(call, seconds: float = 20):
    """What the call returns, as soon as it is true."""
    end = time.monotonic() + seconds
    while True:
        try:
            if value := call():
                return value
            problem = f"{call} is still false"
        except (requests.RequestException, RuntimeError) as error:
            problem = str(error)
        assert time.monotonic() < end, problem
        time.sleep(0.03)


@contextmanager
def person(name: str, airflow: LocalAirflow):
    """A browser of its own, logged in."""
    reply = requests.post(f"{airflow.url}/auth/token", json={"username": name, "password": name}, timeout=30)
    with chromium() as browser:
        cookie = {"name": "_token", "value": reply.json()["access_token"], "url": airflow.url, "sameSite": "Lax"}
        browser.devtools("Network.setCookie", **cookie, httpOnly=True)
        browser.resize(1280, 860)
        yield browser


def open_review(browser: Browser, airflow: LocalAirflow, path: str = "/") -> None:
    """Open the page by itself, and wait until it shows a clip or says that there is none."""
    browser.open(f"{airflow.url}/emotion-review{path}")
    when(lambda: browser.run(f"return Boolean({SHOWN})"))


def audio_of(browser: Browser) -> str:
    return browser.run("return clip ? clip.audio : ''")


def is_stored(browser: Browser) -> bool:
    return browser.run("return !busy && stored()")


def label(browser: Browser, key: str) -> str:
    """Label the clip that is shown by a key, and go on by another; returns the clip's audio."""
    audio = audio_of(browser)
    browser.press(key)
    when(lambda: is_stored(browser))
    browser.press("Enter")
    when(lambda: browser.run("return !busy") and audio_of(browser) != audio)
    return audio


def said(store: Store, batch: str = "many") -> dict[str, dict[str, str]]:
    """Person → audio → label that counts."""
    result: dict[str, dict[str, str]] = {}
    for (_, audio), by_person in labels.standing(labels.read(store, batch)).items():
        for name, standing in by_person.items():
            result.setdefault(name, {})[audio] = standing.label
    return result


def test_thirty_clips_by_keyboard_by_two_people_at_once_with_a_reload_and_undo(airflow, store, anna):
    simple_queue(store, "many", 26)
    sounds = [sound(100 + number) for number in range(2)]
    shared = [make_item("shared", number, audio, people=2) for number, audio in enumerate(sounds)]
    write_queue(store, "shared", list(zip(shared, sounds, strict=True)))
    heard: dict[str, dict[str, str]] = {"anna": {}, "bob": {}}
    with person("bob", airflow) as bob:
        anna.open(f"{airflow.url}/")  # the menu of Airflow, then its frame
        anna.find("a[aria-label='Emotion review']", timeout=60)
        anna.click("a[aria-label='Emotion review']")
        when(lambda: anna.run(IN_FRAME), 60)
        anna.enter_frame()
        assert anna.run("return document.hasFocus() && document.activeElement.id") == "question"
        open_review(bob, airflow)
        keys = "12345snxc"
        turn = 0
        while audio_of(anna) or audio_of(bob):
            browser, name = (anna, "anna") if turn % 2 else (bob, "bob")
            turn += 1
            if turn == 15:  # reload in mid-way: Airflow's page, and with it the frame
                anna.enter_frame(None)
                anna.run("location.reload()")
                when(lambda: anna.run(IN_FRAME), 60)
                anna.enter_frame()
            if not audio_of(browser):
                continue
            key = keys[turn % len(keys)]
            heard[name][label(browser, key)] = KEYS[key]
        assert heard == {name: said(store, "many").get(name, {}) | said(store, "shared")[name] for name in heard}
        both = set(heard["anna"]) & set(heard["bob"])
        twice = both - {item.audio for item in shared}
        assert sum(map(len, heard.values())) >= 30
        assert len(twice) <= 2, "only the last clips, which both have before them, are heard twice"
        for browser in (anna, bob):
            assert "Nothing is left" in browser.run("return document.querySelector('#done').innerText")
        assert "1 is perfect" in browser.run("return document.querySelector('#agreement').innerText")

        anna.press("u")
        when(lambda: anna.run("return !busy && clip !== null && !stored()"))
        taken_back = audio_of(anna)
        assert taken_back not in said(store, "many")["anna"] | said(store, "shared")["anna"]
        label(anna, "2")
        anna.press("b")
        when(lambda: anna.run("return !busy && stored()") and audio_of(anna) == taken_back)
        anna.press("b")
        when(lambda: anna.run("return !busy && stored()") and audio_of(anna) not in ("", taken_back))
        anna.enter_frame(None)
        newest = labels.read(store)[-1]
        assert (newest.person, newest.label, newest.blind) == ("anna", "happy", False), "the answer had been shown"
        assert all(entry.blind for entry in labels.read(store) if entry.label and entry is not newest)


def test_sound_plays_in_every_format_and_can_be_sought(airflow, store, anna):
    formats = [("WAV", "PCM_16"), ("FLAC", "PCM_24"), ("MP3", "MPEG_LAYER_III"), ("AIFF", "PCM_24"), ("OGG", "VORBIS")]
    sounds = [
        sound(number, seconds=3, file_format=kind, subtype=subtype) for number, (kind, subtype) in enumerate(formats)
    ]
    items = [make_item("formats", number, audio, path="/no/such/file") for number, audio in enumerate(sounds)]
    write_queue(store, "formats", list(zip(items, sounds, strict=True)))
    open_review(anna, airflow, "/batches/formats")
    script = """
    const audio = new Audio(arguments[0]);
    return new Promise(done => {
      audio.onerror = () => done(audio.error.message);
      audio.onseeked = () => done([Math.round(10 * audio.duration), Math.round(10 * audio.currentTime)]);
      audio.onloadedmetadata = () => { audio.currentTime = 2.5; };
    });"""
    for item, (kind, _) in zip(items, formats, strict=True):
        played = anna.run(script, f"{airflow.url}/emotion-review/api/audio/formats/{item.audio}")
        assert played == [pytest.approx(30, abs=1), 25], kind
    anna.press(" ")
    when(lambda: anna.run("return !audio.paused && audio.currentTime > 0.2"))
    assert anna.run("return document.querySelector('#play').innerText").startswith("Pause")
    anna.press("p")
    when(lambda: anna.run("return audio.paused"))
    when(lambda: anna.run("return drawn !== null"))
    context = "document.querySelector('#canvas').getContext('2d').getImageData(0, 0, 400, 150).data"
    assert anna.run(f"return {context}.some(value => value > 0)"), "the picture is empty"


def test_hostile_names_are_text_and_the_page_fits_a_phone(airflow, store, anna):
    audio = sound(7)
    item = make_item("evil", 1, audio, path=HOSTILE, speaker=EVIL, people=2, unfamiliar=True)
    emotions = ("neutral", "<b>bold</b>")
    write_queue(store, "evil", [(item, audio)], label_set=emotions)
    open_review(anna, airflow, "/batches/evil")
    anna.console()
    anna.press("m")
    anna.devtools("Input.insertText", text=EVIL + "n" * 500)
    anna.press("Enter")
    assert anna.run("return document.querySelector('#speaker').value") == EVIL
    anna.resize(390, 844)
    anna.press("1")
    when(lambda: is_stored(anna))
    (entry,) = labels.read(store)
    assert (entry.note, entry.speaker, entry.label) == (EVIL + "n" * 500, EVIL, "neutral")
    text = anna.run("return document.querySelector('#reasons').innerText")
    assert "<img src=x onerror=" in text
    assert anna.run("return document.querySelectorAll('img, b').length") == 0
    assert anna.run("return document.querySelector('#emotions').innerText.includes('<b>bold</b>')")
    assert anna.run("return document.title") == "Emotion review"
    assert anna.run("return document.documentElement.scrollWidth <= innerWidth")
    heights = "[...document.querySelectorAll('button')].map(button => button.offsetHeight).filter(Boolean)"
    assert anna.run(f"return Math.min(...{heights})") >= 40
    anna.resize(1280, 860)
    assert anna.console() == []


def test_what_a_screen_reader_hears(airflow, store, anna):
    simple_queue(store, "spoken", 2)
    open_review(anna, airflow, "/batches/spoken")
    nodes = tree(anna)
    controls = [node for node in nodes if node[0] in ("button", "textbox", "slider", "combobox", "checkbox")]
    assert all(name for _, name in controls)
    for expected in (
        ("heading", "Which emotion do you hear?"),
        ("combobox", "Batch"),
        ("progressbar", "2 clips left for you"),
        ("slider", "Position in the clip"),
        ("button", "Play"),
        ("button", "neutral"),
        ("button", "none of these"),
        ("textbox", "Note"),
        ("textbox", "Speaker, if you know"),
        ("button", "Skip"),
        ("group", "Emotions of the model"),
        ("image", "Waveform and spectrogram of the clip"),
    ):
        assert expected in nodes, expected
    assert ("status", "") in nodes
    anna.press("1")
    when(lambda: is_stored(anna))
    nodes = tree(anna)
    assert ("heading", "You heard: neutral") in nodes and ("button", "Next clip") in nodes
    assert anna.run("return document.activeElement.id") == "answer-title"
    assert "Stored: neutral. The model says" in anna.run("return document.querySelector('[role=status]').textContent")
    anna.press("Tab")  # every control is reached, and shows that it has the focus
    assert anna.run("return getComputedStyle(document.activeElement).outlineStyle") == "solid"


def tree(browser: Browser) -> set[tuple[str, str]]:
    """Role and name of what a screen reader finds."""
    nodes = browser.devtools("Accessibility.getFullAXTree")["nodes"]
    shown = [node for node in nodes if not node.get("ignored")]
    return {(node["role"]["value"], node.get("name", {}).get("value", "").strip()) for node in shown}


def test_a_clip_whose_audio_is_gone_says_so_and_is_skipped(airflow, store, anna):
    items = simple_queue(store, "gone", 2)
    open_review(anna, airflow, "/batches/gone")
    first = audio_of(anna)
    (gone,) = (item for item in items if item.audio != first)
    store.delete(clips.key_of(gone.audio, gone.suffix))
    anna.click("#clips-card summary")
    anna.click(f"#clips [data-place='gone/{gone.audio}']")
    when(lambda: anna.run("return !busy") and audio_of(anna) == gone.audio)
    assert "not kept any more" in anna.run("return document.querySelector('#missing').innerText")
    anna.press("k")
    when(lambda: anna.run("return !busy") and audio_of(anna) == first)
    assert said(store, "gone") == {"anna": {gone.audio: "skip"}}
    label(anna, "1")
    assert "not kept any more" in anna.run("return document.querySelector('#done').innerText")


def test_without_a_queue_the_page_says_what_to_do(airflow, store, anna):
    open_review(anna, airflow)
    assert "review_clips above 0" in anna.run("return document.querySelector('#done').innerText")


def test_an_account_that_may_only_see_cannot_label(airflow, store):
    (item,) = simple_queue(store, "seen", 1)
    assert requests.get(f"{airflow.url}/emotion-review/", timeout=30).status_code == 401
    with person("vera", airflow) as vera:
        open_review(vera, airflow)
        assert "It may not label" in vera.run("return document.querySelector('#clip').innerText")
        assert vera.run("return document.querySelector('#choices').hidden")
        vera.press("1")
        body = {"batch": "seen", "audio": item.audio, "label": "sad", "blind": True}
        post = """return fetch('api/labels', {method: 'POST', headers: {'Content-Type': 'application/json'},
          body: arguments[0]}).then(reply => reply.status)"""
        assert vera.run(post, json.dumps(body)) == 403
    assert labels.read(store) == []


def test_a_page_of_another_origin_cannot_label_although_the_browser_sends_the_cookie(airflow, store, anna):
    (item,) = simple_queue(store, "target", 1)
    body = json.dumps({"batch": "target", "audio": item.audio, "label": "sad", "blind": True})
    with other_origin() as address:  # another port: the same site, so that the cookie goes with the request
        anna.open(address)
        script = """return fetch(arguments[0], {method: 'POST', mode: arguments[2], credentials: 'include',
          headers: {'Content-Type': arguments[3]}, body: arguments[1]}).then(reply => reply.type, () => 'refused')"""
        url = f"{airflow.url}/emotion-review/api/labels"
        assert anna.run(script, url, body, "no-cors", "text/plain") == "opaque"
        assert anna.run(script, url, body, "cors", "application/json") == "refused"
        assert labels.read(store) == []


@contextmanager
def other_origin():
    """A page of another web server on this machine."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<h1>Another page</h1>")

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
