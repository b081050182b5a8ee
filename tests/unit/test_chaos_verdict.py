"""The verdict of the fault campaign notices each promise that is broken."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dev.chaos import verdict
from dev.chaos.people import NAMES, REFUSALS, make_people
from dev.chaos.scenario import make_scenario
from dev.chaos.system import Sample
from dev.chaos.verdict import Check, Facts

SEED, MEMBERS = 2, 2000


def facts() -> Facts:
    """An export that kept every promise: what the people expect is what happened."""
    people = make_people(SEED, MEMBERS, clean=False)
    archived, refused = sum(1 for _ in people.of("archived")), people.refused
    sent = MEMBERS - archived
    books = {
        "rowsRead": people.rows,
        "invalid": people.invalid_rows,
        "duplicates": people.duplicates,
        "merged": people.merged,
        "members": MEMBERS,
        "unchanged": 0,
        "suppressed": archived,
        "sent": sent,
        "notSent": 0,
        "created": sent - len(refused) - 50,
        "updated": 50,
        "rejected": len(refused),
    }
    contacts = {
        address: {
            "email_address": address,
            "status": wanted.status,
            "tags": sorted(wanted.tags),
            "merge_fields": {"FNAME": wanted.first_name},
        }
        for address, wanted in people.expected().items()
    }
    rejected = [
        {
            "foundBy": "mailchimp",
            "email": person.email,
            "code": REFUSALS[person.kind][0],
            "retryable": str(REFUSALS[person.kind][1]).lower(),
        }
        for person in refused.values()
    ]
    export = {"status": "CompletedWithErrors", "problem": None, "seconds": 30.0, "books": books, "untagged": 0}
    calls = [
        {"kind": "batchSubscribe", "start": n / 2, "end": n / 2 + 1, "status": 200, "fault": None} for n in range(20)
    ]
    return Facts(
        scenario=make_scenario(SEED, MEMBERS),
        people=people,
        export=export,
        rejected=rejected,
        contacts=contacts,
        calls=calls,
        max_open_calls=8,
        is_lease_taken=False,
        ended_early_at=None,
        statuses_in_outage={"Sending", "Waiting"},
        outage_lasted_s=30,
    )


def broken(checks: list[Check]) -> set[str]:
    return {check.promise for check in checks if not check.passed}


@pytest.fixture(scope="module")
def good() -> Facts:
    return facts()


def test_an_export_that_kept_its_promises_passes(good: Facts) -> None:
    assert broken(verdict.judge(good)) == set()


def _some(facts: Facts, kind: str = "") -> str:
    return next(person.key for person in facts.people.persons if person.kind == kind and not person.hand_tags)


def _contact(facts: Facts, address: str, **changes: Any) -> Facts:
    contacts = deepcopy(dict(facts.contacts))
    contacts[address] = {**contacts[address], **changes}
    return replace(facts, contacts=contacts)


def _without(facts: Facts, address: str) -> Facts:
    return replace(facts, contacts={key: value for key, value in facts.contacts.items() if key != address})


def _books(facts: Facts, **changes: int) -> Facts:
    books = facts.export["books"]
    changed = {name: books[name] + change for name, change in changes.items()}
    return replace(facts, export={**facts.export, "books": {**books, **changed}})


def _preloaded(facts: Facts, kind: str) -> str:
    return next(facts.people.of(kind)).key


BREACHES: Mapping[str, tuple[Callable[[Facts], Facts], str]] = {
    "another status": (lambda f: replace(f, export={**f.export, "status": "Failed"}), "it ends with the right status"),
    "a problem": (
        lambda f: replace(f, export={**f.export, "problem": {"code": "internal"}}),
        "it ends with the right status",
    ),
    "a negative time": (
        lambda f: replace(f, export={**f.export, "seconds": -30.0}),
        "its times make sense",
    ),
    "a row too many": (lambda f: _books(f, rowsRead=1), "the books balance"),
    "a member too few": (lambda f: _books(f, created=-1, sent=-1, members=-1, rowsRead=-1), "the books are those of"),
    "a made-up arrival": (lambda f: _books(f, created=1, rejected=-1), "the books are those of the people"),
    "somebody missing": (lambda f: _without(f, _some(f)), "the audience holds exactly"),
    "a stranger": (
        lambda f: replace(f, contacts={**f.contacts, "eve@campaign.example": f.contacts[_some(f)]}),
        "the audience holds exactly",
    ),
    "a tag missing": (lambda f: _contact(f, _some(f), tags=[]), "the audience holds exactly"),
    "a tag too many": (lambda f: _contact(f, _some(f), tags=["Chaos readers", "Other"]), "the audience holds exactly"),
    "another's name": (lambda f: _contact(f, _some(f), merge_fields={"FNAME": "Eve"}), "the audience holds exactly"),
    "subscribed again": (
        lambda f: _contact(f, _preloaded(f, "left"), status="subscribed"),
        "nobody is subscribed again",
    ),
    "an archived one back": (
        lambda f: _contact(f, _preloaded(f, "archived"), status="subscribed"),
        "nobody is subscribed again",
    ),
    "a tag by hand lost": (
        lambda f: _contact(f, _preloaded(f, "subscribed"), tags=list(next(f.people.of("subscribed")).tags)),
        "nobody is subscribed again",
    ),
    "a refused one not named": (lambda f: replace(f, rejected=f.rejected[1:]), "the rejected profiles are"),
    "a refused one named twice": (
        lambda f: replace(f, rejected=[*f.rejected, f.rejected[0]]),
        "the rejected profiles are",
    ),
    "a good one named": (
        lambda f: replace(f, rejected=[*f.rejected, {**f.rejected[0], "email": _some(f)}]),
        "the rejected profiles are",
    ),
    "another reason": (
        lambda f: replace(f, rejected=[{**f.rejected[0], "code": "wrong"}, *f.rejected[1:]]),
        "the rejected profiles are",
    ),
    "eleven open calls": (lambda f: replace(f, max_open_calls=11), "at most 10 calls are open"),
    "a lane with two calls": (
        lambda f: replace(f, calls=[{**f.calls[0], "start": 0, "end": 9} for _ in range(f.scenario.lanes + 1)]),
        "at most one call a lane is open",
    ),
    "an outage that nobody saw": (lambda f: replace(f, statuses_in_outage={"Sending"}), "an outage shows Waiting"),
}


@pytest.mark.parametrize("breach", BREACHES)
def test_a_broken_promise_is_noticed(good: Facts, breach: str) -> None:
    spoil, promise = BREACHES[breach]
    assert any(found.startswith(promise) for found in broken(verdict.judge(spoil(good))))


def test_an_export_that_was_stopped_may_lack_people_but_not_change_anybody(good: Facts) -> None:
    scenario = make_scenario(3, MEMBERS)
    stopped = replace(
        _books(_without(good, _some(good)), notSent=1, sent=-1, created=-1),
        scenario=scenario,
        ended_early_at=100.0,
    )
    problem = {"code": "audienceNotFound"}
    stopped = replace(stopped, export={**stopped.export, "status": "Failed", "problem": problem})
    assert scenario.ending == "audience deleted"
    assert broken(verdict.judge(stopped)) == set()
    late = replace(stopped, calls=[{**good.calls[0], "start": 101.0, "end": 102.0}] * (scenario.lanes + 1))
    assert "it ends within one batch per lane" in broken(verdict.judge(late))
    changed = _contact(stopped, _preloaded(good, "left"), status="subscribed")
    assert "the audience holds exactly who should be there" in broken(verdict.judge(changed))


def test_who_was_given_up_is_booked_and_may_be_missing(good: Facts) -> None:
    address = _some(good)
    row = {"foundBy": "mailchimp", "email": address, "code": "serverError", "retryable": "true"}
    booked = _books(replace(_without(good, address), rejected=[*good.rejected, row]), created=-1, rejected=1)
    assert verdict.given_up(good.people, booked.rejected) == {address}
    assert broken(verdict.judge(booked)) == set()


@pytest.mark.parametrize("text", ["p0000001@campaign.example", NAMES[1], "sandbox-key-us1"])
def test_an_address_a_name_or_a_key_in_a_log_is_noticed(tmp_path: Path, text: str) -> None:
    log = tmp_path / "host.log"
    log.write_text('{"event": "export.ended", "reason": "message 7b2f, delivery 1"}\n', encoding="utf-8")
    assert verdict.logs([log], ["sandbox-key-us1"]).passed
    log.write_text(f'{{"event": "lane.left", "reason": "{text}"}}\n', encoding="utf-8")
    assert not verdict.logs([log], ["sandbox-key-us1"]).passed


@pytest.mark.parametrize("grown", [{"threads": 60}, {"descriptors": 120}, {"memory_mb": 260.0}])
def test_a_host_that_grows_is_noticed(grown: dict[str, Any]) -> None:
    size = Sample(1, 180.0, 40, 60)
    assert broken(verdict.growth([[size]] * 4)) == set()
    assert broken(verdict.growth([[size], [size], [size], [replace(size, **grown)]])) != set()
    assert broken([verdict.sizes([replace(size, threads=500)])]) != set()
