"""requirements.txt holds a version for every package that an installation brings along, on each Python supported."""

from __future__ import annotations

import importlib.metadata
import re
import sys
import tomllib
from functools import cache

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from emotion.commands.doctor import PYTHONS
from emotion.settings import PROJECT


def read_pins(name: str) -> list[Requirement]:
    lines = (line.partition("#")[0].strip() for line in (PROJECT / name).read_text().splitlines())
    return [Requirement(line) for line in lines if line]


PINS = read_pins("requirements.txt")
EXTRA_PINS = read_pins("requirements-onnx.txt")


@cache
def needed_by(name: str) -> tuple[Requirement, ...] | None:
    """What an installed package declares to need; None: it is not installed on this Python."""
    try:
        return tuple(map(Requirement, importlib.metadata.requires(name) or ()))
    except importlib.metadata.PackageNotFoundError:
        return None


def applies(requirement: Requirement, python: str, extra: str = "") -> bool:
    environment = default_environment() | {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "extra": extra,
    }
    return requirement.marker is None or requirement.marker.evaluate(environment)


@pytest.mark.parametrize("python", [".".join(map(str, version)) for version in PYTHONS])
def test_what_a_pinned_package_needs_is_pinned_too(python):
    pins = [pin for pin in (*PINS, *EXTRA_PINS) if applies(pin, python)]
    pinned = {canonicalize_name(pin.name): next(iter(pin.specifier)).version for pin in pins}
    assert len(pinned) == len(pins), "a package is pinned twice"
    asked = [(pin.name, "") for pin in pins]
    seen, lacking = set(), []
    while asked:
        package, extra = asked.pop()
        if (package, extra) in seen:
            continue
        seen.add((package, extra))
        for requirement in needed_by(package) or ():
            if not applies(requirement, python, extra):
                continue
            version = pinned.get(canonicalize_name(requirement.name))
            if version is None or not requirement.specifier.contains(version, prereleases=True):
                lacking.append(f"{package} needs {requirement}; pinned: {version}")
            asked += [(requirement.name, each) for each in requirement.extras]
    assert lacking == []
    assert len(seen) > 150


def test_every_pin_for_this_python_is_installed():
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert [pin.name for pin in PINS if applies(pin, here) and needed_by(pin.name) is None] == []


def test_the_same_pythons_are_supported_everywhere():
    declared = SpecifierSet(tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["requires-python"])
    minors = [(3, minor) for minor in range(8, 30) if declared.contains(f"3.{minor}.1")]
    assert minors == list(PYTHONS)
    searched = re.search(r"for p in (.*) python3;", (PROJECT / "Makefile").read_text())[1].split()
    assert searched == [f"python3.{minor}" for _, minor in reversed(minors)]
    looped = re.search(r"for version in (.*); do", (PROJECT / ".ci/run").read_text())[1].split()
    assert looped == [f"3.{minor}" for _, minor in minors]
