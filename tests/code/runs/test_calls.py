"""A call is scored by channel and utterance: tables, ledger, drift, report and command line."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from browser import chromium
from calls import Turn, make_call, share_matched
from emotion.audio import decode
from emotion.commands import main
from emotion.datasets import synthesis
from emotion.features import quality
from emotion.inference import CustomEmotionModel
from emotion.metrics import Emitter
from emotion.models import decisions
from emotion.runs.folder_scoring import score_folder
from emotion.runs.scoring_run import ScoringRun
from emotion.scoring import shard as shard_module
from emotion.scoring.options import NothingToScore, Options
from emotion.settings import Settings
from emotion.store import Store
from emotion.vocabulary import EMOTIONS, probability_columns
from small_models import trained_store  # noqa: F401

PROBABILITIES = probability_columns(EMOTIONS)

RATE = synthesis.RATE
SEPARATE = Options(settle_seconds=0, channels="separate", segments="utterances")


@pytest.fixture(scope="module")
def clips() -> list[list[np.ndarray]]:
    """Twelve clips of each of two speakers."""
    names = synthesis.names(speakers=2)
    return [[synthesis.synthesize_clip(name) / 32768 for name in names[first : first + 12]] for first in (0, 30)]


@pytest.fixture(scope="module")
def scored(trained_store, clips, tmp_path_factory):  # noqa: F811
    """Settings, inbox and summary of a scored batch, and the turns of call.wav."""
    home, box = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("inbox")
    shutil.copytree(f"{trained_store.root}/models", home / "models")
    # Its answers to a mix of the clips differ enough to show the mix, which not each family's do.
    decisions.promote_by_hand(Store(str(home)), version="first", family="ensemble", reason="shows a mix")
    call, turns = make_call(clips, RATE, seed=1, snr=20, pauses=(-0.6, 1.5))
    soundfile.write(box / "call.wav", call, RATE)
    soundfile.write(box / "dual.flac", np.stack([call.sum(axis=1)] * 2, axis=1), RATE)
    soundfile.write(box / "half.flac", call * [1, 0], RATE)
    soundfile.write(box / "mono.flac", call[: 20 * RATE, 0], RATE)
    soundfile.write(box / "short.wav", call[: 9 * RATE] * [1, 0.1], RATE)
    (box / "text.wav").write_text("no recording")
    settings = Settings.from_environment({"EMOTION_HOME": str(home), "EMOTION_INBOXES": str(box)})
    return settings, box, score_folder(settings, box, batch="one", options=SEPARATE), turns


def tables(settings: Settings, batch: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    store = Store(settings.home)
    return tuple(store.read_table(f"scores/{batch}/{name}.parquet") for name in ("predictions", "timeline"))


def test_each_channel_is_a_row_and_a_speaker(scored):
    settings, _, summary, _ = scored
    table, _ = tables(settings, "one")
    rows = {(row["path"], row["channel"]): row for row in table.to_dict("records")}
    assert list(rows) == [
        ("call.wav", "1"), ("call.wav", "2"), ("dual.flac", ""), ("half.flac", "1"), ("half.flac", "2"),
        ("mono.flac", ""), ("short.wav", "1"), ("short.wav", "2"), ("text.wav", ""),
    ]  # fmt: skip
    assert rows["call.wav", "2"]["speaker"] == "call.wav#2" and rows["mono.flac", ""]["speaker"] == ""
    assert [rows["call.wav", channel]["mode"] for channel in "12"] == ["speaker"] * 2
    assert rows["mono.flac", ""]["mode"] == rows["short.wav", "1"]["mode"] == "plain"
    assert (rows["half.flac", "2"]["error"], rows["half.flac", "1"]["error"]) == ("silent", "")
    assert "channel 2 of half.flac" in rows["half.flac", "2"]["message"]
    assert rows["dual.flac", ""]["error"] == "" and "identical" in rows["dual.flac", ""]["message"]
    assert (summary["files"], summary["channels"], summary["scored"]) == (9, 6, 7)
    assert summary["rejected"] == {"silent": 1, "not_audio": 1}


def test_each_channel_has_its_own_quality(scored):
    settings, box, _, _ = scored
    table, _ = tables(settings, "one")
    rows = {(row["path"], row["channel"]): row for row in table.to_dict("records")}
    samples, _ = soundfile.read(box / "short.wav", dtype="float32")
    for channel in "12":
        expected = quality.measure(decode.from_blocks([samples[:, int(channel) - 1]], RATE).samples)
        assert [rows["short.wav", channel][name] for name in quality.COLUMNS] == pytest.approx(expected, nan_ok=True)
    quieter = rows["short.wav", "1"]["level_db"] - rows["short.wav", "2"]["level_db"]
    assert quieter > 10, "the second channel is 20 dB quieter"
    for place in (("call.wav", "1"), ("call.wav", "2"), ("mono.flac", "")):
        assert np.isfinite([rows[place][name] for name in ("level_db", "bandwidth_hz", "unfamiliarity")]).all()
    assert np.isnan(rows["half.flac", "2"]["level_db"]) and not rows["half.flac", "2"]["unfamiliar"]


def test_the_timeline_has_the_turns_of_each_channel(scored):
    settings, box, _, turns = scored
    table, timeline = tables(settings, "one")
    call = timeline[timeline["path"] == "call.wav"]
    cut = [Turn(int(row["channel"]), row["start"], row["end"]) for row in call.to_dict("records")]
    assert share_matched(turns, cut) >= 0.9
    assert call["start"].is_monotonic_increasing
    seconds = soundfile.info(box / "call.wav").duration
    assert table.loc[table["path"] == "call.wav", "duration"].tolist() == [seconds] * 2


def test_a_channel_is_normalized_by_its_own_utterances(scored):
    settings, box, _, _ = scored
    _, timeline = tables(settings, "one")
    rows = timeline[(timeline["path"] == "call.wav") & (timeline["channel"] == "2") & (timeline["error"] == "")]
    samples, rate = soundfile.read(box / "call.wav", dtype="float32")
    model = CustomEmotionModel(settings=settings)
    from emotion import features

    vectors = [
        features.extract(
            decode.from_blocks([samples[round(row.start * rate) : round(row.end * rate), 1]], rate).samples
        )
        for row in rows.itertuples()
    ]
    answers = model.predict_features(np.array(vectors), speakers=["caller"] * len(vectors))
    expected = [list(answer["probabilities"].values()) for answer in answers]
    assert rows[PROBABILITIES].to_numpy() == pytest.approx(np.array(expected), abs=1e-9)


def test_a_short_channel_has_the_answer_of_its_samples(scored):
    settings, box, _, _ = scored
    table, _ = tables(settings, "one")
    samples, rate = soundfile.read(box / "short.wav")
    for channel in (1, 2):
        answer = CustomEmotionModel(settings=settings).predict_emotion_from_array(samples[:, channel - 1], rate)
        row = table[(table["path"] == "short.wav") & (table["channel"] == str(channel))].iloc[0]
        assert row[PROBABILITIES].tolist() == pytest.approx(list(answer["probabilities"].values()), abs=1e-6)


def test_a_file_is_known_as_a_whole(scored):
    settings, box, _, _ = scored
    with pytest.raises(NothingToScore, match="6 files are known"):
        score_folder(settings, box, batch="two", options=SEPARATE)
    with pytest.raises(NothingToScore, match="6 files are known"):
        score_folder(settings, box, batch="two", options=Options(settle_seconds=0))


def test_the_report_draws_a_line_per_channel_and_where_they_overlap(scored, tmp_path):
    settings, _, _, turns = scored
    page = Path(Store(settings.home).path("scores/one/report.html"))
    pairs = list(zip(turns, turns[1:], strict=False))
    overlap = sum(max(0.0, first.end - second.start) for first, second in pairs)
    close = sum(first.end - second.start > -0.3 for first, second in pairs)
    with chromium() as browser:
        for width in (1280, 390):
            browser.resize(width, 900)
            browser.open(page)
            assert browser.console() == []
            assert browser.run("return document.documentElement.scrollWidth") <= width
        lanes = browser.run(
            "return [...document.querySelectorAll('figure.timeline')].map(f => "
            "[f.querySelector('figcaption').innerText, "
            "[...f.querySelectorAll('svg')].map(s => [s.getAttribute('aria-label'), "
            " s.querySelectorAll('rect[height=\"40\"]').length, s.querySelectorAll('rect[height=\"6\"]').length])])"
        )
        browser.screenshot(tmp_path / "report.png", whole=True)
        text = browser.run("return document.body.innerText")
    by_name = {label: (pieces, marks) for _, strips in lanes for label, pieces, marks in strips}
    assert by_name["Timeline of call.wav, channel 1"][0] == by_name["Timeline of call.wav, channel 2"][0] == 12
    assert by_name["Timeline of call.wav, channel 1"][1] == by_name["Timeline of call.wav, channel 2"][1] > 3
    assert by_name["Timeline of half.flac, channel 2"] == (0, 0)
    (caption,) = [caption for caption, _ in lanes if caption.startswith("call.wav")]
    shown = float(caption.rpartition("overlap for ")[2].split()[0])
    assert 1 < overlap <= shown <= overlap + 0.3 * close  # each end is right within 0.15 s
    assert "7 of 9 channels and files scored" in text and "half.flac · channel 2" in text


def test_the_least_certain_channels_can_be_heard_and_are_explained(scored):
    settings, _, _, _ = scored
    html = Store(settings.home).read_bytes("scores/one/report.html").decode()
    section = html[html.index('<section id="listen">') : html.index('<section id="rejected">')]
    assert section.count("<audio ") == 2 and section.count('class="fall"') == 2
    assert "short.wav · channel 1" in section and "short.wav · channel 2" in section
    assert "No explanation" not in section


def test_a_disk_error_on_one_channel_leaves_the_whole_file(scored, clips, tmp_path, monkeypatch):
    settings, _, _, _ = scored
    call, _ = make_call([speaker[:2] for speaker in clips], RATE, seed=1)
    box = tmp_path / "box"
    box.mkdir()
    for name in ("a.wav", "b.wav"):
        soundfile.write(box / name, call[: 9 * RATE] * (1 if name == "a.wav" else 0.5), RATE)
    read = shard_module.read

    def broken(handle, **options):
        if handle.name.endswith("a.wav") and options["channel"] == 2:
            raise OSError(errno.EIO, "Input/output error")
        return read(handle, **options)

    with monkeypatch.context() as patch:
        patch.setattr(shard_module, "read", broken)
        summary = score_folder(settings, box, batch="broken", options=SEPARATE)
    rows = Store(settings.home).read_table("scores/broken/predictions.parquet")
    assert rows[["path", "channel", "error"]].values.tolist() == [["b.wav", "1", ""], ["b.wav", "2", ""]]
    assert summary["left_for_next_sweep"] == {"temporary_error": 1}
    score_folder(settings, box, batch="mended", options=SEPARATE)
    rows = Store(settings.home).read_table("scores/mended/predictions.parquet")
    assert rows[["path", "channel", "error"]].values.tolist() == [["a.wav", "1", ""], ["a.wav", "2", ""]]
    with pytest.raises(NothingToScore):
        score_folder(settings, box, batch="none", options=SEPARATE)


def test_a_fault_of_the_code_on_one_channel_keeps_the_other(scored, clips, tmp_path, monkeypatch):
    settings, _, _, _ = scored
    call, _ = make_call([speaker[:2] for speaker in clips], RATE, seed=2)
    soundfile.write(tmp_path / "a.wav", call[: 9 * RATE], RATE)
    read = shard_module.read

    def broken(handle, **options):
        if options["channel"] == 1:
            raise ZeroDivisionError
        return read(handle, **options)

    monkeypatch.setattr(shard_module, "read", broken)
    score_folder(settings, tmp_path, batch="fault", options=SEPARATE)
    rows = Store(settings.home).read_table("scores/fault/predictions.parquet")
    assert rows[["channel", "error"]].values.tolist() == [["1", "internal"], ["2", ""]]


def test_windows_of_a_channel(scored):
    settings, box, _, _ = scored
    options = Options(settle_seconds=0, channels="separate", rescore=True)
    score_folder(settings, box, batch="windows", options=options)
    table, timeline = tables(settings, "windows")
    rows = table[table["path"] == "call.wav"]
    assert rows["channel"].tolist() == ["1", "2"] and (rows["windows"] > 10).all()
    lengths = (timeline["end"] - timeline["start"]).round(6)
    assert (lengths[timeline["path"] == "call.wav"].iloc[:-2] == 3).all()


def test_a_part_of_an_earlier_release_has_no_channel_and_another_word_for_by_speaker(scored, clips, tmp_path):
    """An answer to a clip is computed anew from its features; that to a long recording stays."""
    settings, _, _, _ = scored
    soundfile.write(tmp_path / "a.wav", clips[0][3], RATE)
    soundfile.write(tmp_path / "long.wav", np.concatenate(clips[0]), RATE)
    settings = Settings.from_environment({"EMOTION_HOME": settings.home, "EMOTION_INBOXES": str(tmp_path)})
    run = ScoringRun(settings, "earlier", Emitter(None))
    for shard in run.find_new_audio(folder=None, options=Options(settle_seconds=0)):
        run.score(part=shard["part"])
        part, timeline = f"{shard['part']}.parquet", f"{shard['part']}-timeline.parquet"
        table = run.store.read_table(part).drop(columns=["channel", "heard_in_training"])
        table[PROBABILITIES] = table[PROBABILITIES].where(table["vector"] < 0, 0.125)  # by speaker, they were others
        run.store.write_table(part, table.assign(mode="adapted"))
        run.store.write_table(timeline, run.store.read_table(timeline).drop(columns="channel"))
        plan = run.store.read_json("scores/earlier/plan.json")
        del plan["options"]["channels"], plan["options"]["segments"]
        run.store.write_json("scores/earlier/plan.json", plan)
    run.collect_predictions()
    run.watch_drift()
    summary = run.store.read_json("scores/earlier/summary.json")
    assert (summary["channels"], summary["failures"]) == (0, [])
    assert summary["modes"] == {"plain": 1, "batch": 0, "speaker": 1}
    rows = run.store.read_table("scores/earlier/predictions.parquet").set_index("path")
    assert rows["mode"].to_dict() == {"a.wav": "plain", "long.wav": "speaker"}
    answer = CustomEmotionModel(settings=settings).predict_emotion_from_file(tmp_path / "a.wav")
    assert rows.loc["a.wav", PROBABILITIES].tolist() == pytest.approx(list(answer["probabilities"].values()), abs=1e-6)
    assert rows["channel"].tolist() == ["", ""] and rows["heard_in_training"].tolist() == ["", ""]


def test_the_command_line(scored, tmp_path, monkeypatch, capsys):
    settings, box, _, _ = scored
    monkeypatch.setenv("EMOTION_HOME", settings.home)
    arguments = ["score", str(box), "--batch", "cli", "--channels", "separate", "--segments", "utterances"]
    assert main.main(arguments) == 0 and "6 files are known" in capsys.readouterr().out
    assert main.main([*arguments, "--rescore"]) == 1
    assert "7 of 9 channels and files scored" in capsys.readouterr().out
    predict = ["predict", "--json", "--channels", "separate"]
    assert main.main([*predict, str(box / "short.wav")]) == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [answer["channel"] for answer in answers] == [1, 2]
    assert main.main([*predict, "--segments", "utterances", str(box / "call.wav")]) == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {answer["channel"] for answer in answers} == {1, 2} and len(answers) == 24
    assert main.main(["predict", "--channels", "separate", "--segments", "utterances", str(box / "call.wav")]) == 0
    assert "call.wav, channel 2" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main.main([*predict, "--segments", "utterances", "--window", "3", str(box / "call.wav")])
    assert "cannot be combined" in capsys.readouterr().err
