"""The acoustic recipe: one named vector per clip.

A clip is cut into frames (40 ms Hann windows, every 10 ms); the frames of its *speech span*, from the first to
the last active frame, are Fourier-transformed once. :data:`DESCRIPTORS` turn that into one value per frame each,
*functionals* turn each descriptor's course into named numbers, and :data:`SCALARS` describe the clip as a whole.

Names are ``<descriptor>_<functional>``: ``mfcc_01_mean``, ``delta_mfcc_03_std``, ``f0_semitone_p80``. A functional
that begins with ``voiced_`` is taken over voiced frames; any other over active frames, but for those that describe
the course in time, which see the whole span. :func:`describe` says in words what a name means.

To change the recipe, edit its tables (:data:`DESCRIPTORS`, :data:`FUNCTIONALS`, :data:`SCALARS`) and raise
:data:`RECIPE_VERSION`; :func:`feature_names` follows.

Features of one's own
---------------------
Put functions in a module that workers can import, register them there, and name the module in
``EMOTION_FEATURES`` (several: separated by commas), so that every process that imports this one has them::

    # company/speech_features.py
    from emotion import features

    @features.register("crossings", names=("count", "per_second"))
    def crossings(samples, sample_rate):
        count = ((samples[1:] >= 0) != (samples[:-1] >= 0)).sum()
        return count, count * sample_rate / len(samples)

The function takes float32 samples, shape (n,), and their rate, and returns a finite number for each name. Its
features, here ``crossings_count`` and ``crossings_per_second``, join the table, the models and their explanations.
The source of its module is part of :func:`recipe_version`, so a change of it recomputes every clip.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from emotion.errors import ConfigurationError
from emotion.features.descriptors import DESCRIPTORS, VIEWS
from emotion.features.frames import Speech
from emotion.features.functionals import FRAMES, FUNCTIONALS, Functional
from emotion.features.scalars import SCALARS
from emotion.features.spectrum import SAMPLE_RATE

RECIPE_VERSION = "v1"
"""Raise it with every change of a feature's value, name or place: in decoding (:mod:`emotion.audio.decode`), here, in
:mod:`emotion.features.kernels` or in :data:`VARIANTS`. ``tests/data/test_golden_features.py`` notices a change that was not meant."""


@dataclass(frozen=True)
class _Registered:
    names: tuple[str, ...]
    compute: Callable[[np.ndarray, int], Sequence[float]]
    source: str


_registered: dict[str, _Registered] = {}


def register(name: str, names: Sequence[str]) -> Callable:
    """Decorator: the function's numbers join the features as ``<name>_<one of names>``.

    Raises
    ------
    ConfigurationError
        If a name is taken or is not made of letters, digits and ``_``, or if the function's source cannot be read.
    """

    def enter(function: Callable[[np.ndarray, int], Sequence[float]]) -> Callable:
        full = tuple(f"{name}_{part}" for part in names)
        wrong = [part for part in full if not re.fullmatch(r"\w+", part, re.ASCII)]
        taken = sorted(set(full) & set(feature_names())) + sorted({part for part in full if full.count(part) > 1})
        if wrong or taken or not full:
            raise ConfigurationError(
                f"features {wrong or taken or list(full)} of {name!r} cannot be registered: expected new names, at "
                "least one, of letters, digits and '_'"
            )
        try:
            source = ast.unparse(ast.parse(inspect.getsource(inspect.getmodule(function))))
        except (OSError, TypeError) as error:
            raise ConfigurationError(
                f"the source of {name!r} cannot be read ({error}); define it in a module's file, so that a change of "
                "it is noticed"
            ) from error
        _registered[name] = _Registered(full, function, source)
        _forget()
        return function

    return enter


def _own(name: str, entry: _Registered, samples: np.ndarray) -> np.ndarray:
    values = np.asarray(entry.compute(samples, SAMPLE_RATE), dtype=np.float32)
    if values.shape != (len(entry.names),) or not np.isfinite(values).all():
        raise ConfigurationError(
            f"the registered function {name!r} gave {values!r}; expected {len(entry.names)} finite numbers "
            f"({', '.join(entry.names)}) for every clip"
        )
    return values


@lru_cache(maxsize=1)
def _plan() -> list[tuple[Functional, np.ndarray]]:
    """Which rows of the frame table each functional sees."""
    index: dict[str, list[int]] = {name: [] for name in FUNCTIONALS}
    at = 0
    for descriptor in DESCRIPTORS:
        for name in descriptor.functionals:
            index[name] += range(at, at + len(descriptor.rows))
        at += len(descriptor.rows)
    return [(FUNCTIONALS[name], np.array(rows)) for name, rows in index.items()]


@lru_cache(maxsize=1)
def _meanings() -> dict[str, str]:
    rows = [row for descriptor in DESCRIPTORS for row in descriptor.rows.items()]
    meanings = {}
    for functional, index in _plan():
        for name, meaning in (rows[number] for number in index):
            for suffix, what in functional.names.items():
                meanings[f"{name}_{suffix}"] = f"{what} over {FRAMES[functional.frames]} of {meaning}"
    for scalars in SCALARS:
        meanings |= scalars.names
    for name, entry in _registered.items():
        meanings |= {full: f"registered feature {full[len(name) + 1 :]} of {name}" for full in entry.names}
    return meanings


@lru_cache(maxsize=1)
def feature_names() -> tuple[str, ...]:
    """Names of the features, in the vector's order."""
    return tuple(_meanings())


