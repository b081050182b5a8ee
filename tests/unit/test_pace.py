"""The rules of the pace: when lanes open and close, and how large a call may be."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import cast

import pytest
from azure.core.exceptions import ServiceRequestError
from hypothesis import given
from hypothesis import strategies as st

from shared.exports.pace import FIRST_LANES, FIRST_ROWS, LanePace, Pace, Paces, connections_of, stands_in_for
from shared.mailchimp import Unavailable
from shared.mailchimp.errors import UnavailableReason
from shared.storage import names
from shared.storage.documents import Documents
from tests.unit.fake_documents import FakeDocuments

START = datetime(2026, 3, 1, tzinfo=UTC)
NEW = Pace(changed_at=START)


def later(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def refusal(reason: UnavailableReason, status: int | None = None) -> Unavailable:
    return Unavailable("…", reason=reason, outcome_unknown=False, status=status)


class Lane:
    """One lane's view of the account's pace, with a clock of its own, and what it told others."""

    def __init__(self, documents: FakeDocuments, now: datetime = START, most: int = 8) -> None:
        self.seconds = 0.0
        self.opened: list[int] = []
        self.closed: list[tuple[Sequence[int], int]] = []
        self.pace = LanePace(
            Paces(documents.as_documents(), lambda: now + timedelta(seconds=self.seconds), most_lanes=most),
            "account",
            monotonic=lambda: self.seconds,
            opened=self.opened.extend,
            closed=lambda lanes, left: self.closed.append((list(lanes), left)),
        )


def test_a_new_account_begins_with_few_lanes_and_a_small_call() -> None:
    assert (NEW.lanes, NEW.rows) == (FIRST_LANES, FIRST_ROWS)


def test_each_success_doubles_the_lanes_until_all_are_open() -> None:
    pace = NEW
    lanes = []
    for _ in range(4):
        pace = pace.after_answer(50, 0.7, START, 8)
        lanes.append(pace.lanes)
    assert lanes == [4, 8, 8, 8]
    assert pace.openings == 2
    assert pace.rows == 500


def test_after_too_many_connections_lanes_come_back_one_by_one() -> None:
    pace = Pace(lanes=8, changed_at=START, seconds_per_member=0.01)
    pace = pace.after_refusal("tooManyConnections", 0, START)
    assert (pace.lanes, pace.slowed_down_at, pace.reason) == (4, START, "tooManyConnections")
    assert pace.after_answer(500, 5, later(9), 8).lanes == 4
    pace = pace.after_answer(500, 5, later(10), 8)
    assert pace.lanes == 5
    assert pace.after_answer(500, 5, later(19), 8).lanes == 5
    assert pace.after_answer(500, 5, later(20), 8).lanes == 6


def test_after_an_outage_lanes_come_back_twice_as_many_at_a_time() -> None:
    pace = Pace(lanes=1, changed_at=START, slowed_down_at=START, reason="serverError", seconds_per_member=0.01)
    assert pace.after_answer(None, 1, later(10), 8).lanes == 2
    assert pace.after_answer(None, 1, later(10), 8).after_answer(None, 1, later(20), 8).lanes == 4


def test_refusals_of_one_moment_count_once() -> None:
    pace = Pace(lanes=8, changed_at=START)
    for _ in range(5):
        pace = pace.after_refusal("serverError", 0, START)
    assert (pace.lanes, pace.slow_downs) == (4, 1)
    assert pace.after_refusal("serverError", 1, START).lanes == 2


def test_a_refusal_is_forgiven_in_the_end() -> None:
    pace = Pace(lanes=8, changed_at=START, slowed_down_at=START, reason="blocked", seconds_per_member=0.01)
    assert pace.after_answer(500, 5, later(600), 8).slowed_down_at == START
    forgiven = pace.after_answer(500, 5, later(601), 8)
    assert (forgiven.slowed_down_at, forgiven.reason) == (None, None)


def test_clocks_that_differ_keep_no_lane_closed_for_ever() -> None:
    ahead = Pace(lanes=4, changed_at=later(60), slowed_down_at=later(60), reason="blocked", seconds_per_member=0.01)
    assert ahead.after_answer(500, 5, START, 8).lanes == 8
    assert ahead.is_settled(START)


@given(st.lists(st.tuples(st.integers(10, 500), st.floats(0.1, 5)), min_size=1, max_size=60))
def test_no_call_is_expected_to_take_longer_than_a_minute(members: list[tuple[int, float]]) -> None:
    """Whatever the members took so far: the next call is for a minute, or as small as calls get."""
    pace = NEW
    for rows, each in members:
        rows = min(rows, pace.rows)
        pace = pace.after_answer(rows, 0.13 + rows * each, START, 8)
        assert pace.rows == 10 or pace.rows * each <= 75


def test_members_that_get_faster_make_calls_large_again() -> None:
    pace = Pace(lanes=8, changed_at=START, seconds_per_member=2)
    assert pace.rows == 30
    for _ in range(20):
        pace = pace.after_answer(pace.rows, 0.13 + pace.rows * 0.01, START, 8)
    assert pace.rows == 500


def test_a_call_that_was_given_up_makes_the_next_ones_smaller() -> None:
    pace = Pace(lanes=8, changed_at=START, seconds_per_member=0.01)
    assert pace.after_silence(500, 130).rows == 115
    assert pace.after_silence(3, 130) == pace, "a contact that hangs is no matter of the pace"


def test_small_calls_and_other_calls_say_nothing_of_the_members() -> None:
    pace = Pace(lanes=8, changed_at=START, seconds_per_member=0.01)
    assert pace.after_answer(9, 100, START, 8) == pace
    assert pace.after_answer(10, 100, START, 8).rows == 10, "the smallest call that says something"
    assert pace.after_answer(None, 100, START, 8) == pace


@given(st.integers(1, 10), st.integers(1, 10), st.sets(st.integers(0, 9), min_size=1))
def test_every_lane_has_exactly_one_open_connection_that_sends_for_it(lanes: int, most: int, of_plan: set[int]) -> None:
    pace = Pace(lanes=min(lanes, most), changed_at=START, openings=1)
    for lane in of_plan:
        home = lane % most
        senders = [c for c in range(pace.lanes) if home == c or home in stands_in_for(c, pace, most)]
        assert senders == connections_of([lane], pace, most)
    assert set(connections_of(of_plan, pace, most)) <= set(range(pace.lanes))


def test_all_connections_of_a_new_account_are_woken_to_wait_at_hand() -> None:
    assert connections_of(range(8), NEW, 8) == list(range(8))
    known = NEW.model_copy(update={"seconds_per_member": 0.01})
    assert connections_of(range(8), known, 8) == list(range(FIRST_LANES))


def test_what_one_lane_learns_the_others_know_two_seconds_later() -> None:
    documents = FakeDocuments()
    one, other = Lane(documents), Lane(documents)
    one.pace.answered(50, 0.7)
    assert (one.pace.rows(), other.pace.rows()) == (500, 50)
    assert one.opened == [2, 3]
    other.seconds = 2
    assert (other.pace.known.lanes, other.pace.rows()) == (4, 500)


def test_what_two_lanes_learn_at_the_same_time_is_not_lost() -> None:
    documents = FakeDocuments()
    one, other = Lane(documents), Lane(documents)
    one.pace.answered(50, 0.7)
    documents.before_replace = lambda _: other.pace.failed(refusal("tooManyConnections", 429), 50, 1, 0)
    one.pace.answered(50, 0.7)
    assert documents.before_replace is None, "the one's write came second"
    assert (one.pace.known.slow_downs, other.pace.known.slow_downs) == (1, 1)
    assert other.closed == [([2, 3], 2)]


def test_what_changes_nothing_is_not_written() -> None:
    documents = FakeDocuments()
    paces = Paces(documents.as_documents(), lambda: START, most_lanes=8)
    paces.change("account", lambda pace: pace)
    assert documents.blobs == {}
    paces.change("account", lambda pace: pace.after_answer(50, 0.7, START, 8))
    (written,) = documents.blobs.values()
    paces.change("account", lambda pace: pace)
    assert [*documents.blobs.values()] == [written], "not even with a new ETag"


def test_a_lane_that_is_refused_tells_which_lanes_are_closed() -> None:
    documents = FakeDocuments()
    one = Lane(documents)
    for _ in range(2):
        one.pace.answered(50, 0.7)
    then = one.pace.slow_downs()
    one.pace.failed(refusal("tooManyConnections", 429), 500, 0.1, then)
    one.pace.failed(refusal("tooManyConnections", 429), 500, 0.1, then)
    assert one.closed == [([4, 5, 6, 7], 4)]


@pytest.mark.parametrize(
    ("reason", "status"), [("serverError", 500), ("serverError", 502), ("connectionLost", None), ("notConnected", None)]
)
def test_what_is_no_throttling_closes_no_lane(reason: UnavailableReason, status: int | None) -> None:
    one = Lane(FakeDocuments())
    one.pace.failed(refusal(reason, status), 500, 0.1, one.pace.slow_downs())
    assert one.closed == []


def test_only_a_call_that_was_given_up_after_a_minute_says_that_members_are_slow() -> None:
    one, lost = Lane(FakeDocuments()), Unavailable("…", reason="timeout", outcome_unknown=True)
    one.pace.answered(500, 5.0)
    one.pace.failed(lost, 500, 59.9, one.pace.slow_downs())
    assert one.pace.rows() == 500
    one.pace.failed(lost, 500, 60.0, one.pace.slow_downs())
    assert one.pace.rows() < 300


def test_nothing_is_written_while_nothing_changes() -> None:
    documents = FakeDocuments()
    one = Lane(documents)
    for _ in range(2):
        one.pace.answered(50, 0.7)
    before = documents.as_documents().read(names.pace("account"))
    for _ in range(100):
        one.pace.answered(500, 5.4)
    assert documents.as_documents().read(names.pace("account")) == before


def test_more_lanes_than_are_configured_are_never_open() -> None:
    documents = FakeDocuments()
    Lane(documents, most=8).pace.answered(50, 0.7)
    Lane(documents, most=8).pace.answered(50, 0.7)
    assert Lane(documents, most=3).pace.known.lanes == 3


def test_storage_that_fails_stops_nobody() -> None:
    documents = FakeDocuments()
    one = Lane(documents)
    one.pace.answered(50, 0.7)

    def fails(*_: object) -> None:
        raise ServiceRequestError("storage is away")

    real = one.pace._paces._documents
    one.pace._paces._documents = cast("Documents", SimpleNamespace(read=fails))
    one.pace.answered(50, 0.7)
    one.seconds = 5
    assert one.pace.known.lanes == 4, "as it was known"
    one.pace._paces._documents = real
    one.pace.answered(50, 0.7)
    assert one.pace.known.lanes == 8
