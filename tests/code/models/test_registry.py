"""Versions never change, a version is decided about once, and nothing is unpickled before it was checked."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
import time
from contextlib import nullcontext
from itertools import pairwise

import pytest

from emotion import store_lock
from emotion.errors import BundleError, ConfigurationError, DataError, StoreError
from emotion.models import bundle, decisions, documents, registry
from emotion.models.registry import CHAMPION
from emotion.store import Store
from emotion.vocabulary import EMOTIONS, emotion_colours
from small_models import version_facts

FAMILY = "random_forest"
NAME = registry.bundle_name(FAMILY)


def register(store, version: str, content: object = "a model") -> dict:
    facts = version_facts(version) | {"recipe": "recipe", "selected": FAMILY}
    return registry.register(store, version, files={NAME: bundle.dumps(content)}, card="# Card\n", facts=facts)


def decision(version: str, kind: str = "promoted") -> dict:
    return {"decision": kind, "version": version, "family": FAMILY, "reasons": [f"{version} was {kind}"]}


def decide(store, made: dict, *, compared_with: str = "the champion") -> dict:
    """Decide from a comparison with the present champion, or with none."""
    return decisions.decide(
        store, made, compared_with=registry.champion(store) if compared_with == "the champion" else None
    )


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
    create = store.create
    monkeypatch.setattr(store, "create", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        register(store, "one")
    assert registry.versions(store) == []
    monkeypatch.setattr(store, "create", create)
    register(store, "one")
    assert [entry["version"] for entry in registry.versions(store)] == ["one"]


def test_an_entry_of_earlier_code_is_of_the_standard_emotions(store):
    register(store, "one")
    [entry] = registry.versions(store)
    assert "emotions" not in entry and documents.known_emotions(entry) == EMOTIONS
    assert documents.colours(entry) == emotion_colours(EMOTIONS)


OWN = {"emotions": ["sad", "bored"], "emotion_colours": {"sad": "#3566b8", "bored": "#123456"}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({}, ""),
        ({"emotions": "sad"}, "emotions is 'sad', expected a list"),
        ({"emotions": ["bored", "sad"]}, "expected two or more emotions, each once, in the order of their columns"),
        ({"emotions": ["sad", "sad"]}, "expected two or more emotions"),
        ({"emotions": ["sad"]}, "expected two or more emotions"),
        ({"emotions": ["sad", 3]}, "expected two or more emotions"),
        ({"emotion_colours": {"sad": "#3566b8"}}, "emotion_colours is damaged: bored is nothing, expected a text"),
        ({"emotion_colours": OWN["emotion_colours"] | {"sad": "blue"}}, "sad is 'blue', expected a colour such as"),
        ({"emotion_colours": None}, "emotion_colours is None, expected an object"),
    ],
)
def test_the_emotions_of_an_entry_are_checked(store, change, message):
    register(store, "one")
    key = "models/one/version.json"
    store.write_json(key, store.read_json(key) | OWN | change)
    if not message:
        assert documents.known_emotions(registry.entry(store, "one")) == ("sad", "bored")
        assert documents.colours(registry.entry(store, "one"))["bored"] == "#123456"
        return
    with pytest.raises(DataError, match=message):
        registry.versions(store)


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
        bundle.check_loadable(entry | {"recipe": "v1"}, recipe="v2-3f9a0c52")
    message = str(caught.value)
    assert "Train again: the run stores its features in features/v2-3f9a0c52/" in message
    assert "those in features/v1/ stay as they are" in message
    assert "still answers with the code version, and the EMOTION_FEATURES, that it was made with" in message


def test_the_message_about_another_format_says_what_to_do(store):
    entry = register(store, "one")
    with pytest.raises(BundleError) as caught:
        bundle.check_loadable(entry | {"format": "emotion-model/1"}, recipe="recipe")
    message = str(caught.value)
    assert f"this code reads format '{bundle.FORMAT}'. Train again" in message
    assert "stays in the store, and still answers with the code version that it was made with" in message


def test_a_version_of_another_patch_release_of_scikit_learn_is_loaded(store):
    entry = register(store, "one")
    major, minor, *_ = entry["packages"]["scikit-learn"].split(".")
    bundle.check_loadable(entry | {"packages": {"scikit-learn": f"{major}.{minor}.99"}}, recipe="recipe")


def test_a_promotion_moves_the_pointer_and_is_recorded(store):
    assert registry.champion(store) is None and registry.history(store) == []
    entry = register(store, "one")
    recorded = decide(store, decision("one"))
    pointer = registry.champion(store)
    assert pointer["version"] == "one" and pointer["since"] == recorded["time"]
    assert pointer["file"] == f"models/one/{NAME}" and pointer["sha256"] == entry["files"][NAME]["sha256"]
    register(store, "two")
    decide(store, decision("two", "kept"))
    assert registry.champion(store) == pointer
    assert [past["decision"] for past in registry.history(store)] == ["promoted", "kept"]


def test_a_version_is_decided_about_once(store):
    register(store, "one")
    first = decide(store, decision("one"))
    assert decide(store, decision("one", "kept"), compared_with="none") == first
    assert len(registry.history(store)) == 1


def test_a_task_killed_between_record_and_pointer_sets_the_pointer_when_tried_again(store):
    register(store, "one")
    decide(store, decision("one"))
    store.delete(CHAMPION)
    decide(store, decision("one"))
    assert registry.champion(store)["version"] == "one"


def test_a_second_decision_about_an_old_version_does_not_bring_it_back(store):
    for version in ("one", "two"):
        register(store, version)
        decide(store, decision(version))
    decide(store, decision("one"), compared_with="none")
    assert registry.champion(store)["version"] == "two"


def test_each_roll_back_goes_back_one_champion(store):
    for version in ("one", "two", "three"):
        register(store, version)
        decide(store, decision(version))
    assert decisions.rollback(store, reason="worse in practice")["version"] == "two"
    assert registry.champion(store)["version"] == "two"
    decisions.rollback(store, reason="that one too")
    assert registry.champion(store)["version"] == "one"
    with pytest.raises(DataError, match="no earlier champion"):
        decisions.rollback(store, reason="and on")
    assert [past["decision"] for past in registry.history(store)[3:]] == ["rolled_back", "rolled_back"]


def test_a_roll_back_without_a_champion_is_refused(store):
    with pytest.raises(DataError, match="no earlier champion"):
        decisions.rollback(store, reason="x")


def test_a_person_can_promote_a_version_that_was_not_promoted(store):
    register(store, "one")
    decide(store, decision("one", "kept"))
    decisions.promote_by_hand(store, version="one", family=FAMILY, reason="I have listened to it")
    assert registry.champion(store)["reasons"] == ["I have listened to it"]
    with pytest.raises(DataError, match="is the champion already"):
        decisions.promote_by_hand(store, version="one", family=FAMILY, reason="again")
    with pytest.raises(ConfigurationError, match="has no gradient_boosting"):
        decisions.promote_by_hand(store, version="one", family="gradient_boosting", reason="x")


# --- Compare and set ----------------------------------------------------------------------------------------


def test_a_decision_about_another_champion_than_the_compared_one_keeps_the_present_one(store):
    for version in ("one", "two", "three"):
        register(store, version)
    decide(store, decision("one"))
    compared = registry.champion(store)
    decisions.promote_by_hand(store, version="two", family=FAMILY, reason="in the meantime")
    recorded = decisions.decide(store, decision("three"), compared_with=compared)
    assert recorded["decision"] == "kept" and registry.champion(store)["version"] == "two"
    assert "changed meanwhile: the challenger was compared with one" in recorded["reasons"][-1]
    assert "the champion is now two" in recorded["reasons"][-1]
    assert registry.history(store)[-1] == recorded


def test_a_champion_that_came_back_meanwhile_is_not_the_compared_one(store, monkeypatch):
    times = iter(f"2026-01-01T00:00:{second:02d}+00:00" for second in range(60))
    monkeypatch.setattr(registry, "now", lambda: next(times))
    for version in ("one", "two", "three"):
        register(store, version)
    decide(store, decision("one"))
    compared = registry.champion(store)
    decisions.promote_by_hand(store, version="two", family=FAMILY, reason="tried")
    decisions.rollback(store, reason="no good")
    assert registry.champion(store)["version"] == "one"
    assert decisions.decide(store, decision("three"), compared_with=compared)["decision"] == "kept"


def test_a_first_champion_that_came_meanwhile_stays(store):
    for version in ("one", "two"):
        register(store, version)
    decisions.promote_by_hand(store, version="one", family=FAMILY, reason="in the meantime")
    assert decisions.decide(store, decision("two"), compared_with=None)["decision"] == "kept"
    assert registry.champion(store)["version"] == "one"


def test_a_new_comparison_of_a_version_gets_a_decision_of_its_own(store):
    for version in ("one", "two", "three"):
        register(store, version)
    decide(store, decision("one"))
    compared = registry.champion(store)
    decisions.promote_by_hand(store, version="two", family=FAMILY, reason="in the meantime")
    decisions.decide(store, decision("three"), compared_with=compared)
    assert decide(store, decision("three"))["decision"] == "promoted"
    assert registry.champion(store)["version"] == "three"


DECISIONS = """
import os, sys
from emotion.errors import DataError
from emotion.models import decisions, registry
from emotion.store import Store
store, name = Store(sys.argv[1]), sys.argv[2]
for number in range(8):
    made = {"decision": "kept", "version": f"{name}-{number}", "family": "random_forest", "reasons": []}
    decisions.decide(store, made, compared_with=None)
    try:
        decisions.promote_by_hand(store, version=name, family="random_forest", reason=f"{name} {number}")
    except DataError:
        pass  # it is still the champion
    assert registry.champion(store)["version"] in ("a", "b", "c", "last")
