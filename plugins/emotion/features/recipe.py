"""The acoustic recipe: one named vector per clip.

A clip is cut into frames (40 ms Hann windows, every 10 ms). The frames of its *speech span*, from the first to the
last active frame, are Fourier-transformed once. Each of :data:`DESCRIPTORS` turns the spectra into one value per frame,
:data:`FUNCTIONALS` sum up each descriptor over time in named numbers, and :data:`SCALARS` describe the clip as a whole.

A name is ``<descriptor>_<functional>``: ``mfcc_01_mean``, ``delta_mfcc_03_std``, ``f0_semitone_voiced_p80``. A
functional whose name begins with ``voiced_`` uses voiced frames. Those that describe the course in time use the whole
span. All others use active frames. :func:`describe` says in words what a name means.

To change the recipe, edit its tables (:data:`DESCRIPTORS`, :data:`FUNCTIONALS`, :data:`SCALARS`) and raise
:data:`RECIPE_VERSION`; :func:`feature_names` follows.

Registered features
-------------------
A user adds features by a function in a module that workers can import. It is registered there, and
``EMOTION_FEATURES`` names the module (several: separated by commas). Every process that imports
:mod:`emotion.features` then has them::

    # company/speech_features.py
    from emotion import features

    @features.register("crossings", names=("count", "per_second"), group="timbre")
    def crossings(samples, sample_rate):
        count = ((samples[1:] >= 0) != (samples[:-1] >= 0)).sum()
        return count, count * sample_rate / len(samples)

The function takes float32 samples, shape (n,), and their rate in Hz, and returns one finite number for each name. Its
features, here ``crossings_count`` and ``crossings_per_second``, are part of the table, the models and their
explanations. The source of the function's module is part of :func:`recipe_version`: a change of it recomputes every
clip.
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
from emotion.features import groups
from emotion.features.descriptors import DESCRIPTORS, VIEWS
from emotion.features.frames import Speech
from emotion.features.functionals import FRAMES, FUNCTIONALS, Functional
from emotion.features.scalars import SCALARS
from emotion.features.spectrum import SAMPLE_RATE

RECIPE_VERSION = "v2"
"""Raise it with every change of a feature's value, name or place: in decoding (:mod:`emotion.audio.decode`) or in a
module of this package, :data:`emotion.features.VARIANTS` included. ``tests/data/test_golden_features.py`` fails on a
change that was not intended."""


Compute = Callable[[np.ndarray, int], Sequence[float]]
"""A user's function: float32 samples, shape (n,), and their rate in Hz, to a number for each name."""


@dataclass(frozen=True)
class _Registered:
    names: tuple[str, ...]
    compute: Compute
    source: str


_registered: dict[str, _Registered] = {}


def register(name: str, names: Sequence[str], *, group: str = groups.OWN) -> Callable[[Compute], Compute]:
    """Decorator: adds the numbers that the function returns to the features, as ``<name>_<each of names>``.

    ``group``: where explanations count them: a name of :data:`emotion.features.groups.GROUPS`, such as ``pitch``, or
    another one. Their subgroup is ``name``.

    Raises
    ------
    ConfigurationError
        If a name is taken, or if a feature's name is not made of letters, digits and ``_``, or if the function's source
        cannot be read, or if the group is no name.
    """

    def enter(function: Compute) -> Compute:
        new_names = tuple(f"{name}_{part}" for part in names)
        _check_new_names(name, new_names)
        entry = _Registered(new_names, function, _module_source(name, function))
        groups.enter(new_names, group=group, subgroup=name)
        _registered[name] = entry
        _forget_names()
        return function

    return enter


def _check_new_names(name: str, new_names: tuple[str, ...]) -> None:
    """Raise ConfigurationError unless all names can be added to the features."""
    if name in _registered:
        raise ConfigurationError(f"features of {name!r} cannot be registered twice; choose another name")
    malformed = [each for each in new_names if not re.fullmatch(r"\w+", each, re.ASCII)]
    taken = sorted(set(new_names) & set(feature_names()))
    repeated = sorted({each for each in new_names if new_names.count(each) > 1})
    if malformed or taken or repeated or not new_names:
        raise ConfigurationError(
            f"features {malformed or taken or repeated} of {name!r} cannot be registered: expected new names, at "
            "least one, of letters, digits and '_'"
        )


def _module_source(name: str, function: Compute) -> str:
    """The code of the function's module, without comments and layout."""
    try:
        module = inspect.getmodule(function)
        if module is None:
            raise TypeError(f"{function!r} belongs to no module")
        return ast.unparse(ast.parse(inspect.getsource(module)))
    except (OSError, TypeError) as error:
        raise ConfigurationError(
            f"the source of {name!r} cannot be read ({error}); define it in a module's file, so that a change of "
            "it changes the recipe's version"
        ) from error


def _registered_values(name: str, entry: _Registered, samples: np.ndarray) -> np.ndarray:
    values = np.asarray(entry.compute(samples, SAMPLE_RATE), dtype=np.float32)
    if values.shape != (len(entry.names),) or not np.isfinite(values).all():
        raise ConfigurationError(
            f"the registered function {name!r} gave {values!r}; expected {len(entry.names)} finite numbers "
            f"({', '.join(entry.names)}) for every clip"
        )
    return values


