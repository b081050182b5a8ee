"""What a wake-up does, and which ones it leaves behind: a lane never stands still with work to do, and never spins."""

from __future__ import annotations

from datetime import timedelta

import pytest

from shared.exports.lane_rest import LaneRest
from shared.mailchimp import Unavailable
from shared.storage import names
from tests.unit.exports_in_memory import NOW
from tests.unit.lanes_in_memory import ACCOUNT, LEASE_S, LanesInMemory, Woken

DOWN = Unavailable("Mailchimp is down.", reason="notConnected", outcome_unknown=False)
TOO_MANY = Unavailable("Too many connections.", reason="tooManyConnections", outcome_unknown=False, status=429)


@pytest.fixture
def lanes() -> LanesInMemory:
    """Two lanes, both open."""
    return LanesInMemory(most=2)


# -- held by somebody else ---------------------------------------------------------------------------------------------


def test_a_lane_that_is_held_is_woken_again_after_the_lease_of_a_dead_process_would_have_ended(
    lanes: LanesInMemory,
) -> None:
    lanes.leases.elsewhere = {1}
    (woken,) = lanes.wake(1)
    assert (woken.lane, woken.again) == (1, True)
    assert LEASE_S < woken.delay_s < 2 * LEASE_S


def test_a_wake_up_that_was_to_end_a_rest_still_is_to_when_it_comes_again(lanes: LanesInMemory) -> None:
    lanes.leases.elsewhere = {1}
    (woken,) = lanes.wake(1, ends_wait=NOW)
    assert woken.ends_wait == NOW


def test_a_wake_up_comes_again_once_only(lanes: LanesInMemory) -> None:
    lanes.leases.elsewhere = {1}
    assert lanes.wake(1, again=True) == []


@pytest.mark.parametrize("down", [True, False])
def test_a_lane_whose_lease_went_to_somebody_else_before_it_wrote_down_its_rest_is_one_that_is_held(
    lanes: LanesInMemory, down: bool
) -> None:
    """A rest that begins, and one that is over."""
    lanes.open_export(lanes=(1,))
    lanes.rests(1, failures="3")
    lanes.mailchimp.faults = {"fine": DOWN} if down else {}
    lanes.documents.leased = {names.lane(ACCOUNT, 1)}
    (woken,) = lanes.wake(1)
    assert (woken.lane, woken.again, woken.ends_wait) == (1, True, None)
    assert lanes.rest_of(1) == {"failures": "3"}


def test_a_wake_up_for_a_lane_that_is_not_allowed_any_more_takes_no_lease(lanes: LanesInMemory) -> None:
    lanes.open_export(lanes=(0, 1, 2))
    taken: list[int] = []
    lanes.leases.given_back = taken.append
    assert lanes.wake(2) == []
    assert taken == []


# -- done, or out of time ----------------------------------------------------------------------------------------------


def test_a_lane_that_has_sent_everything_is_not_woken_again(lanes: LanesInMemory) -> None:
    plan = lanes.open_export(lanes=(1,))
    assert lanes.wake(1) == []
    assert lanes.mailchimp.members == lanes.addresses(plan)


def test_a_lane_whose_time_is_used_is_woken_again_at_once(lanes: LanesInMemory) -> None:
    lanes.open_export(lanes=(1,), batches=30)
    assert lanes.wake(1, budget_s=20) == [Woken(1)]
    assert 0 < lanes.mailchimp.calls < 30


def test_work_that_came_after_the_last_look_is_not_left_lying(lanes: LanesInMemory) -> None:
    """Whoever brought it has sent a wake-up, and that has found the lane taken."""

    def bring_work(_lane: int) -> None:
        lanes.leases.given_back = lambda _: None
        lanes.open_export(lanes=(1,))

    lanes.leases.given_back = bring_work
    assert lanes.wake(1) == [Woken(1)]


# -- closed lanes ------------------------------------------------------------------------------------------------------


def test_a_closed_lane_goes_away_again(lanes: LanesInMemory) -> None:
    lanes.set_pace(1)
    lanes.open_export(lanes=(1,))
    assert lanes.wake(1) == []
    assert lanes.mailchimp.calls == 0


def test_a_lane_that_is_closed_while_it_sends_goes_away_too(lanes: LanesInMemory) -> None:
    lanes.open_export(lanes=(1,), batches=30)
    lanes.mailchimp.before_call = lambda: lanes.set_pace(1, slowed_down_at=NOW, changed_at=NOW)
    assert lanes.wake(1) == []
    assert 0 < lanes.mailchimp.calls < 5


def test_a_lane_that_is_opened_while_it_goes_away_comes_back_at_once(lanes: LanesInMemory) -> None:
    """Whoever opened it has sent a wake-up, and that has found the lane taken."""
    lanes.set_pace(1)
    lanes.open_export(lanes=(1,))
    lanes.leases.given_back = lambda _: lanes.set_pace(2)
    assert lanes.wake(1) == [Woken(1)]


def test_a_lane_that_is_opened_while_it_goes_away_stays_away_if_there_is_nothing_to_do(lanes: LanesInMemory) -> None:
    lanes.set_pace(1)
    lanes.leases.given_back = lambda _: lanes.set_pace(2)
    assert lanes.wake(1) == []


