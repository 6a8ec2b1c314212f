"""Clips whose labels may be wrong are found by what models say that have not heard their speakers."""

from __future__ import annotations

import numpy as np
import pandas as pd

from emotion.evaluation import suspicious
from emotion.evaluation.selection import PROTOCOL


def answers(p_happy: list[float], labels: list[str], *, protocol: str = PROTOCOL) -> pd.DataFrame:
    frame = pd.DataFrame({"p_happy": p_happy, "p_sad": 1 - np.array(p_happy), "emotion": labels})
    return frame.assign(row=range(len(labels)), protocol=protocol)


def table(clips: int) -> pd.DataFrame:
    names = [f"{number:03d}.wav" for number in range(clips)]
    return pd.DataFrame({"path": names, "key": names, "speaker": "anna", "dataset": "calls"})


def test_the_least_probable_labels_come_first_and_right_answers_are_not_listed():
    """Of other protocols, whose models have heard the speaker, no answer counts."""
    held_out = answers([0.9, 0.2, 0.6, 0.0], ["happy", "happy", "sad", "happy"])
    heard = answers([0.0, 1.0, 0.0, 1.0], ["happy", "happy", "sad", "happy"], protocol="random")
    shuffled = pd.concat([heard, held_out.sample(frac=1, random_state=0)])
    listed = suspicious.suspicious_labels(table(4), shuffled)
    assert listed["path"].tolist() == ["003.wav", "001.wav", "002.wav"]
    assert listed["emotion"].tolist() == ["happy", "happy", "sad"]
    assert listed["predicted"].tolist() == ["sad", "sad", "happy"]
    np.testing.assert_allclose(listed["p_label"], [0, 0.2, 0.4])
    np.testing.assert_allclose(listed["p_predicted"], [1, 0.8, 0.6])
    assert listed[["dataset", "speaker"]].drop_duplicates().values.tolist() == [["calls", "anna"]]


def test_no_more_than_a_person_can_hear_are_listed():
    p_happy = np.linspace(0, 0.4, 150)
    listed = suspicious.suspicious_labels(table(150), answers(list(p_happy[::-1]), ["happy"] * 150))
    assert listed["path"].tolist() == [f"{number:03d}.wav" for number in range(149, 49, -1)]


def test_where_all_answers_are_right_nothing_is_listed():
    listed = suspicious.suspicious_labels(table(2), answers([0.9, 0.1], ["happy", "sad"]))
    assert listed.empty and "p_label" in listed
