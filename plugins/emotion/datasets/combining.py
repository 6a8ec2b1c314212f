"""Several datasets of the catalogue as the data of one run: their manifests in one table, their facts in one record."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from emotion.datasets import importing
from emotion.errors import ConfigurationError, DataError
from emotion.store import Store

ADDED = ("clips", "unique", "speakers", "unreadable", "seconds", "bytes")
"""Facts that are numbers, added up over datasets."""
NO_LIMITS, LIMITS_UNKNOWN, NO_COMMERCE = (
    "No licence of the datasets limits what the model may be used for.",
    "The rights in {names} are known to their owner alone: ask before the model is used for more than research.",
    "The model is not for commercial use, because of {names}.",
)


def read_manifests(store: Store, names: Sequence[str]) -> pd.DataFrame:
    """The manifests of datasets in the store, one below the other.

    Besides the columns of :data:`emotion.datasets.manifest.MANIFEST` there are ``dataset``, its name, and ``key``,
    under which the store has the file. Of several datasets, the name of the dataset comes before each ``path``.

    Raises
    ------
    DataError
        If a dataset is not in the store.
    """
    parts = []
    for name in names:
        manifest = importing.read_manifest(store, name)
        manifest = manifest.assign(dataset=name, key=f"{importing.audio_folder(name)}/" + manifest["path"])
        if len(names) > 1:
            for column in ("path", "duplicate_of"):
                manifest[column] = manifest[column].where(manifest[column] == "", f"{name}/" + manifest[column])
        parts.append(manifest)
    return pd.concat(parts, ignore_index=True)


def combined_facts(facts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What is known of several datasets together, under the names that :class:`emotion.datasets.importing.Dataset` has.

    Names, titles, notices and citations are joined; clips and seconds are added up. It is complete if every one is, and
    synthesized if one is: a model that was chosen by figures on synthesized speech never replaces another. Commercial
    use is allowed if every one allows it, and forbidden if one forbids it. ``licence.consequence`` is the strictest;
    ``licence.model`` gives it first, then the sentence of each dataset. ``folds`` has the published folds by dataset.
    ``datasets`` lists the facts of each.

    Examples
    --------
    >>> one = {"name": "a", "title": "A", "kind": "folder", "source": "disk", "citation": "A (2020).", "notice": ""}
    >>> one |= {"licence": {"id": "X-NC", "name": "X", "url": None, "model": "Not to be sold."}, "warnings": []}
    >>> one |= {"commercial_use": False, "synthesized": False, "complete": True, "fingerprint": "0a", "folds": None}
    >>> one |= {"clips": 3, "unique": 3, "speakers": 2, "unreadable": 0, "seconds": 9.0, "bytes": 5, "archives": []}
    >>> one |= {"emotions": {"sad": 3}, "folds_scheme": None, "origin": "disk"}
    >>> two = one | {"name": "b", "title": "B", "commercial_use": True, "licence": one["licence"] | {"id": "CC0"}}
    >>> both = combined_facts([one, two])
    >>> both["name"], both["clips"], both["commercial_use"], both["licence"]["id"]
    ('a + b', 6, False, 'X-NC + CC0')
    >>> both["licence"]["model"]
    'The model is not for commercial use, because of A. A: Not to be sold. B: Not to be sold.'
    """
    if len(facts) == 1:
        return facts[0] | {"datasets": list(facts), "folds": _folds(facts)}
    added = {key: sum(each[key] for each in facts) for key in ADDED}
    return {
        **_joined_texts(facts),
        **added,
        "synthesized": any(each["synthesized"] for each in facts),
        "complete": all(each["complete"] for each in facts),
        "commercial_use": _allowed([each["commercial_use"] for each in facts]),
        "licence": _licence(facts),
        "fingerprint": hashlib.sha256(" ".join(sorted(each["fingerprint"] for each in facts)).encode()).hexdigest(),
        "emotions": _added_counts([each["emotions"] for each in facts]),
        "left_out": _added_counts([each.get("left_out", {}) for each in facts]),
        "emotion_colours": {name: colour for each in facts for name, colour in each.get("emotion_colours", {}).items()},
        "folds": _folds(facts),
        "archives": [archive for each in facts for archive in each["archives"]],
        "datasets": list(facts),
    }


