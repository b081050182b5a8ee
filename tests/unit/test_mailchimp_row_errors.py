"""Why a contact was refused: Mailchimp's sentences, sorted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.mailchimp import RowError, classify_row_error
from shared.mailchimp.row_errors import LASTING

ADA = "ada@mail.example"
NOT_VALIDATED = "The resource submitted could not be validated. For field-specific details, see the 'errors' array."


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (
            "contactExists",
            RowError(ADA, "ERROR_CONTACT_EXISTS", f"{ADA} is already a list member, do you want to update?"),
        ),
        ("contactExists", RowError(ADA, "ERROR_CONTACT_EXISTS", "ist schon dabei")),
        ("contactExists", RowError(ADA, "ERROR_GENERIC", f"Member Exists: {ADA} is already a list member.")),
        (
            "complianceState",
            RowError(
                ADA,
                "ERROR_GENERIC",
                f"{ADA} is in a compliance state due to unsubscribe, bounce, or compliance review and cannot be "
                "subscribed.",
            ),
        ),
        ("complianceState", RowError(ADA, "ERROR_GENERIC", "Member In Compliance State")),
        (
            "forgotten",
            RowError(
                ADA,
                "ERROR_GENERIC",
                f"{ADA} was permanently deleted and cannot be re-imported. The contact must re-subscribe to get back.",
            ),
        ),
        ("forgotten", RowError(ADA, "ERROR_GENERIC", "Forgotten Email Not Subscribed")),
        (
            "tooManySignups",
            RowError(
                ADA,
                "ERROR_GENERIC",
                f"{ADA} has signed up to a lot of lists very recently; we're not allowing more signups for now",
            ),
        ),
        (
            "fakeOrInvalid",
            RowError(ADA, "ERROR_GENERIC", f"{ADA} looks fake or invalid, please enter a real email address."),
        ),
        ("invalidAddress", RowError("ada", "ERROR_GENERIC", "Please provide a valid email address.")),
        ("invalidAddress", RowError("ada", "ERROR_GENERIC", "Bitte prüfen.", "email_address", "Ungültig")),
        (
            "requiredFieldMissing",
            RowError(ADA, "ERROR_GENERIC", NOT_VALIDATED, "FNAME", "This value should not be blank."),
        ),
        ("requiredFieldMissing", RowError(ADA, "ERROR_GENERIC", NOT_VALIDATED, "FNAME", "Please enter a value")),
        ("mergeFieldInvalid", RowError(ADA, "ERROR_GENERIC", NOT_VALIDATED, "LTV", "Please enter a number")),
        ("mergeFieldInvalid", RowError(ADA, "ERROR_GENERIC", "Invalid Resource: Your merge fields were invalid.")),
        ("mergeFieldInvalid", RowError(ADA, "ERROR_GENERIC", NOT_VALIDATED, "LTV", "Bitte gib eine Zahl ein.")),
        ("other", RowError(ADA, "ERROR_GENERIC", "Der Kontakt konnte nicht hinzugefügt werden.")),
        ("other", RowError("", "", "")),
    ],
)
def test_known_sentences_have_their_reason(code: str, error: RowError) -> None:
    assert classify_row_error(error).code == code


@pytest.mark.parametrize(
    "address", ["looks.fake@mail.example", "Already.A.List.Member@mail.example", '"compliance state"@mail.example']
)
def test_the_address_itself_is_no_reason(address: str) -> None:
    assert classify_row_error(RowError(address, "ERROR_GENERIC", f"{address} was not taken.")).code == "other"


def test_only_what_can_pass_by_itself_is_retryable() -> None:
    retryable = {
        message: classify_row_error(RowError(ADA, "ERROR_GENERIC", message)).retryable
        for message in ("not allowing more signups", "in a compliance state", "permanently deleted", "looks fake", "?")
    }
    assert retryable == {
        "not allowing more signups": True,
        "in a compliance state": False,
        "permanently deleted": False,
        "looks fake": False,
        "?": False,
    }


@given(st.text(max_size=50), st.text(max_size=20), st.text(max_size=80), st.text(max_size=20), st.text(max_size=50))
def test_every_error_has_a_reason_with_a_sentence(
    address: str, code: str, message: str, field: str, field_message: str
) -> None:
    reason = classify_row_error(RowError(address, code, message, field, field_message))
    assert reason.action.endswith(".")


def test_only_what_mailchimp_has_against_the_address_itself_lasts() -> None:
    """Whom a later export may send with other data, or at another time, is not to be left out."""
    assert set(LASTING) == {"complianceState", "forgotten", "fakeOrInvalid", "invalidAddress"}
    assert not any(reason.retryable for reason in LASTING.values())
