"""The ``.pkl`` bundle: what it holds, how it is written, and how it is checked before it is loaded."""

from __future__ import annotations

import hashlib
import io
import platform
from collections.abc import Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from emotion.errors import BundleError
from emotion.models.adaptation import Statistics
from emotion.models.classifier import Classifier, Ensemble
from emotion.models.familiarity import Familiarity
from emotion.vocabulary import Mode

if TYPE_CHECKING:
    from sklearn.preprocessing import LabelEncoder, StandardScaler

FORMAT = "emotion-model/4"
"""Pickles name the modules of their classes: a class that moves needs a new format."""
PACKAGES = ("scikit-learn", "numpy", "scipy", "librosa", "soundfile", "joblib", "shap", "pandas")


class Bundle(TypedDict):
    """What ``<family>_emotion_model.pkl`` holds.

    ``plain``, ``batch`` and ``speaker`` are the models of the three modes (:data:`emotion.vocabulary.MODES`);
    ``background`` has, for each mode, the rows that its explanations are measured against. ``training`` and
    ``typical_information`` are what a group of new clips is judged by (:func:`emotion.models.adaptation.judge_group`).
    An ensemble has a scaler per member, by family. ``familiarity``
    tells clips that are unlike all of training. ``emotions`` is the label set of all models, in the order of their
    probabilities.
    """

    format: str
    family: str
    emotions: tuple[str, ...]
    feature_names: tuple[str, ...]
    scaler: StandardScaler | dict[str, StandardScaler]
    label_encoder: LabelEncoder
    plain: Classifier | Ensemble
    batch: Classifier | Ensemble
    speaker: Classifier | Ensemble
    background: dict[Mode, np.ndarray]
    training: Statistics
    typical_information: float
    familiarity: Familiarity
    metadata: dict


class FoldModel(TypedDict):
    """One entry of ``<family>_fold_models.pkl``: a plain model, and the speakers and clips (by ``samples_sha256``)
    that were held out when it was fitted."""

    speakers: list[str]
    clips: list[str]
    model: Classifier


def make_bundle(
    *,
    models: Mapping[Mode, Classifier | Ensemble],
    background: dict[Mode, np.ndarray],
    training: Statistics,
    typical_information: float,
    familiarity: Familiarity,
    feature_names: tuple[str, ...],
    metadata: dict,
) -> Bundle:
    """Put a model's parts together, by mode where there is one of each; ``metadata`` also gets the versions of all
    packages.

    Examples
    --------
    >>> from emotion.models.adaptation import measure
    >>> from emotion.vocabulary import MODES
    >>> rows, labels = np.eye(4, dtype=np.float32)[[0, 1] * 8], np.array(["sad", "happy"] * 8)
    >>> model = Classifier.fit("logistic_regression", rows, labels, seed=0)
    >>> familiarity = Familiarity.fit(rows, np.repeat(["a", "b"], 8), columns={"all": np.arange(4)})
    >>> bundle = make_bundle(
    ...     models=dict.fromkeys(MODES, model),
    ...     background=dict.fromkeys(MODES, rows),
    ...     training=measure(rows),
    ...     typical_information=1.0,
    ...     familiarity=familiarity,
    ...     feature_names=("a", "b", "c", "d"),
    ...     metadata={},
    ... )
    >>> bundle["family"], bundle["label_encoder"].classes_.tolist(), bundle["scaler"].n_features_in_
    ('logistic_regression', ['happy', 'sad'], 4)
    """
    from sklearn.preprocessing import LabelEncoder

    plain = models["plain"]
    members = plain.members if isinstance(plain, Ensemble) else [plain]
    scalers = {member.family: member.pipeline.named_steps["scaler"] for member in members}
    return {
        "format": FORMAT,
        "family": plain.family,
        "emotions": plain.label_set,
        "feature_names": tuple(feature_names),
        "scaler": scalers if isinstance(plain, Ensemble) else scalers[plain.family],
        "label_encoder": LabelEncoder().fit(members[0].emotions),
        "plain": plain,
        "batch": models["batch"],
        "speaker": models["speaker"],
        "background": background,
        "training": training,
        "typical_information": typical_information,
        "familiarity": familiarity,
        "metadata": metadata | {"packages": packages()},
    }


