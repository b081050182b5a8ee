"""The verdict on an export: what it promised, held against what was really there.

What is expected comes from the people (dev/chaos/people.py), what happened from the sandbox's own books, and only then
is either compared with what the product says.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from dev.chaos.mailchimp import HANGING
from dev.chaos.people import NAMES, REFUSALS, Expected, People
from dev.chaos.scenario import Scenario
from dev.chaos.surroundings import READ_TIMEOUT_S
from dev.chaos.system import Sample
from shared.settings import MAILCHIMP_CONNECTION_LIMIT

AUDIENCE: Final = "chaos00001"
MAX_THREADS: Final = 150
MAX_DESCRIPTORS: Final = 300
MAX_MEMORY_MB: Final = 700
MORE_THREADS: Final = 6
MORE_DESCRIPTORS: Final = 16
MORE_MEMORY: Final = 1.1
MORE_MEMORY_MB: Final = 16
"""What a process may have more of after many exports than after two: pools fill up to their limits by and by."""

_PROBLEMS: Final = {
    "key revoked": "signInRefused",
    "audience deleted": "audienceNotFound",
    "account restricted": "accountRestricted",
}
_GIVEN_UP: Final = frozenset({"serverError", "notConfirmed"})
"""Codes of rows that got no answer although Mailchimp was up: booked as refused for now, and sent by a later export."""

_LANE_CALLS: Final = frozenset({"batchSubscribe", "segmentMembers", "ping"})
_LONG_OUTAGE_S: Final = 15.0
_ADDRESS: Final = re.compile(r"[^\s\"'<>@=]+@[^\s\"'<>@]+\.[a-z]{2,}", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Check:
    """One promise and whether it was kept; `detail` says what was found where it was not."""

    promise: str
    passed: bool
    detail: str = ""

    def document(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that is known about an export that has ended."""

    scenario: Scenario
    people: People
    export: Mapping[str, Any]
    rejected: Sequence[Mapping[str, str]]
    contacts: Mapping[str, Mapping[str, Any]]
    calls: Sequence[Mapping[str, Any]]
    max_open_calls: int
    is_lease_taken: bool
    ended_early_at: float | None
    statuses_in_outage: Iterable[str]
    outage_lasted_s: float


def judge(facts: Facts) -> list[Check]:
    """All checks of one export but those of its logs and processes."""
    checks = [
        _status(facts),
        _times(facts),
        _balance(facts),
        _books(facts),
        _rejected(facts),
        _audience(facts),
        _left_alone(facts),
    ]
    checks += _open_calls(facts)
    if facts.ended_early_at is not None:
        checks.append(_ended_at_once(facts, facts.ended_early_at))
    if facts.outage_lasted_s >= _LONG_OUTAGE_S:
        waited = "Waiting" in facts.statuses_in_outage
        checks.append(Check("an outage shows Waiting", waited, f"{sorted(facts.statuses_in_outage)}"))
    return checks


def given_up(people: People, rejected: Sequence[Mapping[str, str]]) -> set[str]:
    """Lower-case addresses of people whom nobody refuses and who are booked as refused for now."""
    refused = people.refused
    return {
        row["email"].lower()
        for row in rejected
        if row["foundBy"] == "mailchimp" and row["code"] in _GIVEN_UP and row["email"].lower() not in refused
    }


# -- the export's own word -------------------------------------------------------------------------------------------


def _status(facts: Facts) -> Check:
    export = facts.export
    found = export["status"], (export["problem"] or {}).get("code")
    if facts.ended_early_at is not None:
        expected = "Failed", _PROBLEMS[str(facts.scenario.ending)]
    elif facts.scenario.is_clean and not (given_up(facts.people, facts.rejected) or export["untagged"]):
        expected = "Successful", ""
    else:
        expected = "CompletedWithErrors", ""
    return Check("it ends with the right status", found == (expected[0], expected[1] or None), f"{found}")


def _times(facts: Facts) -> Check:
    """An export took some time, whichever hosts with whichever clocks began and ended it."""
    seconds = facts.export["seconds"]
    return Check("its times make sense", seconds is not None and seconds >= 0, f"{seconds} s")


def _balance(facts: Facts) -> Check:
    books = facts.export["books"]
    balances = (
        books["rowsRead"] == books["invalid"] + books["duplicates"] + books["merged"] + books["members"]
        and books["members"] == books["unchanged"] + books["suppressed"] + books["sent"] + books["notSent"]
        and books["sent"] == books["created"] + books["updated"] + books["rejected"]
        and min(books.values()) >= 0
    )
    return Check("the books balance", balances, f"{books}")


