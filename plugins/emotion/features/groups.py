"""The groups of the features: what a phonetician would call the aspect of the voice that a feature measures.

The tree has two levels. Each feature of the recipe belongs to exactly one subgroup, by the rules of :data:`GROUPS`.
Contributions of features add up, so the contributions of groups are their exact sums. Some features have a meaning for
a person as they go up or down (:class:`Gauge`): the words of an explanation come from these.

Registered features belong to the group that :func:`emotion.features.register` names, by default :data:`OWN`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from emotion.errors import ConfigurationError

OWN = "own features"
"""The group of registered features that name none."""


@dataclass(frozen=True)
class Gauge:
    """What a person hears when some features are higher or lower than usual.

    Attributes
    ----------
    features : tuple of str
        The mean of their z-scores counts. A name after ``-`` counts with the opposite sign.
    more, less : str
        The word for a value above or below what is usual: ``higher`` and ``lower``.
    noun : str
        What the word is said of: ``pitch``.
    """

    features: tuple[str, ...]
    more: str
    less: str
    noun: str


@dataclass(frozen=True)
class Subgroup:
    """The features whose whole name fits one of the patterns; ``name`` is unique in its group."""

    name: str
    patterns: tuple[str, ...]
    gauges: tuple[Gauge, ...] = ()


@dataclass(frozen=True)
class Group:
    """An aspect of the voice: its name, what it is for a person, and its subgroups."""

    name: str
    description: str
    subgroups: tuple[Subgroup, ...]


_STATIC = r"(mean|std|skew|kurt|p\d\d|voiced_mean|voiced_std|course\d)"
_MODULATION = r"mod\d+_\d+hz"

GROUPS: tuple[Group, ...] = (
    Group(
        "effort",
        "vocal effort and dynamics: how strongly the voice is used, by the balance of the spectrum, and how much the "
        "level varies. The level itself is not known: each clip is brought to one level",
        (
            Subgroup(
                "vocal effort",
                (rf"(alpha_ratio|hammarberg|band_ratio|slope_\w+|mfcc_01)_{_STATIC}", r"harmonic_slope_\w+"),
                (
                    Gauge(
                        ("-alpha_ratio_mean", "-hammarberg_mean", "slope_500_1500_mean"), "stronger", "softer", "voice"
                    ),
                ),
            ),
            Subgroup(
                "dynamics",
                (rf"(level_db|loudness|mfcc_00)_{_STATIC}", r"level_(rise|fall)_mean"),
                (Gauge(("level_db_std",), "more varied", "more even", "level"),),
            ),
        ),
    ),
    Group(
        "pitch",
        "pitch: its height, range and movement",
        (
            Subgroup(
                "height",
                (r"f0_semitone_voiced_(mean|p20|p50|p80)",),
                (Gauge(("f0_semitone_voiced_mean", "f0_semitone_voiced_p50"), "higher", "lower", "pitch"),),
            ),
            Subgroup(
                "range",
                (r"f0_semitone_voiced_(std|p05|p95)",),
                (Gauge(("f0_semitone_voiced_std",), "wider", "narrower", "pitch"),),
            ),
            Subgroup(
                "movement",
                (
                    r"f0_(rise|fall|bend)_mean",
                    r"f0_rise_share",
                    r"delta_f0_semitone_\w+",
                    rf"f0_semitone_(course\d|{_MODULATION})",
                ),
                (Gauge(("delta_f0_semitone_voiced_std",), "livelier", "flatter", "pitch"),),
            ),
            Subgroup("pitch classes", (r"chroma_\w+",)),
        ),
    ),
    Group(
        "tempo",
        "tempo, pauses and rhythm: how fast the speech is, and how it is divided",
        (
            Subgroup(
                "rate",
                (r"(level_peaks|voiced)_per_second", r"(un)?voiced_mean_seconds", r"speech_seconds"),
                (Gauge(("level_peaks_per_second", "voiced_per_second"), "faster", "slower", "speech"),),
            ),
            Subgroup(
                "pauses",
                (r"pause\w+", r"active_share"),
                (Gauge(("pause_share", "-active_share"), "longer", "shorter", "pauses"),),
            ),
            Subgroup("rhythm", (r"(un)?voiced_std_seconds", rf"(?!f0|delta_f0)\w+_{_MODULATION}")),
        ),
    ),
    Group(
        "voice quality",
        "voice quality: clear or breathy, smooth or rough, how far harmonics stand out of the noise",
        (
            Subgroup(
                "breathiness",
                (rf"cpp_{_STATIC}", r"(periodicity|hnr_db|h1_h2_db|h1_h4_db)_\w+", r"voiced_share"),
                (Gauge(("-cpp_voiced_mean", "-hnr_db_voiced_mean"), "breathier", "clearer", "voice"),),
            ),
            Subgroup(
                "roughness", (r"jitter|shimmer_db",), (Gauge(("jitter", "shimmer_db"), "rougher", "smoother", "voice"),)
            ),
            Subgroup("harmonics", (rf"(contrast_\d\d|flatness|entropy)_{_STATIC}",)),
        ),
    ),
    Group(
        "timbre",
        "timbre: how the sound is spread over the frequencies",
        (
            Subgroup(
                "brightness",
                (rf"(centroid|bandwidth|skewness|kurtosis|rolloff_\d\d|zero_crossing_rate)_{_STATIC}",),
                (Gauge(("centroid_mean", "rolloff_85_mean"), "brighter", "darker", "timbre"),),
            ),
            Subgroup("frequency bands", (rf"log_mel_\d\d_{_STATIC}",)),
        ),
    ),
    Group(
        "articulation",
        "articulation: the shape of the vocal tract, by formants and cepstrum, and how it moves",
        (
            Subgroup(
                "formants",
                (r"formant_\w+", rf"log_area_ratio_\d\d_{_STATIC}"),
                (Gauge(("formant_1_voiced_mean",), "more open", "closer", "vowels"),),
            ),
            Subgroup("cepstrum", (rf"mfcc_(0[2-9]|1\d)_{_STATIC}",)),
            Subgroup(
                "movement",
                (r"delta2?_mfcc_\w+", rf"flux_{_STATIC}"),
                (Gauge(("delta_mfcc_01_std", "delta_mfcc_02_std"), "livelier", "more even", "articulation"),),
            ),
        ),
    ),
)
"""The tree: groups and their subgroups, in the order of tables."""


@dataclass(frozen=True)
class Place:
    """Where a feature is in the tree: the names of its group and of its subgroup."""

    group: str
    subgroup: str


_registered: dict[str, Place] = {}


def enter(names: Sequence[str], *, group: str, subgroup: str) -> None:
    """Put registered features into a group: one of :data:`GROUPS`, or another one that is named so.

    Raises ConfigurationError if ``group`` is no name.
    """
    if not re.fullmatch(r"\w[\w -]*", group):
        raise ConfigurationError(f"the group {group!r} of features {names!r}; expected letters, digits, spaces and '-'")
    _registered.update(dict.fromkeys(names, Place(group, subgroup)))
    place_of.cache_clear()
    _columns_of.cache_clear()


def matching_rules(name: str) -> list[tuple[Place, str]]:
    """The subgroups, and their patterns, that a name of the recipe fits: exactly one.

    >>> matching_rules("jitter")
    [(Place(group='voice quality', subgroup='roughness'), 'jitter|shimmer_db')]
    """
    return [
        (Place(group.name, subgroup.name), pattern)
        for group in GROUPS
        for subgroup in group.subgroups
        for pattern in subgroup.patterns
        if re.fullmatch(pattern, name)
    ]


@cache
def place_of(name: str) -> Place:
    """The group and the subgroup of a feature.

    Features that are neither in the recipe nor registered now, such as those of a run with other registered features,
    are in :data:`OWN`.

    >>> place_of("f0_semitone_voiced_p95")
    Place(group='pitch', subgroup='range')
    """
    if name in _registered:
        return _registered[name]
    rules = matching_rules(name)
    return rules[0][0] if rules else Place(OWN, name)


def groups_of(names: Sequence[str]) -> dict[str, dict[str, np.ndarray]]:
    """The columns of each subgroup, by group: those of the tree in its order, then those of registered features.

    >>> columns = groups_of(("jitter", "f0_semitone_voiced_mean", "shimmer_db"))
    >>> {group: {name: rows.tolist() for name, rows in subgroups.items()} for group, subgroups in columns.items()}
    {'pitch': {'height': [1]}, 'voice quality': {'roughness': [0, 2]}}
    """
    return {
        group: {subgroup: np.array(columns) for subgroup, columns in subgroups.items()}
        for group, subgroups in _columns_of(tuple(names)).items()
    }


@cache
def _columns_of(names: tuple[str, ...]) -> dict[str, dict[str, list[int]]]:
    places: dict[Place, list[int]] = {
        Place(group.name, subgroup.name): [] for group in GROUPS for subgroup in group.subgroups
    }
    for column, name in enumerate(names):
        places.setdefault(place_of(name), []).append(column)
    groups: dict[str, dict[str, list[int]]] = {}
    for place, columns in places.items():
        if columns:
            groups.setdefault(place.group, {})[place.subgroup] = columns
    return groups


def describe_group(name: str) -> str:
    """What a group is, in words.

    >>> describe_group("pitch")
    'pitch: its height, range and movement'
    """
    descriptions = {group.name: group.description for group in GROUPS}
    return descriptions.get(name, f"{name}: registered by the user")
