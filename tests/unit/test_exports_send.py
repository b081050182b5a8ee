"""Sending one batch to a Mailchimp that answers oddly: every row has one outcome, and no outage is taken for one."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence, Set
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from itertools import count
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.exports.backoff import Backoff, CallOutOfOrder, MustPause
from shared.exports.model import BatchResult
from shared.exports.pace import LanePace, Paces
from shared.exports.send import BatchSender
from shared.mailchimp import MailchimpClient, SubscribeReply, Tag, TagNotFound, Unavailable
from shared.mailchimp.replies import read_subscribe, read_tag_reply
from tests.unit.fake_documents import FakeDocuments
from tests.unit.plans import a_plan

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
BROKEN = Unavailable("Mailchimp is out of order.", reason="serverError", outcome_unknown=True, status=500)
TAG = "Readers"
HANGS_S = 130
"""The client gives up after so long."""

Answer = Callable[[Sequence[str]], SubscribeReply]


def people(count: int) -> list[str]:
    return [f"person{number}@mail.example" for number in range(count)]


def reply(
    created: Sequence[str], errors: Sequence[dict[str, str]] = (), *, tagged: bool = True, **said: Any
) -> SubscribeReply:
    """Mailchimp's answer of these members and errors; ``said`` says something else than they do."""
    tags = [{"name": TAG}] if tagged else []
    counts = {"total_created": len(created), "total_updated": 0, "error_count": len(errors)}
    wire = {
        "new_members": [{"email_address": each, "status": "subscribed", "tags": tags} for each in created],
        "updated_members": [],
        "errors": list(errors),
    }
    return read_subscribe(json.dumps({**wire, **counts, **said}).encode())


def refused(email: str, words: str = "Not this one.") -> dict[str, str]:
    return {"email_address": email, "error": words, "error_code": "ERROR_GENERIC"}


