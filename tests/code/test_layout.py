"""The rooms of the library: what may import what, and how long a module and a function may be."""

from __future__ import annotations

import ast
import re
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from emotion.settings import PROJECT

LIBRARY = PROJECT / "plugins" / "emotion"
ROOMS = (
    "",  # the ground: modules directly below emotion/
    "audio",
    "features",
    "datasets",
    "evaluation",
    "models",
    "training",
    "explanation",
    "inference",
    "monitoring",
    "scoring",
    "review",
    "reports",
    "runs",
    "serving",
    "commands",
)
"""From the ground up. A room imports rooms before it, never one after it."""

MODULE_LINES = 420
FUNCTION_LINES = 55

MODULES = sorted(
    path
    for path in LIBRARY.rglob("*.py")
    if path.name not in ("__init__.py", "__main__.py") and "__pycache__" not in path.parts
)


def name_of(path: Path) -> str:
    return ".".join(["emotion", *path.relative_to(LIBRARY).with_suffix("").parts])


def room_of(module: str) -> str:
    parts = module.split(".")[1:]
    return parts[0] if (LIBRARY / parts[0]).is_dir() else ""


@cache
def imports(path: Path) -> frozenset[str]:
    """Modules and packages of the library that a module imports, wherever in it the import stands."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "emotion":
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                place = LIBRARY.joinpath(*full.split(".")[1:])
                names.add(full if place.is_dir() or place.with_suffix(".py").exists() else node.module)
    return frozenset(names)


def test_every_room_is_listed():
    folders = {path.name for path in LIBRARY.iterdir() if (path / "__init__.py").exists()}
    assert folders == set(ROOMS) - {""}


def test_there_is_no_circle():
    graph = {name_of(path): {name for name in imports(path) if name != name_of(path)} for path in MODULES}
    for room in ROOMS[1:]:
        graph[f"emotion.{room}"] = imports(LIBRARY / room / "__init__.py")
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"these import each other: {' → '.join(error.args[1])}")


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_down(path):
    own = ROOMS.index(room_of(name_of(path)))
    upward = {name for name in imports(path) if ROOMS.index(room_of(name)) > own}
    assert not upward, f"{name_of(path)} is in {ROOMS[own] or 'the ground'} and imports from rooms above it"


def test_only_one_module_knows_airflow():
    users = {
        name_of(path)
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Import | ast.ImportFrom)
        and any(
            (name or "").split(".")[0] == "airflow"
            for name in ([node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names])
        )
    }
    assert users == {"emotion.airflow_metrics"}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_and_a_function_fit_one_reading(path):
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= MODULE_LINES
    long = {
        node.name: node.end_lineno - node.lineno + 1
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno - node.lineno + 1 > FUNCTION_LINES
    }
    assert not long, "split them where a reader would"


def test_the_documented_tree_is_the_tree():
    text = (PROJECT / "docs" / "architecture.md").read_text(encoding="utf-8")
    tree = text.partition("    plugins/emotion/\n")[2].partition("\n\n")[0]
    documented, room = set(), ""
    for line in tree.splitlines():
        if match := re.match(r" {6}(\w+)/ +", line):
            room, line = match[1], line[match.end() :]
        line = re.sub(r"\(.*?\)", "", line)
        documented |= {".".join(filter(None, ["emotion", room, name])) for name in re.findall(r"\w+", line)}
    assert documented == {name_of(path) for path in MODULES}
