"""What the report of a training run shows dataset by dataset: licences, figures, and the matrix of trained × tested."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from emotion.evaluation.shared_emotions import shared_emotions
from emotion.vocabulary import DATASET_MODES, MODES, Mode

SCORES = {"accuracy": "Accuracy", "uar": "UAR", "f1_macro": "Macro F1"}
"""Score of a dataset → what the report calls it."""
MODE_TITLES: dict[Mode, str] = {"plain": "", "batch": ", by batch", "speaker": ", by speaker"}
"""Mode → what comes after the name of a test in it."""
MEAN = "Mean"


def datasets_of(facts: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The facts of each dataset of a run; ``facts``: ``dataset`` of ``comparison.json``.

    Runs of earlier releases have one dataset and no list of them.

    >>> datasets_of({"name": "calls"}), len(datasets_of({"name": "a + b", "datasets": [{"name": "a"}, {"name": "b"}]}))
    ([{'name': 'calls'}], 2)
    """
    return list(facts.get("datasets") or [facts])


class Row(NamedTuple):
    """The figures of every model on one dataset, by name of the model; {} where a model has none."""

    title: str
    figures: dict[str, Mapping[str, float]]
    is_mean: bool = False


class DatasetTest(NamedTuple):
    """One way of testing, such as *unheard datasets, by batch*, and its rows."""

    title: str
    rows: list[Row]


def tests_by_dataset(models: Mapping[str, Mapping[str, Any]], titles: Mapping[str, str]) -> list[DatasetTest]:
    """The figures of all models on each dataset: of unheard speakers, of unheard datasets, and of the datasets that
    were only tested on; each in every mode. Tests without figures by dataset are left out.

    Parameters
    ----------
    models : mapping
        ``models`` of ``comparison.json``.
    titles : mapping
        Protocol → its title.

    Examples
    --------
    >>> scores = {"datasets": {"a": {"uar": 0.5}, "b": {"uar": 0.7}}, "mean_of_datasets": {"uar": 0.6}}
    >>> test, = tests_by_dataset({"ensemble": {"unheard_dataset": scores}}, {"unheard_dataset": "Unheard datasets"})
    >>> test.title, [row.title for row in test.rows], test.rows[2].figures
    ('Unheard datasets', ['a', 'b', 'Mean'], {'ensemble': {'uar': 0.6}})
    """
    tests = []
    for protocol in (*MODES.values(), *DATASET_MODES.values()):
        by_model = {name: figures.get(protocol, {}) for name, figures in models.items()}
        rows = _rows({name: figures.get("datasets", {}) for name, figures in by_model.items()})
        if rows:
            means = {name: figures.get("mean_of_datasets", {}) for name, figures in by_model.items()}
            tests.append(DatasetTest(titles[protocol], [*rows, Row(MEAN, means, is_mean=True)]))
    for mode, ending in MODE_TITLES.items():
        externals = {name: figures.get("external") or {} for name, figures in models.items()}
        rows = _rows(
            {
                name: {dataset: figures[mode] for dataset, figures in external.items() if mode in figures}
                for name, external in externals.items()
            }
        )
        if rows:
            tests.append(DatasetTest(f"Only tested on{ending}", rows))
    return tests


def _rows(figures: Mapping[str, Mapping[str, Mapping[str, float]]]) -> list[Row]:
    """A row for each dataset; ``figures``: model → dataset → scores."""
    names = dict.fromkeys(dataset for by_dataset in figures.values() for dataset in by_dataset)
    return [Row(name, {model: by_dataset.get(name, {}) for model, by_dataset in figures.items()}) for name in names]


class Cell(NamedTuple):
    """A figure of the matrix: UAR over ``emotions``; chance is one over their number."""

    uar: float
    emotions: Sequence[str]

    @property
    def chance(self) -> float:
        """The UAR of guessing.

        >>> Cell(0.6, ["happy", "sad"]).chance
        0.5
        """
        return 1 / len(self.emotions)


class MatrixRow(NamedTuple):
    """What a row was trained on, and a cell for each column; None where it was not tested."""

    title: str
    cells: list[Cell | None]


class Matrix(NamedTuple):
    """The UAR of one mode. Columns: the datasets that were trained on, then those that were only tested on."""

    title: str
    columns: list[str]
    rows: list[MatrixRow]

    def tested_emotions(self) -> dict[str, list[Cell]]:
        """A cell of each column for every set of emotions that was tested in it, most emotions first.

        >>> matrix = Matrix("Plain", ["a"], [MatrixRow("", [Cell(0.4, ["sad"])]), MatrixRow("", [Cell(0.5, ["sad"])])])
        >>> matrix.tested_emotions()
        {'a': [Cell(uar=0.4, emotions=['sad'])]}
        """
        tested: dict[str, list[Cell]] = {}
        for number, name in enumerate(self.columns):
            cells = [cell for row in self.rows if (cell := row.cells[number])]
            distinct = {frozenset(cell.emotions): cell for cell in reversed(cells)}
            tested[name] = sorted(distinct.values(), key=lambda cell: -len(cell.emotions))
        return tested


