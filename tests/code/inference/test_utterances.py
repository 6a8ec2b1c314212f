"""Utterances: cut where somebody speaks, whatever the noise and the gain, in constant memory."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile

from calls import Turn, make_call, share_matched
from emotion.datasets import synthesis
from emotion.errors import AudioError, ConfigurationError
from emotion.inference import CustomEmotionModel
from emotion.inference.utterances import LONGEST, UtteranceCutter
from emotion.inference.windows import stream_windows

pytest_plugins = ("small_models",)

RATE = synthesis.RATE
TURNS = 10


def utterances(call, rate, *, block=16_384):
    """What is cut from each channel of a call, in the form of turns."""
    turns = []
    for channel in range(call.shape[1]):
        cutter = UtteranceCutter(rate)
        samples = call[:, channel].astype(np.float32)
        segments = [s for start in range(0, len(call), block) for s in cutter.add(samples[start : start + block])]
        segments += cutter.finish()
        turns += [Turn(channel + 1, s.start / rate, s.end / rate) for s in segments]
    return turns


@pytest.fixture(scope="module")
def synthesized() -> list[list[np.ndarray]]:
    """Ten clips of each of two synthesized speakers."""
    names = synthesis.names(speakers=2)
    return [[synthesis.synthesize_clip(name) / 32768 for name in names[first : first + TURNS]] for first in (0, 30)]


@pytest.fixture(scope="module")
def recorded(ravdess: Path) -> list[list[np.ndarray]]:
    """Eighteen RAVDESS clips of each of two actors, of all emotions."""
    speakers = []
    for actor in (5, 6):
        paths = sorted((ravdess / f"Actor_{actor:02d}").glob("*.wav"))[::3][:18]
        clips = [soundfile.read(path, always_2d=True)[0].mean(axis=1) for path in paths]
        speakers.append(clips)
    return speakers


@pytest.mark.parametrize("voices", ["synthesized", "recorded"])
@pytest.mark.parametrize(
    ("options", "least"),
    [
        pytest.param({"snr": 20}, 0.9, id="20 dB"),
        pytest.param({"snr": 10}, 0.8, id="10 dB"),
        pytest.param({"snr": None}, 0.9, id="no noise"),
        pytest.param({"snr": 20, "gains": (0, -20)}, 0.9, id="one channel 20 dB less"),
        pytest.param({"snr": 20, "pauses": (-0.6, 1.5)}, 0.9, id="speakers interrupt each other"),
        pytest.param({"snr": None, "crosstalk": -45}, 0.9, id="cross-talk 45 dB below"),
    ],
)
def test_an_utterance_begins_and_ends_with_the_turn(request, voices, options, least):
    call, turns = make_call(request.getfixturevalue(voices), RATE, seed=1, **options)
    cut = utterances(call, RATE)
    assert share_matched(turns, cut) >= least
    assert len(cut) <= 1.1 * len(turns)


def test_the_blocks_of_a_stream_do_not_matter(synthesized):
    call, _ = make_call(synthesized, RATE, seed=1)
    assert utterances(call, RATE, block=len(call)) == utterances(call, RATE, block=777)


@pytest.mark.parametrize("rate", [8_000, 11_025, 44_100])
def test_any_rate(synthesized, rate):
    call, turns = make_call(synthesized, RATE, seed=1)
    positions = np.arange(0, len(call) - 1, RATE / rate)
    resampled = np.stack([np.interp(positions, np.arange(len(call)), channel) for channel in call.T], axis=1)
    assert share_matched(turns, utterances(resampled, rate)) >= 0.9


def test_speech_without_a_pause_is_cut_at_its_quietest_point():
    rng = np.random.default_rng(0)
    level = np.full(20 * 8_000, 0.1)
    level[10 * 8_000 : round(10.25 * 8_000)] = 0.01  # shorter than a pause
    stream = np.concatenate([rng.normal(0, 0.001, 16_000), rng.normal(0, level), rng.normal(0, 0.001, 16_000)])
    first, second = utterances(stream[:, None], 8_000)
    assert (first.start, second.end) == (pytest.approx(2, abs=0.1), pytest.approx(22, abs=0.1))
    assert 11.95 <= first.end <= second.start <= 12.3


def test_no_utterance_is_longer_than_the_longest_and_none_is_lost():
    rng = np.random.default_rng(0)
    stream = rng.normal(0, 0.1 * (1.2 + np.sin(np.arange(100 * 8_000) / 900)))
    stream[: 4 * 8_000] = rng.normal(0, 0.001, 4 * 8_000)
    cut = utterances(stream[:, None], 8_000)
    assert max(turn.end - turn.start for turn in cut) <= LONGEST
    assert sum(turn.end - turn.start for turn in cut) > 94


def test_a_whole_file_of_speech_is_not_taken_for_noise(synthesized):
    """No frame of it is a pause: the noise floor is that of the closures in it."""
    speech = np.concatenate(synthesized[0][:4]).astype(np.float32)
    cut = utterances(speech[:, None], RATE)
    assert sum(turn.end - turn.start for turn in cut) > 0.7 * len(speech) / RATE


@pytest.mark.parametrize(
    ("stream", "reason"),
    [
        (np.zeros(160_000), "silent"),
        (np.random.default_rng(0).normal(0, 0.05, 160_000), "no_speech"),
        (np.random.default_rng(0).normal(0, 0.001, 160_000) + 0.3, "no_speech"),
        (0.2 * np.sin(np.arange(160_000) / 3), "no_speech"),
        (np.empty(0), "silent"),
    ],
    ids=["silence", "noise", "a constant", "a tone", "nothing"],
)
def test_a_stream_without_speech_says_why(stream, reason):
    (window,) = stream_windows([stream.astype(np.float32)], 16_000, segments="utterances")
    assert (window.start, window.end, window.error.reason) == (0, len(stream) / 16_000, reason)


def test_a_click_is_no_utterance_and_a_short_one_is_listed():
    rng = np.random.default_rng(0)
    stream = rng.normal(0, 0.001, 10 * 8_000)
    stream[16_000:16_040] = 0.5
    stream[40_000:44_000] += rng.normal(0, 0.1, 4_000)
    (window,) = stream_windows([stream], 8_000, segments="utterances")
    assert window.error.reason == "too_short" and window.start == pytest.approx(4.95, abs=0.05)


def test_samples_that_are_not_finite_spoil_only_their_own_utterance(synthesized):
    call, turns = make_call(synthesized, RATE, seed=1)
    middle = round((turns[4].start + turns[4].end) / 2 * RATE)
    call[middle, turns[4].channel - 1] = np.nan
    windows = list(stream_windows([call[:, 0]], RATE, segments="utterances"))
    errors = [window.error.reason for window in windows if window.error]
    assert errors == ["not_finite"] and len(windows) > 8


def test_channels_are_cut_each_by_itself_and_answers_are_those_of_the_samples(trained_store, synthesized, tmp_path):
    call, turns = make_call([clips[:4] for clips in synthesized], RATE, seed=1)
    soundfile.write(tmp_path / "call.wav", call, RATE, subtype="FLOAT")
    model = CustomEmotionModel.from_store(trained_store)
    answers = list(model.predict_timeline(tmp_path / "call.wav", segments="utterances", channels="separate"))
    cut = [Turn(answer["channel"], answer["start"], answer["end"]) for answer in answers]
    assert share_matched(turns, cut) == 1
    call = call.astype(np.float32)
    for answer in answers[::3]:
        samples = call[round(answer["start"] * RATE) : round(answer["end"] * RATE), answer["channel"] - 1]
        alone = model.predict_emotion_from_array(samples, RATE)
        assert answer["probabilities"] == alone["probabilities"]


def test_each_channel_is_an_answer_and_a_speaker(trained_store, tmp_path):
    """Ten stereo files of a speaker: each channel has ten clips of several emotions, and is normalized by them."""
    model = CustomEmotionModel.named(trained_store, "first/ensemble")
    clips = [synthesis.synthesize_clip(name) / 32768 for name in synthesis.names(speakers=2)[20:40]]
    paths = []
    for number in range(10):
        pair = [clips[number], clips[number + 10]]
        size = min(map(len, pair))
        paths.append(tmp_path / f"{number}.wav")
        soundfile.write(paths[-1], np.stack([clip[:size] for clip in pair], axis=1), RATE, subtype="FLOAT")
    mono = tmp_path / "dual.wav"
    soundfile.write(mono, np.stack([clips[0]] * 2, axis=1), RATE, subtype="FLOAT")
    speakers = ["ann"] * 10 + [""]
    answers = list(model.predict_batch([*paths, mono], speakers=speakers, adaptation="speaker", channels="separate"))
    assert [answer.get("channel") for answer in answers] == [1, 2] * 10 + [None]
    assert [answer["mode"] for answer in answers] == ["speaker"] * 20 + ["plain"]
    assert "identical" in answers[-1]["message"]
    silent = tmp_path / "silent.wav"
    soundfile.write(silent, np.stack([clips[0], np.zeros(len(clips[0]))], axis=1), RATE)
    heard, refused = model.predict_batch([silent], channels="separate")
    assert heard["channel"] == 1 and "emotion" in heard
    assert (refused["channel"], refused["error"]) == (2, "silent")


def test_words_that_are_no_option(trained_store, tmp_path):
    model = CustomEmotionModel.from_store(trained_store)
    with pytest.raises(ConfigurationError, match="channels 'left'"):
        model.predict_timeline(tmp_path / "a.wav", channels="left")
    with pytest.raises(ConfigurationError, match="segments 'words'"):
        next(stream_windows([np.zeros(9)], 8_000, segments="words"))
    with pytest.raises(AudioError, match="cannot be read"):
        model.predict_timeline(tmp_path / "a.wav", channels="separate")


def test_half_an_hour_of_mp3_takes_no_more_memory_than_three_minutes(tmp_path):
    """Two bursts a minute on each of two channels; only their features are kept."""
    rng = np.random.default_rng(0)
    minute = rng.normal(0, 0.001, (60 * 8_000, 2))
    minute[80_000:92_000, 0] += rng.normal(0, 0.1, 12_000)
    minute[240_000:252_000, 1] += rng.normal(0, 0.1, 12_000)
    peaks, counts = [], []
    for minutes in (3, 30):
        path = tmp_path / f"{minutes}.mp3"
        with soundfile.SoundFile(path, "w", 8_000, 2, format="MP3") as file:
            for _ in range(minutes):
                file.write(minute)
        cutters = [UtteranceCutter(8_000) for _ in range(2)]
        tracemalloc.start()
        count = 0
        with soundfile.SoundFile(path) as file:
            for block in file.blocks(1 << 15, dtype="float32"):
                for channel, cutter in enumerate(cutters):
                    count += len(list(cutter.add(block[:, channel].copy())))
        count += sum(len(list(cutter.finish())) for cutter in cutters)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        counts.append(count)
    assert counts == [6, 60]
    assert peaks[1] < 1.1 * peaks[0] < 20e6
