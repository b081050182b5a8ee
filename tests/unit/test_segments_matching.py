"""Suggested data matching."""

from __future__ import annotations

import pytest

from shared.segments import SegmentField, SuggestedMatching, suggest_matching


def fields(*names: str) -> list[SegmentField]:
    return [SegmentField(name, "string") for name in names]


@pytest.mark.parametrize(
    "email", ["EMail", "e_mail", "EmailAddress", "E-Mail Address", "email", "emailaddress1", "EMAIL"]
)
@pytest.mark.parametrize("first", ["FirstName", "first_name", "GivenName", "given name", "FORENAME"])
@pytest.mark.parametrize("last", ["LastName", "last-name", "Surname", "SURNAME", "FamilyName", "Family_Name"])
def test_usual_names_are_found_in_any_case_and_spelling(email: str, first: str, last: str) -> None:
    found = suggest_matching(fields("CustomerId", last, "FullName", first, "City", email))
    assert found == SuggestedMatching(email, first, last)


def test_a_whole_name_goes_before_a_longer_name_that_ends_like_it() -> None:
    assert suggest_matching(fields("Contact_EMail", "EmailAddress")).email == "EmailAddress"
    assert suggest_matching(fields("Id", "Contact_EMail", "Contact_FirstName")) == SuggestedMatching(
        "Contact_EMail", "Contact_FirstName", None
    )


@pytest.mark.parametrize(
    "name", ["Email Subscriber", "EmailOptIn", "FirstPurchase", "LastPurchaseDate", "Mailing City"]
)
def test_names_that_only_look_alike_are_not_suggested(name: str) -> None:
    assert suggest_matching(fields(name)) == SuggestedMatching(None, None, None)


def test_a_field_that_holds_no_text_is_not_suggested() -> None:
    columns = [SegmentField("Email", "boolean"), SegmentField("LastName", "dateTime"), SegmentField("Mail", "string")]
    assert suggest_matching(columns) == SuggestedMatching("Mail", None, None)


def test_what_a_field_means_goes_before_what_it_is_called() -> None:
    columns = [
        SegmentField("Email", "string"),
        SegmentField("Kontakt", "string", "Identity.Service.Email"),
        SegmentField("Vorname", "string", "PersonFirstName"),
        SegmentField("Nachname", "string", "means.identity.person.lastName"),
    ]
    assert suggest_matching(columns) == SuggestedMatching("Kontakt", "Vorname", "Nachname")
