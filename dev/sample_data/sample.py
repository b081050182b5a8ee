"""The sample of the demo: three overlapping segments, a plain CSV folder, and contacts that Mailchimp already has."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from dev.sample_data.people import ATTRIBUTES, COLUMN, FOUND_BEFORE_SENDING, Fault, Person, make_people

NEWSLETTER, HIGH_VALUE, LAPSED = "Newsletter readers", "High value customers", "Lapsed in 2026"
VISITORS = "Store visitors"
PROFILES = 22_000
SMALLEST = 100
SEED = 2026

_PLAIN_COLUMNS = ("CustomerId", "FirstName", "LastName", "EMail", "BirthDate", "LoyaltyPoints", "CustomerSince")
_HAND_SET_TAG = "Met at the fair"


@dataclass(frozen=True, slots=True)
class SampleSegment:
    """A segment: `rows` hold the values of `columns`; `people` are the same rows with what is known about them."""

    name: str
    columns: tuple[str, ...]
    people: tuple[Person, ...]

    @property
    def rows(self) -> Iterable[tuple[str, ...]]:
        positions = [COLUMN[name] for name in self.columns]
        return (tuple(person.values[position] for position in positions) for person in self.people)


@dataclass(frozen=True, slots=True)
class SampleData:
    """`segments` belong into a Common Data Model folder, `plain` into a folder of its own.

    `contacts` are in the form that the sandbox's control API takes. `left` holds the addresses (lower case) of those
    among them who unsubscribed, bounced, were archived or deleted for good: no export may subscribe them. `strangers`
    are contacts that are in no segment, which no export may touch.
    """

    segments: tuple[SampleSegment, ...]
    plain: SampleSegment
    contacts: tuple[dict[str, Any], ...]
    left: frozenset[str]
    strangers: frozenset[str]

    @property
    def all_segments(self) -> tuple[SampleSegment, ...]:
        return (*self.segments, self.plain)


def make_sample(profiles: int = PROFILES, seed: int = SEED) -> SampleData:
    """Always the same sample for the same `profiles` (at least 100) and `seed`."""
    if profiles < SMALLEST:
        raise ValueError(f"{profiles} profiles are too few for all that the sample shows; it takes {SMALLEST}")
    random = Random(seed)
    people = make_people(profiles, random)
    newsletter, high_value, lapsed = _assigned(people, random)
    segments = tuple(
        SampleSegment(name, tuple(attribute.name for attribute in ATTRIBUTES), tuple(_as_stored(members, random)))
        for name, members in ((NEWSLETTER, newsletter), (HIGH_VALUE, high_value), (LAPSED, lapsed))
    )
    visitors = random.sample(people, profiles // 40)
    plain = SampleSegment(VISITORS, _PLAIN_COLUMNS, tuple(_as_stored(visitors, random)))
    return _with_contacts(segments, plain, people, random)


def _assigned(people: Sequence[Person], random: Random) -> tuple[list[Person], list[Person], list[Person]]:
    """Who is in which segment: everybody in at least one, about a fifth in several."""
    newsletter, high_value, lapsed = [], [], []
    for person in people:
        points = person.values[COLUMN["LoyaltyPoints"]]
        is_high_value = points.isdigit() and int(points) > 120
        is_lapsed = random.random() < 0.18
        if random.random() < 0.7 or not (is_high_value or is_lapsed):
            newsletter.append(person)
        if is_high_value:
            high_value.append(person)
        if is_lapsed:
            lapsed.append(person)
    return newsletter, high_value, lapsed


def _as_stored(members: Sequence[Person], random: Random) -> list[Person]:
    """The rows of a segment: some addresses in other letter case, one in a hundred twice under another CustomerId."""
    rows = []
    for person in members:
        rows.append(_in_other_case(person, random) if random.random() < 0.04 else person)
        if person.fault is Fault.NONE and random.random() < 0.01:
            rows.append(_in_other_case(person, random).changed({"CustomerId": f"{random.getrandbits(128):032x}"}))
    random.shuffle(rows)
    return rows


def _in_other_case(person: Person, random: Random) -> Person:
    return person.changed({"EMail": random.choice((str.upper, str.title))(person.email)})


def _with_contacts(
    segments: tuple[SampleSegment, ...], plain: SampleSegment, people: Sequence[Person], random: Random
) -> SampleData:
    sound = [person for person in people if person.fault is Fault.NONE]
    kinds: tuple[tuple[float, bool, dict[str, Any]], ...] = (  # share of the people, has left, state
        (0.006, True, {"status": "unsubscribed", "compliance": True}),
        (0.003, True, {"status": "unsubscribed"}),
        (0.002, True, {"status": "cleaned"}),
        (0.001, True, {"status": "archived", "compliance": True}),
        (0.0015, True, {"forgotten": True}),
        (0.002, True, {"status": "archived"}),
        (0.001, False, {"status": "pending"}),
        (0.02, False, {"status": "subscribed", "tags": [_HAND_SET_TAG]}),
    )
    known = iter(random.sample(sound, len(sound)))
    contacts: list[dict[str, Any]] = []
    left = set()
    for share, has_left, state in kinds:
        for _ in range(max(2, int(len(people) * share))):
            person = next(known)
            contacts.append({"email_address": person.key, **state})
            if has_left:
                left.add(person.key)
    strangers = [f"stranger{number}@elsewhere.example" for number in range(max(2, len(people) // 100))]
    contacts += [{"email_address": address, "tags": [_HAND_SET_TAG]} for address in strangers]
    return SampleData(segments, plain, tuple(contacts), frozenset(left), frozenset(strangers))


@dataclass(frozen=True, slots=True)
class ExpectedBooks:
    """What an export of all segments has to account for, when loyalty points and days are matched by their types."""

    rows_read: int
    invalid: int
    duplicates: int
    merged: int
    members: int


def expected_books(segments: Iterable[SampleSegment]) -> ExpectedBooks:
    """Counted from what is known about the people, without looking at addresses as the product does."""
    rows = invalid = 0
    seen_in_segment: set[tuple[str, str]] = set()
    members: set[str] = set()
    for segment in segments:
        for person in segment.people:
            rows += 1
            if person.fault in FOUND_BEFORE_SENDING:
                invalid += 1
                continue
            seen_in_segment.add((segment.name, person.key))
            members.add(person.key)
    duplicates = rows - invalid - len(seen_in_segment)
    return ExpectedBooks(rows, invalid, duplicates, len(seen_in_segment) - len(members), len(members))