class Mailchimp:
    """Answers as a test says. It is up: a ping is answered unless ``pings_fail``."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.pings_fail: Callable[[], bool] = lambda: False
        self.seconds_per_call = 0.0
        self.now = 0.0
        self.calls: list[int] = []
        self.tag_id = 1
        self.stale_search = False
        self.search_fault: Unavailable | None = None
        self.tagging_hangs = False
        self.tagged: list[str] = []
        self.tag_calls = 0
        self.tag_errors: list[str] = []

    def subscribe(self, _audience: str, body: bytes) -> SubscribeReply:
        emails = [member["email_address"] for member in json.loads(body)["members"]]
        self.calls.append(len(emails))
        self.now += self.seconds_per_call
        return self.answer(emails)

    def ping(self) -> None:
        if self.pings_fail():
            raise BROKEN

    def tag_members(self, audience: str, tag_id: int, addresses: Sequence[str]) -> Any:
        self.tag_calls += 1
        assert self.tag_calls < 50, "it goes on for ever"
        if self.tagging_hangs:
            self.now += HANGS_S
            raise BROKEN
        if tag_id != self.tag_id:
            raise TagNotFound(audience, tag_id)
        self.tagged += addresses
        return read_tag_reply(json.dumps({"errors": [{"email_addresses": self.tag_errors, "error": "No."}]}).encode())

    def find_or_create_tag(self, _audience: str, name: str) -> Tag:
        if self.search_fault is not None:
            raise self.search_fault
        return Tag(1 if self.stale_search else self.tag_id, name)


class Shown:
    """What the export shows of Mailchimp."""

    def __init__(self) -> None:
        self.waited_for: list[str] = []

    def waiting(self, reason: str) -> None:
        self.waited_for.append(reason)

    def available(self) -> None:
        pass


class Sender:
    """Sends one batch; ``slept`` are the waits, ``on_sleep`` runs at each."""

    def __init__(self, mailchimp: Mailchimp, failures: int = 0) -> None:
        self.slept: list[float] = []
        self.on_sleep: Callable[[], None] = lambda: None
        self.shown = Shown()
        documents = FakeDocuments().as_documents()
        pace = LanePace(
            Paces(documents, lambda: NOW, most_lanes=8),
            "account",
            monotonic=lambda: 0.0,
            opened=lambda _: None,
            closed=lambda *_: None,
        )
        pace.answered(500, 5.0)
        self.backoff = Backoff(failures, self.shown, sleep=self._sleep, random=lambda: 0.5, still_ours=lambda: None)
        plan = a_plan(tag_ids={TAG: 1})
        self._sender = BatchSender(
            cast("MailchimpClient", mailchimp),
            plan,
            self.backoff,
            pace,
            before_call=lambda: None,
            clock=lambda: NOW,
            monotonic=lambda: mailchimp.now,
        )

    def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.on_sleep()

    def send(self, emails: Sequence[str]) -> BatchResult:
        members = [{"email_address": each, "status_if_new": "subscribed", "tags": [TAG]} for each in emails]
        return self._sender.send(0, 0, json.dumps({"members": members, "update_existing": True}).encode())


def assert_balanced(result: BatchResult) -> None:
    assert result.created + result.updated + len(result.rejected) == result.rows


# -- replies that do not add up --------------------------------------------------------------------------------------


def test_a_row_that_is_refused_for_two_reasons_is_rejected_once() -> None:
    emails = people(3)
    errors = [refused(emails[2], "Your merge fields were invalid."), refused(emails[2], "Not this one either.")]
    result = Sender(Mailchimp(lambda _: reply(emails[:2], errors, error_count=1))).send(emails)
    assert_balanced(result)
    assert [(row.position, row.code) for row in result.rejected] == [(2, "mergeFieldInvalid")]


def test_errors_that_are_counted_and_not_told_are_asked_for_again() -> None:
    emails = people(4)

    def answer(asked: Sequence[str]) -> SubscribeReply:
        return reply(asked[:2], [refused(asked[2])], error_count=2) if len(asked) == 4 else reply(asked)

    mailchimp = Mailchimp(answer)
    result = Sender(mailchimp).send(emails)
    assert_balanced(result)
    assert (result.created, [row.position for row in result.rejected]) == (3, [2])
    assert mailchimp.calls == [4, 1]


@given(
    created=st.integers(0, 6),
    told=st.lists(st.integers(0, 6), max_size=8),
    total_created=st.integers(0, 7) | st.none(),
    error_count=st.integers(0, 7) | st.none(),
)
def test_whatever_the_first_reply_says_every_row_has_one_outcome(
    created: int, told: list[int], total_created: int | None, error_count: int | None
) -> None:
    emails = people(6)
    first = [True]

    def answer(asked: Sequence[str]) -> SubscribeReply:
        if not first:
            return reply(asked)
        first.clear()
        errors = [refused(f"person{number}@mail.example") for number in told]
        return reply(emails[:created], errors, total_created=total_created, error_count=error_count)

    assert_balanced(Sender(Mailchimp(answer)).send(emails))


# -- tags that have to be repaired -----------------------------------------------------------------------------------


def lacking_tags(asked: Sequence[str]) -> SubscribeReply:
    return reply(asked, tagged=False)


def test_a_tag_that_was_deleted_meanwhile_is_made_anew_and_set() -> None:
    mailchimp = Mailchimp(lacking_tags)
    mailchimp.tag_id = 2
    result = Sender(mailchimp).send(people(3))
    assert (result.repaired_tags, result.untagged, mailchimp.tagged) == (3, 0, people(3))


def test_a_deleted_tag_that_the_search_still_finds_is_not_tried_for_ever() -> None:
    mailchimp = Mailchimp(lacking_tags)
    mailchimp.tag_id, mailchimp.stale_search = 2, True
    result = Sender(mailchimp).send(people(3))
    assert (result.repaired_tags, result.untagged, mailchimp.tag_calls) == (0, 3, 1)


def test_a_tag_that_mailchimp_fails_to_make_anew_costs_the_tag_and_not_the_batch() -> None:
    mailchimp = Mailchimp(lacking_tags)
    mailchimp.tag_id, mailchimp.search_fault = 2, BROKEN
    result = Sender(mailchimp).send(people(3))
    assert_balanced(result)
    assert (result.created, result.untagged) == (3, 3)


def test_whom_mailchimp_names_as_not_tagged_is_counted_as_untagged() -> None:
    mailchimp = Mailchimp(lacking_tags)
    mailchimp.tag_errors = ["Person1@mail.example", "stranger@mail.example"]
    result = Sender(mailchimp).send(people(3))
    assert (result.repaired_tags, result.untagged) == (2, 1)


def test_whose_tags_are_not_all_shown_may_have_had_the_tag_before() -> None:
    def many_tags(asked: Sequence[str]) -> SubscribeReply:
        tags = [{"name": f"Tag {number}"} for number in range(50)]
        members = [{"email_address": each, "tags": tags, "tags_count": 51} for each in asked]
        return reply([], new_members=members, total_created=len(asked))

    mailchimp = Mailchimp(many_tags)
    mailchimp.tag_errors = people(3)
    result = Sender(mailchimp).send(people(3))
    assert (mailchimp.tagged, result.untagged) == (people(3), 0)


# -- an outage of the one call ---------------------------------------------------------------------------------------


def out_of_order(_: Sequence[str]) -> SubscribeReply:
    raise BROKEN


def failing_at(*bad: str) -> Answer:
    def answer(asked: Sequence[str]) -> SubscribeReply:
        if set(asked) & set(bad):
            raise BROKEN
        return reply(asked)

    return answer


def test_mailchimp_that_takes_nobody_is_waited_for_although_it_answers_pings() -> None:
    mailchimp = Mailchimp(out_of_order)
    sender = Sender(mailchimp)
    with pytest.raises(MustPause):
        sender.send(people(500))
    assert sender.shown.waited_for
    assert len(mailchimp.calls) < 150
    again = Mailchimp(out_of_order)
    with pytest.raises(MustPause):
        Sender(again, sender.backoff.failures).send(people(500))
    assert len(again.calls) < 30, "a later try is over soon"


@pytest.mark.parametrize("failures", [0, 8])
def test_a_call_that_hangs_is_given_up_long_before_a_function_has_to_end(failures: int) -> None:
    mailchimp = Mailchimp(out_of_order)
    mailchimp.seconds_per_call = HANGS_S
    sender = Sender(mailchimp, failures)
    with pytest.raises(CallOutOfOrder):
        sender.send(people(500))
    assert mailchimp.now + sum(sender.slept) < 25 * 60


def hanging_at(bad: Set[str]) -> Mailchimp:
    mailchimp = Mailchimp(reply)
    mailchimp.seconds_per_call = 3

    def answer(asked: Sequence[str]) -> SubscribeReply:
        if bad & set(asked):
            mailchimp.now += HANGS_S
            raise BROKEN
        return reply(asked)

    mailchimp.answer = answer
    return mailchimp


@pytest.mark.parametrize("bad", [0, 68, 250, 499])
def test_one_contact_at_whom_mailchimp_hangs_is_found_while_the_function_may_run(bad: int) -> None:
    emails = people(500)
    mailchimp = hanging_at({emails[bad]})
    result = Sender(mailchimp).send(emails)
    assert_balanced(result)
    assert [(row.position, row.code, row.retryable) for row in result.rejected] == [(bad, "serverError", True)]
    assert mailchimp.now < 15 * 60


@pytest.mark.parametrize("count", [2, 5])
def test_several_of_them_do_not_take_it_longer_than_it_may_run(count: int) -> None:
    """Some who were sent with them are given up too, and may be sent again."""
    emails = people(500)
    bad = set(emails[7 :: 500 // count])
    mailchimp = hanging_at(bad)
    result = Sender(mailchimp).send(emails)
    assert_balanced(result)
    assert bad <= {row.email for row in result.rejected}
    assert all(row.retryable for row in result.rejected)
    assert len(result.rejected) < 60
    assert mailchimp.now < 25 * 60


def test_a_tagging_that_hangs_costs_the_tag_and_not_the_function() -> None:
    mailchimp = Mailchimp(partial(reply, tagged=False))
    mailchimp.tagging_hangs = True
    result = Sender(mailchimp).send(people(500))
    assert_balanced(result)
    assert (result.created, result.untagged, mailchimp.tag_calls) == (500, 500, 1)


def test_nobody_is_rejected_for_an_outage_that_ends_while_it_is_waited_for() -> None:
    is_down = [True]

    def answer(asked: Sequence[str]) -> SubscribeReply:
        return out_of_order(asked) if is_down else reply(asked)

    sender = Sender(Mailchimp(answer))
    sender.on_sleep = is_down.clear
    result = sender.send(people(500))
    assert (result.created, result.rejected) == (500, [])


@pytest.mark.parametrize("bad", [(0,), (0, 1, 2), (497, 498, 499), tuple(range(0, 500, 50)), tuple(range(20))])
def test_contacts_at_which_mailchimp_fails_are_found_wherever_they_stand(bad: tuple[int, ...]) -> None:
    emails = people(500)
    result = Sender(Mailchimp(failing_at(*(emails[number] for number in bad)))).send(emails)
    assert_balanced(result)
    assert sorted(row.position or 0 for row in result.rejected) == list(bad)
    assert {row.code for row in result.rejected} == {"serverError"}


@pytest.mark.parametrize("count", [1, 2])
def test_one_or_two_contacts_alone_tell_nothing_and_are_given_up(count: int) -> None:
    result = Sender(Mailchimp(out_of_order)).send(people(count))
    assert [row.code for row in result.rejected] == ["serverError"] * count


@pytest.mark.parametrize("failures", [0, 9, 10])
def test_they_are_found_although_mailchimp_has_hiccups_and_was_away_before(failures: int) -> None:
    """Each seventh call fails, pings too: fewer than a search has to make before it is through to the contact."""
    emails, calls = people(500), count()

    def hiccup() -> bool:
        return next(calls) % 7 == 6

    def answer(asked: Sequence[str]) -> SubscribeReply:
        if hiccup():
            raise Unavailable("Slower, please.", reason="tooManyConnections", outcome_unknown=False, status=429)
        return failing_at(emails[0])(asked)

    mailchimp = Mailchimp(answer)
    mailchimp.pings_fail = hiccup
    result = Sender(mailchimp, failures).send(emails)
    assert_balanced(result)
    assert [row.position for row in result.rejected] == [0]


def send_with_pauses(mailchimp: Mailchimp, emails: Sequence[str], failures: int, *, most: int) -> BatchResult:
    """Send the batch, and after each pause send it again; MustPause after ``most`` pauses."""
    for _ in range(most):
        sender = Sender(mailchimp, failures)
        with suppress(MustPause):
            return sender.send(emails)
        failures = sender.backoff.failures
    return Sender(mailchimp, failures).send(emails)


@pytest.mark.parametrize("bad", [range(3), range(497, 500), range(20)], ids=str)
@pytest.mark.parametrize("failures", [9, 10])
def test_they_are_found_after_a_pause_too_if_a_search_begins_with_them(failures: int, bad: range) -> None:
    """Each pause begins the search anew, with what was known before lost."""
    emails = people(500)
    result = send_with_pauses(Mailchimp(failing_at(*(emails[number] for number in bad))), emails, failures, most=2)
    assert_balanced(result)
    assert sorted(row.position or 0 for row in result.rejected) == list(bad)


@given(
    st.sampled_from([0, 1, 5, 6]),
    st.sets(st.integers(0, 39), max_size=12),
    st.sets(st.integers(1, 60), max_size=8),
)
def test_whoever_makes_it_fail_and_whenever_it_has_hiccups_a_batch_ends_with_its_books(
    failures: int, bad: Set[int], hiccups: Set[int]
) -> None:
    """After some pauses, that is."""
    emails, calls = people(40), count(1)

    def answer(asked: Sequence[str]) -> SubscribeReply:
        if next(calls) in hiccups:
            raise Unavailable("Slower, please.", reason="tooManyConnections", outcome_unknown=False, status=429)
        return failing_at(*(emails[number] for number in bad))(asked)

    mailchimp = Mailchimp(answer)
    mailchimp.pings_fail = lambda: next(calls) in hiccups
    result = send_with_pauses(mailchimp, emails, failures, most=30)
    assert_balanced(result)
    assert {row.position for row in result.rejected} == bad
