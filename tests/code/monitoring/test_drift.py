"""New speakers raise no alarm, changed audio does; figures agree with SciPy's; sketches of shards add up."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2_contingency, false_discovery_control, ks_2samp, t

from emotion.errors import BundleError
from emotion.features import feature_names
from emotion.features.quality import Quality
from emotion.monitoring import drift, statistics
from emotion.monitoring.drift import Sketch
from emotion.monitoring.reference import SIZES, UNCALIBRATED, Reference, build_reference
from emotion.monitoring.statistics import LARGEST_SHIFT
from emotion.vocabulary import EMOTIONS, MODES, probability_columns

PROBABILITIES = probability_columns(EMOTIONS)

SPEAKERS, CLIPS, FEATURES = 10, 40, 300
NAMES = feature_names()[:FEATURES]


STUDIO = Quality(level_db=-36, snr_db=60, bandwidth_hz=7800, clipped_share=0, seconds_of_speech=2)
QUALITY = pd.DataFrame([STUDIO] * 400)


def clips_of(rng, speakers, *, clips=CLIPS, shift=0.0):
    """Features that vary between clips (standard deviation 1) and between speakers (0.5), each on another scale."""
    offsets = rng.normal(0, 0.5, (speakers, 1, FEATURES))
    values = offsets + rng.normal(0, 1, (speakers, clips, FEATURES)) + shift
    return (values * np.logspace(-2, 3, FEATURES) + 5).astype("float32").reshape(-1, FEATURES)


def answers(rng, count, *, sharpness=1.0):
    return rng.dirichlet(np.full(8, 1 / sharpness), count)


def held_out(probabilities):
    """Calibrated held-out predictions in every mode: an emotion is true as often as its probability says."""
    chances = np.random.default_rng(1).random((len(probabilities), 1))
    emotions = np.array(EMOTIONS)[np.minimum((probabilities.cumsum(axis=1) < chances).sum(axis=1), 7)]
    frames = [
        pd.DataFrame(probabilities, columns=PROBABILITIES).assign(
            protocol=protocol, row=np.arange(len(probabilities)), emotion=emotions
        )
        for protocol in MODES.values()
    ]
    return {"forest": pd.concat(frames)}


@pytest.fixture(scope="module")
def training():
    rng = np.random.default_rng(0)
    values = clips_of(rng, SPEAKERS)
    speakers = np.repeat([f"s{number}" for number in range(SPEAKERS)], CLIPS)
    return values, speakers, answers(rng, len(values))


@pytest.fixture(scope="module")
def reference(training):
    values, speakers, probabilities = training
    return build_reference(values, speakers, held_out(probabilities), names=NAMES, quality=QUALITY, seed=0)


def judge(reference, values, probabilities):
    sketch = Sketch(reference)
    sketch.add(values)
    sketch.add_predictions(probabilities, np.full(len(values), "plain"), family="forest")
    return drift.judge(sketch)


@pytest.mark.parametrize(("speakers", "clips"), [(1, 4), (1, 10), (1, 40), (6, 40), (40, 40)])
def test_new_speakers_raise_no_alarm(reference, speakers, clips):
    for seed in range(20):
        rng = np.random.default_rng(100 + seed)
        values = clips_of(rng, speakers, clips=clips)
        assert judge(reference, values, answers(rng, len(values)))["verdict"] != "alarm"


def test_training_clips_are_ok_and_so_is_a_new_speaker_who_differs_significantly(training, reference):
    values, _, probabilities = training
    verdict = judge(reference, values, probabilities)
    assert verdict["verdict"] == "ok" and verdict["features"]["significant"] == 0
    speaker = judge(reference, clips_of(np.random.default_rng(5), 1), answers(np.random.default_rng(5), CLIPS))
    assert speaker["features"]["significant"] > 0.2 and speaker["features"]["share"] < 0.02
    assert speaker["verdict"] == "ok" and "no more than those of single training speakers (10)" in speaker["reasons"][0]


@pytest.mark.parametrize("clips", [4, 40])
def test_a_change_of_some_features_raises_an_alarm(reference, clips):
    rng = np.random.default_rng(1)
    shift = np.where(np.arange(FEATURES) < 12, 5.0, 0.0)
    values = clips_of(rng, 2, clips=clips // 2, shift=shift)
    verdict = judge(reference, values, answers(rng, clips))
    assert verdict["verdict"] == "alarm" and "The audio differs" in verdict["reasons"][0]
    assert {top["feature"] for top in verdict["top"][:12]} == set(NAMES[:12])
    assert all(top["shift"] > 3 for top in verdict["top"][:12])
    assert verdict["features"]["shift"] > verdict["features"]["alarm"] > verdict["features"]["watch"]


def test_predictions_alone_raise_a_watch(reference):
    rng = np.random.default_rng(2)
    values = clips_of(rng, 10, clips=20)
    one_sided = answers(rng, 200)
    one_sided[:, 3] += 5
    mostly_sad = judge(reference, values, one_sided / one_sided.sum(axis=1, keepdims=True))
    assert mostly_sad["verdict"] == "watch" and "mix of predicted emotions" in mostly_sad["reasons"][0]
    assert mostly_sad["emotions"]["psi"] > mostly_sad["emotions"]["watch"] and mostly_sad["emotions"]["p"] < 1e-6
    unsure = judge(reference, values, answers(rng, 200, sharpness=0.05))
    assert unsure["verdict"] == "watch" and unsure["confidence"]["drop"] > unsure["confidence"]["watch"]
    sure = judge(reference, values, answers(rng, 200, sharpness=20))
    assert sure["verdict"] == "ok" and sure["confidence"]["ks"] > 0.3 > sure["confidence"]["drop"]
    assert any("confidence" in reason for reason in unsure["reasons"])


def test_an_alarm_stays_an_alarm_if_the_predictions_differ_too(reference):
    rng = np.random.default_rng(6)
    one_sided = answers(rng, 200)
    one_sided[:, 3] += 5
    values = clips_of(rng, 10, clips=20, shift=5.0)
    verdict = judge(reference, values, one_sided / one_sided.sum(axis=1, keepdims=True))
    assert verdict["verdict"] == "alarm"
    assert "The audio differs" in verdict["reasons"][0] and "mix of predicted emotions" in verdict["reasons"][1]


def test_figures_agree_with_scipy(training, reference):
    values, _, probabilities = training
    rng = np.random.default_rng(3)
    batch, predicted = clips_of(rng, 5), answers(rng, 200)
    verdict = judge(reference, batch, predicted)
    for top in verdict["top"]:
        name = top["feature"]
        here, there = batch[:, NAMES.index(name)], values[:, NAMES.index(name)]
        assert top["ks"] == pytest.approx(ks_2samp(here, there).statistic, abs=0.03)
        assert top["mean"] == pytest.approx(here.mean(), rel=1e-4)
        edges = np.quantile(there, np.arange(1, 10) / 10)
        shares = [
            (np.bincount(np.searchsorted(edges, side), minlength=10) + 0.5) / (len(side) + 5) for side in (here, there)
        ]
        psi = ((shares[0] - shares[1]) * np.log(shares[0] / shares[1])).sum()
        assert top["psi"] == pytest.approx(psi, abs=0.02)
    table = [np.bincount(rows.argmax(axis=1), minlength=8) for rows in (predicted, probabilities)]
    assert verdict["emotions"]["p"] == pytest.approx(chi2_contingency(table).pvalue, rel=1e-6)
    here, there = rng.normal(size=300), rng.normal(0.15, size=400)
    test = ks_2samp(here, there, method="exact")
    assert statistics.ks_p(test.statistic, 300, 400) == pytest.approx(test.pvalue, rel=0.1)
    p = rng.uniform(size=500) ** 3
    np.testing.assert_allclose(statistics.false_discovery(p), false_discovery_control(p, method="bh"), rtol=1e-12)
    assert statistics.student_quantile(0.975, 3.5) == pytest.approx(t.ppf(0.975, 3.5), rel=1e-12)


def test_sketches_of_shards_add_up_to_that_of_the_batch(reference):
    rng = np.random.default_rng(4)
    values, predicted = clips_of(rng, 3), answers(rng, 120)
    whole, parts = Sketch(reference), Sketch(reference)
    whole.add(values)
    whole.add_predictions(predicted, np.full(120, "speaker"), family="forest")
    for start in range(0, 120, 50):
        part = Sketch(reference)
        part.add(values[start : start + 50])
        shard = predicted[start : start + 50]
        part.add_predictions(shard, np.full(len(shard), "speaker"), family="forest")
        parts.merge(part.to_bytes())
    assert _same(drift.judge(parts), drift.judge(whole))


def _same(value, other):
    if isinstance(value, dict):
        return value.keys() == other.keys() and all(_same(value[key], other[key]) for key in value)
    if isinstance(value, list):
        return len(value) == len(other) and all(map(_same, value, other))
    return value == pytest.approx(other, rel=1e-9) if isinstance(value, float) else value == other


def test_the_reference_is_the_same_after_writing_and_reading(reference):
    again = Reference.from_bytes(reference.to_bytes())
    for name in Reference.__dataclass_fields__:
        assert np.array_equal(getattr(again, name), getattr(reference, name), equal_nan=name.endswith("levels"))
    with pytest.raises(BundleError, match="train again"):
        Reference.from_bytes(b"PK\x03\x04 nonsense")


def test_levels_fall_with_the_size_of_the_batch_and_small_batches_are_not_judged(training, reference):
    assert (np.diff(reference.shift_levels) <= 0).all() and (np.diff(reference.emotion_levels) <= 0).all()
    values, _, probabilities = training
    few = judge(reference, values[:3] * 100, probabilities[:3])
    assert few["verdict"] == "unknown" and few["features"] is None and "too few" in few["reasons"][0]
    assert drift.judge(Sketch(reference))["clips"] == 0


def test_with_few_speakers_the_level_of_the_shift_is_fixed_and_predictions_raise_no_watch(training):
    values, speakers, probabilities = training
    few = speakers < "s3"
    reference = build_reference(
        values[few], speakers[few], held_out(probabilities[few]), names=NAMES, quality=QUALITY, seed=0
    )
    assert (reference.shift_levels == UNCALIBRATED).all()
    verdict = judge(reference, values[~few], probabilities[~few])
    assert verdict["emotions"]["watch"] is None and verdict["verdict"] == "ok"


def test_a_feature_that_never_varied_in_training_raises_an_alarm_once_it_does(training):
    values, speakers, probabilities = training
    values = values.copy()
    values[:, :9] = 1.0
    reference = build_reference(values, speakers, held_out(probabilities), names=NAMES, quality=QUALITY, seed=0)
    assert judge(reference, values, probabilities)["features"]["shift"] < 1
    changed = values.copy()
    changed[:, :9] = 2.0
    verdict = judge(reference, changed, probabilities)
    assert verdict["verdict"] == "alarm" and verdict["top"][0]["shift"] == LARGEST_SHIFT


def test_held_out_predictions_must_cover_the_table(training):
    values, speakers, probabilities = training
    with pytest.raises(
        ValueError, match="found 399 held-out predictions of forest/plain for 399 clips; expected one for each of 400"
    ):
        build_reference(values, speakers, held_out(probabilities[:-1]), names=NAMES, quality=QUALITY, seed=0)


def test_the_same_seed_gives_the_same_reference(training, reference):
    values, speakers, probabilities = training
    again = build_reference(values, speakers, held_out(probabilities), names=NAMES, quality=QUALITY, seed=0)
    assert again.to_bytes() == reference.to_bytes()
    assert SIZES[0] == 4


def test_the_verdict_names_what_differs_in_the_recordings(reference):
    rng = np.random.default_rng(1)
    values = clips_of(rng, 2, clips=20, shift=5.0)
    table = pd.DataFrame(answers(rng, 40), columns=PROBABILITIES).assign(mode="plain", vector=range(40))
    telephone = STUDIO._replace(bandwidth_hz=3900, snr_db=15, level_db=-56, clipped_share=0.02)
    sketches = []
    for quality, count in ((telephone, 30), (STUDIO, 10)):
        sketch = Sketch(reference)
        sketch.add_clips(table[:count].assign(**quality._asdict()), values, family="forest")
        sketches.append(sketch)
    sketches[0].merge(sketches[1].to_bytes())
    verdict = drift.judge(sketches[0])
    assert verdict["verdict"] == "alarm"
    assert [reason.partition(":")[0] for reason in verdict["recording"]["causes"]] == [
        "Noise",
        "Bandwidth",
        "Level",
        "Clipping",
    ]
    assert verdict["reasons"][1:5] == verdict["recording"]["causes"]
    assert "the speech reaches 3.9 kHz; in training 7.8 kHz" in verdict["reasons"][2]
    assert drift.judge(sketches[1])["recording"]["causes"] == []