def _books(facts: Facts) -> Check:
    """The books against the people. How many were new and how many known cannot be said when a call was repeated."""
    books, people = facts.export["books"], facts.people
    archived = sum(1 for _ in people.of("archived"))
    expected = {
        "rowsRead": people.rows,
        "invalid": people.invalid_rows,
        "duplicates": people.duplicates,
        "merged": people.merged,
        "members": len(people.persons),
        "suppressed": archived,
    }
    if facts.ended_early_at is None:
        expected["notSent"] = 0
        expected["rejected"] = len(people.refused) + len(given_up(people, facts.rejected))
    differing = {name: (books[name], value) for name, value in expected.items() if books[name] != value}
    arrived = sum(1 for person in people.persons if person.key in facts.contacts and person.kind != "archived")
    if books["created"] + books["updated"] > arrived:
        differing["arrived"] = (books["created"] + books["updated"], arrived)
    if facts.ended_early_at is not None and books["notSent"] == 0:
        differing["notSent"] = (0, 1)
    return Check("the books are those of the people", not differing, f"found and expected: {differing}")


def _rejected(facts: Facts) -> Check:
    """The rejected profiles name everybody who was refused, once, with the right reason, and nobody else."""
    refused, unsure = facts.people.refused, given_up(facts.people, facts.rejected)
    found = Counter(row["email"].lower() for row in facts.rejected if row["foundBy"] == "mailchimp")
    wrong = [address for address, count in found.items() if count > 1 or address not in {*refused, *unsure}]
    for row in facts.rejected:
        person = refused.get(row["email"].lower())
        if row["foundBy"] == "mailchimp" and person is not None:
            code, is_retryable = REFUSALS[person.kind]
            if (row["code"], row["retryable"].lower()) != (code, str(is_retryable).lower()):
                wrong.append(f"{person.kind} as {row['code']}")
    if facts.ended_early_at is None:
        wrong += [f"{person.kind} not named" for address, person in refused.items() if address not in found]
    if sum(found.values()) != facts.export["books"]["rejected"]:
        wrong.append(f"{sum(found.values())} lines for {facts.export['books']['rejected']} rejected")
    return Check("the rejected profiles are the right ones", not wrong, f"{len(wrong)}: {wrong[:5]}")


# -- the audience ----------------------------------------------------------------------------------------------------


def _audience(facts: Facts) -> Check:
    expected = facts.people.expected()
    unsure = given_up(facts.people, facts.rejected)
    untagged = facts.export["untagged"]
    wrong = _differences(expected, facts.contacts, unsure, untagged, is_partial=facts.ended_early_at is not None)
    return Check("the audience holds exactly who should be there", not wrong, f"{len(wrong)}: {wrong[:5]}")


def _differences(
    expected: Mapping[str, Expected],
    contacts: Mapping[str, Mapping[str, Any]],
    unsure: Iterable[str] = (),
    untagged: int = 0,
    *,
    is_partial: bool = False,
) -> list[str]:
    """What is not as expected. A `partial` export may lack people, and tags and names of people; nothing may be wrong.

    The same goes for `unsure` addresses; and so many tags may be lacking as the export says are `untagged`. Addresses
    are made up, so they may be shown.
    """
    partial = set(expected) if is_partial else set(unsure)
    wrong = [f"{address} is a stranger" for address in contacts.keys() - expected.keys()]
    for address, wanted in expected.items():
        contact = contacts.get(address)
        if contact is None:
            if address not in partial:
                wrong.append(f"{address} is missing")
            continue
        tags, name = frozenset(contact["tags"]), contact["merge_fields"].get("FNAME")
        if contact["status"] != wanted.status:
            wrong.append(f"{address} is {contact['status']} instead of {wanted.status}")
        if tags < wanted.tags and len(wanted.tags - tags) <= untagged:
            untagged -= len(wanted.tags - tags)
        elif tags != wanted.tags and not (address in partial and tags < wanted.tags):
            wrong.append(f"{address} has the tags {sorted(tags)} instead of {sorted(wanted.tags)}")
        if name != wanted.first_name and not (address in partial and name == "Before"):
            wrong.append(f"{address} is called {name} instead of {wanted.first_name}")
    return wrong


def _left_alone(facts: Facts) -> Check:
    """Nobody was subscribed again, and tags that people set by hand are still there."""
    wrong = []
    for person in facts.people.persons:
        contact = facts.contacts.get(person.key)
        away = person.left_meanwhile or person.kind in {"unsubscribed", "left", "cleaned", "archived", "pending"}
        if contact is None:
            if person.hand_tags or away:
                wrong.append(f"{person.key} is gone")
            continue
        if away and contact["status"] == "subscribed":
            wrong.append(f"{person.key} was subscribed again")
        if not set(person.hand_tags) <= set(contact["tags"]):
            wrong.append(f"{person.key} lost a tag")
    return Check("nobody is subscribed again, no tag is lost", not wrong, f"{len(wrong)}: {wrong[:5]}")


