"""``emotion review``: hear clips and label them from files, see how far the review is, delete what is stored of a
recording."""

from __future__ import annotations

import argparse
import getpass
import json
import sys
from pathlib import Path

from emotion.commands.arguments import add_command
from emotion.commands.console import format_table, printable
from emotion.errors import ConfigurationError
from emotion.settings import Settings, absolute_path

MOST_BYTES = 64 << 20
"""Of a table of labels."""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    description = "Label the clips that scoring has put into the review queue, and see how many are labelled."
    parser = commands.add_parser("review", help=description, description=description)
    actions = parser.add_subparsers(required=True, metavar="ACTION")

    export = add_command(
        actions, "export", run_export, "Write the clips to label into a new folder, with a CSV to fill in."
    )
    export.add_argument("folder", metavar="DIR", help="a new folder")
    export.add_argument("--batch", metavar="NAME", help="only the clips of this batch (default: of all)")
    _add_person(export)

    imported = add_command(
        actions, "import", run_import, "Store the labels of a CSV that `export` wrote and you have filled in."
    )
    imported.add_argument("table", metavar="labels.csv", help="the CSV; importing it again adds only what is new")
    _add_person(imported)

    status = add_command(actions, "status", run_status, "Show how many clips are labelled, and how often people agree.")
    status.add_argument("--json", action="store_true", help="print JSON")

    delete = add_command(
        actions,
        "delete",
        run_delete,
        "Delete what is stored of a recording, on request: audio, features, labels and predictions.",
    )
    delete.add_argument(
        "sha256", metavar="SHA256", help="checksum of the recording, or of the audio that is kept of a clip"
    )


def _add_person(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--person", metavar="NAME", help="who listens (default: the name of your account)")


def _person(options: argparse.Namespace) -> str:
    if options.person is not None:
        return options.person
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        raise ConfigurationError("your account here has no name; say who listens with --person NAME") from None


def run_export(options: argparse.Namespace, settings: Settings) -> int:
    """Write the clips and the table."""
    from emotion.review import files
    from emotion.store import Store

    folder = absolute_path(options.folder)
    count = files.export(Store(settings.home), folder, person=_person(options), batch=options.batch)
    print(f"{count} clips are in {printable(str(folder))}. Fill labels.csv there; README.txt says how.")
    return 0


def run_import(options: argparse.Namespace, settings: Settings) -> int:
    """Add the labels of a table."""
    from emotion.datasets.catalogue import read_catalogue, shared_translations
    from emotion.review import files
    from emotion.store import Store

    path = Path(options.table)
    with open(path, "rb") as handle:
        data = handle.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise ConfigurationError(f"{path} has more than {MOST_BYTES:,} bytes; expected a table of labels")
    result = files.import_labels(
        Store(settings.home),
        data,
        str(path),
        person=_person(options),
        translations=shared_translations(read_catalogue(settings.catalogue).values()),
    )
    print(f"{result.added} labels added, {result.known} known already, {result.empty} rows without an emotion")
    return 0


def run_status(options: argparse.Namespace, settings: Settings) -> int:
    """Print the figures of each batch, and of all."""
    from emotion.review.status import status
    from emotion.store import Store

    figures = status(Store(settings.home))
    if options.json:
        json.dump(figures, sys.stdout, indent=2)
        print()
        return 0
    if not figures["batches"]:
        print(f"There are no clips to review in {settings.home}: score recordings with `emotion score`.")
        return 0
    rows = [("BATCH", "CLIPS", "LABELLED", "LEFT", "BY TWO", "ALPHA *")]
    for row in [*figures["batches"], {"batch": "all"} | figures["all"]]:
        alpha = "" if row["alpha"] is None else f"{row['alpha']:.2f}"
        rows.append((row["batch"], *(str(row[name]) for name in ("items", "labelled", "left", "double")), alpha))
    print(format_table(rows))
    print("\n* agreement of two people (Krippendorff): 1 if they always agree, 0 if they agree as often as by chance")
    return 0


def run_delete(options: argparse.Namespace, settings: Settings) -> int:
    """Delete what is stored of a recording, and say what remains."""
    from emotion.runs.deleting import delete_recording
    from emotion.store import Store

    deleted = delete_recording(Store(settings.home), options.sha256)
    for sentence in deleted.removed:
        print(f"Removed: {printable(sentence)}")
    for sentence in deleted.remains:
        print(f"Remains: {printable(sentence)}")
    if not deleted.removed:
        print("Nothing was removed: nothing that can be deleted is stored of it.")
    return 0
