import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2_contingency, ks_2samp

from emotion.errors import BundleError
from emotion.features import feature_names
from emotion.monitoring import drift, statistics
from emotion.monitoring.drift import Sketch
from emotion.monitoring.reference import MODES, SIZES, UNCALIBRATED, Reference, build_reference
from emotion.monitoring.statistics import LARGEST_SHIFT
from emotion.vocabulary import PROBABILITIES

SPEAKERS, CLIPS, FEATURES = 10, 40, 300
NAMES = feature_names()[:FEATURES]


def clips_of(rng, speakers, *, clips=CLIPS, shift=0.0):
    """Features that vary between clips (standard deviation 1) and between speakers (0.5), on scales of their
    own."""
    own = rng.normal(0, 0.5, (speakers, 1, FEATURES))
    values = own + rng.normal(0, 1, (speakers, clips, FEATURES)) + shift
    return (values * np.logspace(-2, 3, FEATURES) + 5).astype("float32").reshape(-1, FEATURES)


def answers(rng, count, *, sharpness=1.0):
    return rng.dirichlet(np.full(8, 1 / sharpness), count)


def held_out(probabilities):
    frames = [
        pd.DataFrame(probabilities, columns=PROBABILITIES).assign(protocol=protocol, row=np.arange(len(probabilities)))
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
    return build_reference(values, speakers, held_out(probabilities), names=NAMES, seed=0)


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


def test_training_clips_themselves_are_ok_though_new_speakers_differ_significantly(training, reference):
    values, _, probabilities = training
    found = judge(reference, values, probabilities)
    assert found["verdict"] == "ok" and found["features"]["significant"] == 0
    one = judge(reference, clips_of(np.random.default_rng(5), 1), answers(np.random.default_rng(5), CLIPS))
    assert one["features"]["significant"] > 0.2 and one["features"]["share"] < 0.02 and one["verdict"] == "ok"


@pytest.mark.parametrize("clips", [4, 40])
def test_a_change_of_some_features_raises_an_alarm(reference, clips):
    rng = np.random.default_rng(1)
    shift = np.where(np.arange(FEATURES) < 12, 5.0, 0.0)
    values = clips_of(rng, 2, clips=clips // 2, shift=shift)
    found = judge(reference, values, answers(rng, clips))
    assert found["verdict"] == "alarm" and "The audio differs" in found["reasons"][0]
    assert {top["feature"] for top in found["top"][:12]} == set(NAMES[:12])
    assert all(top["shift"] > 3 for top in found["top"][:12])
    assert found["features"]["shift"] > found["features"]["alarm"] > found["features"]["watch"]


def test_predictions_alone_raise_a_watch(reference):
    rng = np.random.default_rng(2)
    values = clips_of(rng, 10, clips=20)
    one_sided = answers(rng, 200)
    one_sided[:, 3] += 5
    found = judge(reference, values, one_sided / one_sided.sum(axis=1, keepdims=True))
    assert found["verdict"] == "watch"
    assert found["emotions"]["psi"] > found["emotions"]["watch"] and found["emotions"]["p"] < 1e-6
    unsure = judge(reference, values, answers(rng, 200, sharpness=0.05))
    assert unsure["verdict"] == "watch" and unsure["confidence"]["drop"] > unsure["confidence"]["watch"]
    sure = judge(reference, values, answers(rng, 200, sharpness=20))
    assert sure["verdict"] == "ok" and sure["confidence"]["ks"] > 0.3 > sure["confidence"]["drop"]
    assert any("confidence" in reason for reason in unsure["reasons"])


def test_figures_are_those_of_the_textbook(training, reference):
    values, _, probabilities = training
    rng = np.random.default_rng(3)
    batch, said = clips_of(rng, 5), answers(rng, 200)
    found = {top["feature"]: top for top in judge(reference, batch, said)["top"]}
    emotions = judge(reference, batch, said)["emotions"]
    for name, top in found.items():
        here, there = batch[:, NAMES.index(name)], values[:, NAMES.index(name)]
        assert top["ks"] == pytest.approx(ks_2samp(here, there).statistic, abs=0.03)
        assert top["mean"] == pytest.approx(here.mean(), rel=1e-4)
        edges = np.quantile(there, np.arange(1, 10) / 10)
        shares = [
            (np.bincount(np.searchsorted(edges, side), minlength=10) + 0.5) / (len(side) + 5) for side in (here, there)
        ]
        psi = ((shares[0] - shares[1]) * np.log(shares[0] / shares[1])).sum()
        assert top["psi"] == pytest.approx(psi, abs=0.02)
    table = [np.bincount(rows.argmax(axis=1), minlength=8) for rows in (said, probabilities)]
    assert emotions["p"] == pytest.approx(chi2_contingency(table).pvalue, rel=1e-6)
    here, there = rng.normal(size=300), rng.normal(0.15, size=400)
    test = ks_2samp(here, there, method="exact")
    assert statistics.ks_p(test.statistic, 300, 400) == pytest.approx(test.pvalue, rel=0.1)


def test_sketches_of_shards_add_up_to_that_of_the_batch(reference):
    rng = np.random.default_rng(4)
    values, said = clips_of(rng, 3), answers(rng, 120)
    whole, parts = Sketch(reference), Sketch(reference)
    whole.add(values)
    whole.add_predictions(said, np.full(120, "adapted"), family="forest")
    for start in range(0, 120, 50):
        part = Sketch(reference)
        part.add(values[start : start + 50])
        part.add_predictions(
            said[start : start + 50], np.full(len(said[start : start + 50]), "adapted"), family="forest"
        )
        parts.merge(part.to_bytes())
    assert _same(drift.judge(parts), drift.judge(whole))


def _same(one, other):
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return one == pytest.approx(other, rel=1e-9) if isinstance(one, float) else one == other


def test_the_reference_survives_its_file(reference):
    again = Reference.from_bytes(reference.to_bytes())
    for name in Reference.__dataclass_fields__:
        assert np.array_equal(getattr(again, name), getattr(reference, name), equal_nan=name.endswith("levels"))
    with pytest.raises(BundleError, match="train again"):
        Reference.from_bytes(b"PK\x03\x04 nonsense")


def test_levels_fall_with_the_size_of_the_batch_and_small_batches_are_not_judged(training, reference):
    assert (np.diff(reference.shift_levels) <= 0).all() and (np.diff(reference.emotion_levels) <= 0).all()
    values, _, probabilities = training
    few = judge(reference, values[:3] * 100, probabilities[:3])
    assert few["verdict"] == "ok" and few["features"] is None and "too few" in few["reasons"][0]
    assert drift.judge(Sketch(reference))["clips"] == 0


def test_with_few_speakers_fixed_levels_stand_in(training):
    values, speakers, probabilities = training
    some = speakers < "s3"
    reference = build_reference(values[some], speakers[some], held_out(probabilities[some]), names=NAMES, seed=0)
    assert (reference.shift_levels == UNCALIBRATED).all()
    found = judge(reference, values[~some], probabilities[~some])
    assert found["emotions"]["watch"] is None and found["verdict"] == "ok"


def test_a_feature_that_never_varied_in_training(training):
    values, speakers, probabilities = training
    values = values.copy()
    values[:, :9] = 1.0
    reference = build_reference(values, speakers, held_out(probabilities), names=NAMES, seed=0)
    assert judge(reference, values, probabilities)["features"]["shift"] < 1
    changed = values.copy()
    changed[:, :9] = 2.0
    found = judge(reference, changed, probabilities)
    assert found["verdict"] == "alarm" and found["top"][0]["shift"] == LARGEST_SHIFT


def test_held_out_predictions_must_cover_the_table(training):
    values, speakers, probabilities = training
    with pytest.raises(ValueError, match="not one for each of 400 clips"):
        build_reference(values, speakers, held_out(probabilities[:-1]), names=NAMES, seed=0)


def test_the_same_seed_gives_the_same_reference(training, reference):
    values, speakers, probabilities = training
    again = build_reference(values, speakers, held_out(probabilities), names=NAMES, seed=0)
    assert again.to_bytes() == reference.to_bytes()
    assert SIZES[0] == 4