def later(
    scenario: Scenario, people: People, export: Mapping[str, Any], contacts: Mapping[str, Mapping[str, Any]]
) -> list[Check]:
    """Checks of the export that came after the trouble was over. Who was refused for good before may be left out."""
    books = export["books"]
    archived = sum(1 for _ in people.of("archived"))
    status = "Successful" if scenario.is_clean else "CompletedWithErrors"
    refused_for_good = sum(1 for person in people.refused.values() if not REFUSALS[person.kind][1])
    balanced = (
        books["members"] == len(people.persons) == books["unchanged"] + books["suppressed"] + books["sent"]
        and books["sent"] == books["created"] + books["updated"] + books["rejected"]
        and archived <= books["suppressed"] <= archived + refused_for_good
        and books["rejected"] + books["suppressed"] - archived == len(people.refused)
    )
    statuses = {status, "Successful"} if books["rejected"] == 0 else {status}
    wrong = _differences(people.expected(), contacts)
    return [
        Check("a later export ends well", export["status"] in statuses and balanced, f"{export['status']} {books}"),
        Check("a later export brings everybody", not wrong, f"{len(wrong)}: {wrong[:5]}"),
    ]


# -- connections, logs, processes ------------------------------------------------------------------------------------


def _open_calls(facts: Facts) -> list[Check]:
    """Never more calls open than Mailchimp allows, and never more of the lanes than there are lanes.

    A call that hangs ends for its lane when the client's time is over, while Mailchimp still counts it. Where the
    campaign took a lease away from a lane that was at work, one call of its former holder may be under way.
    """
    patience = READ_TIMEOUT_S / facts.scenario.scale
    moments = []
    for call in facts.calls:
        if call["kind"] in _LANE_CALLS and call["end"] is not None:
            lasts = call["end"] - call["start"]
            moments += [(call["start"], 1), (call["start"] + (min(lasts, patience) if _hung(call) else lasts), -1)]
    most = now = 0
    for _, change in sorted(moments):
        now += change
        most = max(most, now)
    allowed = facts.scenario.lanes + (1 if facts.is_lease_taken else 0)
    limit = MAILCHIMP_CONNECTION_LIMIT
    return [
        Check(f"at most {limit} calls are open", facts.max_open_calls <= limit, f"{facts.max_open_calls}"),
        Check("at most one call a lane is open", most <= allowed, f"{most} of {facts.scenario.lanes} lanes"),
    ]


def _hung(call: Mapping[str, Any]) -> bool:
    return bool(call["fault"] == HANGING)


def _ended_at_once(facts: Facts, moment: float) -> Check:
    """After its end was decided each lane made one more batch call at most."""
    after = sum(1 for call in facts.calls if call["kind"] == "batchSubscribe" and call["start"] > moment)
    return Check("it ends within one batch per lane", after <= facts.scenario.lanes, f"{after} calls afterwards")


def logs(paths: Sequence[Path], secrets: Sequence[str]) -> Check:
    """No address, no name and no key in any log of any host."""
    found = []
    for path in paths:
        text = path.read_text(encoding="utf-8", errors="replace")
        found += [f"{path.name}: {match[0]}" for match in _ADDRESS.finditer(text)]
        found += [f"{path.name}: {word}" for word in (*NAMES, *secrets) if word in text]
    return Check("no address, name or key is in a log", bool(paths) and not found, f"{found[:3]}")


def sizes(samples: Sequence[Sample]) -> Check:
    """No host has grown beyond what its thread pools and connection pools explain."""
    large = [
        each.document()
        for each in samples
        if each.threads > MAX_THREADS or each.descriptors > MAX_DESCRIPTORS or each.memory_mb > MAX_MEMORY_MB
    ]
    return Check("hosts stay within their size", bool(samples) and not large, f"{large}")


def growth(samples: Sequence[Sequence[Sample]]) -> list[Check]:
    """Hosts that worked through several exports: from the second on they must not grow any more.

    In memory, none beyond the largest of them then: which host prepares an export, and loads DuckDB for it, is chance.
    """
    grown = []
    most_mb = max(sample.memory_mb for sample in samples[1])
    for first, last in zip(samples[1], samples[-1], strict=True):
        limits = {
            "threads": (first.threads + MORE_THREADS, last.threads),
            "descriptors": (first.descriptors + MORE_DESCRIPTORS, last.descriptors),
            "memory": (most_mb * MORE_MEMORY + MORE_MEMORY_MB, last.memory_mb),
        }
        grown += [f"{name} {found} > {limit:.0f}" for name, (limit, found) in limits.items() if found > limit]
    return [Check("hosts do not grow from export to export", len(samples) > 2 and not grown, "; ".join(grown))]
