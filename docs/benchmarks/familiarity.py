"""Which share of clips and of sounds is called unfamiliar: print the table of docs/benchmarks.md.

    python docs/benchmarks/familiarity.py RUN_FOLDER [--foreign FOLDER]

RUN_FOLDER is a training run with a stress table, such as emotion-home/runs/<run>; its features are used. The published
groups of speakers are held out in turn: what is familiar is learnt from the others, and asked for the held-out clips as
they are and under each condition, for sounds that are no speech (tests/support/sounds.py, random parameters), and for
300 clips of another corpus (FOREIGN, with .wav or .flac below it). A cell is the mean of the groups; the last column
shows the lowest and the highest of them too. One core; about half a minute.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from emotion import features
from emotion.audio import decode
from emotion.audio.conditions import CLEAN, CONDITIONS
from emotion.models.familiarity import VIEWS, Familiarity
from emotion.runs.training_artifacts import TrainingArtifacts
from emotion.settings import PROJECT
from emotion.store import Store
from emotion.vocabulary import MODES

sys.path.append(str(PROJECT / "tests/support"))

import sounds

SEED = 0
OF_EACH_KIND = 40
FOREIGN_CLIPS = 300
SOUNDS = {
    "tones, signals, birds": "tone chord dial busy ringback siren dtmf modem alarm sweep birds",
    "hums, engines": "hum engine",
    "noise": "white pink brown bandnoise ocean",
    "music": "music strings drums bell",
    "impulses": "impulses metronome typing",
}
"""Row of the table → kinds of sounds."""
SPEEDS = ("slower", "faster")
COPIES = {"no copies": (), "copies at other speeds alone": SPEEDS, "all copies": tuple(features.VARIANTS)}
"""Column of the table → the training copies that show what is familiar."""


def sound_features() -> dict[str, np.ndarray]:
    """Features of random sounds of each kind, float32 (OF_EACH_KIND, n_features)."""
    random = np.random.default_rng(SEED)
    makers = sounds.FIRST | sounds.SECOND
    return {
        kind: np.array([features.extract(sounds.at_random_level(random, make(random))) for _ in range(OF_EACH_KIND)])
        for kind, make in makers.items()
    }


def foreign_features(folder: Path) -> np.ndarray:
    """Features of clips from all over a folder, float32 (n, n_features)."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix in (".wav", ".flac"))
    if not paths:
        raise SystemExit(f"no .wav or .flac below {folder}")
    numbers = np.linspace(0, len(paths) - 1, min(FOREIGN_CLIPS, len(paths))).astype(int)
    return np.array([features.extract(decode.load(paths[number]).samples) for number in numbers])


def tested(run: TrainingArtifacts, heard_nowhere: dict[str, np.ndarray]) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """For each group of speakers and column of the table: (column, features of what is asked for, by row)."""
    table, values = run.clips()
    speakers, copies, conditions = table["speaker"].to_numpy(), run.augmented(), run.conditions(values)
    if conditions is None:
        raise SystemExit("this run tested no clip under recording conditions; set stress_clips and run again")
    columns = {view: features.views()[view] for view in VIEWS}
    of_variant = dict(zip(features.VARIANTS, copies, strict=True))
    for train, test in run.splits(table, seed=SEED, speaker_folds="published")[MODES["plain"]]:
        is_held_out = np.isin(conditions.rows, test)
        asked = {"clean clips of new speakers": values[test]}
        drawn = [rows[test] for name, rows in of_variant.items() if name not in SPEEDS]
        asked["random copies of new speakers"] = np.concatenate(drawn)
        asked |= {
            CONDITIONS[name].title: rows[is_held_out] for name, rows in conditions.values.items() if name != CLEAN
        }
        for column, names in COPIES.items():
            shown = np.stack([of_variant[name][train] for name in names]) if names else None
            familiarity = Familiarity.fit(values[train], speakers[train], columns=columns, copies=shown)
            everything = asked | heard_nowhere
            yield column, {row: familiarity.unfamiliarity(rows) > 1 for row, rows in everything.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--foreign", type=Path)
    arguments = parser.parse_args()
    folder = arguments.folder.absolute()
    run = TrainingArtifacts(Store(str(folder.parent)), folder.name)
    others = sound_features()
    if arguments.foreign:
        others["another corpus"] = foreign_features(arguments.foreign)
    shares: dict[str, dict[str, list[float]]] = {}
    for column, answers in tested(run, others):
        for row, are_unfamiliar in answers.items():
            shares.setdefault(row, {}).setdefault(column, []).append(float(are_unfamiliar.mean()))
    for title, kinds in SOUNDS.items():
        parts = [shares.pop(kind) for kind in kinds.split()]
        shares[title] = {column: np.mean([part[column] for part in parts], axis=0).tolist() for column in COPIES}
    table, _ = run.clips()
    print(f"{len(table)} clips of {table['speaker'].nunique()} speakers\n")
    print(f"| share that is unfamiliar | {' | '.join(COPIES)} |\n|---{'|---' * len(COPIES)}|")
    for row, by_column in shares.items():
        cells = [f"{np.mean(groups):.1%}" for groups in by_column.values()]
        last = by_column[list(COPIES)[-1]]
        print(f"| {row} | {' | '.join(cells)} ({min(last):.1%} to {max(last):.1%}) |")


if __name__ == "__main__":
    main()