@lru_cache(maxsize=1)
def rows_of_functionals() -> list[tuple[Functional, np.ndarray]]:
    """Each functional, and the indices of the rows of the frame table that it sums up."""
    indices: dict[str, list[int]] = {name: [] for name in FUNCTIONALS}
    first = 0
    for descriptor in DESCRIPTORS:
        for name in descriptor.functionals:
            indices[name] += range(first, first + len(descriptor.rows))
        first += len(descriptor.rows)
    return [(FUNCTIONALS[name], np.array(rows)) for name, rows in indices.items()]


@lru_cache(maxsize=1)
def _meanings() -> dict[str, str]:
    """Each feature's name, in the vector's order, and what it is in words."""
    rows = [row for descriptor in DESCRIPTORS for row in descriptor.rows.items()]
    meanings: dict[str, str] = {}
    for functional, indices in rows_of_functionals():
        for name, meaning in (rows[index] for index in indices):
            for suffix, number in functional.names.items():
                meanings[f"{name}_{suffix}"] = f"{number} over {FRAMES[functional.frames]} of {meaning}"
    for scalars in SCALARS:
        meanings |= scalars.names
    for name, entry in _registered.items():
        meanings |= {each: f"registered feature {each[len(name) + 1 :]} of {name}" for each in entry.names}
    return meanings


@lru_cache(maxsize=1)
def feature_names() -> tuple[str, ...]:
    """Names of the features, in the vector's order.

    >>> feature_names()[:2]
    ('level_db_mean', 'level_db_std')
    """
    return tuple(_meanings())


def describe(name: str) -> str:
    """What a feature is, in words. Raises KeyError if there is none of this name.

    >>> describe("f0_semitone_voiced_p80")
    'percentile 80 over voiced frames of f0 (semitones re 150 Hz, interpolated over unvoiced frames)'
    """
    return _meanings()[name]


def views() -> dict[str, np.ndarray]:
    """Columns of each of :data:`emotion.features.VIEWS`. Registered features are in ``all`` and ``static``.

    >>> [feature_names()[column] for column in views()["prosody"][:2]]
    ['level_db_mean', 'level_db_std']
    """
    view_of_row = [descriptor.view for descriptor in DESCRIPTORS for _ in descriptor.rows]
    view_of_column, is_course = [], []
    for functional, indices in rows_of_functionals():
        view_of_column += [view_of_row[index] for index in indices for _ in functional.names]
        is_course += [functional.frames == "span"] * (len(indices) * len(functional.names))
    view_of_column += ["prosody"] * sum(len(scalars.names) for scalars in SCALARS)
    view_of_column += [""] * (len(feature_names()) - len(view_of_column))
    is_course += [False] * (len(feature_names()) - len(is_course))
    aspects, course = np.array(view_of_column), np.array(is_course)
    masks = {"all": np.ones(len(aspects), dtype=bool), "course": course, "static": ~course}
    return {view: np.flatnonzero(masks.get(view, aspects == view)) for view in VIEWS}


def extract(samples: np.ndarray) -> np.ndarray:
    """The features of a clip.

    Parameters
    ----------
    samples : float32 array, shape (n,)
        Mono, at :data:`SAMPLE_RATE`; finite, and not all zero.

    Returns
    -------
    float32 array, shape (n_features,)
        In the order of :func:`feature_names`; always finite, and the same bit for bit in every process of one machine.
        Where fewer than five frames are voiced, f0 is set to 150 Hz throughout, and functionals over voiced frames use
        the active frames.

    Raises
    ------
    ConfigurationError
        If a registered function does not return a finite number for each of its names.

    Examples
    --------
    >>> vector = extract(np.sin(2 * np.pi * 200 / SAMPLE_RATE * np.arange(SAMPLE_RATE)).astype(np.float32))
    >>> f0 = vector[feature_names().index("f0_semitone_voiced_mean")]  # 200 Hz in semitones relative to 150 Hz
    >>> round(float(f0), 1), round(float(12 * np.log2(200 / 150)), 1)
    (5.0, 5.0)
    """
    speech = Speech(samples)
    table = np.concatenate([descriptor.compute(speech) for descriptor in DESCRIPTORS], dtype=np.float32)
    tables = {"span": table, "active": table[:, speech.active], "voiced": table[:, speech.over_voiced]}
    parts = [
        functional.compute(tables[functional.frames][indices]).ravel() for functional, indices in rows_of_functionals()
    ]
    for scalars in SCALARS:
        numbers = scalars.compute(speech)
        parts.append(np.array([numbers[name] for name in scalars.names]))
    parts += [_registered_values(name, entry, samples) for name, entry in _registered.items()]
    return np.concatenate(parts, dtype=np.float32)


@lru_cache(maxsize=1)
def recipe_version() -> str:
    """The version of everything that turns a recording into its vector.

    Features are stored below it, and a model is used only with the recipe that it was trained on.

    >>> recipe_version()
    'v2'

    Registered features add a hash of their names and of the code of their modules, without comments and layout:
    ``v2-3f9a0c52``.
    """
    if not _registered:
        return RECIPE_VERSION
    parts = [text for entry in _registered.values() for text in (*entry.names, entry.source)]
    return f"{RECIPE_VERSION}-{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:8]}"


def _forget_names() -> None:
    """Compute again what depends on the registered features."""
    for cached in (_meanings, feature_names, recipe_version):
        cached.cache_clear()
