"""Scoring on RAVDESS: train on actors 01-12, score 13-18 as a folder, as they are, through a codec and in noise.

    python docs/checks/scoring.py FOLDER        FOLDER holds Actor_01 … Actor_18

Prints, for every model and mode, the scored folder's accuracy beside the library's own evaluation of the same split and
how far any probability differs, and the drift verdict of each version of the folder. Ends with code 1 if an answer
differs, or if a verdict is not the one expected.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile
import soxr

from emotion import features
from emotion.audio import decode
from emotion.datasets.ravdess import ravdess_emotion
from emotion.evaluation import scores
from emotion.metrics import Emitter
from emotion.models import registry
from emotion.models.adaptation import normalize_by_speaker
from emotion.runs.folder_scoring import score_folder
from emotion.runs.training_run import TrainingRun
from emotion.scoring.options import Options
from emotion.settings import Settings
from emotion.store import Store
from emotion.vocabulary import FAMILIES, probability_columns

OPTIONS = {"settle_seconds": 0, "rescore": True, "adaptation": "speaker"}


def as_codec(samples: np.ndarray, rate: int, target: Path) -> None:
    """8 kHz µ-law, as on a telephone line."""
    soundfile.write(target, soxr.resample(samples, rate, 8000), 8000, format="WAV", subtype="ULAW")


def in_noise(samples: np.ndarray, rate: int, target: Path) -> None:
    """White noise 20 dB below the speech."""
    noise = np.random.default_rng(len(samples)).normal(size=len(samples)) * np.sqrt((samples**2).mean() / 100)
    soundfile.write(target, samples + noise, rate, format="WAV", subtype="PCM_16")


def train(settings: Settings) -> None:
    """A whole training run, in this process."""
    run = TrainingRun(settings, "actors-01-12", Emitter(None))
    run.download(datasets=["ravdess-speech"], sources={"ravdess-speech": str(settings.recordings[0])})
    limits = {"min_seconds": 0.2, "max_seconds": 60}
    for shard in run.plan_shards(clips_per_shard=1000, **limits):
        run.featurize(shard=shard["shard"], max_seconds=60)
    run.collect(max_rejected_share=0.05)
    run.plan_stress(stress_clips=0, clips_per_shard=1000, seed=0, speaker_folds="published")
    run.collect_stress()
    for family in FAMILIES:
        run.train(family=family, seed=0, speaker_folds="published", search=False)
    run.compare(seed=0, speaker_folds="published")
    run.register_challenger(max_emotion_drop=1, policy="auto")
    run.promote(policy="auto")


def main(recordings: Path) -> int:
    with tempfile.TemporaryDirectory() as folder:
        return check(recordings, Path(folder))


def check(recordings: Path, base: Path) -> int:
    heard, unheard = base / "heard", base / "inbox" / "as_they_are"
    for actor in range(1, 19):
        name = f"Actor_{actor:02d}"
        shutil.copytree(recordings / name, (heard if actor <= 12 else unheard) / name)
    settings = Settings.from_environment(
        {
            "EMOTION_HOME": str(base / "home"),
            "EMOTION_RECORDINGS": str(heard),
            "EMOTION_INBOXES": str(base / "inbox"),
        }
    )
    train(settings)
    store = Store(settings.home)
    champion = registry.champion(store)
    entry = registry.entry(store, champion["version"])

    paths = sorted(unheard.rglob("*.wav"))
    labels = np.array([ravdess_emotion(path.stem) for path in paths])
    values = np.stack([features.extract(decode.load(path).samples) for path in paths])
    inputs = {"plain": values, "speaker": normalize_by_speaker(values, np.array([p.parent.name for p in paths]))}
    failed = False
    for family in (*FAMILIES, "ensemble"):
        bundle = registry.load(store, entry, registry.bundle_name(family), recipe=features.recipe_version())
        for mode, speakers in (("plain", "none"), ("speaker", "subfolder")):
            summary = score_folder(
                settings,
                unheard,
                model=f"{champion['version']}/{family}",
                batch=f"{family}-{mode}",
                options=Options(speakers=speakers, **OPTIONS),
            )
            scored = store.read_table(f"scores/{family}-{mode}/predictions.parquet").set_index("path")
            names = [path.relative_to(unheard).as_posix() for path in paths]
            found = scored.loc[names, probability_columns(bundle["emotions"])].to_numpy()
            own = bundle[mode].predict_proba(inputs[mode])
            same = bool((found.argmax(axis=1) == own.argmax(axis=1)).all())
            failed |= not same or summary["modes"][mode] != len(paths)
            library = scores.compute_scores(labels, own, bundle["emotions"])["accuracy"]
            print(
                f"{family:20} {mode:8} accuracy scored {summary['accuracy']['value']:.4f}, library {library:.4f}; "
                f"answers {'all equal' if same else 'DIFFER'}, largest difference {np.abs(found - own).max():.1e}"
            )

    for name, change, expected in (
        ("as_they_are", None, "ok"),
        ("codec", as_codec, "alarm"),
        ("noise", in_noise, "alarm"),
    ):
        for path in paths if change else ():
            target = base / "inbox" / name / path.relative_to(unheard)
            target.parent.mkdir(parents=True, exist_ok=True)
            samples, rate = soundfile.read(path, always_2d=True)
            change(samples.mean(axis=1), rate, target)
        options = Options(**OPTIONS)
        drift = score_folder(settings, base / "inbox" / name, batch=f"drift-{name}", options=options)["drift"]
        failed |= drift["verdict"] != expected
        print(f"drift, {name:12} {drift['verdict']:6} (expected {expected})")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
