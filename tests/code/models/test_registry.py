"""Versions never change, decisions are made once, and nothing is opened that was not checked."""

from __future__ import annotations

import hashlib

import pytest

from emotion.errors import BundleError, ConfigurationError, DataError
from emotion.models import bundle, registry
from emotion.models.registry import CHAMPION

FAMILY = "random_forest"
NAME = registry.bundle_name(FAMILY)


def register(store, version: str, content: object = "a model") -> dict:
    facts = {"recipe": "recipe", "selected": FAMILY}
    return registry.register(store, version, files={NAME: bundle.dumps(content)}, card="# Card\n", facts=facts)


def decision(version: str, kind: str = "promoted") -> dict:
    return {"decision": kind, "version": version, "family": FAMILY, "reasons": [f"{version} was {kind}"]}


def test_a_version_is_what_was_registered(store):
    entry = register(store, "one")
    assert registry.entry(store, "one") == entry
    data = store.read_bytes(f"models/one/{NAME}")
    assert entry["files"][NAME] == {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    assert store.read_bytes("models/one/model_card.md") == b"# Card\n"
    assert registry.load(store, entry, NAME, recipe="recipe") == "a model"


def test_a_version_never_changes(store):
    first = register(store, "one")
    assert register(store, "one", "another model") == first
    assert registry.load(store, first, NAME, recipe="recipe") == "a model"


def test_a_version_is_there_once_its_entry_is(store, monkeypatch):
    """The entry comes last: a task killed before it leaves no version, and is tried again."""
    write_json = store.write_json
    monkeypatch.setattr(store, "write_json", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        register(store, "one")
    assert registry.versions(store) == []
    monkeypatch.setattr(store, "write_json", write_json)
    register(store, "one")
    assert [entry["version"] for entry in registry.versions(store)] == ["one"]


def test_unknown_versions_and_files(store):
    with pytest.raises(ConfigurationError, match="'one'; versions: none yet"):
        registry.entry(store, "one")
    entry = register(store, "one")
    with pytest.raises(ConfigurationError, match="'two'; versions: one"):
        registry.entry(store, "two")
    with pytest.raises(ConfigurationError, match=f"has no x.pkl; it has {NAME}"):
        registry.load(store, entry, "x.pkl", recipe="recipe")


class Bomb:
    def __reduce__(self):
        return exec, ("raise SystemExit('it was unpickled')",)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format": "emotion-model/0"}, "has bundle format 'emotion-model/0'.*train again"),
        ({"recipe": "old"}, "made for feature recipe 'old'; this code computes 'recipe'"),
        ({"packages": {"scikit-learn": "0.24.2"}}, "made with scikit-learn 0.24.2; found"),
        ({"files": {NAME: {"sha256": "0" * 64}}}, f"{NAME} has sha256 .*its registry entry says 000"),
    ],
)
def test_what_must_not_be_opened_is_not(store, change, says):
    entry = register(store, "one", Bomb())
    with pytest.raises(BundleError, match=says):
        registry.load(store, entry | change, NAME, recipe="recipe")
    with pytest.raises(SystemExit):
        registry.load(store, entry, NAME, recipe="recipe")


def test_another_patch_of_scikit_learn_is_no_obstacle(store):
    entry = register(store, "one")
    major, minor, *_ = entry["packages"]["scikit-learn"].split(".")
    registry.check_loadable(entry | {"packages": {"scikit-learn": f"{major}.{minor}.99"}}, recipe="recipe")


def test_promotion_points_and_is_remembered(store):
    assert registry.champion(store) is None and registry.history(store) == []
    entry = register(store, "one")
    recorded = registry.decide(store, decision("one"))
    pointer = registry.champion(store)
    assert pointer["version"] == "one" and pointer["since"] == recorded["time"]
    assert pointer["file"] == f"models/one/{NAME}" and pointer["sha256"] == entry["files"][NAME]["sha256"]
    register(store, "two")
    registry.decide(store, decision("two", "kept"))
    assert registry.champion(store) == pointer
    assert [past["decision"] for past in registry.history(store)] == ["promoted", "kept"]


def test_a_decision_is_made_once(store):
    register(store, "one")
    first = registry.decide(store, decision("one"))
    assert registry.decide(store, decision("one", "kept")) == first
    assert len(registry.history(store)) == 1


def test_a_task_killed_between_record_and_pointer_points_when_tried_again(store):
    register(store, "one")
    registry.decide(store, decision("one"))
    store.delete(CHAMPION)
    registry.decide(store, decision("one"))
    assert registry.champion(store)["version"] == "one"


def test_deciding_again_about_an_old_version_does_not_bring_it_back(store):
    for version in ("one", "two"):
        register(store, version)
        registry.decide(store, decision(version))
    registry.decide(store, decision("one"))
    assert registry.champion(store)["version"] == "two"


def test_roll_back_goes_back_step_by_step(store):
    for version in ("one", "two", "three"):
        register(store, version)
        registry.decide(store, decision(version))
    assert registry.rollback(store, reason="worse in practice")["version"] == "two"
    assert registry.champion(store)["version"] == "two"
    registry.rollback(store, reason="that one too")
    assert registry.champion(store)["version"] == "one"
    with pytest.raises(DataError, match="no earlier champion"):
        registry.rollback(store, reason="and on")
    assert [past["decision"] for past in registry.history(store)[3:]] == ["rolled_back", "rolled_back"]


def test_no_champion_to_roll_back_from(store):
    with pytest.raises(DataError, match="no earlier champion"):
        registry.rollback(store, reason="x")


def test_a_person_promotes_whatever_was_decided_before(store):
    register(store, "one")
    registry.decide(store, decision("one", "kept"))
    registry.promote_by_hand(store, version="one", family=FAMILY, reason="I have listened to it")
    assert registry.champion(store)["reasons"] == ["I have listened to it"]
    with pytest.raises(DataError, match="is the champion already"):
        registry.promote_by_hand(store, version="one", family=FAMILY, reason="again")
    with pytest.raises(ConfigurationError, match="has no gradient_boosting"):
        registry.promote_by_hand(store, version="one", family="gradient_boosting", reason="x")
