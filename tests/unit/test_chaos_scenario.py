"""Scenarios of the fault campaign: the same from the same seed, and of all kinds over some seeds."""

from __future__ import annotations

from random import Random
from typing import get_args

from hypothesis import given, settings
from hypothesis import strategies as st

from dev.chaos.mailchimp import MEMBERS_REFUSED, OUTAGES, PASSING
from dev.chaos.people import PRELOADED, REFUSALS, make_people
from dev.chaos.scenario import ENDINGS, EventKind, make_scenario
from dev.chaos.storage_proxy import ANY_REQUEST, MESSAGES
from shared.settings import MAILCHIMP_CONNECTION_LIMIT

SEEDS = range(1, 31)


def test_a_seed_and_a_size_are_one_scenario_with_the_same_people() -> None:
    assert make_scenario(7, 20_000) == make_scenario(7, 20_000)
    assert make_scenario(7, 20_000) != make_scenario(8, 20_000)
    first, second = (make_people(7, 2000, clean=False) for _ in range(2))
    assert first.segments == second.segments
    assert first.expected() == second.expected()


def test_over_some_seeds_everything_happens() -> None:
    scenarios = [make_scenario(seed, 100_000) for seed in SEEDS]
    assert {event.kind for scenario in scenarios for event in scenario.events} == set(get_args(EventKind))
    assert {event.detail for scenario in scenarios for event in scenario.events if event.detail} == set(OUTAGES)
    assert {kind for scenario in scenarios for kind in scenario.mailchimp} == set(PASSING)
    assert {kind for scenario in scenarios for kind in scenario.storage} == {*ANY_REQUEST, *MESSAGES}
    assert {scenario.ending for scenario in scenarios} == {None, *ENDINGS}
    assert {scenario.is_clean for scenario in scenarios} == {True, False}
    assert {scenario.tags_reach_existing for scenario in scenarios} == {True, False}
    assert any(max(scenario.host_clocks) - min(scenario.host_clocks) == 60 for scenario in scenarios)


def test_lanes_and_calls_that_hang_stay_below_the_limit() -> None:
    assert all(4 <= make_scenario(seed, 5000).lanes <= MAILCHIMP_CONNECTION_LIMIT - 3 for seed in SEEDS)


def test_people_are_of_every_kind_and_their_rows_add_up() -> None:
    people = make_people(3, 3000, clean=False)
    assert {person.kind for person in people.persons} >= {*REFUSALS, *PRELOADED, "", "slow"}
    assert people.rows == people.invalid_rows + people.duplicates + people.merged + 3000
    assert len({person.key for person in people.persons}) == 3000
    assert set(MEMBERS_REFUSED) < set(REFUSALS)
    expected = people.expected()
    assert not expected.keys() & people.refused.keys()
    assert {contact.status for contact in expected.values()} == {
        "subscribed",
        "unsubscribed",
        "cleaned",
        "archived",
        "pending",
        "transactional",
    }


def test_in_a_clean_scenario_nobody_is_refused_anywhere() -> None:
    people = make_people(3, 3000, clean=True)
    assert (people.invalid_rows, people.refused) == (0, {})
    assert len(people.expected()) == 3000 + len(people.outsiders)


@settings(max_examples=10, deadline=None)
@given(random=st.randoms())
def test_who_leaves_meanwhile_is_expected_to_stay_away(random: Random) -> None:
    people = make_people(3, 3000, clean=True)
    left = people.leave(random, 5)
    tagged = people.tag_by_hand(random, 5)
    expected = people.expected()
    assert {expected[contact["email_address"].lower()].status for contact in left} == {"unsubscribed"}
    assert all("Tagged meanwhile" in expected[contact["email_address"].lower()].tags for contact in tagged)
