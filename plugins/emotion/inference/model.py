"""A trained model, loaded from its bundle, and its answers."""

from __future__ import annotations

import json
import os
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from emotion import features
from emotion.audio import decode
from emotion.audio.decode import Clip
from emotion.errors import AudioError, BundleError, ConfigurationError
from emotion.inference.windows import HOP, MAX_CLIP_SECONDS, WINDOW, Window, file_windows, read, stream_windows
from emotion.models import registry
from emotion.models.classifier import Ensemble, normalize_by_speaker
from emotion.models.registry import ENTRY, VersionEntry
from emotion.settings import Settings
from emotion.store import Store
from emotion.vocabulary import EMOTIONS, FAMILIES

CHAMPION = "champion"
MIN_SPEAKER_CLIPS = 10
"""So many clips of a speaker are needed to normalize by them. Macro F1 on speakers 13-18 of RAVDESS (logistic
regression fitted on 1-12), adapted against plain: 3 clips 0.54 and 0.53, 5 clips 0.59 and 0.53, 10 clips 0.66
and 0.55, 20 clips 0.67 and 0.54, 60 clips 0.69 and 0.54."""
ROWS_AT_ONCE = 32
"""Clips that are put to the model together: a forest takes hardly longer for 32 than for one."""
TOP_CONTRIBUTIONS = 5