def models_of(bundle: Bundle) -> dict[Mode, Classifier | Ensemble]:
    """The model of each mode in a bundle."""
    return {"plain": bundle["plain"], "batch": bundle["batch"], "speaker": bundle["speaker"]}


def packages() -> dict[str, str]:
    """Versions of Python and of the packages that a model depends on.

    >>> sorted(packages())[:3]
    ['joblib', 'librosa', 'numpy']
    """
    return {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}


def dumps(value: Bundle | Familiarity | list[FoldModel]) -> bytes:
    """A joblib pickle, compressed."""
    import joblib

    buffer = io.BytesIO()
    joblib.dump(value, buffer, compress=3)
    return buffer.getvalue()


def verify(data: bytes, *, sha256: str, name: str) -> None:
    """Compare a pickle's checksum with the one that was recorded when it was written.

    Parameters
    ----------
    data : bytes
    sha256 : str
        The recorded checksum.
    name : str
        The file's name, for the message.

    Raises
    ------
    BundleError
        If the two differ.

    Examples
    --------
    >>> recorded = hashlib.sha256(b"a pickle").hexdigest()
    >>> verify(b"a pickle", sha256=recorded, name="model.pkl")
    >>> try:
    ...     verify(b"another pickle", sha256=recorded, name="model.pkl")
    ... except BundleError as error:
    ...     print(str(error).partition(". ")[2].partition(":")[0])
    It was changed or damaged after it was written
    """
    actual = hashlib.sha256(data).hexdigest()
    if actual != sha256:
        raise BundleError(
            f"{name} has sha256 {actual}; its registry entry says {sha256}. It was changed or damaged after it was "
            "written: do not load it; train again, or roll back to another version"
        )


def check_loadable(entry: Mapping[str, Any], *, recipe: str) -> None:
    """Compare what a version was made with with this code.

    Parameters
    ----------
    entry : mapping
        The :class:`emotion.models.registry.VersionEntry` of the version.
    recipe : str
        The feature recipe that this code computes.

    Raises
    ------
    BundleError
        If the version has another bundle format, feature recipe or scikit-learn minor version.

    Examples
    --------
    >>> entry = {"version": "one", "format": FORMAT, "recipe": "v1", "packages": packages()}
    >>> check_loadable(entry, recipe="v1")
    >>> try:
    ...     check_loadable(entry, recipe="v2")
    ... except BundleError as error:
    ...     print(str(error).partition(". ")[0])
    model version one was trained on feature recipe 'v1'; this code computes recipe 'v2'
    """
    name = f"model version {entry['version']}"
    if entry["format"] != FORMAT:
        raise BundleError(
            f"{name} has bundle format {entry['format']!r}; this code reads format {FORMAT!r}. Train again to get a "
            "version that this code reads. The old version stays in the store, and still answers with the code version "
            "that it was made with"
        )
    if entry["recipe"] != recipe:
        raise BundleError(
            f"{name} was trained on feature recipe {entry['recipe']!r}; this code computes recipe {recipe!r}. Train "
            f"again: the run stores its features in features/{recipe}/, and those in features/{entry['recipe']}/ stay "
            "as they are. The old version still answers with the code version, and the EMOTION_FEATURES, that it was "
            "made with"
        )
    made, here = entry["packages"]["scikit-learn"], version("scikit-learn")
    if made.split(".")[:2] != here.split(".")[:2]:
        raise BundleError(
            f"{name} was made with scikit-learn {made}; found scikit-learn {here}, which may read it incorrectly. "
            f"Install scikit-learn {made}, or train again"
        )


def unpickle(data: bytes) -> Any:
    """A :class:`Bundle`, a :class:`Familiarity` or a list of :class:`FoldModel`, from :func:`dumps`.

    Only for data that :func:`verify` has accepted: a pickle can run any code.

    >>> unpickle(dumps([]))
    []
    """
    import joblib

    return joblib.load(io.BytesIO(data))
