"""Print the stress table of a training run as Markdown: accuracy under recording conditions, of all four models.

    python docs/benchmarks/stress.py RUN_FOLDER [--all]

RUN_FOLDER holds comparison.json, such as emotion-home/runs/<run>. A cell is the accuracy on a sample of clips of
unheard speakers, by the fold models that have not heard them. *Noise* is the mean of white and pink noise; the last
column is the mean over all conditions but clean. ``--all`` prints a column for each condition, and the calibration
errors too.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--all", action="store_true", help="a column for each condition, and calibration errors")
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


if __name__ == "__main__":
    main()
