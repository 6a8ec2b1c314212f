"""More of a cue moves answers the way that is known of acted speech, on speakers that no model has heard.

Strong, high and fast speech is heard as anger, joy, fear and surprise; soft, low and slow speech as sadness, calm and
no emotion (Banse and Scherer 1996, "Acoustic profiles in vocal emotion expression"; Juslin and Laukka 2003,
"Communication of emotions in vocal expression and music performance"). Two copies of each clip are compared, changed
as much to one side as to the other: what the processing itself does to a clip cancels out. Each bound is a floor: the
least that was measured when it was written stands beside it. A stronger voice has a flatter spectrum; the gain of a
recording is no cue (test_invariance.py).
"""

from __future__ import annotations

import pytest

import altered_clips as altered
from emotion.vocabulary import EMOTIONS

QUIET = ["neutral", "calm", "sad"]
STRONGER = altered.stronger(3), altered.stronger(-3)
FASTER = altered.faster(1.15), altered.faster(1 / 1.15)
HIGHER = altered.higher(2), altered.higher(-2)
PLAYED_FASTER = altered.played_faster(1.1), altered.played_faster(1 / 1.1)


def shift(answers, changes, emotions: list[str]) -> float:
    """How much more probability the emotions together get with the first change than with the second, in the mean."""
    columns = [EMOTIONS.index(emotion) for emotion in emotions]
    more, less = (answers(change)[:, columns].sum(axis=1) for change in changes)
    return (more - less).mean()


def test_a_stronger_voice_makes_quiet_emotions_less_likely(synthesized_answers):
    """Models of three synthesized speakers follow the strength of the voice. Recordings show pitch and tempo too."""
    assert shift(synthesized_answers, STRONGER, QUIET) < -0.03  # -0.057


@pytest.mark.ravdess
@pytest.mark.parametrize(
    ("changes", "most"),
    [
        pytest.param(STRONGER, -0.2, id="stronger"),  # -0.415
        pytest.param(FASTER, -0.03, id="faster"),  # -0.059
        pytest.param(HIGHER, -0.03, id="higher"),  # -0.070
        pytest.param(PLAYED_FASTER, -0.025, id="faster and higher"),  # -0.054
    ],
)
def test_quiet_emotions_become_less_likely_on_recordings(recorded_answers, changes, most):
    assert shift(recorded_answers, changes, QUIET) < most


def test_a_stronger_voice_is_angrier_and_less_sad(synthesized_answers):
    assert shift(synthesized_answers, STRONGER, ["angry"]) > 0.015  # 0.033
    assert shift(synthesized_answers, STRONGER, ["sad"]) < -0.015  # -0.027


@pytest.mark.ravdess
def test_a_stronger_voice_is_angrier_and_less_sad_on_recordings(recorded_answers):
    assert shift(recorded_answers, STRONGER, ["angry"]) > 0.12  # 0.256
    assert shift(recorded_answers, STRONGER, ["sad"]) < -0.1  # -0.198
