"""A trained model, loaded from its bundle, and its answers."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence, Sized
from pathlib import Path
from typing import BinaryIO

import numpy as np

from emotion import features
from emotion.audio import decode
from emotion.audio.decode import Clip
from emotion.features import quality
from emotion.inference import bundles
from emotion.inference.adapting import Group, Groups, Part
from emotion.inference.answer_queue import AnswerQueue, ReadClip, list_clips, read_clips
from emotion.inference.answering import answer_in_groups
from emotion.inference.cutting import MAX_CLIP_SECONDS
from emotion.inference.explaining import AnswerExplainer
from emotion.inference.windows import HOP, WINDOW, Window, channels_of, file_windows, read, stream_windows
from emotion.models import fitted, registry
from emotion.models.bundle import Bundle
from emotion.models.registry import VersionEntry
from emotion.settings import Settings
from emotion.store import Store
from emotion.vocabulary import ADAPTATIONS, Adaptation, require_word


class CustomEmotionModel:
    """A trained model: give it a recording, and it answers with an emotion and a calibrated confidence.

    Parameters
    ----------
    path : path, optional
        A bundle, such as ``models/<version>/random_forest_emotion_model.pkl``. The ``version.json`` of its version must
        be in the same folder. Without a path, the champion is loaded.
    settings : Settings, optional
        Names the artifact store that the champion is in; by default from the environment (``EMOTION_HOME``).
    trust : bool
        Load the bundle at ``path`` even if no version of the artifact store has a bundle with its checksum. A pickle
        can run any code, and the ``version.json`` beside it proves nothing: pass True only for a bundle from people you
        trust.

    Attributes
    ----------
    version : str
        The training run that made the model.
    family : str
        ``logistic_regression``, ``random_forest``, ``gradient_boosting`` or ``ensemble``.
    name : str
        ``<version>/<family>``.
    emotions : tuple of str
        The emotions that the model can answer, in the order of ``probabilities``.
    metadata : dict
        From the bundle: run_id, recipe, seed, dataset and packages of the training run.
    entry : dict
        The registry entry of the version (``version.json``).

    Raises
    ------
    BundleError
        Before anything is unpickled: the bundle or its registry entry is not there; or the checksum differs from the
        entry's; or the bundle is not in the artifact store and ``trust`` is False; or the bundle format, the feature
        recipe or the minor version of scikit-learn is not this code's.
    ConfigurationError
        If there is no champion.

    Notes
    -----
    An answer is a dict of plain Python values, which ``json.dumps`` accepts:

    ================== ==============================================================================================
    ``emotion``        the most probable emotion
    ``confidence``     its calibrated probability, 0 to 1
    ``probabilities``  the probabilities of all emotions of the model, by emotion; their sum is 1
    ``duration``       of the recording, in seconds
    ``model``          the version
    ``family``         the family
    ``mode``           ``plain``, ``batch`` or ``speaker``: how features were normalized (see :meth:`predict_batch`)
    ``unfamiliarity``  how far the recording lies from all that training has shown: 1 is the threshold
    ``unfamiliar``     whether it lies beyond that: it is probably not speech, such as a tone or music, and the emotion
                       then means nothing
    ``quality``        of the recording: ``level_db``, ``snr_db``, ``bandwidth_hz``, ``clipped_share`` and
                       ``seconds_of_speech`` (:class:`emotion.features.quality.Quality`); None is not known
    ``explanation``    only if asked for: see below; None if it failed
    ``no_explanation`` only if the explanation failed: why. The answer itself is as good as any other
    ================== ==============================================================================================

    An ``explanation`` has contributions to the confidence: added to ``base_value`` (of a mean training clip), those of
    all ``groups`` give ``output``, which is the confidence. Its keys: ``sentence``; ``scale`` (``probability``);
    ``base_value``; ``output``; ``groups``, the largest contribution first, of each its ``group``, ``words``,
    ``contribution``, ``subgroups`` and most important ``features``
    (:func:`emotion.explanation.grouping.group_contributions`); and the features that spoke most ``towards`` the answer
    and ``against`` it, as two lists of ``{"feature", "description", "value", "contribution"}``.

    Examples
    --------
    A bundle that was copied to another machine together with its ``version.json``, and a recording::

        model = CustomEmotionModel("champion/random_forest_emotion_model.pkl", trust=True)
        answer = model.predict_emotion_from_file("call.wav", explain=True)
        answer["emotion"], answer["confidence"]             # ('angry', 0.83)
        answer["probabilities"]["sad"]                      # 0.04
        answer["explanation"]["sentence"]                   # 'angry, 0.83: stronger voice than usual (+0.41), ...

    The champion of the artifact store, and samples that are in memory already::

        samples, sample_rate = soundfile.read("call.wav")
        CustomEmotionModel().predict_emotion_from_array(samples, sample_rate)["emotion"]

    Many files, of which some may be unusable, and a long recording window by window::

        for answer in model.predict_batch(["a.wav", "b.wav"]):
            print(answer["path"], answer.get("emotion", answer.get("error")))
        for answer in model.predict_timeline("meeting.flac"):
            print(answer["start"], answer["end"], answer.get("emotion", answer.get("error")))
    """

    def __init__(self, path: str | os.PathLike | None = None, *, settings: Settings | None = None, trust: bool = False):
        store = Store((settings or Settings.from_environment()).home)
        if path is None:
            self._open(*bundles.read_from_store(store, None, None))
        else:
            entry, name, data = bundles.read_from_folder(Path(path))
            if not trust:
                bundles.require_registered(store, entry, name, data)
            self._open(entry, name, data)

    @classmethod
    def from_store(cls, store: Store, version: str | None = None, family: str | None = None) -> CustomEmotionModel:
        """Load a model from an artifact store.

        Parameters
        ----------
        store : Store
        version : str, optional
            Without it, the champion is loaded.
        family : str, optional
            Without it, the family that was selected when the version was trained.

        Raises
        ------
        ConfigurationError
            If there is no champion, or no such version or family.
        BundleError
            As the class does.
        """
        model = cls.__new__(cls)
        model._open(*bundles.read_from_store(store, version, family))
        return model

    @classmethod
    def named(cls, store: Store, name: str) -> CustomEmotionModel:
        """Load a model by its name: ``champion``, ``<version>`` or ``<version>/<family>``.

        Raises as :meth:`from_store` does.
        """
        model = cls.__new__(cls)
        model._open(*bundles.read_named(store, name))
        return model

    def _open(self, entry: VersionEntry, name: str, data: bytes) -> None:
        bundle: Bundle = registry.open_pickle(data, entry, name, recipe=features.recipe_version(), read=fitted.read)
        self.entry = entry
        self.version: str = entry["version"]
        self.family = bundle["family"]
        self.name = f"{self.version}/{self.family}"
        self.emotions = bundle["emotions"]
        # Bundles of earlier releases name the run here, of which there may be several versions.
        self.metadata = bundle["metadata"] | {"version": self.version}
        self._bundle = bundle
        self._explainer = AnswerExplainer(bundle)

    def predict_emotion_from_file(self, path: str | os.PathLike | BinaryIO, *, explain: bool = False) -> dict:
        """Answer for a recording of at most 60 s.

        Parameters
        ----------
        path : path or seekable binary file
            A file in any format that libsndfile reads (WAV, FLAC, OGG, MP3 …), at any rate, with up to eight channels.
        explain : bool
            Whether the answer has an ``explanation``.

        Returns
        -------
        dict
            See the notes on the class.

        Raises
        ------
        AudioError
            If the recording cannot be used; ``reason`` is a short word, such as ``silent`` or ``too_long``.
        """
        return self._answer(read(path), explain)

    def predict_emotion_from_array(self, samples: np.ndarray, sample_rate: float, *, explain: bool = False) -> dict:
        """Answer for samples in memory, at most 60 s of them.

        Parameters
        ----------
        samples : array, shape (n,) or (n, channels)
            Floats with full scale 1, or integers with the full scale of their type.
        sample_rate : float
            Hz.
        explain : bool
            Whether the answer has an ``explanation``.

        Returns
        -------
        dict
            See the notes on the class; the same as for a file with these samples, bit for bit.

        Raises
        ------
        AudioError
            If the samples cannot be used.
        """
        clip = decode.from_blocks([np.asarray(samples)], sample_rate, max_seconds=MAX_CLIP_SECONDS)
        return self._answer(clip, explain)

    def _answer(self, clip: Clip, explain: bool) -> dict:
        answers = self.predict_features(features.extract(clip.samples)[None], adaptation="none", explain=explain)
        return answers[0] | {"duration": clip.duration, "quality": quality.as_dict(quality.measure(clip.samples))}

    def predict_features(
        self,
        values: np.ndarray,
        *,
        speakers: Sequence[str] | None = None,
        adaptation: Adaptation = "auto",
        explain: bool | np.ndarray = False,
    ) -> list[dict]:
        """Answer for clips whose features are computed already.

        Parameters
        ----------
        values : float32 array, shape (n, n_features)
            From :func:`emotion.features.extract`. All clips are one batch: one recording condition.
        speakers : sequence of str, length n, optional
            The speaker of each clip, ``""`` if unknown: see :meth:`predict_batch`.
        adaptation : str
            See :meth:`predict_batch`.
        explain : bool, or bool array, shape (n,)
            Which answers have an ``explanation``. Where features were normalized by batch or speaker, it
            gives the value of a feature in standard deviations from the mean of the batch or speaker.

        Returns
        -------
        list of dict, length n
            See the notes on the class; without ``duration`` and ``quality``.
        """
        values = np.asarray(values, dtype=np.float32)
        names = [""] * len(values) if speakers is None else list(speakers)
        groups = self.find_groups([Part([""] * len(values), names, lambda: values)], adaptation)
        return self.predict_in_groups(values, [groups.of_clip("", name) for name in names], explain=explain)

    def find_groups(self, parts: Sequence[Part], adaptation: Adaptation) -> Groups:
        """Which clips are normalized by which speaker or folder, for clips of which not all need be in memory."""
        return Groups(self._bundle, parts, adaptation)

    def predict_in_groups(
        self, values: np.ndarray, groups: Sequence[Group | None], *, explain: bool | np.ndarray = False
    ) -> list[dict]:
        """Answer as :meth:`predict_features` does, for clips whose groups are known (None: as they are)."""
        answers = answer_in_groups(self._bundle, values, groups, explain=explain, explainer=self._explainer)
        return [{**answer, "model": self.version} for answer in answers]

    def predict_batch(
        self,
        paths: Iterable[str | os.PathLike],
        *,
        speakers: Sequence[str] | None = None,
        adaptation: Adaptation = "auto",
        explain: bool = False,
        channels: str = "mix",
        jobs: int = 1,
    ) -> Iterator[dict]:
        """Answer for several files, each a recording of at most 60 s.

        Parameters
        ----------
        paths : iterable of path
            Read one after the other, so that it may be endless.
        speakers : sequence of str, optional
            The speaker of each file, ``""`` if unknown.
        adaptation : str
            One of :data:`~emotion.vocabulary.ADAPTATIONS`; all files are one folder. ``mode`` is what was done.
        explain : bool
            Whether the answers have an ``explanation``.
        channels : str
            ``separate``: each channel gets an answer with its ``channel`` (from 1), and is a speaker of its own,
            ``<speaker>#<channel>``. Identical channels get one answer, with a ``message``. ``mix``: their mean.
        jobs : int
            How many processes read the files. The answers are the same, bit for bit. A script that asks for several
            must have its code below ``if __name__ == "__main__"`` (see multiprocessing).

        Yields
        ------
        dict
            In the order of the files: the answer with its ``path``, see the notes on the class. A file that cannot be
            used gets ``{"path", "error", "message"}``, and the others are answered all the same.

        Raises
        ------
        ValueError, ConfigurationError
            If there are not as many speakers as paths; if ``adaptation`` or ``channels`` is another word.

        Notes
        -----
        ``batch`` reads all files before the first answer, and so does ``auto`` if ``paths`` has a length. Without one,
        ``auto`` is ``speaker``, as ``paths`` may be endless. Otherwise memory holds the features of at most 32 clips
        and, with ``speakers``, those of all speakers that are not complete.
        """
        require_word("adaptation", adaptation, ADAPTATIONS)
        clips, names = list_clips(paths, speakers, channels)
        if adaptation == "batch" or (adaptation == "auto" and isinstance(paths, Sized)):
            yield from self._predict_whole(read_clips(clips, jobs), adaptation, explain)
        else:
            mode: Adaptation = "none" if adaptation == "none" else "speaker"
            yield from self._predict_in_turn(read_clips(clips, jobs), names, mode, explain)

    def _predict_in_turn(
        self, clips: Iterable[ReadClip], names: Sequence[str], adaptation: Adaptation, explain: bool
    ) -> Iterator[dict]:
        """The answers for files or channels, each as soon as all clips of its speaker are read."""
        queue = AnswerQueue(
            lambda rows, group: self.predict_features(rows, speakers=group, adaptation=adaptation, explain=explain),
            names,
        )
        for clip, record, vector in clips:
            queue.add(record, vector, speaker=clip.speaker)
            yield from queue.pop_answered()
        yield from queue.finish()

    def _predict_whole(self, read: Iterable[ReadClip], adaptation: Adaptation, explain: bool) -> Iterator[dict]:
        """The answers for files or channels, all of which are read first."""
        clips = [(record, vector, clip.speaker) for clip, record, vector in read]
        usable = [(record, vector, speaker) for record, vector, speaker in clips if vector is not None]
        if usable:
            records, vectors, speakers = zip(*usable, strict=True)
            answers = self.predict_features(
                np.array(vectors), speakers=speakers, adaptation=adaptation, explain=explain
            )
            for record, answer in zip(records, answers, strict=True):
                record |= answer
        yield from (record for record, _, _ in clips)

    def predict_stream(
        self, blocks: Iterable[np.ndarray], sample_rate: float, *, window: float = WINDOW, hop: float = HOP
    ) -> Iterator[dict]:
        """Answer for each window of a stream, as soon as its last sample has come.

        Parameters
        ----------
        blocks : iterable of arrays, shape (n,) or (n, channels)
            Of any size, in the order of time.
        sample_rate : float
            Hz.
        window, hop : float
            Seconds of a window, and from the start of one window to the start of the next.

        Yields
        ------
        dict
            The answer with its ``start`` and ``end`` in seconds, without ``duration``. A window that cannot be used,
            such as one in which nobody speaks (``silent``), gets ``{"start", "end", "error", "message"}``.

        Raises
        ------
        AudioError, ConfigurationError
            As :func:`~emotion.inference.windows.stream_windows` does.
        """
        return self._answer_windows(stream_windows(blocks, sample_rate, window=window, hop=hop))

    def predict_timeline(
        self,
        file: str | os.PathLike | BinaryIO,
        *,
        window: float = WINDOW,
        hop: float = HOP,
        segments: str = "windows",
        channels: str = "mix",
    ) -> Iterator[dict]:
        """Answer for each window or utterance of a recording of any length, in constant memory.

        Parameters
        ----------
        file, window, hop, segments
            As in :func:`~emotion.inference.windows.file_windows`.
        channels : str
            ``mix``, or ``separate``: each channel is cut by itself, and an answer has its ``channel``.

        Yields
        ------
        dict
            As :meth:`predict_stream` does.

        Raises
        ------
        AudioError, ConfigurationError
            As :func:`~emotion.inference.windows.file_windows` does.
        """
        numbers = [channel.number for channel in channels_of(file, channels)]
        return self._answer_windows(file_windows(file, window=window, hop=hop, segments=segments, channels=numbers))

    def _answer_windows(self, windows: Iterator[Window]) -> Iterator[dict]:
        for window in windows:
            if window.error is not None:
                yield window.span | {"error": window.error.reason, "message": str(window.error)}
            elif window.vector is not None:
                answer = self.predict_features(window.vector[None], adaptation="none")[0]
                yield window.span | answer | {"quality": quality.as_dict(window.quality)}