class CustomEmotionModel:
    """A trained model, from its bundle.

    Parameters
    ----------
    path : path, optional
        A bundle, such as ``models/<version>/random_forest_emotion_model.pkl``, with the ``version.json`` of
        its version beside it. Without it: the champion of ``settings``.
    settings : Settings, optional
        By default what the environment says (``EMOTION_HOME``).

    Attributes
    ----------
    version, family : str
    name : str
        ``<version>/<family>``.
    emotions : tuple of str
        Those that the model can answer.
    metadata : dict
        What the bundle says of its making.
    entry : dict
        The registry's entry of its version.

    Raises
    ------
    BundleError
        Before anything is unpickled: no registry entry beside the bundle, another checksum than the entry's,
        another bundle format, feature recipe or minor version of scikit-learn than this code's.
    ConfigurationError
        If there is no champion.

    Notes
    -----
    An answer is a dict of plain Python values: ``emotion``; ``confidence``; ``probabilities`` of all eight
    emotions; ``duration`` in seconds; ``model``, the version, and ``family``; ``mode``, ``plain`` or
    ``adapted`` (see :meth:`predict_batch`); and, if asked for, ``explanation``: the features that spoke most
    ``towards`` the answer and ``against`` it, as lists of ``{"feature", "description", "value",
    "contribution"}``.
    """

    def __init__(self, path: str | os.PathLike | None = None, *, settings: Settings | None = None):
        if path is None:
            store = Store((settings or Settings.from_environment()).home)
            self._open(*_stored(store, None, None))
        else:
            self._open(*_beside(Path(path)))

    @classmethod
    def from_store(cls, store: Store, version: str | None = None, family: str | None = None) -> CustomEmotionModel:
        """A model of the artifact store: by version and family; a version's selected family; or the champion.

        Raises as the class does, and ConfigurationError if there is no such version or family.
        """
        model = cls.__new__(cls)
        model._open(*_stored(store, version, family))
        return model

    @classmethod
    def named(cls, store: Store, name: str) -> CustomEmotionModel:
        """A model by what a person calls it: ``champion``, ``<version>`` or ``<version>/<family>``."""
        version, _, family = name.partition("/")
        return cls.from_store(store, None if name == CHAMPION else version, family or None)

    def _open(self, entry: VersionEntry, name: str, data: bytes) -> None:
        bundle = registry.open_pickle(data, entry, name, recipe=features.recipe_version())
        self.entry = entry
        self.version: str = entry["version"]
        self.family: str = bundle["family"]
        self.name = f"{self.version}/{self.family}"
        self.emotions = tuple(emotion for emotion in EMOTIONS if emotion in bundle["label_encoder"].classes_)
        self.metadata: dict = bundle["metadata"]
        self._bundle = bundle

    def predict_emotion_from_file(self, path: str | os.PathLike, *, explain: bool = False) -> dict:
        """The answer for a recording of at most 60 s, in any format libsndfile reads. Raises AudioError."""
        return self._answer(read(path), explain)

    def predict_emotion_from_array(self, samples: np.ndarray, sample_rate: float, *, explain: bool = False) -> dict:
        """The answer for samples, shape (n,) or (n, channels), floats (full scale 1) or integers, at any rate
        in Hz.

        Raises AudioError.
        """
        clip = decode.from_blocks([np.asarray(samples)], sample_rate, max_seconds=MAX_CLIP_SECONDS)
        return self._answer(clip, explain)

    def _answer(self, clip: Clip, explain: bool) -> dict:
        return self.predict_features(features.extract(clip.samples)[None], explain=explain)[0] | {
            "duration": clip.duration
        }

    def predict_features(
        self, values: np.ndarray, *, speakers: Sequence[str] | None = None, explain: bool | np.ndarray = False
    ) -> list[dict]:
        """The answers, less ``duration``, for clips that are featurized already.

        Parameters
        ----------
        values : float32 array, shape (n, n_features)
            As :func:`emotion.features.extract` gives them.
        speakers : sequence of str, optional
            Who speaks, ``""`` if unknown: see :meth:`predict_batch`.
        explain : bool, or bool array, shape (n,)
            Which answers to explain. An adapted one is explained by features in standard deviations from the
            speaker's mean.
        """
        values = np.asarray(values, dtype=np.float32)
        explain = np.broadcast_to(explain, len(values))
        speakers = np.array([""] * len(values) if speakers is None else speakers)
        counts = Counter(speakers.tolist())
        adapted = np.array([bool(who) and counts[who] >= MIN_SPEAKER_CLIPS for who in speakers.tolist()], dtype=bool)
        answers: list[dict] = [{}] * len(values)
        for mode, where in (("plain", np.flatnonzero(~adapted)), ("adapted", np.flatnonzero(adapted))):
            if len(where):
                rows = values[where]
                if mode == "adapted":
                    rows = normalize_by_speaker(rows, speakers[where])
                for index, answer in zip(where, self._predict(rows, mode, explain[where]), strict=True):
                    answers[index] = answer
        return answers

    def _predict(self, rows: np.ndarray, mode: str, explain: np.ndarray) -> list[dict]:
        found = self._bundle[mode].predict_proba(rows)
        answers = []
        for probabilities in found.tolist():
            confidence = max(probabilities)
            answers.append(
                {
                    "emotion": EMOTIONS[probabilities.index(confidence)],
                    "confidence": confidence,
                    "probabilities": dict(zip(EMOTIONS, probabilities, strict=True)),
                    "model": self.version,
                    "family": self.family,
                    "mode": mode,
                }
            )
        if explain.any():
            from emotion.explanation.values import (  # here, as shap takes longer to import than all the rest
                explain_predictions,
                top_contributions,
            )

            background = self._bundle["background"][mode]
            explained = explain_predictions(self._bundle[mode], rows[explain], background=background)
            names = self._bundle["feature_names"]
            for row, index in enumerate(np.flatnonzero(explain)):
                answers[index]["explanation"] = top_contributions(
                    explained, row, answers[index]["emotion"], TOP_CONTRIBUTIONS, feature_names=names
                )
        return answers

    def predict_batch(
        self,
        paths: Iterable[str | os.PathLike],
        *,
        speakers: Sequence[str] | None = None,
        explain: bool = False,
    ) -> Iterator[dict]:
        """An answer a file, with its ``path``, in their order; a file that cannot be used gets
        ``{"path", "error", "message"}`` and the others go on.

        With ``speakers`` (one a path, ``""`` if unknown), a speaker's clips are z-scored by their own mean
        and standard deviation and put to the model that was trained on such features (``mode`` is
        ``adapted``), if at least :data:`MIN_SPEAKER_CLIPS` of them can be used. That is more accurate where
        they show several emotions, and wrong where they all show the same one, as it would become that
        speaker's zero.

        Memory holds at most 32 clips' features, and with ``speakers`` those of the speakers under way too:
        speaker by speaker, a folder of any length takes no more than its longest speaker.
        """
        counts = Counter(speakers or ())
        enough = {who for who, count in counts.items() if who and count >= MIN_SPEAKER_CLIPS}
        pairs = ((path, "") for path in paths) if speakers is None else zip(paths, speakers, strict=True)
        waiting: deque[dict] = deque()  # in the order of paths
        under_way: dict[str, list[tuple[dict, np.ndarray | None]]] = defaultdict(list)  # by speaker

        def answer(who: str) -> None:
            group = [(record, vector) for record, vector in under_way.pop(who, ()) if vector is not None]
            if group:
                vectors = np.array([vector for _, vector in group])
                answers = self.predict_features(vectors, speakers=[who] * len(group), explain=explain)
                for (record, _), found in zip(group, answers, strict=True):
                    record |= found

        for path, speaker in pairs:
            who = speaker if speaker in enough else ""
            record = {"path": os.fsdecode(path)}
            waiting.append(record)
            vector = None
            try:
                clip = read(path)
            except AudioError as error:
                record |= {"error": error.reason, "message": str(error)}
            else:
                record["duration"] = clip.duration
                vector = features.extract(clip.samples)
            under_way[who].append((record, vector))
            if len(under_way[who]) == (counts[who] if who else ROWS_AT_ONCE):
                answer(who)
            while waiting and waiting[0].keys() & {"emotion", "error"}:
                yield waiting.popleft()
        answer("")
        yield from waiting

    def predict_stream(
        self, blocks: Iterable[np.ndarray], sample_rate: float, *, window: float = WINDOW, hop: float = HOP
    ) -> Iterator[dict]:
        """An answer a window of a stream, with its ``start`` and ``end`` in seconds, as soon as it has come.

        A window that cannot be used gets ``{"start", "end", "error", "message"}``, as when nobody speaks
        (``silent``). Parameters and errors are those of :func:`stream_windows`.
        """
        return self._answers(stream_windows(blocks, sample_rate, window=window, hop=hop))

    def predict_timeline(
        self, file: str | os.PathLike | BinaryIO, *, window: float = WINDOW, hop: float = HOP
    ) -> Iterator[dict]:
        """As :meth:`predict_stream`, for a recording of any length, in constant memory; see
        :func:`file_windows`."""
        return self._answers(file_windows(file, window=window, hop=hop))

    def _answers(self, windows: Iterator[Window]) -> Iterator[dict]:
        for start, end, vector, error in windows:
            if error:
                found = {"error": error.reason, "message": str(error)}
            else:
                found = self.predict_features(vector[None])[0]
            yield {"start": start, "end": end} | found


