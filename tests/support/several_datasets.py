"""What a training run on two datasets leaves, with a third that is only tested on, from made-up answers.

The figures come from the functions that make them in a run.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from emotion.datasets.combining import combined_facts
from emotion.evaluation.folds import splits
from emotion.evaluation.held_out import protocol_scores
from emotion.evaluation.scores import compute_scores
from emotion.models.external import SCORES
from emotion.vocabulary import EMOTIONS, FAMILIES, MODES, emotion_colours, label_set, probability_columns

MODELS = (*FAMILIES, "ensemble")
SELECTED = "ensemble"
OF_DATASET = {"ravdess-speech": EMOTIONS, "nemo": ("neutral", "happy", "sad", "angry", "fearful", "surprised", "bored")}
"""The emotions of each dataset that is trained on."""
SHARED = ("neutral", "happy", "sad", "angry", "fearful", "surprised")
EXTERNAL = "calls"
OF_EXTERNAL = ("happy", "sad", "angry", "bored")
LABELS = label_set([*EMOTIONS, "bored"])
CONSEQUENCE = "The model is not for commercial use, because of nEMO <b>."
SKILL = {"random": 3.0, "speaker_independent": 1.6, "unheard_dataset": 1.1}
"""Start of a protocol's name → how good the made-up answers are."""


def table() -> pd.DataFrame:
    """The clips: 2 of each emotion for each speaker; six speakers of one dataset, four of the other."""
    rows = [
        {"dataset": dataset, "speaker": f"{dataset}:{speaker}", "emotion": emotion}
        for dataset, speakers in (("ravdess-speech", 6), ("nemo", 4))
        for speaker in range(speakers)
        for emotion in OF_DATASET[dataset] * 2
    ]
    return pd.DataFrame(rows).assign(gender="", intensity="", statement="")


