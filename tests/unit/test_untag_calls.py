"""Taking tags away from a Mailchimp that is up while the one call is out of order: nobody keeps a tag for that, because
who it was taken from is forgotten with the destination."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from typing import Any, cast

import pytest

from shared.destinations.model import SignIn, SignInState
from shared.exports.backoff import MustPause
from shared.exports.sign_in import SignIns
from shared.exports.untag_calls import Busy, UntagCalls
from shared.mailchimp import BatchRefused, TagReply, Unavailable
from shared.mailchimp.access import LookupsBusy, MailchimpAccess
from shared.storage.leases import HeldLease

BROKEN = Unavailable("Mailchimp is out of order.", reason="serverError", outcome_unknown=True, status=500)
HANGS_S = 130
"""The client gives up after so long."""
EVERYBODY = [f"person{number}@mail.example" for number in range(500)]


class Mailchimp:
    """Fails at the addresses that ``fails`` names, with ``fault``; a ping is answered unless ``pings_fail``."""

    def __init__(self, fails: Callable[[str], bool]) -> None:
        self.fails = fails
        self.fault: Exception = BROKEN
        self.pings_fail: Callable[[], bool] = lambda: False
        self.hiccups: Callable[[], bool] = lambda: False
        self.taken: list[str] = []
        self.calls = 0
        self.hangs = False
        self.busy_after = 10_000
        self.now = 0.0

    def ping(self) -> None:
        if self.pings_fail() or self.hiccups():
            raise BROKEN

    def close(self) -> None:
        pass

    def untag_members(self, _audience: str, _tag_id: int, addresses: Sequence[str]) -> TagReply:
        self.calls += 1
        self.now += 3
        if self.hiccups():
            raise Unavailable("Slower, please.", reason="tooManyConnections", outcome_unknown=False, status=429)
        if any(map(self.fails, addresses)):
            self.now += HANGS_S if self.hangs else 0
            raise self.fault
        self.taken += addresses
        return TagReply([], list(addresses), [], 0, len(addresses))

    @contextmanager
    def lookup(self, *_: object) -> Iterator[Mailchimp]:
        if self.calls >= self.busy_after:
            raise LookupsBusy
        yield self


class Anything:
    """Takes every call."""

    def __getattr__(self, _name: str) -> Any:
        return lambda *_arguments, **_named: "token"


def calls_to(mailchimp: Mailchimp, on_sleep: Callable[[], None] = lambda: None, failures: int = 0) -> UntagCalls:
    return UntagCalls(
        SignIn(
            state=SignInState.CONNECTED,
            account_id="account",
            api_root="https://us1.api.mailchimp.com",
            secret_name="mc-d1-1",
        ),
        cast("MailchimpAccess", mailchimp),
        cast("SignIns", Anything()),
        cast("HeldLease", Anything()),
        failures=failures,
        availability=Anything(),
        monotonic=lambda: mailchimp.now,
        sleep=lambda _: on_sleep(),
        random=lambda: 0.5,
    )


def test_a_call_that_is_out_of_order_is_waited_for_and_nobody_is_given_up() -> None:
    mailchimp = Mailchimp(lambda _: True)
    with pytest.raises(MustPause):
        calls_to(mailchimp).take("audience", 1, EVERYBODY)
    assert mailchimp.calls < 150


def test_it_goes_on_when_the_call_is_in_order_again() -> None:
    mailchimp = Mailchimp(lambda _: True)

    def mended() -> None:
        mailchimp.fails = lambda _: False

    assert calls_to(mailchimp, mended).take("audience", 1, EVERYBODY) == 0
    assert sorted(mailchimp.taken) == sorted(EVERYBODY)


@pytest.mark.parametrize("bad", [(0,), (0, 1, 2), tuple(range(20)), (497, 498, 499)])
def test_addresses_at_which_mailchimp_fails_cost_nobody_else_anything(bad: tuple[int, ...]) -> None:
    names = {EVERYBODY[number] for number in bad}
    mailchimp = Mailchimp(names.__contains__)
    assert calls_to(mailchimp).take("audience", 1, EVERYBODY) == len(bad)
    assert sorted(mailchimp.taken) == sorted({*EVERYBODY} - names)


@pytest.mark.parametrize("bad", [(0,), (0, 1, 2), tuple(range(20)), (497, 498, 499)])
def test_addresses_for_which_a_whole_call_is_refused_cost_nobody_else_anything(bad: tuple[int, ...]) -> None:
    names = {EVERYBODY[number] for number in bad}
    mailchimp = Mailchimp(names.__contains__)
    mailchimp.fault = BatchRefused("Nobody of these.", status=400)
    assert calls_to(mailchimp).take("audience", 1, EVERYBODY) == len(bad)
    assert sorted(mailchimp.taken) == sorted({*EVERYBODY} - names)


@pytest.mark.parametrize("failures", [9, 10])
def test_they_are_found_after_a_pause_too_if_a_search_begins_with_them(failures: int) -> None:
    mailchimp = Mailchimp(set(EVERYBODY[:3]).__contains__)
    for _ in range(3):
        calls = calls_to(mailchimp, failures=failures)
        try:
            assert calls.take("audience", 1, EVERYBODY) == 3
        except MustPause:
            failures = calls.failures
            continue
        break
    assert sorted(mailchimp.taken) == sorted(EVERYBODY[3:])


@pytest.mark.parametrize("failures", [0, 9, 10])
def test_they_are_found_although_pings_fail_now_and_then_and_mailchimp_was_away_before(failures: int) -> None:
    """From either end, the search makes more pings before it is through to the first of them."""
    mailchimp = Mailchimp({EVERYBODY[0], EVERYBODY[-1]}.__contains__)
    pings = count(1)
    mailchimp.pings_fail = lambda: next(pings) % 7 == 0
    assert calls_to(mailchimp, failures=failures).take("audience", 1, EVERYBODY) == 2
    assert sorted(mailchimp.taken) == sorted(EVERYBODY[1:-1])


@pytest.mark.parametrize("failures", [0, 9, 10])
def test_they_are_found_although_mailchimp_has_hiccups_and_was_away_before(failures: int) -> None:
    """Each seventh call fails, pings too: fewer than a search has to make before it is through to the contact."""
    mailchimp, calls = Mailchimp({EVERYBODY[0]}.__contains__), count(1)
    mailchimp.hiccups = lambda: next(calls) % 7 == 0
    assert calls_to(mailchimp, failures=failures).take("audience", 1, EVERYBODY) == 1
    assert sorted(mailchimp.taken) == sorted(EVERYBODY[1:])


@pytest.mark.parametrize(("bad", "lost"), [({"person7@mail.example"}, 1), (set(EVERYBODY[7::100]), 120)])
def test_addresses_at_which_mailchimp_hangs_are_found_while_the_function_may_run(bad: set[str], lost: int) -> None:
    mailchimp = Mailchimp(bad.__contains__)
    mailchimp.hangs = True
    refused = calls_to(mailchimp).take("audience", 1, EVERYBODY)
    assert len(bad) <= refused <= lost
    assert refused + len(mailchimp.taken) == len(EVERYBODY)
    assert not bad & set(mailchimp.taken)
    assert mailchimp.now < 25 * 60


def test_a_call_that_hangs_for_everybody_is_given_up_for_a_while_before_the_function_has_to_end() -> None:
    mailchimp = Mailchimp(lambda _: True)
    mailchimp.hangs = True
    with pytest.raises(MustPause):
        calls_to(mailchimp).take("audience", 1, EVERYBODY)
    assert mailchimp.now < 25 * 60


@pytest.mark.parametrize("calls", [0, 1])
def test_no_free_connection_is_told_as_that_before_a_call_and_before_a_ping(calls: int) -> None:
    mailchimp = Mailchimp(lambda _: True)
    mailchimp.busy_after = calls
    with pytest.raises(Busy):
        calls_to(mailchimp).take("audience", 1, EVERYBODY)
    assert mailchimp.calls == calls
