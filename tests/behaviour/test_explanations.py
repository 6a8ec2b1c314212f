"""Change one thing about a synthesized voice: the explanation names it, and what it contributes changes most.

The model is fitted on eleven synthesized speakers and explains clips of five others. Each clip is made twice: as it is,
and with one control of the voice changed. Two things are compared: the gauges, from which the words come, and what the
groups contribute to all emotions. The latter is measured in units of what a group usually contributes, as a group of
700 features moves more than one of 100 whatever happens. What was measured when the test was written stands beside it:
the change of the group itself, and the next largest one. Timbre and articulation always move too: what changes the
pitch or the breath of a voice also changes its frequency bands, and the model reads them there as well.

The gain of a recording is no cue: clips are brought to one level, so nothing changes at all. What a strong voice does
to the spectrum is changed in its place.
"""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
import pytest

from emotion import features
from emotion.audio import decode
from emotion.datasets import synthesis
from emotion.explanation.values import Explainer
from emotion.explanation.words import gauge_values
from emotion.features.groups import groups_of
from emotion.models.classifier import Classifier
from emotion.vocabulary import EMOTIONS

HEARD, UNHEARD = (1, 2, 3, *range(9, 17)), range(4, 9)
CHANGES = {
    "pitch": {"pitch": 3.0, "span": 1.0},
    "tempo": {"tempo": 0.4},
    "effort": {"bright": 8.0},
    "voice quality": {"breath": 14.0},
    "roughness": {"rough": 0.3},
}
"""What is changed → the controls of the voice: semitones, octaves of pitch movement, octaves of rate, dB, 0 to 1."""
NAMES = features.feature_names()
COLUMNS = {group: np.concatenate(list(parts.values())) for group, parts in groups_of(NAMES).items()}


def clips(speakers, *, every: int = 1) -> list[str]:
    """Clips of normal intensity."""
    names = [name for name in synthesis.names(speakers=16) if name.split("-")[3] == "01"]
    return [name for name in names if int(name[-6:-4]) in speakers][::every]


def vectors(names: list[str], changes: dict[str, float] | None = None, *, gain: float = 1.0) -> np.ndarray:
    def samples() -> Iterator[np.ndarray]:
        for name in names:
            data = synthesis.wav_bytes(synthesis.synthesize_clip(name, changes))
            yield decode.load(io.BytesIO(data)).samples * np.float32(gain)

    return np.stack([features.extract(each) for each in samples()])


class Voices:
    """The rows of training, a model and its explainer; and the clips of unheard speakers as they are."""

    def __init__(self) -> None:
        names = clips(HEARD)
        self.training = vectors(names)
        emotions = np.array([EMOTIONS[int(name.split("-")[2]) - 1] for name in names])
        speakers = np.array([name[-6:-4] for name in names])
        model = Classifier.fit(
            "logistic_regression",
            self.training,
            emotions,
            groups=speakers,
            views=list(features.views().values()),
            seed=7,
        )
        self.explainer = Explainer(model, self.training)
        self.names = clips(UNHEARD, every=7)
        self.plain = vectors(self.names)
        values = self.explainer.explain_probabilities(self.training[::3]).values
        self.usual = {group: np.abs(values[:, :, rows].sum(axis=2)).mean() for group, rows in COLUMNS.items()}

    def moved(self, rows: np.ndarray) -> dict[str, float]:
        """How much more or less each group contributes to the emotions than for the plain clips, in units of what it
        usually contributes: mean over clips, sum of sizes over emotions."""
        change = (
            self.explainer.explain_probabilities(rows).values - self.explainer.explain_probabilities(self.plain).values
        ).mean(axis=0)
        return {
            group: float(np.abs(change[:, columns].sum(axis=1)).sum() / self.usual[group])
            for group, columns in COLUMNS.items()
        }

    def gauges(self, rows: np.ndarray) -> dict[tuple[str, str], float]:
        """How far each gauge moves in the mean, in standard deviations of training."""
        deviation = self.training.std(axis=0, dtype=np.float64)
        change = (rows - self.plain).mean(axis=0) / np.where(deviation > 0, deviation, np.inf)
        values = gauge_values(change, NAMES)
        return {(group, subgroup): value for group, part in values.items() for subgroup, value in part.items()}


@pytest.fixture(scope="module")
def voices() -> Voices:
    return Voices()


@pytest.fixture(scope="module")
def changed(voices) -> dict[str, np.ndarray]:
    return {name: vectors(voices.names, changes) for name, changes in CHANGES.items()}


@pytest.mark.parametrize(
    ("name", "gauge", "sign"),
    [
        ("pitch", ("pitch", "range"), 1),
        ("tempo", ("tempo", "rate"), 1),
        ("effort", ("effort", "vocal effort"), 1),
        ("voice quality", ("voice quality", "breathiness"), 1),
    ],
)
def test_the_words_name_what_was_changed(voices, changed, name, gauge, sign):
    """The gauge that moves farthest is one of the group, and the group's word for the change is the right one."""
    gauges = voices.gauges(changed[name])
    assert max(gauges, key=lambda each: abs(gauges[each]))[0] == gauge[0], gauges
    assert sign * gauges[gauge] > 0.5, gauges


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("pitch", "pitch"),  # 5.0, effort 4.4
        ("tempo", "tempo"),  # 6.8, articulation 4.7
        ("effort", "effort"),  # 5.9, articulation 4.1
        ("voice quality", "voice quality"),  # 9.8, effort 7.9
        ("roughness", "voice quality"),  # 16.8, effort 7.3
    ],
)
def test_the_group_that_was_changed_leads_the_change(voices, changed, name, group):
    moved = voices.moved(changed[name])
    assert max(moved, key=moved.__getitem__) == group, moved


@pytest.mark.parametrize("group", ["pitch", "tempo", "voice quality"])
def test_a_group_moves_farthest_where_it_was_changed(voices, changed, group):
    """Roughness does not count here: a rough voice has an irregular pitch too."""
    moved = {name: voices.moved(rows)[group] for name, rows in changed.items() if name != "roughness"}
    assert max(moved, key=moved.__getitem__) == group, moved


def test_the_gain_of_a_recording_changes_nothing(voices):
    """Bit for bit, for a gain that is a power of two. Loudness is therefore no word of an explanation."""
    louder = vectors(voices.names, gain=2.0)
    np.testing.assert_array_equal(louder, voices.plain)
