"""An open lane sends what closed ones would: under their leases, and only as long as they stay closed."""

from __future__ import annotations

import time
from unittest.mock import patch

import pytest

from shared.exports.model import BatchResult, Plan
from shared.exports.store import ExportStore
from shared.storage.leases import LeaseLost
from tests.unit.exports_in_memory import NOW
from tests.unit.lanes_in_memory import LanesInMemory, Woken, to_the_end, until

NO_LOOK_BETWEEN_S = 0.001
"""So slow a clock that a lane looks for work once: else it would give a closed lane, which a success opens, back."""


@pytest.fixture
def lanes() -> LanesInMemory:
    """Two lanes, of which the second is closed."""
    found = LanesInMemory(most=2)
    found.set_pace(1)
    return found


def sent(lanes: LanesInMemory, plan: Plan) -> set[int]:
    """The batches that have reached Mailchimp."""
    return {batch for batch in range(plan.batches) if lanes.mailchimp.members[f"fine{batch}-0@mail.example"]}


def of_lane(plan: Plan, *numbers: int) -> set[int]:
    return {batch for number in numbers for batch in plan.batches_of(number)}


def test_it_sends_for_them_and_ends_their_part_too(lanes: LanesInMemory) -> None:
    plan, lanes.step_s = lanes.open_export(lanes=(0, 1)), NO_LOOK_BETWEEN_S
    with lanes.work() as work:
        to_the_end(work)
    assert lanes.leases.ours == {}
    assert lanes.mailchimp.members == lanes.addresses(plan)
    assert lanes.store.ended_lanes(plan.export_id) == {0, 1}
    assert lanes.sent.finished == [plan.export_id], "by the last lane only"


def test_it_ends_only_its_own_part_while_another_process_holds_theirs(lanes: LanesInMemory) -> None:
    plan = lanes.open_export(lanes=(0, 1))
    lanes.leases.elsewhere = {1}
    with lanes.work() as work:
        to_the_end(work)
    assert sent(lanes, plan) == of_lane(plan, 0)
    assert lanes.store.ended_lanes(plan.export_id) == {0}
    assert lanes.sent.finished == []


def test_it_leaves_lanes_alone_that_were_closed_only_now(lanes: LanesInMemory) -> None:
    lanes.set_pace(1, changed_at=NOW)
    plan = lanes.open_export(lanes=(0, 1))
    with lanes.work() as work:
        to_the_end(work)
    assert sent(lanes, plan) == of_lane(plan, 0)


def test_the_lanes_of_an_older_configuration_are_sent_for_too() -> None:
    one = LanesInMemory(most=1)
    plan = one.open_export(lanes=(0, 1, 2))
    with one.work() as work:
        to_the_end(work)
    assert one.mailchimp.members == one.addresses(plan)
    assert one.store.ended_lanes(plan.export_id) == {0, 1, 2}


@pytest.mark.parametrize("lost", [0, 1])
def test_both_leases_have_to_be_certain_before_a_call(lanes: LanesInMemory, lost: int) -> None:
    plan, lanes.step_s = lanes.open_export(lanes=(1,)), NO_LOOK_BETWEEN_S
    with lanes.work() as work:
        until(lambda: lanes.mailchimp.calls == 2, work)
        lanes.leases.ours[lost].is_certain = False
        with pytest.raises(LeaseLost):
            to_the_end(work)
    assert sent(lanes, plan) == {0, 1}


def test_a_lane_that_opens_again_is_given_back_with_all_that_was_sent_for_it_on_record(lanes: LanesInMemory) -> None:
    """A success opens it, and its own connection is woken."""
    plan, lanes.step_s = lanes.open_export(lanes=(0, 1), batches=16), NO_LOOK_BETWEEN_S
    record, seen = lanes.store.record, []

    def late(export_id: str, result: BatchResult) -> None:
        time.sleep(0.03)  # longer than anything else here
        record(export_id, result)

    def given_back(lane: int) -> None:
        seen.append((lane, sent(lanes, plan) - set(lanes.recorded(plan))))

    lanes.leases.given_back = given_back
    with patch.object(lanes.store, "record", late), lanes.work() as work:
        until(lambda: lanes.mailchimp.calls == 4, work)
        lanes.step_s = 1
        until(lambda: seen != [], work)
        assert set(lanes.leases.ours) == {0}
        before = sent(lanes, plan) & of_lane(plan, 1)
        assert before
        to_the_end(work)
    assert seen[0] == (1, set())
    assert lanes.sent.woken == [Woken(1)]
    assert sent(lanes, plan) == of_lane(plan, 0) | before
    assert lanes.store.ended_lanes(plan.export_id) == {0}


def test_what_it_holds_for_others_is_free_again_when_storage_fails(lanes: LanesInMemory) -> None:
    lanes.open_export(lanes=(0, 1))

    def fail(*_: object) -> None:
        raise OSError("storage is down")

    with patch.object(ExportStore, "record", fail), pytest.raises(OSError, match="down"), lanes.work() as work:
        to_the_end(work)
    assert lanes.leases.ours == {}
