"""Makes up people, most of them fine, some with the faults that real profiles have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random

from dev.sample_data.names import DOMAINS, POPULATIONS, Name


@dataclass(frozen=True, slots=True)
class Attribute:
    """A column of a segment, with its data type in the words of the Common Data Model."""

    name: str
    data_type: str = "string"
    semantic_type: str | None = None


ATTRIBUTES = (
    Attribute("CustomerId"),
    Attribute("FirstName", semantic_type="PersonFirstName"),
    Attribute("LastName", semantic_type="PersonLastName"),
    Attribute("EMail", semantic_type="IdentityServiceEmail"),
    Attribute("Telephone", semantic_type="IdentityServicePhone"),
    Attribute("City"),
    Attribute("Country"),
    Attribute("LanguageCode"),
    Attribute("BirthDate", "dateTime"),
    Attribute("LoyaltyPoints", "int64"),
    Attribute("LoyaltyTier"),
    Attribute("CustomerSince", "dateTime"),
)
"""The columns of the sample segments: names as Customer Insights' own demonstration data have them."""

COLUMN = {attribute.name: position for position, attribute in enumerate(ATTRIBUTES)}


class Fault(StrEnum):
    """What is wrong with a profile, and who finds it."""

    NONE = "none"
    NO_ADDRESS = "no address"
    BAD_ADDRESS = "no e-mail address"
    LOOKS_FAKE = "looks fake"
    WRONG_VALUE = "value of the wrong type"
    ONLY_MAILCHIMP_KNOWS = "only Mailchimp refuses it"


FOUND_BEFORE_SENDING = frozenset({Fault.NO_ADDRESS, Fault.BAD_ADDRESS, Fault.LOOKS_FAKE, Fault.WRONG_VALUE})


@dataclass(frozen=True, slots=True)
class Person:
    """One profile: the values of `ATTRIBUTES`, in their order."""

    values: tuple[str, ...]
    fault: Fault = Fault.NONE

    @property
    def email(self) -> str:
        return self.values[COLUMN["EMail"]]

    @property
    def key(self) -> str:
        """The address as Mailchimp compares it: without blanks around it, in lower case."""
        return self.email.strip().lower()

    def changed(self, values: Mapping[str, str], fault: Fault | None = None) -> Person:
        """A copy with other values, by attribute name."""
        cells = list(self.values)
        for name, value in values.items():
            cells[COLUMN[name]] = value
        return Person(tuple(cells), self.fault if fault is None else fault)


_BAD_ADDRESSES = (
    "{local}.{domain}",
    "{local}@",
    "@{domain}",
    "{local}@@{domain}",
    "{local} {number}@{domain}",
    "{local}@{domain}.",
    "{local}@{domain},{local}@post.example",
    "{local}@localhost",
    '=HYPERLINK("http://{domain}")',
    "unknown",
)
_FAKE_ADDRESSES = ("{local}@example.com", "{local}@mail.con")
_REFUSED_ADDRESSES = (
    "{local}@mailinator.com",
    "{local}@example.org",
    "+{local}@mailinator.com",
    "{local}..{number}@{domain}",
    ".{local}@{domain}",
    '"{local}"@{domain}',
)
_WRONG_VALUES = (
    {"LoyaltyPoints": "many"},
    {"LoyaltyPoints": "1.2.3"},
    {"BirthDate": "1987-02-30T00:00:00Z"},
    {"BirthDate": "summer"},
)
_ODD_VALUES = (
    {"LastName": "=1+1"},
    {"FirstName": "+1 friend", "LastName": "@home"},
    {"FirstName": 'Ana "Ani"'},
    {"City": "Paris, 3e arrondissement"},
    {"City": "Frankfurt\n(Oder)"},
    {"LastName": "Zoë-Ångström 👋"},
    {"LoyaltyPoints": "", "BirthDate": "", "City": ""},
    {"FirstName": "", "LastName": ""},
)


def make_people(count: int, random: Random) -> list[Person]:
    """`count` people with different addresses; about 3 % have a fault, and 1 % odd but harmless values."""
    chosen = random.choices(POPULATIONS, [population.weight for population in POPULATIONS], k=count)
    people = []
    for number, population in enumerate(chosen):
        given, family = random.choice(population.given), random.choice(population.family)
        city, country = random.choice(population.cities)
        local = _local_part(given, family, number, random)
        # Telephone numbers: Ofcom's range for drama use, which nobody has.
        values = (
            f"{random.getrandbits(128):032x}",
            given[0],
            family[0],
            f"{local}@{random.choice(DOMAINS)}",
            f"+447700900{random.randrange(1000):03}" if random.random() < 0.6 else "",
            city,
            country,
            population.language,
            _day(random, 1946, 2007) if random.random() < 0.85 else "",
            str(int(random.paretovariate(1.2) * 40)) if random.random() < 0.9 else "",
            random.choices(("Free", "Standard", "Premium", ""), (50, 30, 10, 10))[0],
            _day(random, 2015, 2025),
        )
        people.append(_with_faults(Person(values), local, number, random))
    return people


def _local_part(given: Name, family: Name, number: int, random: Random) -> str:
    form = random.choice(("{0}.{1}{2}", "{0}{2}.{1}", "{1}.{0}.{2}", "{0}_{1}+{2}", "{0}-{1}{2}"))
    return form.format(given[1], family[1], number)


def _day(random: Random, first_year: int, last_year: int) -> str:
    year, month, day = random.randint(first_year, last_year), random.randint(1, 12), random.randint(1, 28)
    return f"{year}-{month:02}-{day:02}T00:00:00Z"


def _with_faults(person: Person, local: str, number: int, random: Random) -> Person:
    """The person as most are; or with one fault, its forms in turn so that each occurs."""

    def address(forms: Sequence[str]) -> str:
        return forms[number % len(forms)].format(local=local, number=number, domain=random.choice(DOMAINS))

    match random.random() * 1000:
        case share if share < 7:
            return person.changed({"EMail": "   " if number % 3 == 0 else ""}, Fault.NO_ADDRESS)
        case share if share < 15:
            return person.changed({"EMail": address(_BAD_ADDRESSES)}, Fault.BAD_ADDRESS)
        case share if share < 20:
            return person.changed({"EMail": address(_FAKE_ADDRESSES)}, Fault.LOOKS_FAKE)
        case share if share < 23:
            return person.changed(_WRONG_VALUES[number % len(_WRONG_VALUES)], Fault.WRONG_VALUE)
        case share if share < 33:
            return person.changed({"EMail": address(_REFUSED_ADDRESSES)}, Fault.ONLY_MAILCHIMP_KNOWS)
        case share if share < 43:
            return person.changed(_ODD_VALUES[number % len(_ODD_VALUES)])
        case share if share < 46:
            return person.changed({"EMail": f"  {person.email} "})
        case _:
            return person
