"""The ``.pkl`` bundle: what it holds, how it is written, and how it is checked before it is loaded."""

from __future__ import annotations

import hashlib
import io
import platform
from importlib.metadata import version
from typing import TypedDict

import joblib
import numpy as np
from sklearn.preprocessing import LabelEncoder, StandardScaler

from emotion.errors import BundleError
from emotion.models.classifier import Classifier, Ensemble

FORMAT = "emotion-model/2"
"""Pickles name the modules of their classes: a class that moves needs a new format."""
PACKAGES = ("scikit-learn", "numpy", "scipy", "librosa", "soundfile", "joblib", "shap", "pandas")


class Bundle(TypedDict):
    """What ``<family>_emotion_model.pkl`` holds.

    ``plain`` and ``adapted`` are the models; ``background`` has, for each of the two, the rows that its explanations
    are measured against. An ensemble has a scaler per member, by family.
    """

    format: str
    family: str
    feature_names: tuple[str, ...]
    scaler: StandardScaler | dict[str, StandardScaler]
    label_encoder: LabelEncoder
    plain: Classifier | Ensemble
    adapted: Classifier | Ensemble
    background: dict[str, np.ndarray]
    metadata: dict


class FoldModel(TypedDict):
    """One entry of ``<family>_fold_models.pkl``: a plain model, and the speakers and clips (by ``samples_sha256``)
    that were held out when it was fitted."""

    speakers: list[str]
    clips: list[str]
    model: Classifier


def make_bundle(
    *,
    plain: Classifier | Ensemble,
    adapted: Classifier | Ensemble,
    background: dict[str, np.ndarray],
    feature_names: tuple[str, ...],
    metadata: dict,
) -> dict:
    """What a ``.pkl`` holds: ``plain`` and ``adapted`` models, the ``background`` rows that explanations of each are
    measured against, ``scaler``, ``label_encoder``, ``metadata``."""
    members = plain.members if isinstance(plain, Ensemble) else [plain]
    scalers = {member.family: member.pipeline.named_steps["scaler"] for member in members}
    return {
        "format": FORMAT,
        "family": plain.family,
        "feature_names": tuple(feature_names),
        "scaler": scalers if isinstance(plain, Ensemble) else scalers[plain.family],
        "label_encoder": LabelEncoder().fit(members[0].emotions),
        "plain": plain,
        "adapted": adapted,
        "background": background,
        "metadata": metadata | {"packages": packages()},
    }


def packages() -> dict[str, str]:
    """Versions of Python and of what a model depends on."""
    return {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}


def dumps(value: object) -> bytes:
    """A joblib pickle, compressed."""
    buffer = io.BytesIO()
    joblib.dump(value, buffer, compress=3)
    return buffer.getvalue()


def verify(data: bytes, *, sha256: str, name: str) -> None:
    """Raise BundleError if a pickle's checksum is not the one that was written down when it was made."""
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise BundleError(
            f"{name} has sha256 {found}; its registry entry says {sha256}. It was changed or damaged after it was "
            "written: do not load it; train again or roll back to another version"
        )


def unpickle(data: bytes) -> object:
    """What :func:`dumps` wrote; only for data that :func:`verify` let pass."""
    return joblib.load(io.BytesIO(data))