def _joined_texts(facts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    def joined(key: str, separator: str) -> str:
        return separator.join(dict.fromkeys(each[key] for each in facts if each[key]))

    return {
        "name": " + ".join(each["name"] for each in facts),
        "title": " + ".join(each["title"] for each in facts),
        "kind": joined("kind", " + "),
        "source": joined("source", "; "),
        "citation": joined("citation", " "),
        "origin": joined("origin", "; "),
        "folds_scheme": joined("folds_scheme", ", ") or None,
        "notice": " ".join(f"{each['title']}: {each['notice']}" for each in facts if each["notice"]),
        "warnings": [f"{each['title']}: {warning}" for each in facts for warning in each["warnings"]],
    }


def _added_counts(counts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    added = Counter[str]()
    for each in counts:
        added.update(each)
    return dict(added)


def _folds(facts: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    return {each["name"]: each["folds"] for each in facts if each["folds"]} or None


def _allowed(answers: Sequence[bool | None]) -> bool | None:
    """Whether all allow it: False if one does not, None if nobody forbids it and one does not say."""
    if False in answers:
        return False
    return None if None in answers else True


def _licence(facts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    licences = [each["licence"] for each in facts]
    allowed = _allowed([each["commercial_use"] for each in facts])
    decisive = " and ".join(each["title"] for each in facts if each["commercial_use"] is allowed)
    consequence = {True: NO_LIMITS, None: LIMITS_UNKNOWN, False: NO_COMMERCE}[allowed].format(names=decisive)
    sentences = [f"{each['title']}: {each['licence']['model']}" for each in facts]
    urls = dict.fromkeys(licence["url"] for licence in licences if licence["url"])
    return {
        "id": " + ".join(dict.fromkeys(licence["id"] for licence in licences)),
        "name": " + ".join(dict.fromkeys(licence["name"] for licence in licences)),
        "url": next(iter(urls)) if len(urls) == 1 else None,
        "consequence": consequence,
        "model": " ".join([consequence, *sentences]),
    }


def check_names(datasets: Sequence[str], also_test_on: Sequence[str], sources: Mapping[str, str]) -> None:
    """Raise ConfigurationError for a list of datasets that is empty or names one twice, one that is both trained and
    tested on, a source for a dataset that the run does not use, and a source that is empty.

    >>> check_names(["nemo"], [], {"emodb": "emodb.zip"})
    Traceback (most recent call last):
    emotion.errors.ConfigurationError: a source is given for emodb, which the run does not use; it uses nemo
    """
    names = [*datasets, *also_test_on]
    if not datasets:
        raise ConfigurationError("no dataset is named; expected at least one of the catalogue")
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigurationError(
            f"{', '.join(repeated)} is named more than once; expected each dataset once, to train on or to test on"
        )
    if unused := sorted(set(sources) - set(names)):
        raise ConfigurationError(
            f"a source is given for {', '.join(unused)}, which the run does not use; it uses {', '.join(names)}"
        )
    if empty := sorted(name for name, source in sources.items() if not source.strip()):
        raise ConfigurationError(
            f"the source of {', '.join(empty)} is empty; expected a folder, zip or CSV, or no source at all"
        )


def check_copies(table: pd.DataFrame, duplicates: pd.DataFrame, manifest: pd.DataFrame) -> None:
    """Raise DataError if a dataset has recordings of another one under another speaker's name, or no clip of its own.

    The same voice under two names would be trained on and tested on at once.

    Parameters
    ----------
    table, manifest : pandas.DataFrame
        The clips that are used, and all clips: dataset, speaker, path; in ``table``, samples_sha256 too.
    duplicates : pandas.DataFrame
        path and samples_sha256 of the clips that are left out because one in ``table`` has the same samples.

    Examples
    --------
    >>> table = pd.DataFrame({"dataset": ["a"], "speaker": ["a:1"], "path": ["a/1.wav"], "samples_sha256": ["0f"]})
    >>> copies = table.assign(dataset="b", speaker="b:x", path="b/x.wav")
    >>> check_copies(table, copies[["path", "samples_sha256"]], pd.concat([table, copies]))
    Traceback (most recent call last):
    emotion.errors.DataError: 1 recordings of b are in a too, under other speakers' names: b:x is a:1, so models would \
be tested on voices that they have heard; leave out one of the two datasets
    """
    copies = duplicates[["path", "samples_sha256"]].merge(manifest[["path", "dataset", "speaker"]], on="path")
    both = copies.merge(table[["samples_sha256", "dataset", "speaker"]], on="samples_sha256", suffixes=("", "_first"))
    renamed = both[(both["dataset"] != both["dataset_first"]) & (both["speaker"] != both["speaker_first"])]
    if len(renamed):
        copy = renamed.iloc[0].replace("", "a speaker without a name")
        raise DataError(
            f"{len(renamed)} recordings of {copy['dataset']} are in {copy['dataset_first']} too, under other speakers' "
            f"names: {copy['speaker']} is {copy['speaker_first']}, so models would be tested on voices that they have "
            "heard; leave out one of the two datasets"
        )
    for dataset in dict.fromkeys(manifest["dataset"]):
        if dataset not in set(table["dataset"]):
            raise DataError(
                f"{dataset} has no clip to train on that the datasets before it do not have too; leave it out"
            )


def check_unheard(trained_on: pd.DataFrame, external: pd.DataFrame) -> None:
    """Raise DataError if a dataset that is only tested on shares speakers or recordings with those trained on.

    Both tables have a row per clip: dataset, speaker, samples_sha256.

    >>> clips = pd.DataFrame({"dataset": ["a"], "speaker": ["a:1"], "samples_sha256": ["0f"]})
    >>> check_unheard(clips, clips.assign(dataset="b", speaker="b:1"))
    Traceback (most recent call last):
    emotion.errors.DataError: b shares 1 clips with a, so it is no test of unheard speakers; leave it out of one of them
    """
    for name, part in external.groupby("dataset", sort=False):
        for column, what in (("speaker", "speakers"), ("samples_sha256", "clips")):
            shared = (set(part[column]) & set(trained_on[column])) - {""}
            if shared:
                datasets = " and ".join(sorted(set(trained_on.loc[trained_on[column].isin(shared), "dataset"])))
                raise DataError(
                    f"{name} shares {len(shared)} {what} with {datasets}, so it is no test of unheard speakers; leave "
                    "it out of one of them"
                )