def test_an_open_lane_looks_again_for_what_closed_ones_will_not_send(lanes: LanesInMemory) -> None:
    """It is too early to know that they stay closed."""
    lanes.set_pace(1, changed_at=NOW)
    lanes.open_export(lanes=(1,))
    (woken,) = lanes.wake(0)
    assert (woken.lane, woken.ends_wait) == (0, None)
    assert woken.delay_s > 10
    assert lanes.mailchimp.calls == 0
    lanes.now += timedelta(seconds=woken.delay_s)
    lanes.wake(0)
    assert lanes.mailchimp.calls > 0


def test_whoever_closes_lanes_wakes_those_that_are_to_send_for_them() -> None:
    lanes = LanesInMemory(most=6)
    lanes.set_pace(6)
    lanes.open_export(lanes=(0,))
    failed = lanes.mailchimp.faults

    def slow_down_once() -> None:
        failed["fine"] = TOO_MANY
        lanes.mailchimp.before_call = failed.clear

    lanes.mailchimp.before_call = slow_down_once
    woken = lanes.wake(0)
    assert lanes.paces.get(ACCOUNT).lanes == 3
    assert [each.lane for each in woken] == [0, 1, 2]
    assert all(each.delay_s > 10 for each in woken)


def test_a_new_account_s_lanes_wait_at_hand_for_its_first_answer() -> None:
    lanes = LanesInMemory(most=4)
    lanes.documents.delete(names.pace(ACCOUNT))
    lanes.open_export(lanes=(3,))
    assert lanes.paces.get(ACCOUNT).lanes < 4
    lanes.step_s = 0.01
    lanes.slept = lambda _: lanes.set_pace(4)  # another lane's first call has succeeded
    assert lanes.wake(3) == []
    assert lanes.mailchimp.calls == 6


def test_they_go_away_if_that_takes_long() -> None:
    lanes = LanesInMemory(most=4)
    lanes.documents.delete(names.pace(ACCOUNT))
    lanes.open_export(lanes=(3,))
    assert lanes.wake(3) == []
    assert lanes.mailchimp.calls == 0


# -- rests -------------------------------------------------------------------------------------------------------------


def rest(lanes: LanesInMemory, lane: int = 1) -> LaneRest:
    return LaneRest.from_metadata(lanes.documents.metadata[names.lane(ACCOUNT, lane)])


@pytest.fixture
def resting(lanes: LanesInMemory) -> Woken:
    """Lane 1 rests because Mailchimp is down; the message that ends this."""
    lanes.set_pace(2, openings=3)
    lanes.open_export(lanes=(1,))
    lanes.mailchimp.faults = {"fine": DOWN}
    (woken,) = lanes.wake(1)
    lanes.mailchimp.calls = 0
    return woken


def test_the_message_names_the_moment_that_the_blob_names(lanes: LanesInMemory, resting: Woken) -> None:
    assert resting.delay_s > 16
    assert resting.ends_wait == rest(lanes).wake_at == NOW + timedelta(seconds=resting.delay_s)
    assert not resting.again


def test_a_wake_up_that_comes_earlier_makes_no_call_and_is_not_multiplied(lanes: LanesInMemory, resting: Woken) -> None:
    before = rest(lanes)
    assert lanes.wake(1) == []
    assert lanes.wake(1, ends_wait=NOW - timedelta(hours=1)) == []
    assert lanes.mailchimp.calls == 0
    assert rest(lanes) == before


def test_the_message_ends_the_rest_whatever_the_clock_of_its_host_says(lanes: LanesInMemory, resting: Woken) -> None:
    lanes.mailchimp.faults.clear()
    assert lanes.wake(1, ends_wait=resting.ends_wait) == []
    assert lanes.mailchimp.calls == 6
    assert rest(lanes).failures == 0
    assert rest(lanes).wake_at is None


def test_a_lane_that_fails_again_waits_longer_after_one_call(lanes: LanesInMemory, resting: Woken) -> None:
    (woken,) = lanes.wake(1, ends_wait=resting.ends_wait)
    assert lanes.mailchimp.calls == 1
    assert woken.delay_s > 1.5 * resting.delay_s


@pytest.mark.parametrize(
    ("openings", "calls"),
    [pytest.param(3, 0, id="nothing"), pytest.param(4, 6, id="another lane has found Mailchimp back")],
)
def test_a_lane_that_is_opened_anew_rests_no_longer(
    lanes: LanesInMemory, resting: Woken, openings: int, calls: int
) -> None:
    lanes.mailchimp.faults.clear()
    lanes.set_pace(2, openings=openings)
    assert lanes.wake(1) == []
    assert lanes.mailchimp.calls == calls


def test_the_longest_rest_ends_by_itself_when_its_message_is_lost(lanes: LanesInMemory, resting: Woken) -> None:
    lanes.mailchimp.faults.clear()
    lanes.now += timedelta(seconds=resting.delay_s)
    assert lanes.wake(1) == []
    assert lanes.mailchimp.calls == 6