def _stored(store: Store, version: str | None, family: str | None) -> tuple[VersionEntry, str, bytes]:
    """Registry entry, name and content of a bundle in the artifact store."""
    if version is None:
        pointer = registry.champion(store)
        if pointer is None:
            raise ConfigurationError(
                f"there is no champion in {store.root} yet: run the DAG emotion_training or promote a version"
            )
        version, family = pointer["version"], pointer["family"]
    entry = registry.entry(store, version)
    name = registry.bundle_name(family or entry["selected"])
    return entry, name, registry.read_file(store, entry, name)


def _beside(path: Path) -> tuple[VersionEntry, str, bytes]:
    """Registry entry, name and content of a bundle in a folder of its own."""
    names = {registry.bundle_name(family) for family in (*FAMILIES, Ensemble.family)}
    if path.name not in names:
        raise BundleError(f"{path} is no model bundle; expected one of {', '.join(sorted(names))}")
    beside = path.parent / ENTRY
    try:
        data = path.read_bytes()
        entry: VersionEntry = json.loads(beside.read_bytes())
    except FileNotFoundError as error:
        raise BundleError(
            f"{error.filename} is not there; expected a bundle with its version's {ENTRY} beside "
            "it, as the artifact store has them: copy both"
        ) from None
    except (OSError, ValueError) as error:
        raise BundleError(f"{path} or the {ENTRY} beside it cannot be read: {error}") from error
    if not isinstance(entry, dict) or path.name not in entry.get("files", {}):
        raise BundleError(f"{beside} does not list {path.name}; expected the registry entry of the bundle's version")
    return entry, path.name, data
