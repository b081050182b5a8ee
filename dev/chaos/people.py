"""The people of a scenario: what the segments hold, what the audience holds before, and what it must hold afterwards.

Everything follows from the seed. What is expected is worked out here from the people alone, never from what the
product says of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

COLUMNS: Final = ("CustomerId", "EMail", "FirstName", "LastName", "City")
MATCHING: Final = {"email": "EMail", "firstName": "FirstName", "lastName": "LastName", "mergeFields": {"CITY": "City"}}
MERGE_FIELDS: Final = (
    {"tag": "FNAME", "name": "First Name", "type": "text"},
    {"tag": "LNAME", "name": "Last Name", "type": "text"},
    {"tag": "CITY", "name": "City", "type": "text", "required": True},
)
DOMAIN: Final = "campaign.example"
NAMES: Final = ("Gülbeşeker", "Нұрсұлтанбек", "Ξανθοπούλου", "Przemysława", "O'Shaughnessy-Quill")
"""First names that occur in no log by chance."""

_SEGMENTS: Final = {"Chaos readers": (0.0, 0.5), "Chaos buyers": (0.4, 0.8), "Chaos lapsed": (0.7, 1.0)}
_HAND_TAGS: Final = ("VIP by hand", "Met at the fair")
_INVALID: Final = ("", "nobody", "two@at@signs.example", "someone@example.com", "late@mistyped.con", "x@nodot")

REFUSALS: Final[Mapping[str, tuple[str, bool]]] = {
    "compliance": ("complianceState", False),
    "forgotten": ("forgotten", False),
    "fake": ("fakeOrInvalid", False),
    "dots": ("invalidAddress", False),
    "signups": ("tooManySignups", True),
    "required": ("requiredFieldMissing", False),
    "misfit": ("mergeFieldInvalid", False),
    "exists": ("contactExists", True),
    "other": ("other", False),
    "poison-named": ("invalidAddress", False),
    "poison-silent": ("other", False),
    "poison-server": ("serverError", True),
}
"""Kinds of people whom Mailchimp refuses: the code that the rejected profiles must show, and whether a later export
may send them again."""

PRELOADED: Final = ("subscribed", "unsubscribed", "left", "cleaned", "archived", "pending", "transactional")
"""Kinds of people who are in the audience before; `left` unsubscribed by themselves."""

SLOW: Final = "slow"


@dataclass(slots=True)
class Person:
    """One person of the segments. `kind` is empty for most, or one of REFUSALS, PRELOADED or SLOW."""

    email: str
    first_name: str
    city: str
    kind: str
    tags: tuple[str, ...]
    hand_tags: tuple[str, ...] = ()
    left_meanwhile: bool = False

    @property
    def key(self) -> str:
        return self.email.lower()


@dataclass(frozen=True, slots=True)
class Expected:
    """One contact as the audience must hold it; `first_name` None where the export leaves the contact alone."""

    status: str
    tags: frozenset[str]
    first_name: str | None


@dataclass(slots=True)
class People:
    """The people of a scenario and the rows in which they come."""

    persons: list[Person]
    outsiders: list[dict[str, Any]]
    invalid_rows: int
    duplicates: int
    segments: dict[str, list[tuple[str, ...]]] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        return sum(len(rows) for rows in self.segments.values())

    @property
    def merged(self) -> int:
        """Rows of persons who are in an earlier segment already."""
        return sum(len(person.tags) - 1 for person in self.persons)

    def of(self, *kinds: str) -> Iterator[Person]:
        return (person for person in self.persons if person.kind in kinds)

    @property
    def refused(self) -> dict[str, Person]:
        return {person.key: person for person in self.of(*REFUSALS)}

    def preload(self) -> Iterator[dict[str, Any]]:
        """Contacts for the sandbox before the export."""
        yield from self.outsiders
        for person in self.of(*PRELOADED):
            left = person.kind == "left"
            yield {
                "email_address": person.email,
                "status": "unsubscribed" if left else person.kind,
                "compliance": left,
                "tags": list(person.hand_tags),
                "merge_fields": {"FNAME": "Before", "CITY": "Elsewhere"},
            }
        for person in self.of("forgotten"):
            yield {"email_address": person.email, "forgotten": True}

    def expected(self) -> dict[str, Expected]:
        """The audience after everybody has been sent, by lower-case address."""
        found = {}
        for outsider in self.outsiders:
            first_name = outsider["merge_fields"]["FNAME"]
            found[outsider["email_address"].lower()] = Expected(
                outsider["status"], frozenset(outsider["tags"]), first_name
            )
        for person in self.persons:
            if person.kind in REFUSALS:
                continue
            tags = frozenset(person.hand_tags)
            if person.kind == "archived":
                found[person.key] = Expected("archived", tags, "Before")
                continue
            status = person.kind if person.kind in PRELOADED and person.kind != "left" else "subscribed"
            if person.kind == "left" or person.left_meanwhile:
                status = "unsubscribed"
            found[person.key] = Expected(status, tags | frozenset(person.tags), person.first_name)
        return found

    def leave(self, random: Random, count: int) -> list[dict[str, Any]]:
        """Some who leave while the export runs, as contacts for the sandbox; they are expected to stay away."""
        chosen = random.sample([p for p in self.persons if not p.kind and not p.left_meanwhile], count)
        for person in chosen:
            person.left_meanwhile = True
        return [self._contact(person, "unsubscribed", compliance=True) for person in chosen]

    def tag_by_hand(self, random: Random, count: int) -> list[dict[str, Any]]:
        """Some who are tagged by hand while the export runs, as contacts for the sandbox."""
        chosen = random.sample([p for p in self.persons if not p.kind and not p.left_meanwhile], count)
        for person in chosen:
            person.hand_tags = ("Tagged meanwhile",)
        return [self._contact(person, "subscribed", compliance=False) for person in chosen]

    def _contact(self, person: Person, status: str, *, compliance: bool) -> dict[str, Any]:
        """A contact whom the export may have sent already, or not yet."""
        return {
            "email_address": person.email,
            "status": status,
            "compliance": compliance,
            "tags": [*person.tags, *person.hand_tags],
            "merge_fields": {"FNAME": person.first_name, "CITY": person.city},
        }


def make_people(seed: int, members: int, *, clean: bool) -> People:
    """`members` people in three overlapping segments. A `clean` scenario has nobody whom anybody refuses."""
    random = Random(f"people {seed}")
    kinds = _kinds(random, members, clean=clean)
    persons = [_person(random, number, members, kinds.get(number, "")) for number in range(members)]
    outsiders = [
        {
            "email_address": f"outsider{number}.{seed}@{DOMAIN}",
            "status": status,
            "tags": list(random.sample(_HAND_TAGS, random.randint(0, 2))),
            "merge_fields": {"FNAME": "Outside", "CITY": "Elsewhere"},
        }
        for number, status in enumerate(["subscribed", "unsubscribed", "cleaned", "archived", "pending"] * 20)
    ]
    people = People(persons, outsiders, invalid_rows=0, duplicates=0)
    for name in _SEGMENTS:
        people.segments[name] = _rows(random, people, name, clean=clean)
    return people


def _kinds(random: Random, members: int, *, clean: bool) -> dict[int, str]:
    """Which numbers are special: a few of each kind, at any position."""
    each = max(2, members // 2000)
    wanted = [kind for kind in (*PRELOADED, SLOW) for _ in range(3 if kind == SLOW else each)]
    if not clean:
        wanted += [kind for kind in REFUSALS for _ in range(2 if kind.startswith("poison") else each)]
    numbers = random.sample(range(members), len(wanted))
    for place, number in enumerate((0, members - 1)):  # the very first and the very last, too
        if number not in numbers:
            numbers[-1 - place] = number
    return dict(zip(numbers, wanted, strict=True))


def _person(random: Random, number: int, members: int, kind: str) -> Person:
    local, domain = f"p{number:07}", DOMAIN
    if kind == "fake":
        domain = "mailinator.com"
    if kind == "dots":
        local = f"two..dots.{local}"
    elif kind in REFUSALS or kind == SLOW:
        local = f"{kind}-{local}"
    elif random.random() < 0.02:
        local = local.upper()
    tags = tuple(name for name, (low, high) in _SEGMENTS.items() if low * members <= number < high * members)
    return Person(
        email=f"{local}@{domain}",
        first_name=f"{NAMES[number % len(NAMES)]} {number % 97}",
        city="" if kind == "required" else f"City {number % 53}",
        kind=kind,
        tags=tags,
        hand_tags=tuple(random.sample(_HAND_TAGS, random.randint(1, 2))) if kind in PRELOADED else (),
    )


def _rows(random: Random, people: People, segment: str, *, clean: bool) -> list[tuple[str, ...]]:
    """The rows of a segment in any order; at the end those of people who are in it already, under other names."""
    inside = [person for person in people.persons if segment in person.tags]
    rows = [_row(person) for person in inside]
    if not clean:
        wrong = [random.choice(_INVALID) for _ in range(max(5, len(inside) // 200))]
        people.invalid_rows += len(wrong)
        rows += [("", address, "Nobody", "", "") for address in wrong]
    random.shuffle(rows)
    again = random.sample(inside, len(inside) // 100)
    people.duplicates += len(again)
    return rows + [("again", f"  {person.email.upper()} ", "Again", "Twice", "Later") for person in again]


def _row(person: Person) -> tuple[str, ...]:
    return (f"id {person.email}", person.email, person.first_name, "Familyname", person.city)


def segment_names() -> Sequence[str]:
    return tuple(_SEGMENTS)
