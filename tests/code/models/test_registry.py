"""Versions never change, a version is decided about once, and nothing is unpickled before it was checked."""

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


def test_a_registered_version_has_its_files_and_their_checksums(store):
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


def test_a_version_exists_once_its_entry_does(store, monkeypatch):
    """The entry is written last: a task killed before leaves no version, and can be tried again."""
    write_json = store.write_json
    monkeypatch.setattr(store, "write_json", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        register(store, "one")
    assert registry.versions(store) == []
    monkeypatch.setattr(store, "write_json", write_json)
    register(store, "one")
    assert [entry["version"] for entry in registry.versions(store)] == ["one"]


def test_unknown_versions_and_files_are_refused(store):
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
    ("change", "message"),
    [
        ({"format": "emotion-model/0"}, "version one has bundle format 'emotion-model/0'; this code reads format"),
        ({"recipe": "old"}, "version one was trained on feature recipe 'old'; this code computes recipe 'recipe'"),
        ({"packages": {"scikit-learn": "0.24.2"}}, "made with scikit-learn 0.24.2; found"),
        ({"files": {NAME: {"sha256": "0" * 64}}}, f"{NAME} has sha256 .*its registry entry says 000"),
    ],
)
def test_a_file_that_must_not_be_loaded_is_not_unpickled(store, change, message):
    entry = register(store, "one", Bomb())
    with pytest.raises(BundleError, match=message):
        registry.load(store, entry | change, NAME, recipe="recipe")
    with pytest.raises(SystemExit):
        registry.load(store, entry, NAME, recipe="recipe")


def test_the_message_about_another_recipe_says_what_to_do(store):
    entry = register(store, "one")
    with pytest.raises(BundleError) as caught:
        registry.check_loadable(entry | {"recipe": "v1"}, recipe="v2-3f9a0c52")
    message = str(caught.value)
    assert "Train again: the run stores its features in features/v2-3f9a0c52/" in message
    assert "those in features/v1/ stay as they are" in message
    assert "still answers with the code version, and the EMOTION_FEATURES, that it was made with" in message


def test_the_message_about_another_format_says_what_to_do(store):
    entry = register(store, "one")
    with pytest.raises(BundleError) as caught:
        registry.check_loadable(entry | {"format": "emotion-model/1"}, recipe="recipe")
    message = str(caught.value)
    assert f"this code reads format '{bundle.FORMAT}'. Train again" in message
    assert "stays in the store, and still answers with the code version that it was made with" in message


def test_a_version_of_another_patch_release_of_scikit_learn_is_loaded(store):
    entry = register(store, "one")
    major, minor, *_ = entry["packages"]["scikit-learn"].split(".")
    registry.check_loadable(entry | {"packages": {"scikit-learn": f"{major}.{minor}.99"}}, recipe="recipe")


def test_a_promotion_moves_the_pointer_and_is_recorded(store):
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


def test_a_version_is_decided_about_once(store):
    register(store, "one")
    first = registry.decide(store, decision("one"))
    assert registry.decide(store, decision("one", "kept")) == first
    assert len(registry.history(store)) == 1


def test_a_task_killed_between_record_and_pointer_sets_the_pointer_when_tried_again(store):
    register(store, "one")
    registry.decide(store, decision("one"))
    store.delete(CHAMPION)
    registry.decide(store, decision("one"))
    assert registry.champion(store)["version"] == "one"


def test_a_second_decision_about_an_old_version_does_not_bring_it_back(store):
    for version in ("one", "two"):
        register(store, version)
        registry.decide(store, decision(version))
    registry.decide(store, decision("one"))
    assert registry.champion(store)["version"] == "two"


def test_each_roll_back_goes_back_one_champion(store):
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


def test_a_roll_back_without_a_champion_is_refused(store):
    with pytest.raises(DataError, match="no earlier champion"):
        registry.rollback(store, reason="x")


def test_a_person_can_promote_a_version_that_was_not_promoted(store):
    register(store, "one")
    registry.decide(store, decision("one", "kept"))
    registry.promote_by_hand(store, version="one", family=FAMILY, reason="I have listened to it")
    assert registry.champion(store)["reasons"] == ["I have listened to it"]
    with pytest.raises(DataError, match="is the champion already"):
        registry.promote_by_hand(store, version="one", family=FAMILY, reason="again")
    with pytest.raises(ConfigurationError, match="has no gradient_boosting"):
        registry.promote_by_hand(store, version="one", family="gradient_boosting", reason="x")
