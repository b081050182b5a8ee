"""How long a lane waits, and when it gives its connection back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.exports.backoff import Backoff, CallOutOfOrder, MustPause, delay_s


class Told:
    """Remembers what the export was told about Mailchimp."""

    def __init__(self) -> None:
        self.words: list[str] = []

    def waiting(self, reason: str) -> None:
        self.words.append(reason)

    def available(self) -> None:
        self.words.append("available")


def backoff(told: Told, slept: list[float], failures: int = 0) -> Backoff:
    return Backoff(failures, told, sleep=slept.append, random=lambda: 0.5, still_ours=lambda: None)


@given(st.integers(1, 10_000), st.floats(0, 1), st.none() | st.floats(0, 1e9))
def test_a_wait_is_never_longer_than_seven_and_a_half_minutes_nor_shorter_than_half_a_second(
    failures: int, jitter: float, retry_after: float | None
) -> None:
    assert 0.5 <= delay_s(failures, jitter, retry_after) <= 450


def test_waits_double_and_an_answer_starts_them_anew() -> None:
    told, slept = Told(), list[float]()
    waits = backoff(told, slept)
    waits.wait("serverError", None)
    waits.wait("serverError", None)
    waits.wait("serverError", None)
    assert slept == [1, 1, 1, 1, 1, 1, 1], "1 s, 2 s and 4 s, slept in steps so that a stop is noticed"
    waits.success()
    waits.wait("serverError", None)
    assert len(slept) == 8


def test_a_single_hiccup_is_not_worth_a_word_and_recovery_is_told_once() -> None:
    told = Told()
    waits = backoff(told, [])
    waits.wait("timeout", None)
    waits.success()
    assert told.words == []
    waits.wait("timeout", None)
    waits.wait("timeout", None)
    waits.success()
    waits.success()
    assert told.words == ["timeout", "available"]


def test_a_long_wait_is_left_to_a_message() -> None:
    slept: list[float] = []
    waits = backoff(Told(), slept, failures=5)
    with pytest.raises(MustPause) as pause:
        waits.wait("serverError", None)
    assert pause.value.delay_s == 32
    assert slept == []
    assert waits.failures == 6


def test_a_retry_after_is_honoured() -> None:
    with pytest.raises(MustPause) as pause:
        backoff(Told(), []).wait("tooManyConnections", 120)
    assert pause.value.delay_s == 120


def test_a_lane_that_resumes_after_a_pause_tells_that_mailchimp_is_back() -> None:
    told = Told()
    backoff(told, [], failures=7).success()
    assert told.words == ["available"]


def test_a_wait_ends_when_the_connection_is_no_longer_ours() -> None:
    def lost() -> None:
        raise InterruptedError

    waits = Backoff(0, Told(), sleep=lambda _: None, random=lambda: 0.5, still_ours=lost)
    with pytest.raises(InterruptedError):
        waits.wait("serverError", None)


def test_while_mailchimp_answers_pings_only_what_fails_since_counts_for_a_wait() -> None:
    slept: list[float] = []
    waits = backoff(Told(), slept, failures=9)
    waits.up()
    waits.wait("serverError", None)
    waits.wait("serverError", None)
    assert slept == [1, 1, 1]
    assert waits.failures == 11, "a pause goes on from all of them"
    with pytest.raises(CallOutOfOrder) as pause:
        waits.wait_for_call("serverError")
    assert pause.value.delay_s == 300