def matrices(comparison: Mapping[str, Any], champion: Mapping[str, Any]) -> list[Matrix]:
    """A matrix of trained × tested for each mode, of the selected model; none for a run on one dataset alone.

    Parameters
    ----------
    comparison : mapping
        The contents of ``comparison.json``.
    champion : mapping
        The champion's figures on the datasets that were only tested on; may be empty.
    """
    trained = datasets_of(comparison["dataset"])
    selected = comparison["models"][comparison["selected"]]
    external = selected.get("external") or comparison.get("external") or {}
    if len(trained) < 2 and not external:
        return []
    emotions = {each["name"]: _present(each.get("emotions", {})) for each in trained}
    columns = [*emotions, *external]
    by_mode = []
    for mode, ending in MODE_TITLES.items():
        heard = _scores(selected.get(MODES[mode], {}), trained)
        rows = {
            "All, unheard speakers": {
                **{name: _cell(scores, emotions[name]) for name, scores in heard.items()},
                **_external_cells(external, mode),
            },
            "All but the tested one": {
                name: _cell(scores, _shared_with_others(name, emotions))
                for name, scores in selected.get(DATASET_MODES[mode], {}).get("datasets", {}).items()
            },
            "Champion": _external_cells(champion, mode),
        }
        listed = [
            MatrixRow(title, [cells.get(name) for name in columns])
            for title, cells in rows.items()
            if any(cells.values())
        ]
        if listed:
            by_mode.append(Matrix((ending.removeprefix(", ") or mode).capitalize(), columns, listed))
    return by_mode


def _scores(figures: Mapping[str, Any], trained: Sequence[Mapping[str, Any]]) -> Mapping[str, Mapping[str, float]]:
    """The scores of a protocol by dataset. Where there is one dataset, they are those of the protocol."""
    if len(trained) > 1:
        return figures.get("datasets", {})
    return {trained[0]["name"]: figures} if "uar" in figures else {}


def _cell(scores: Mapping[str, float], emotions: Sequence[str]) -> Cell | None:
    return Cell(scores["uar"], emotions) if emotions else None


def _external_cells(figures: Mapping[str, Mapping[str, Any]], mode: Mode) -> dict[str, Cell | None]:
    return {name: _cell(each[mode], each["emotions"]) for name, each in figures.items() if mode in each}


def _present(emotions: Mapping[str, int]) -> list[str]:
    return [emotion for emotion, count in emotions.items() if count]


def _shared_with_others(name: str, emotions: Mapping[str, Iterable[str]]) -> tuple[str, ...]:
    """The emotions of a dataset that at least one other dataset has: those that it is tested on when held out.

    >>> _shared_with_others("a", {"a": ["sad", "bored"], "b": ["sad"], "c": ["happy"]})
    ('sad',)
    """
    others = {emotion for other, names in emotions.items() if other != name for emotion in names}
    return shared_emotions(emotions[name], others)


class ExternalRow(NamedTuple):
    """Challenger and champion on one dataset in one mode, and the emotions that count for each.

    The champion may be missing: no emotions and no figures.
    """

    dataset: str
    title: str
    emotions: Sequence[str]
    challenger: Mapping[str, float]
    champion_emotions: Sequence[str]
    champion: Mapping[str, float]


def external_rows(comparison: Mapping[str, Any], challenge: Mapping[str, Any] | None) -> list[ExternalRow]:
    """The datasets that were only tested on, challenger beside champion: a row for each dataset and mode.

    >>> external = {"calls": {"emotions": ["happy", "sad"], "plain": {"uar": 0.6}}}
    >>> row, = external_rows({"external": external}, None)
    >>> row.dataset, row.title, row.challenger, row.champion
    ('calls', 'plain', {'uar': 0.6}, {})
    """
    compared = (challenge or {}).get("external") or {}
    champion = compared.get("champion", {})
    rows = []
    for name, figures in (compared.get("challenger") or comparison.get("external") or {}).items():
        of_champion = champion.get(name, {})
        rows += [
            ExternalRow(
                name,
                ending.removeprefix(", ") or mode,
                figures["emotions"],
                figures[mode],
                of_champion.get("emotions", []),
                of_champion.get(mode, {}),
            )
            for mode, ending in MODE_TITLES.items()
            if mode in figures
        ]
    return rows
