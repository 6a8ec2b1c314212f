"""The tree of groups: each feature has one place in it, and each of its rules is needed."""

from __future__ import annotations

import pytest

from emotion import features
from emotion.features.groups import GROUPS, OWN, Place, describe_group, groups_of, matching_rules, place_of

NAMES = features.feature_names()
SUBGROUPS = [(group, subgroup) for group in GROUPS for subgroup in group.subgroups]
GAUGES = [(group, subgroup, gauge) for group, subgroup in SUBGROUPS for gauge in subgroup.gauges]


def test_each_feature_fits_exactly_one_rule():
    assert {name: rules for name in NAMES if len(rules := matching_rules(name)) != 1} == {}


def test_no_rule_is_unused():
    used = {pattern for name in NAMES for _, pattern in matching_rules(name)}
    assert [pattern for _, subgroup in SUBGROUPS for pattern in subgroup.patterns if pattern not in used] == []


def test_names_of_groups_and_subgroups_are_different():
    names = [group.name for group in GROUPS]
    places = [(group.name, subgroup.name) for group, subgroup in SUBGROUPS]
    assert len(set(names)) == len(names) and len(set(places)) == len(places)


def test_the_columns_of_all_groups_are_all_columns():
    columns = [column for subgroups in groups_of(NAMES).values() for rows in subgroups.values() for column in rows]
    assert sorted(columns) == list(range(len(NAMES)))
    assert list(groups_of(NAMES)) == [group.name for group in GROUPS]


@pytest.mark.parametrize(("group", "subgroup", "gauge"), GAUGES, ids=[gauge.more for _, _, gauge in GAUGES])
def test_a_gauge_is_made_of_features_of_its_subgroup(group, subgroup, gauge):
    assert gauge.features and gauge.more != gauge.less and gauge.noun
    for name in gauge.features:
        assert place_of(name.removeprefix("-")) == Place(group.name, subgroup.name)


def test_each_group_has_a_gauge_and_a_description():
    assert {group.name for group, _, _ in GAUGES} == {group.name for group in GROUPS}
    for group in GROUPS:
        assert describe_group(group.name).partition(": ")[2]


def test_a_feature_of_another_installation_is_a_feature_of_its_own():
    assert place_of("crossings_count") == Place(OWN, "crossings_count")
    assert list(groups_of(("jitter", "crossings_count"))) == ["voice quality", OWN]
    assert "registered" in describe_group(OWN)
