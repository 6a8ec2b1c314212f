"""How the champion changes: decisions on a challenger, promotions by a person, roll-backs.

A decision is made on the history that it is added to. It is made again where another process, on whatever machine, has
added one meanwhile.
"""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Callable, Mapping

from emotion.errors import ConfigurationError, DataError
from emotion.models import registry
from emotion.models.registry import VersionEntry
from emotion.store import Store

log = logging.getLogger(__name__)


def decide(store: Store, decision: dict, *, compared_with: Mapping | None) -> dict:
    """Record a decision about a version and carry it out, if the champion is still the one it was compared with.

    Parameters
    ----------
    store : Store
    decision : dict
        ``decision`` (``promoted`` or ``kept``), ``version``, ``family``, ``policy``, ``by``, ``reasons``.
    compared_with : mapping or None
        The champion that the challenger was compared with: ``version``, ``family``, ``since``. None if there was none.

    Returns
    -------
    dict
        The decision with its ``time`` and ``compared_with``. It is ``kept`` if another model became champion meanwhile:
        a person may answer after hours. A second decision from the same comparison, as of a task that is tried again,
        changes nothing: the recorded one is returned.

    Raises
    ------
    ConfigurationError
        If the version to promote, or its bundle of this family, is not there. Nothing is recorded then.
    """
    compared = registry.identity(compared_with)

    def decision_after(decisions: list[dict]) -> dict:
        for past in decisions:
            is_same_version = past["version"] == decision["version"] and past["decision"] in ("promoted", "kept")
            if is_same_version and past.get("compared_with", compared) == compared:
                return past
        recorded = decision | {"compared_with": compared, "time": registry.now()}
        # A champion that cannot be read is kept, too.
        current = registry.champion(store, decisions) if decision["decision"] == "promoted" else None
        if decision["decision"] == "promoted" and registry.identity(current) != compared:
            recorded |= {"decision": "kept", "reasons": [*decision["reasons"], _changed_meanwhile(compared, current)]}
        if recorded["decision"] == "promoted":
            require_bundle(store, decision["version"], decision["family"])
        return recorded

    return _record(store, decision_after)


def _changed_meanwhile(compared: Mapping | None, current: Mapping | None) -> str:
    before, after = (f"{each['version']} ({each['family']})" if each else "none" for each in (compared, current))
    return (
        f"The champion changed meanwhile: the challenger was compared with {before}; the champion is now {after}. It "
        "is kept. To compare again, clear the task register_challenger."
    )


def promote_by_hand(store: Store, *, version: str, family: str, reason: str) -> dict:
    """Make a model the champion because a person says so, whatever was decided about its version before.

    Raises
    ------
    ConfigurationError
        If there is no such model. Nothing is recorded then.
    DataError
        If it is the champion already. A version that was deleted, and made again with other content, is not.
    """

    def decision_after(decisions: list[dict]) -> dict:
        sha256 = require_bundle(store, version, family)["files"][registry.bundle_name(family)]["sha256"]
        current = registry.champion(store, decisions)
        if current and (current["version"], current["family"], current["sha256"]) == (version, family, sha256):
            raise DataError(
                f"{version} ({family}) is the champion already, since {current['since']}: nothing to promote"
            )
        recorded = {"decision": "promoted", "version": version, "family": family, "policy": "by hand"}
        return recorded | {"by": "a person", "reasons": [reason], "time": registry.now()}

    return _record(store, decision_after)


def rollback(store: Store, *, reason: str) -> dict:
    """Make the previous champion the champion again.

    Raises
    ------
    ConfigurationError
        If its version, or its bundle, is not there any more. Nothing is recorded then.
    DataError
        If there is no previous champion.
    """

    def decision_after(decisions: list[dict]) -> dict:
        current = registry.champion(store, decisions)
        promotions: list[dict] = []
        for past in decisions:
            if past["decision"] == "promoted":
                promotions.append(past)
            elif past["decision"] == "rolled_back" and promotions:  # lines of the history may have been deleted
                promotions.pop()
        if current is None or len(promotions) < 2:
            raise DataError("there is no earlier champion to go back to; `emotion models` lists the versions")
        target = promotions[-2]
        try:
            require_bundle(store, target["version"], target["family"])
        except ConfigurationError as error:
            raise ConfigurationError(
                f"{error}. The previous champion, {target['version']} ({target['family']}), cannot come back: restore "
                "it from a backup, or make another version the champion with `emotion promote`"
            ) from None
        recorded = {"decision": "rolled_back", "version": target["version"], "family": target["family"]}
        return recorded | {"from_version": current["version"], "reasons": [reason], "time": registry.now()}

    return _record(store, decision_after)


def _record(store: Store, decision_after: Callable[[list[dict]], dict]) -> dict:
    """Add a decision to the history, and let the pointer follow; returns the decision.

    ``decision_after`` makes it from the decisions so far, or returns one of them, which is then not added again. It is
    called again where another process has added a decision meanwhile.
    """
    unique = uuid.uuid4().hex
    recorded: dict = {}

    def add(data: bytes | None) -> bytes | None:
        nonlocal recorded
        decisions = registry.parse_history(store, data)
        if written := [past for past in decisions if past.get("id") == unique]:
            recorded = written[0]  # by a try of which the server's answer was lost
            return None
        recorded = decision_after(decisions)
        if any(recorded is past for past in decisions):
            return None
        recorded = recorded | {"id": unique}
        lines = [*decisions, recorded]
        return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()

    store.update(registry.HISTORY, add)
    _let_pointer_follow(store)
    return recorded


def _let_pointer_follow(store: Store) -> None:
    """Write the pointer that follows from the history, if it is another one, or is damaged.

    The history is read after the pointer, and the pointer is written only if nobody has changed it since: whoever comes
    last has read the whole history.
    """

    def follow(data: bytes | None) -> bytes | None:
        try:
            pointer = registry.parse_pointer(store, data)
        except DataError as error:
            log.warning("%s. It is written again, from the history", error)
            pointer = None
        champion_now = registry.champion_after(store, pointer, registry.history(store))
        is_known = champion_now is not None and champion_now["sha256"] != ""
        return store.format_json(champion_now) if is_known and champion_now != pointer else None

    store.update(registry.CHAMPION, follow)


def require_bundle(store: Store, version: str, family: str) -> VersionEntry:
    """The entry of a version whose bundle of this family is there.

    Raises
    ------
    ConfigurationError
        If there is no such version, or its bundle is not there.
    DataError
        If its ``version.json`` is damaged.
    """
    version_entry, name = registry.entry(store, version), registry.bundle_name(family)
    registry.require_file(version_entry, name)
    key = f"models/{version}/{name}"
    if not store.exists(key):
        raise ConfigurationError(f"{store.url(key)} is not there: restore it from a backup, or promote another version")
    return version_entry
