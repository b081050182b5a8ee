"""Guesses which fields of a segment are the e-mail address, the first name and the last name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SegmentField:
    """A column of a segment. `semantic_type` is what an annotation of model.json says that it means, if any."""

    name: str
    data_type: str
    semantic_type: str | None = None


@dataclass(frozen=True, slots=True)
class SuggestedMatching:
    """Names of fields, None where no field looks right."""

    email: str | None
    first_name: str | None
    last_name: str | None


@dataclass(frozen=True, slots=True)
class _Clues:
    """Letters and digits in lower case: semantic types, whole names (likeliest first), ends of longer names."""

    semantic_types: frozenset[str]
    names: tuple[str, ...]
    endings: tuple[str, ...]


# Semantic types: Customer Insights' attribute metadata (IdentityServiceEmail, PersonFirstName, PersonLastName) and the
# traits of the Common Data Model (means.identity.service.email, means.identity.person.firstName, …).
_EMAIL = _Clues(
    frozenset({"identityserviceemail", "meansidentityserviceemail"}),
    ("email", "emailaddress", "emailaddress1", "email1", "primaryemail", "primaryemailaddress", "mail", "mailaddress"),
    ("email", "emailaddress", "emailaddress1"),
)
_FIRST_NAME = _Clues(
    frozenset({"personfirstname", "persongivenname", "meansidentitypersonfirstname", "meansidentitypersongivenname"}),
    ("firstname", "givenname", "forename", "fname", "first", "given"),
    ("firstname", "givenname", "forename"),
)
_LAST_NAME = _Clues(
    frozenset({"personlastname", "personsurname", "meansidentitypersonlastname", "meansidentitypersonsurname"}),
    ("lastname", "surname", "familyname", "lname", "last", "family"),
    ("lastname", "surname", "familyname"),
)
# A field of one of these types is never a name or an address, whatever it is called ("FirstEmail": a date).
_NOT_TEXT = frozenset({"int64", "double", "datetime", "datetimeoffset", "decimal", "boolean", "guid", "date", "time"})


def known_semantic_type(text: str) -> bool:
    """Whether an annotation's value is one of the semantic types that the suggestion understands."""
    return any(_plain(text) in clues.semantic_types for clues in (_EMAIL, _FIRST_NAME, _LAST_NAME))


def suggest_matching(fields: Sequence[SegmentField]) -> SuggestedMatching:
    """The likeliest field for each: by semantic type, then by whole name, then by how a name ends (Contact_EMail)."""
    texts = [field for field in fields if _plain(field.data_type) not in _NOT_TEXT]
    return SuggestedMatching(_find(texts, _EMAIL), _find(texts, _FIRST_NAME), _find(texts, _LAST_NAME))


def _find(fields: Sequence[SegmentField], clues: _Clues) -> str | None:
    for field in fields:
        if field.semantic_type and _plain(field.semantic_type) in clues.semantic_types:
            return field.name
    names = [(_plain(field.name), field.name) for field in fields]
    for wanted in clues.names:
        for plain, name in names:
            if plain == wanted:
                return name
    return next((name for plain, name in names if plain.endswith(clues.endings)), None)


def _plain(text: str) -> str:
    return "".join(character for character in text.lower() if character.isalnum())
