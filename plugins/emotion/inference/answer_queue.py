"""A queue of clips: it answers clips together, and gives the answers in the order in which the clips were added."""

from __future__ import annotations

import os
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from emotion import features
from emotion.audio.channels import MONO, Channel, speaker_of
from emotion.errors import AudioError
from emotion.features import quality
from emotion.inference.windows import channels_of, read
from emotion.workers import Died, Workers

MIN_SPEAKER_CLIPS = 10
"""So many clips of a speaker are needed to adapt to the speaker. Macro F1 on speakers 13-18 of RAVDESS (logistic
regression fitted on 1-12), by speaker and plain: 3 clips 0.54 and 0.53, 5 clips 0.59 and 0.53, 10 clips 0.66 and 0.55,
20 clips 0.67 and 0.54, 60 clips 0.69 and 0.54."""
ROWS_AT_ONCE = 32
"""Clips that are given to the model together: a forest takes hardly longer for 32 than for one."""


class AnswerQueue:
    """Clips on their way to their answers.

    Clips of a speaker with at least :data:`MIN_SPEAKER_CLIPS` clips are answered once all of them were added; all other
    clips are answered by :data:`ROWS_AT_ONCE`.

    Parameters
    ----------
    predict : callable
        Answers features (n, n_features) of one speaker, whose name it gets for each row: a list of n dicts.
    speakers : sequence of str
        The speakers of all clips that will be added, ``""`` if unknown; their order does not matter.

    Examples
    --------
    >>> queue = AnswerQueue(lambda vectors, speakers: [{"emotion": "calm"} for _ in vectors], speakers=[])
    >>> queue.add({"path": "a.wav"}, np.zeros(2), speaker="")
    >>> queue.add({"path": "b.wav", "error": "silent"}, None, speaker="")
    >>> list(queue.pop_answered())
    []
    >>> list(queue.finish())
    [{'path': 'a.wav', 'emotion': 'calm'}, {'path': 'b.wav', 'error': 'silent'}]
    """

    def __init__(self, predict: Callable[[np.ndarray, list[str]], list[dict]], speakers: Sequence[str]):
        self._predict = predict
        self._group_sizes = {
            speaker: count for speaker, count in Counter(speakers).items() if speaker and count >= MIN_SPEAKER_CLIPS
        }
        self._records: deque[dict] = deque()
        self._groups: defaultdict[str, list[tuple[dict, np.ndarray | None]]] = defaultdict(list)

    def add(self, record: dict, vector: np.ndarray | None, *, speaker: str) -> None:
        """Add a clip: its features, or None if ``record`` says why there are none. ``record`` gets the answer."""
        group = speaker if speaker in self._group_sizes else ""
        self._records.append(record)
        self._groups[group].append((record, vector))
        if len(self._groups[group]) == self._group_sizes.get(group, ROWS_AT_ONCE):
            self._answer(group)

    def pop_answered(self) -> Iterator[dict]:
        """Remove and give the records that are complete, up to the first that is not, in the order they were added."""
        while self._records and self._records[0].keys() & {"emotion", "error"}:
            yield self._records.popleft()

    def finish(self) -> Iterator[dict]:
        """Answer what is left, and give all remaining records."""
        self._answer("")
        yield from self._records

    def _answer(self, group: str) -> None:
        clips = [(record, vector) for record, vector in self._groups.pop(group, []) if vector is not None]
        if clips:
            answers = self._predict(np.array([vector for _, vector in clips]), [group] * len(clips))
            for (record, _), answer in zip(clips, answers, strict=True):
                record |= answer


class ListedClip(NamedTuple):
    """A file, or a channel of it, that gets an answer; ``speaker`` is ``""`` if unknown."""

    path: str | os.PathLike
    channel: Channel
    speaker: str


ReadClip = tuple[ListedClip, dict, np.ndarray | None]
"""A clip with its record and its features: see :func:`read_clip`."""


def list_clips(
    paths: Iterable[str | os.PathLike], speakers: Sequence[str] | None, channels: str
) -> tuple[Iterable[ListedClip], Sequence[str]]:
    """The clips of files, and the speakers of all of them; ``channels`` as in
    :func:`emotion.inference.windows.channels_of`.

    Files are read one after the other, unless speakers are known and each channel is a speaker: how many clips a
    speaker has is known only once all files were read. A file that cannot be read is one clip, so that
    :func:`read_clip` says why.
    """
    named = ((path, "") for path in paths) if speakers is None else zip(paths, speakers, strict=True)
    clips = (clip for path, speaker in named for clip in _clips(path, speaker, channels))
    if speakers is None or channels == "mix":
        return clips, speakers or ()
    listed = list(clips)
    return listed, [clip.speaker for clip in listed]


def _clips(path: str | os.PathLike, speaker: str, channels: str) -> list[ListedClip]:
    try:
        parts = channels_of(path, channels)
    except AudioError:
        parts = MONO
    return [ListedClip(path, part, speaker_of(part, speaker)) for part in parts]


def read_clips(clips: Iterable[ListedClip], jobs: int) -> Iterator[ReadClip]:
    """Each clip with its record and features, as :func:`read_clip` gives them; ``jobs`` processes read them."""
    if jobs == 1:
        for clip in clips:
            yield clip, *read_clip(clip.path, clip.channel)
        return
    taken: deque[ListedClip] = deque()

    def items() -> Iterator[tuple[str | os.PathLike, Channel]]:
        for clip in clips:
            taken.append(clip)
            yield clip.path, clip.channel

    with Workers(partial, (_read_item,), count=jobs) as workers:
        for result in workers.map(items()):
            clip = taken.popleft()
            if isinstance(result, Died):
                path = os.fsdecode(clip.path)
                message = f"{os.path.basename(path)}: {result} while it read the file"
                result = {"path": path, "error": "internal", "message": message}, None
            yield clip, *result


def _read_item(item: tuple[str | os.PathLike, Channel]) -> tuple[dict, np.ndarray | None]:
    return read_clip(*item)


def read_clip(path: str | os.PathLike, channel: Channel) -> tuple[dict, np.ndarray | None]:
    """The record of a file or channel, with its path, duration and quality, and its features: float32
    (n_features,).

    Of one that cannot be used, the record says why (``error``, ``message``), and there are no features.
    """
    record: dict = {"path": os.fsdecode(path)}
    if channel.number is not None:
        record["channel"] = channel.number
    if channel.copies:
        record["message"] = channel.note
    try:
        clip = read(path, channel=channel.number)
    except AudioError as error:
        return record | {"error": error.reason, "message": str(error)}, None
    record |= {"duration": clip.duration, "quality": quality.as_dict(quality.measure(clip.samples))}
    return record, features.extract(clip.samples)
