"""How far a clip lies from everything that training has shown: a tone, music or a hum is no speech of any emotion."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from emotion.models.sums import Rows

COMPONENTS = 40
"""Principal components of training in which a distance is measured."""
VIEWS = ("all", "prosody", "course")
"""The sets of features (:func:`emotion.features.views`) in which a clip may be unfamiliar: a hum may have the spectrum
of a voice in a car, and it has neither its melody nor its rhythm."""
FAMILIAR_SHARE = 0.97
"""This share of the clips of held-out training speakers is familiar, by the choice of the threshold."""
FOLDS = 4
"""Groups of speakers that are held out in turn for the threshold."""
MAX_ROWS = 1500
"""Training rows that the components are computed from; more change little and take longer."""
_SEED = 0


@dataclass(frozen=True, eq=False)
class View:
    """The space of some features, as training fills it.

    Attributes
    ----------
    columns : int array, shape (c,)
        Of the features.
    mean, deviation : float32 array, shape (c,)
        Of training, by which features are standardized.
    components : float32 array, shape (k, c)
        Principal components of the standardized features.
    variances : float32 array, shape (k,)
        Of the training rows along the components.
    residual : float
        Mean squared distance of the training rows from the space of the components.
    typical : float
        The median distance of the training rows.
    """

    columns: np.ndarray
    mean: np.ndarray
    deviation: np.ndarray
    components: np.ndarray
    variances: np.ndarray
    residual: float
    typical: float = 1.0

    @classmethod
    def fit(cls, rows: np.ndarray, columns: np.ndarray) -> View:
        """From training rows, float32 (n_rows, n_features)."""
        from sklearn.decomposition import PCA

        values = rows[:, columns]
        mean, deviation = values.mean(axis=0), values.std(axis=0)
        deviation[deviation == 0] = 1
        values = (values - mean) / deviation
        count = max(1, min(COMPONENTS, len(rows) // 4, len(columns) // 2))
        pca = PCA(count, svd_solver="randomized", iterated_power=2, random_state=_SEED).fit(values)
        components = pca.components_.astype(np.float32)
        outside = ((values - (values @ components.T) @ components) ** 2).sum(axis=1).mean()
        # A component in which training hardly varies must not count more than all that lies outside of the components.
        variances = np.maximum(pca.explained_variance_, max(outside / len(columns), 1e-6)).astype(np.float32)
        view = cls(columns, mean, deviation, components, variances, float(max(outside, 1e-6)))
        return cls(**{**vars(view), "typical": max(float(np.median(view.distances(rows))), 1e-6)})

    def distances(self, values: np.ndarray) -> np.ndarray:
        """Distance of clips, float32 (n, n_features), from training, shape (n,); that of a typical clip is 1.

        Squared, it is the Mahalanobis distance within the components, per component, plus the squared distance from
        their space in units of its mean in training (as Q and T² of Jackson & Mudholkar 1979).
        """
        rows = (values[:, self.columns] - self.mean) / self.deviation
        inside = rows @ self.components.T
        outside = ((rows - inside @ self.components) ** 2).sum(axis=1)
        squared = (inside**2 / self.variances).mean(axis=1) + outside / self.residual
        return np.sqrt(squared.astype(np.float64)) / self.typical


@dataclass(frozen=True, eq=False)
class Familiarity:
    """What training has shown, and the threshold of the distance from it.

    Attributes
    ----------
    views : tuple of View
    threshold : float
        The largest distance over the views that a familiar clip has.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> clips, speakers = rng.normal(size=(400, 6)).astype(np.float32), np.repeat(["a", "b", "c", "d"], 100)
    >>> familiarity = Familiarity.fit(clips, speakers, columns={"all": np.arange(6)})
    >>> new = rng.normal(size=(100, 6)).astype(np.float32)
    >>> round(float((familiarity.unfamiliarity(new) > 1).mean()), 2) <= 0.05
    True
    >>> bool(familiarity.unfamiliarity(new[:1] + 10)[0] > 1)
    True
    """

    views: tuple[View, ...]
    threshold: float

    @classmethod
    def fit(
        cls,
        clips: np.ndarray,
        speakers: np.ndarray,
        *,
        columns: Mapping[str, np.ndarray],
        copies: Sequence[np.ndarray] | None = None,
    ) -> Familiarity:
        """Learn what training has shown.

        Parameters
        ----------
        clips : float32 array, shape (n_clips, n_features)
        speakers : array of str, shape (n_clips,)
            Of at least two speakers. Groups of them are held out in turn for the threshold, with their copies.
        columns : mapping of str to int array
            Columns of the features in each of :data:`VIEWS`, or in those of them that there are.
        copies : sequence of float32 array, shape (n_clips, n_features), optional
            Each augmented copy of the clips: what they show is familiar too, such as speech in noise.
        """
        variants = [clips, *(() if copies is None else copies)]
        used = [columns[view] for view in VIEWS if view in columns]
        distances = [
            _distances(_fit_views(variants, np.flatnonzero(~is_held_out), used), clips, np.flatnonzero(is_held_out))
            for is_held_out in _speaker_groups(speakers)
        ]
        threshold = float(np.quantile(np.concatenate(distances), FAMILIAR_SHARE))
        return cls(_fit_views(variants, np.arange(len(clips)), used), threshold)

    def unfamiliarity(self, values: np.ndarray) -> np.ndarray:
        """Distance of clips from training, float64 (n,), where 1 is the threshold: a clip above it is unfamiliar.

        ``values``: features as they are, not normalized by speaker, float32 (n, n_features).
        """
        return _largest(self.views, values) / self.threshold


def _fit_views(variants: list[np.ndarray], clips: np.ndarray, columns: list[np.ndarray]) -> tuple[View, ...]:
    """The views of all variants of some clips (row numbers), or of a random sample of them."""
    count = len(variants) * len(clips)
    drawn = np.arange(count)
    if count > MAX_ROWS:
        drawn = np.random.default_rng(_SEED).choice(count, MAX_ROWS, replace=False)
    numbers, places = np.divmod(drawn, len(clips))
    rows = np.empty((len(drawn), variants[0].shape[1]), dtype=np.float32)
    for number, variant in enumerate(variants):
        rows[numbers == number] = variant[clips[places[numbers == number]]]
    return tuple(View.fit(rows, each) for each in columns)


def _distances(views: tuple[View, ...], values: np.ndarray, clips: np.ndarray) -> np.ndarray:
    """Of these clips (row numbers), block by block."""
    rows = Rows.of(values).take(clips)
    return np.concatenate([_largest(views, rows[part]) for part in rows.blocks()])


def _largest(views: tuple[View, ...], values: np.ndarray) -> np.ndarray:
    return np.max([view.distances(values) for view in views], axis=0)


def _speaker_groups(speakers: np.ndarray) -> Iterator[np.ndarray]:
    """The clips of each group of speakers that is held out, as bool arrays."""
    known = np.unique(speakers)
    if len(known) < 2:
        raise ValueError(f"clips of {len(known)} speaker; expected at least two, so that one can be held out")
    for first in range(min(FOLDS, len(known))):
        yield np.isin(speakers, known[first::FOLDS])
