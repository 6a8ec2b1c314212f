"""The report of a scoring run: a batch is scored for real, and the page is opened in a real browser."""

import io
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from browser import chromium
from emotion.audio import decode
from emotion.reports import batch_report, players
from emotion.reports.batch_report import LISTEN, SEGMENTS
from emotion.reports.players import EXCERPT_SECONDS
from emotion.runs.folder_scoring import score_folder
from emotion.scoring.options import Options
from emotion.settings import Settings
from emotion.store import Store
from emotion.vocabulary import EMOTIONS, probability_columns
from small_models import trained_store  # noqa: F401

PROBABILITIES = probability_columns(EMOTIONS)

HOSTILE = "<script>document.title='owned'<∕script><img src=x onerror=document.title='owned'>\"'{{ 7*7 }}.wav"


@pytest.fixture(scope="module")
def batch(trained_store, tmp_path_factory):  # noqa: F811
    """Store and summary of a batch scored by two models, with long, hostile, unreadable and labelled files."""
    home, box = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("inbox")
    shutil.copytree(f"{trained_store.root}/models", home / "models", copy_function=os.link)
    voices = [Path(trained_store.root, key) for key in trained_store.list("corpus", "*.wav")]
    for path in voices[::2]:
        shutil.copy(path, box)
    shutil.copy(voices[1], box / HOSTILE)
    (box / "new\nline 🎤.wav").touch()
    (box / "text.wav").write_text("no recording")
    speech = np.concatenate([soundfile.read(path)[0] for path in voices])
    soundfile.write(box / "long.flac", np.concatenate([speech, np.zeros(5 * 48_000), speech]), 48_000)
    summary = score_folder(
        Settings.from_environment({"EMOTION_HOME": str(home)}),
        box,
        batch="one",
        challenger="first/gradient_boosting",
        options=Options(settle_seconds=0),
    )
    return Store(str(home)), summary


@pytest.fixture(scope="module")
def page(batch):
    store, _ = batch
    return Path(store.path("scores/one/report.html"))


WAVES = """return [...document.querySelectorAll('svg.wave')].map(wave => {
  const shape = wave.querySelector('.shape').getBoundingClientRect(), box = wave.getBoundingClientRect();
  return box.height > 60 && shape.width > 0.9 * box.width && shape.height > 0.5 * box.height;
});"""
"""Whether each waveform fills its box."""
WATERFALLS = """return [...document.querySelectorAll('.fall')].map(fall => {
  const bars = [...fall.querySelectorAll('.bar-track i')];
  return bars.length > 7 && bars.every(bar => {
    const place = bar.getBoundingClientRect(), track = bar.parentElement.getBoundingClientRect();
    return track.width > 60 && place.width >= 2 && place.left >= track.left - 3 && place.right <= track.right + 3;
  });
});"""
"""Whether each waterfall has a bar for each group and two marks, all on their tracks."""


@pytest.mark.browser
def test_the_page_in_a_browser(page, batch, tmp_path):
    _, summary = batch
    with chromium() as browser:
        for width, scheme in ((1280, "light"), (390, "dark")):
            browser.resize(width, 900)
            browser.colours(scheme)
            browser.open(page)
            assert browser.console() == []
            assert all(url.startswith("file:") for url in browser.requested())
            assert "owned" not in browser.run("return document.title")
            assert browser.run("return document.documentElement.scrollWidth") <= width
            drawn = (
                "return [...document.querySelectorAll('svg:not(.wave)')].map("
                "s => s.getBoundingClientRect().height > 20 && s.querySelectorAll('rect').length > 5)"
            )
            assert browser.run(drawn) == [True] * 3
            assert browser.run(WAVES) == [True] * LISTEN
            assert browser.run(WATERFALLS) == [True] * LISTEN
            browser.screenshot(tmp_path / f"{width}.png", whole=True)
        players = browser.run("return document.querySelectorAll('audio').length")
        assert players == LISTEN
        playable = (
            "return [...document.querySelectorAll('audio')].map(a => a.error ? a.error.message : "
            "a.readyState >= 1 && a.duration > 0.5 && a.duration < 9)"
        )
        assert browser.run(playable) == [True] * players
        browser.run("document.querySelectorAll('details').forEach(element => element.open = true)")
        text = browser.run("return document.body.innerText")
    assert f"{summary['scored']} of {summary['files']} files scored" in text
    assert "new\nline 🎤.wav" in text and "{{ 7*7 }}" in text and "49.wav" not in text
    for heading in (
        "Drift",
        "Accuracy in use",
        "Predicted emotions and confidence",
        "Long recordings",
        "The least certain clips",
        "Two models side by side",
    ):
        assert heading in text


def test_the_least_certain_come_first_with_reasons(page, batch):
    store, _ = batch
    html = page.read_text()
    table = store.read_table("scores/one/predictions.parquet")
    clips = table[(table["error"] == "") & (table["windows"] == 0)].nsmallest(LISTEN, "confidence")
    section = html[html.index('<section id="listen">') : html.index('<section id="comparison">')]
    places = [section.index(name) for name in clips["path"] if "<" not in name]
    assert places == sorted(places)
    assert (
        section.count('<p class="sentence">')
        == section.count('class="fall"')
        == section.count('class="wave"')
        == LISTEN
    )
    assert section.count("<b>+") > LISTEN and section.count("<b>−") > LISTEN
    assert section.index('class="fall"') < section.index('<details class="parts"><summary>Features')


def test_linked_terms_are_explained(page):
    html = page.read_text()
    links = set(re.findall(r'href="#term-(\w+)"', html))
    assert len(links) > 10
    assert links <= set(re.findall(r'<dt id="term-(\w+)">', html))


def test_the_report_does_not_import_shap():
    """Importing shap takes seconds, and the report needs only the answers' stored explanations."""
    code = "import sys, emotion.reports.batch_report; print('shap' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "False\n"


def test_the_page_stays_small(page):
    assert page.stat().st_size < 1_500_000


def test_an_excerpt_is_short_and_small():
    samples = np.random.default_rng(0).normal(0, 0.1, 60 * 16_000).astype("float32")
    clip = decode.from_blocks([samples], 16_000)
    mp3 = players.excerpt(clip)
    assert len(mp3) < 80_000
    assert decode.load(io.BytesIO(mp3)).duration == pytest.approx(EXCERPT_SECONDS, abs=0.2)


def test_a_long_timeline_is_drawn_in_few_pieces():
    windows = 5000
    probabilities = np.full((windows, 8), 0.1)
    probabilities[: windows // 2, 4] = 0.3
    probabilities[windows // 2 :, 3] = 0.3
    timeline = pd.DataFrame(probabilities, columns=PROBABILITIES).assign(
        error="", start=np.arange(windows) * 3.0, end=np.arange(1, windows + 1) * 3.0
    )
    pieces = batch_report._segments(timeline)
    assert len(pieces) == SEGMENTS
    assert pieces[0]["start"] == 0 and pieces[-1]["end"] == 3 * windows
    assert [pieces[0]["emotion"], pieces[-1]["emotion"]] == ["angry", "sad"]
    short = timeline.head(4).copy()
    short.loc[2, PROBABILITIES] = np.nan
    assert [piece["emotion"] for piece in batch_report._segments(short)] == [
        "angry", "angry", "", "angry",
    ]  # fmt: skip
