"""The clips of a training run that a person should hear, from the artifact store."""

from __future__ import annotations

import io

import pandas as pd
import pytest

from emotion.audio import decode
from emotion.reports.training_report import LISTEN
from emotion.runs.listening import suspicious_clips
from emotion.store import Store
from small_data import wav

KEY = "runs/one/suspicious_labels.csv"


@pytest.fixture
def store(tmp_path) -> Store:
    """A store with twenty listed clips; the audio of the second is gone, that of the third is no audio."""
    store = Store(str(tmp_path))
    names = [f"{number:02}.wav" for number in range(20)]
    for number, name in enumerate(names):
        if number != 1:
            store.write_bytes(f"datasets/x/audio/{name}", b"text" if number == 2 else wav(number, seconds=1))
    listed = pd.DataFrame({"dataset": "", "path": names, "speaker": "007", "emotion": "none", "p_label": 0.1})
    listed = listed.assign(key="datasets/x/audio/" + listed["path"], predicted="sad", p_predicted=0.9)
    store.write_table(KEY, listed)
    return store


def test_the_most_suspicious_clips_have_an_excerpt(store):
    clips = list(suspicious_clips(store, KEY))
    assert [clip["path"] for clip in clips] == [f"{number:02}.wav" for number in range(LISTEN)]
    assert decode.load(io.BytesIO(clips[0]["audio"])).duration == pytest.approx(1.0, abs=0.2)
    assert clips[0]["p_label"] == 0.1 and clips[0]["emotion"] == "none" and clips[0]["dataset"] == ""
    assert all(clip["audio"] for clip in clips[3:])


def test_a_clip_without_audio_keeps_its_place_and_says_why(store):
    _, gone, no_audio, *_ = suspicious_clips(store, KEY)
    assert gone["audio"] is None and "01.wav is not there" in gone["message"]
    assert no_audio["audio"] is None and no_audio["message"]


def test_a_run_of_an_earlier_release_lists_no_clips(tmp_path):
    assert list(suspicious_clips(Store(str(tmp_path)), KEY)) == []