if name == "c":  # the last of its writes that was begun: the pointer does not follow any more
    store.update = lambda key, change, update=store.update: update(key, change) and os._exit(9)
    decisions.promote_by_hand(store, version="last", family="random_forest", reason="killed after this line")
"""


@pytest.fixture(params=["folder", "s3"])
def shared(request, tmp_path) -> Store:
    """A store that several processes share."""
    if request.param == "folder":
        return Store(str(tmp_path))
    return Store(f"{request.getfixturevalue('bucket')}/home")


def test_no_decision_is_lost_where_several_processes_decide_at_once(shared):
    """A DAG and the command line: each reads, changes and writes the history. One is killed in between."""
    for version in ("a", "b", "c", "last"):
        register(shared, version)
    works = [subprocess.Popen([sys.executable, "-c", DECISIONS, shared.root, name]) for name in "abc"]
    codes = [work.wait(timeout=120) for work in works]
    history = registry.history(shared)
    pointed = [past for past in history if past["decision"] == "promoted"]
    assert sum(past["decision"] == "kept" for past in history) == 24
    assert all(past["version"] != before["version"] for before, past in pairwise(pointed))
    assert codes == [0, 0, 9] and {past["version"] for past in pointed} == {"a", "b", "c", "last"}
    assert registry.champion(shared)["version"] == pointed[-1]["version"]
    decisions.rollback(shared, reason="the stored pointer follows again")
    assert shared.read_json(CHAMPION)["version"] == pointed[-2]["version"]


def test_the_pointer_of_a_process_that_was_killed_is_repaired(shared, monkeypatch):
    for version in ("one", "two"):
        register(shared, version)
    decide(shared, decision("one"))
    before = shared.read_bytes(CHAMPION)
    decide(shared, decision("two"))
    shared.write_bytes(CHAMPION, before)  # as if it had been killed between its two writes
    assert registry.champion(shared)["version"] == "two" and registry.champion_entry(shared, registry.champion(shared))
    assert decide(shared, decision("two"), compared_with=None)["decision"] == "kept"
    assert shared.read_json(CHAMPION)["version"] == "two"
    shared.delete(CHAMPION)
    assert registry.champion(shared)["version"] == "two"


def test_the_pointer_of_an_earlier_release_without_a_history_holds(store):
    register(store, "one")
    decide(store, decision("one"))
    store.delete(registry.HISTORY)
    assert registry.champion(store)["version"] == "one"
    register(store, "two")
    assert decide(store, decision("two"))["decision"] == "promoted" and registry.champion(store)["version"] == "two"


def test_a_damaged_pointer_is_written_again_from_the_history(store, caplog):
    for version in ("one", "two"):
        register(store, version)
    decide(store, decision("one"))
    whole = store.read_bytes(CHAMPION)
    store.write_bytes(CHAMPION, whole[:20])
    assert decide(store, decision("two", "kept"), compared_with=None)["decision"] == "kept"
    assert store.read_bytes(CHAMPION) == whole and "champion.json is damaged" in caplog.text


def test_a_damaged_history_does_not_cost_the_champion(store, caplog):
    register(store, "one")
    decide(store, decision("one"))
    store.write_bytes(registry.HISTORY, b"nonsense\n")
    assert registry.champion(store)["version"] == "one" and "line 1 of" in caplog.text
    with pytest.raises(DataError, match="line 1 of .* is damaged"):
        decide(store, decision("one"))


def test_a_version_is_the_content_it_was_made_from(store):
    """A run that was cleared and trained anew gets a name of its own; a task that is tried again does not."""
    names = []
    for content in ("first models", "second models", "second models", "third models", "first models"):
        files = {NAME: bundle.dumps(content), "reference": str(len(names)).encode()}
        name = registry.free_name(store, "run", files)
        registry.register(store, name, files=files, card="", facts=version_facts(name) | {"recipe": "recipe"})
        names.append(name)
    assert names == ["run", "run-2", "run-2", "run-3", "run"]
    assert registry.load(store, registry.entry(store, "run-2"), NAME, recipe="recipe") == "second models"


def register_run(store: Store, content: str) -> dict:
    facts = version_facts("run") | {"recipe": "recipe", "selected": FAMILY}
    files = {NAME: bundle.dumps(content), "reference": content.encode()}
    return registry.register_run(store, "run", files=files, card=lambda version: f"# {version}\n", facts=facts)


def test_two_runs_that_register_under_one_name_at_once_do_not_mix(shared, monkeypatch, caplog):
    """The second comes while the first writes: each gets a version of its own, and whole."""
    monkeypatch.setattr(store_lock, "POLL_SECONDS", 0.05)
    entries: dict[str, dict] = {}
    second = threading.Thread(target=lambda: entries.update(second=register_run(Store(shared.root), "second")))

    def write_while_another_comes(key, data, write=shared.write_bytes):
        if second.ident is None:
            second.start()
            while second.is_alive() and "another process holds the lock" not in caplog.text:
                time.sleep(0.01)
        write(key, data)

    monkeypatch.setattr(shared, "write_bytes", write_while_another_comes)
    entries["first"] = register_run(shared, "first")
    second.join()
    assert {content: entry["version"] for content, entry in entries.items()} == {"first": "run", "second": "run-2"}
    for content, entry in entries.items():
        assert registry.load(shared, entry, NAME, recipe="recipe") == content
        assert registry.read_file(shared, entry, "reference") == content.encode()
        assert shared.read_bytes(f"models/{entry['version']}/model_card.md") == f"# {entry['version']}\n".encode()
    assert register_run(shared, "second") == entries["second"] and len(registry.versions(shared)) == 2


@pytest.mark.parametrize("last", [NAME, "model_card.md"])
def test_a_process_that_lost_its_lock_writes_no_further_file(store, monkeypatch, last):
    """Another process has the lock by then, and may write the version."""
    held, write = store_lock.Held(True), store.write_bytes
    monkeypatch.setattr(store, "lock", lambda name: nullcontext(held))
    monkeypatch.setattr(store, "write_bytes", lambda key, data: (write(key, data), key.endswith(last) and held.lose()))
    with pytest.raises(StoreError, match="lock was lost"):
        register_run(store, "a model")
    files = [NAME, "reference", "model_card.md"]
    assert store.list("models") == sorted(f"models/run/{name}" for name in files[: files.index(last) + 1])


# --- Versions that are gone ---------------------------------------------------------------------------------


def delete_files(store: Store, pattern: str, version: str = "one") -> None:
    """Delete files of a version, as a person does."""
    for key in store.list(f"models/{version}", pattern):
        store.delete(key)


@pytest.mark.parametrize(
    ("pattern", "cause"), [("*", "there is no model version 'one'"), (NAME, f"{NAME} is not there")]
)
@pytest.mark.parametrize("change", ["rollback", "decide", "promote_by_hand"])
def test_what_is_gone_does_not_become_the_champion(store, change, pattern, cause):
    """Nothing is recorded, so that the champion stays and everything goes on."""
    for version in ("one", "two", "three"):
        register(store, version)
    decide(store, decision("one" if change == "rollback" else "three"))
    decide(store, decision("two"))
    delete_files(store, pattern)
    before = registry.history(store), registry.champion(store)
    changes = {
        "rollback": lambda: decisions.rollback(store, reason="bad"),
        "decide": lambda: decide(store, decision("one")),
        "promote_by_hand": lambda: decisions.promote_by_hand(store, version="one", family=FAMILY, reason="good"),
    }
    with pytest.raises(ConfigurationError, match=cause):
        changes[change]()
    assert (registry.history(store), registry.champion(store)) == before
    decisions.promote_by_hand(store, version="three", family=FAMILY, reason="it is there")
    decisions.rollback(store, reason="bad")
    assert registry.champion(store)["version"] == "two"


@pytest.mark.parametrize("pointer", ["another", "none", "the same"])
def test_a_champion_whose_version_was_deleted_blocks_nothing(store, pointer):
    """Also where the pointer does not follow the history, as after an error of an earlier release."""
    for version in ("one", "two"):
        register(store, version)
    decide(store, decision("two"))
    before = store.read_bytes(CHAMPION)
    decide(store, decision("one"))
    if pointer == "none":
        store.delete(CHAMPION)
    elif pointer == "another":
        store.write_bytes(CHAMPION, before)
    delete_files(store, "*")
    champion = registry.champion(store)
    assert champion["version"] == "one"
    with pytest.raises(ConfigurationError, match="no model version 'one'; versions: two. .* is one .*emotion promote"):
        registry.champion_entry(store, champion)
    assert decide(store, decision("two", "kept"))["decision"] == "kept"
    register(store, "one")  # from a backup
    assert registry.champion_entry(store, registry.champion(store))["version"] == "one"
    delete_files(store, "*")
    assert decisions.rollback(store, reason="it is gone")["version"] == "two"
    assert store.read_json(CHAMPION)["version"] == "two"


@pytest.mark.parametrize("has_other_family", [False, True])
def test_a_person_promotes_another_version_where_a_roll_back_went_to_nothing(store, has_other_family):
    """An earlier release recorded such a roll-back, and could not go on."""
    for version in ("one", "two"):
        register(store, version)
        decide(store, decision(version))
    family = "ensemble" if has_other_family else FAMILY
    line = {"decision": "rolled_back", "version": "one", "family": family, "reasons": ["bad"], "time": registry.now()}
    store.write_bytes(registry.HISTORY, store.read_bytes(registry.HISTORY) + json.dumps(line).encode() + b"\n")
    if not has_other_family:
        delete_files(store, "*")
    with pytest.raises(DataError, match="no earlier champion"):
        decisions.rollback(store, reason="again")
    decisions.promote_by_hand(store, version="two", family=FAMILY, reason="it is there")
    assert registry.champion_entry(store, registry.champion(store))["version"] == "two"


def test_a_version_that_was_deleted_and_made_again_can_be_promoted(store, monkeypatch):
    times = iter(f"2026-01-01T00:00:{second:02d}+00:00" for second in range(60))
    monkeypatch.setattr(registry, "now", lambda: next(times))
    register(store, "one")
    decide(store, decision("one"))
    delete_files(store, "*")
    register(store, "one", "another model")
    with pytest.raises(BundleError, match="promote a version that you trust"):
        registry.champion_entry(store, registry.champion(store))
    decisions.promote_by_hand(store, version="one", family=FAMILY, reason="trained again")
    assert registry.champion_entry(store, registry.champion(store))["version"] == "one"


def test_a_history_without_its_first_lines_is_no_crash(store):
    for version in ("one", "two"):
        register(store, version)
        decide(store, decision(version))
    decisions.rollback(store, reason="bad")
    store.write_bytes(registry.HISTORY, store.read_bytes(registry.HISTORY).splitlines(keepends=True)[-1])
    with pytest.raises(DataError, match="no earlier champion"):
        decisions.rollback(store, reason="again")


def test_a_champion_whose_bundle_is_not_the_promoted_one_is_refused(store):
    register(store, "one")
    decide(store, decision("one"))
    pointer = registry.champion(store)
    assert registry.champion_entry(store, pointer)["version"] == "one"
    with pytest.raises(BundleError, match="champion.json says .* has sha256 000.*; the entry of version one says"):
        registry.champion_entry(store, pointer | {"sha256": "0" * 64})