def answers(labels: np.ndarray, emotions: tuple[str, ...], skill: float, seed: int) -> np.ndarray:
    """Made-up probabilities of the label set, better the higher ``skill``; those of other emotions are 0."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=(len(labels), len(LABELS)))
    logits[np.arange(len(labels)), [LABELS.index(label) for label in labels]] += skill
    probabilities = np.exp(logits) * np.isin(LABELS, emotions)
    return probabilities / probabilities.sum(axis=1, keepdims=True)


@cache
def figures(number: int) -> dict[str, Any]:
    """The entry of one model in ``comparison.json``."""
    clips, parts = table(), []
    for seed, (protocol, folds) in enumerate(splits(clips, seed=0, published=None).items()):
        skill = next((value for start, value in SKILL.items() if protocol.startswith(start)), 2.0) + number / 5
        for fold, (_, test) in enumerate(folds):
            labels = clips["emotion"].to_numpy()[test]
            known = SHARED if protocol.startswith("unheard_dataset") else LABELS
            part = pd.DataFrame(answers(labels, known, skill, seed + fold), columns=probability_columns(LABELS))
            parts.append(part.assign(protocol=protocol, fold=fold, row=test, emotion=labels))
    return protocol_scores(clips, pd.concat(parts), seed=0) | {
        "fit_seconds": 1.2,
        "predict_ms_single": 0.5,
        "predict_ms_batch": 0.02,
        "training_seconds": 31.0,
        "stress": None,
        "external": external(number),
    }


def external(number: int, emotions: tuple[str, ...] = OF_EXTERNAL) -> dict[str, Any]:
    """The figures of one model on the dataset that is only tested on."""
    labels = np.resize(emotions, 80)
    by_mode = {}
    for seed, mode in enumerate(MODES):
        scores = compute_scores(labels, answers(labels, emotions, 0.8 + seed / 2, 10 * number + seed), LABELS)
        by_mode[mode] = {key: scores[key] for key in ("n", *SCORES)} | {"confidence": scores["confidence"]["mean"]}
    return {EXTERNAL: {"emotions": list(emotions), **by_mode}}


def facts(name: str, title: str, commercial_use: bool | None, clips: dict[str, int], speakers: int) -> dict[str, Any]:
    """What is known of one dataset."""
    return {
        "name": name,
        "title": title,
        "kind": "folder",
        "source": "disk",
        "origin": "disk",
        "notice": "",
        "warnings": [],
        "licence": {
            "id": f"{name}-1.0",
            "name": f"Licence of {title}",
            "url": f"https://example.com/{name}",
            "model": f"Sentence on {name}.",
        },
        "commercial_use": commercial_use,
        "citation": f"Authors of {name}.",
        "folds": None,
        "folds_scheme": None,
        "complete": True,
        "synthesized": False,
        "fingerprint": "0a" * 32,
        "clips": sum(clips.values()),
        "unique": sum(clips.values()),
        "used": sum(clips.values()),
        "unreadable": 0,
        "speakers": speakers,
        "seconds": 600.0,
        "bytes": 5,
        "emotions": clips,
        "archives": [],
    }


@cache
def comparison() -> dict[str, Any]:
    """The content of ``comparison.json``."""
    nemo = facts("nemo", "nEMO <b>", False, dict.fromkeys(OF_DATASET["nemo"], 8), 4)
    nemo |= {"left_out": {"W": 3, "<i>dunno": 12}, "language": "Polish"}
    trained = [facts("ravdess-speech", "RAVDESS, emotional speech", True, dict.fromkeys(EMOTIONS, 12), 6), nemo]
    return {
        "run_id": "several",
        "created": "2026-11-22T09:04:11+00:00",
        "seed": 42,
        "recipe": "v2",
        "features": 2035,
        "speaker_folds": "published",
        "packages": {"python": "3.11.7"},
        "selected": SELECTED,
        "selection": {"protocol": "speaker_independent", "score": "f1_macro", "reason": "Highest.", "tie": False},
        "notice": None,
        "emotions": list(LABELS),
        "emotion_colours": emotion_colours(LABELS),
        "dataset": combined_facts(trained) | {"used": 152, "rejected": 0, "duplicates": 0},
        "stress": None,
        "external": external(len(MODELS) - 1),
        "external_datasets": [facts(EXTERNAL, "Calls", None, dict.fromkeys(OF_EXTERNAL, 20), 5)],
        "models": {model: figures(number) for number, model in enumerate(MODELS)},
    }


@cache
def challenge() -> dict[str, Any]:
    """The content of ``challenge.json``: a champion that does not know the emotion ``bored``."""
    models = comparison()["models"]
    lead = {"difference": 0.031, "interval": [-0.012, 0.074], "probability": 0.91, "speakers": 10, "clips": 152}
    better = {"dataset": "ravdess-speech", "champion_f1": 0.501, "challenger_f1": 0.555, "too_much": False}
    worse = {"dataset": "nemo", "champion_f1": 0.444, "challenger_f1": 0.333, "too_much": True}
    return {
        "challenger": {"version": "new", "family": SELECTED, "scores": models[SELECTED]["speaker_independent"]},
        "champion": {
            "version": "old",
            "family": "random_forest",
            "scores": models["random_forest"]["speaker_independent"],
            "clips": 152,
        },
        "rules": {"margin": 0.0, "min_probability": 0.9, "max_emotion_drop": 0.05},
        "difference": lead,
        "per_emotion": [],
        "per_dataset": [
            lead | better | {"difference": 0.054, "clips": 96},
            lead | worse | {"difference": -0.111, "interval": [-0.2, -0.05], "clips": 56},
        ],
        "overall": lead | {"difference": 0.0287},
        "stress": None,
        "external": {
            "challenger": comparison()["external"],
            "champion": external(0, OF_EXTERNAL[:3]),
            "missing": ["The champion was trained on clips or speakers of <b>films."],
        },
        "verdict": "keep",
        "reasons": ["The macro F1 on nemo would fall, beyond chance."],
    }
