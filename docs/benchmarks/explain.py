"""Measure how long an explained answer takes, by family.

    python docs/benchmarks/explain.py VERSION_FOLDER RECORDING [--repeats 20]

VERSION_FOLDER holds the bundles of a version, such as emotion-home/models/<version>. Prints a Markdown table in ms of
processor time, which the load of the machine hardly changes: what is computed once for a model; the explanation of one
clip; of twelve clips, as in the report of a batch; the whole answer for a recording with and without explanation; and
by how much the contributions miss the confidence at most.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from emotion.explanation.values import Explainer
from emotion.inference import CustomEmotionModel
from emotion.vocabulary import FAMILIES


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("recording", type=Path)
    parser.add_argument("--repeats", type=int, default=20)
    options = parser.parse_args()
    print("| model | once | one clip | twelve clips | answer | explained answer | largest error |")
    print("|---|---|---|---|---|---|---|")
    for family in (*FAMILIES, "ensemble"):
        bundle = options.folder / f"{family}_emotion_model.pkl"
        print(_row(family, CustomEmotionModel(bundle, trust=True), options.recording, options.repeats))


def _row(family: str, model: CustomEmotionModel, recording: Path, repeats: int) -> str:
    plain, background = model._bundle["plain"], model._bundle["background"]["plain"]
    Explainer(plain, background).explain(background[:1])  # compiles, and reads from disk what was compiled before
    once, explainer = _milliseconds(lambda: Explainer(plain, background), 3)
    one, _ = _milliseconds(lambda: explainer.explain_probabilities(background[:1]), repeats)
    twelve, explanation = _milliseconds(lambda: explainer.explain_probabilities(background[:12]), repeats)
    missed = explanation.values.sum(axis=2) + explanation.base_values - plain.predict_proba(background[:12])
    model.predict_emotion_from_file(recording, explain=True)
    answer, _ = _milliseconds(lambda: model.predict_emotion_from_file(recording), repeats)
    explained, _ = _milliseconds(lambda: model.predict_emotion_from_file(recording, explain=True), repeats)
    times = " | ".join(f"{figure:.1f}" for figure in (once, one, twelve, answer, explained))
    return f"| {family} | {times} | {np.abs(missed).max():.0e} |"


def _milliseconds(function: Callable, repeats: int) -> tuple[float, object]:
    """The median processor time of a call, and what the last one returned."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        result = function()
        times.append(1000 * (time.process_time() - start))
    return float(np.median(times)), result


if __name__ == "__main__":
    main()
