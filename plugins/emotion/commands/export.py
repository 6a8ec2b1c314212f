"""``emotion export``: a model in a form that other programs run without this project."""

from __future__ import annotations

import argparse
from pathlib import Path

from emotion.commands.arguments import add_command
from emotion.settings import Settings
from emotion.vocabulary import FAMILIES, MODES


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = add_command(
        commands,
        "export",
        run_export,
        "Write a model's classifier as ONNX: from the features of a clip to the probabilities of its emotions.",
        epilog="It needs the packages of requirements-onnx.txt: `make onnx` installs them. Features are computed in "
        "Python, by emotion.features.extract; docs/serving.md shows how.",
    )
    parser.add_argument("version", metavar="VERSION", help="a version as `emotion models` lists it, or champion")
    parser.add_argument(
        "--family",
        choices=(*FAMILIES, "ensemble"),
        help="which of the version's models (default: the champion's, or the one that the training run selected)",
    )
    parser.add_argument("--onnx", required=True, metavar="FILE", help="the file to write; its name ends in .onnx")
    parser.add_argument(
        "--mode",
        choices=tuple(MODES),
        default="plain",
        help="the classifier for features as they are (plain, the default), or for features that the calling program "
        "has normalized by batch or by speaker",
    )


def run_export(options: argparse.Namespace, settings: Settings) -> int:
    """Write the file, and print what is in it."""
    if not options.onnx.lower().endswith(".onnx"):
        options.usage_error(f"--onnx {options.onnx}: expected the name of a file that ends in .onnx")
    if options.version == "champion" and options.family:
        options.usage_error("the champion has its family: leave out --family, or name the version")
    from emotion import features
    from emotion.inference import bundles
    from emotion.models import onnx_export, registry
    from emotion.store import Store

    version = None if options.version == "champion" else options.version
    entry, name, content = bundles.read_from_store(Store(settings.home), version, options.family)
    bundle = registry.open_pickle(content, entry, name, recipe=features.recipe_version())
    data = onnx_export.to_onnx(bundle, options.mode, version=entry["version"], recipe=entry["recipe"])
    Path(options.onnx).write_bytes(data)
    print(
        f"{options.onnx}: {entry['version']}/{bundle['family']}, mode {options.mode}, "
        f"{len(bundle['feature_names'])} features, {len(bundle['emotions'])} emotions, {len(data) / 1e6:.1f} MB"
    )
    if notice := entry["dataset"]["notice"]:
        print(notice)
    return 0
