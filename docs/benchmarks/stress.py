"""Print the stress table of a training run as Markdown: accuracy under recording conditions, of all four models.

    python docs/benchmarks/stress.py RUN_FOLDER [--all] [--picture FILE]

RUN_FOLDER holds comparison.json, such as emotion-home/runs/<run>. A cell is the accuracy on a sample of clips of
unheard speakers, by the fold models that have not heard them. *Noise* is the mean of white and pink noise; the last
column is the mean over all conditions but clean. ``--all`` prints a column for each condition, and the calibration
errors too. ``--picture`` draws the calibration of the ensemble (docs/pictures/calibration.png), and prints the figures
of its caption.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from emotion.evaluation.scores import compute_scores
from emotion.vocabulary import emotions_of, probabilities_of

COLUMNS = {
    "clean": ("clean",),
    "noise 20 dB": ("white_20db", "pink_20db"),
    "10 dB": ("white_10db", "pink_10db"),
    "8 kHz": ("narrow_band",),
    "phone": ("telephone",),
    "MP3": ("mp3",),
    "reverb .8 s": ("room_800ms",),
}
"""Column of the table → the conditions whose mean it shows."""
PANELS = {
    "clean": "clean",
    "noise 20 dB": "noise 20 dB",
    "noise 10 dB": "10 dB",
    "phone": "phone",
    "reverberation 0.8 s": "reverb .8 s",
}
"""Title of a calibration curve → the column whose answers it shows."""
DRAWS = 50
GROUPS = 6
"""Points of a curve: groups of equally many answers, by confidence."""


def markdown(comparison: dict, columns: dict[str, tuple[str, ...]], figure: str, last: str) -> list[str]:
    """The lines of a table: a row per model and mode; ``last``: the figure of the mode in the last column.

    >>> stress = {"plain": {"clean": {"accuracy": 0.6931}, "mean_accuracy": 0.5}}
    >>> models = {"ensemble": {"stress": stress}}
    >>> for line in markdown({"models": models}, {"clean": ("clean",)}, "accuracy", "mean_accuracy"):
    ...     print(line)
    | model | mode | clean | mean accuracy |
    |---|---|---|---|
    | ensemble | plain | .693 | .500 |
    """
    lines = [f"| model | mode | {' | '.join(columns)} | {last.replace('_', ' ')} |", "|---" * (len(columns) + 3) + "|"]
    for model, figures in comparison["models"].items():
        for mode, table in figures["stress"].items():
            cells = [np.mean([table[name][figure] for name in names]) for names in columns.values()]
            numbers = [f"{cell:.3f}".removeprefix("0") for cell in (*cells, table[last])]
            lines.append(f"| {model} | {mode} | {' | '.join(numbers)} |")
    return lines


def curve(predictions: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean confidence, accuracy and its standard error of groups of equally many answers, each of shape (GROUPS,).

    >>> wrong = pd.DataFrame({"p_happy": [0.5] * 60, "p_angry": 0.5, "p_sad": 0.0, "emotion": "sad"})
    >>> [values.tolist() for values in curve(wrong)][:2]
    [[0.5, 0.5, 0.5, 0.5, 0.5, 0.5], [0.0, 0.0, 0.0, 0.0, 0.0, 0.0]]
    """
    probabilities = probabilities_of(predictions)
    confidence = probabilities.max(axis=1)
    is_right = np.array(emotions_of(predictions))[probabilities.argmax(axis=1)] == predictions["emotion"].to_numpy()
    groups = np.array_split(np.argsort(confidence), GROUPS)
    accuracy = np.array([is_right[group].mean() for group in groups])
    error = np.sqrt(accuracy * (1 - accuracy) / [len(group) for group in groups])
    return np.array([confidence[group].mean() for group in groups]), accuracy, error


def chance_error(probabilities: np.ndarray) -> float:
    """The mean calibration error of a model whose probabilities, (n, n_emotions), are exactly right: that of chance.

    >>> chance_error(np.eye(8)[[0, 1, 2]])
    0.0
    """
    random, names = np.random.default_rng(0), [str(number) for number in range(probabilities.shape[1])]
    errors = []
    for _ in range(DRAWS):
        labels = (probabilities.cumsum(axis=1) < random.random((len(probabilities), 1))).sum(axis=1)
        errors.append(compute_scores(np.array(names)[labels], probabilities, names)["ece"])
    return float(np.mean(errors))


def draw_calibration(predictions: pd.DataFrame, picture: Path) -> None:
    """Draw the curve of each of :data:`PANELS`, that of clean clips in grey behind it; print the figures of each.

    ``predictions``: held-out predictions of a model under conditions, of the mode that is drawn.
    """
    parts = {name: predictions[predictions["condition"].isin(COLUMNS[column])] for name, column in PANELS.items()}
    figure, panels = plt.subplots(1, len(PANELS), figsize=(14, 3.5), sharey=True, layout="constrained")
    print("| condition | answers | accuracy | mean confidence | ECE | ECE by chance alone |\n|---|---|---|---|---|---|")
    for panel, (name, part) in zip(panels, parts.items(), strict=True):
        probabilities = probabilities_of(part)
        scores = compute_scores(part["emotion"].to_numpy(), probabilities, emotions_of(part))
        figures = (scores["accuracy"], scores["confidence"]["mean"], scores["ece"], chance_error(probabilities))
        print(f"| {name} | {len(part)} | {' | '.join(f'{value:.3f}' for value in figures)} |")
        panel.plot([0, 1], [0, 1], color="black", linewidth=0.8, linestyle=":")
        if name != "clean":
            panel.plot(*curve(parts["clean"])[:2], color="0.7", marker="o", markersize=3, label="clean")
            panel.legend(loc="lower right", frameon=False)
        confidence, accuracy, error = curve(part)
        panel.errorbar(confidence, accuracy, error, color="tab:blue", marker="o", markersize=5, capsize=2)
        panel.set(title=f"{name}: ECE {scores['ece']:.2f}", xlabel="confidence", xlim=(0.1, 1), ylim=(0, 1))
        panel.set_aspect("equal", adjustable="box")
    panels[0].set_ylabel("accuracy")
    figure.savefig(picture, dpi=110)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--all", action="store_true", help="a column for each condition, and calibration errors")
    parser.add_argument("--picture", type=Path, help="draw the calibration of the ensemble to this PNG file")
    arguments = parser.parse_args()
    comparison = json.loads((arguments.folder / "comparison.json").read_text())
    sample = comparison["stress"]
    if sample is None:
        parser.exit(1, "this run tested no clip under recording conditions; set stress_clips and run again\n")
    print(f"{sample['clips']} clips of {sample['speakers']} speakers, conditions {sample['version']}\n")
    columns = {name: (name,) for name in ("clean", *sample["conditions"])} if arguments.all else COLUMNS
    print("\n".join(markdown(comparison, columns, "accuracy", "mean_accuracy")))
    if arguments.all:
        print("\nExpected calibration error:\n")
        print("\n".join(markdown(comparison, columns, "ece", "worst_ece")))
    if arguments.picture:
        print("\nCalibration of the ensemble, plain:\n")
        predictions = pd.read_parquet(arguments.folder / "stress/ensemble_predictions.parquet")
        draw_calibration(predictions[predictions["mode"] == "plain"], arguments.picture)


if __name__ == "__main__":
    main()