def describe(name: str) -> str:
    """What a feature is, in words. Raises KeyError if there is none of this name.

    >>> describe("f0_semitone_voiced_p80")
    'percentile 80 over voiced frames of f0 (semitones re 150 Hz, interpolated over unvoiced frames)'
    """
    return _meanings()[name]


def views() -> dict[str, np.ndarray]:
    """Columns of each of :data:`VIEWS`; registered features are in ``all`` and ``static``."""
    kinds, moving = [], []
    rows = [descriptor.view for descriptor in DESCRIPTORS for _ in descriptor.rows]
    for functional, index in _plan():
        kinds += [rows[row] for row in index for _ in functional.names]
        moving += [functional.frames == "span"] * (len(index) * len(functional.names))
    rest = len(feature_names()) - len(kinds)
    kinds += ["prosody"] * sum(len(scalars.names) for scalars in SCALARS)
    kinds, moving = np.array(kinds + [""] * (len(feature_names()) - len(kinds))), np.array(moving + [False] * rest)
    chosen = {"all": np.ones(len(kinds), dtype=bool), "course": moving, "static": ~moving}
    return {view: np.flatnonzero(chosen.get(view, kinds == view)) for view in VIEWS}


def extract(samples: np.ndarray) -> np.ndarray:
    """The features of a clip.

    Parameters
    ----------
    samples : float32 array, shape (n,)
        Mono, at :data:`SAMPLE_RATE`; finite, and not all zero.

    Returns
    -------
    float32 array, shape (n_features,)
        In the order of :func:`feature_names`; always finite, and the same bit for bit wherever it is computed on
        the same machine. Where fewer than five frames are voiced, f0 is taken as 150 Hz throughout and functionals
        over voiced frames see the active ones.
    """
    speech = Speech(samples)
    table = np.concatenate([descriptor.compute(speech) for descriptor in DESCRIPTORS], dtype=np.float32)
    seen = {"span": table, "active": table[:, speech.active], "voiced": table[:, speech.over_voiced]}
    parts = [functional.compute(seen[functional.frames][index]).ravel() for functional, index in _plan()]
    parts += [np.array(scalars.compute(speech)) for scalars in SCALARS]
    parts += [_own(name, entry, samples) for name, entry in _registered.items()]
    return np.concatenate(parts, dtype=np.float32)


@lru_cache(maxsize=1)
def recipe_version() -> str:
    """The version of everything that turns a recording into its vector.

    Features are stored below it, and a model is used only with the recipe it was trained on.

    >>> recipe_version()
    'v1'

    Features of one's own add a hash of their names and of their modules' code, comments and layout aside:
    ``v1-3f9a0c52``.
    """
    if not _registered:
        return RECIPE_VERSION
    parts = [text for entry in _registered.values() for text in (*entry.names, entry.source)]
    return f"{RECIPE_VERSION}-{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:8]}"


def _forget() -> None:
    for cached in (_meanings, feature_names, recipe_version):
        cached.cache_clear()
