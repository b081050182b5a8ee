"""Whether audience, data matching and segments fit together, as the service says it."""

from __future__ import annotations

from typing import Any

import pytest

from shared.destinations.errors import ConfigurationInvalid, NotConnected
from shared.mailchimp.errors import Unavailable
from tests.unit.fake_accounts import merge_field
from tests.unit.setup_fakes import Setup


def finding(setup: Setup, stored: Any, /, **changes: Any) -> tuple[str, str, str]:
    """The one finding of a refused change, as (code, target, message)."""
    with pytest.raises(ConfigurationInvalid) as caught:
        setup.patch(stored, **changes)
    (found,) = caught.value.findings
    return found.code, found.target, found.message


def test_a_full_configuration_is_stored_at_once(setup: Setup) -> None:
    destination = setup.patch(
        setup.connected(),
        audienceId="aud1",
        segments=["Gold"],
        dataMatching={
            "email": "EMail",
            "firstName": "FirstName",
            "lastName": "LastName",
            "mergeFields": {
                "ADDRESS": {"addr1": "City", "city": "City", "state": "City", "zip": "City"},
                "CITY": "City",
            },
        },
    ).destination
    assert destination.audience is not None
    assert destination.audience.name == "Customers"
    assert destination.missing_steps() == ["add yourself as export user"]
    assert destination.warnings == ()


def test_what_is_left_out_of_a_change_stays(setup: Setup) -> None:
    before = setup.ready().destination
    after = setup.patch(setup.service.get(before.id), displayName="New name").destination
    assert after.model_dump(exclude={"display_name", "last_change"}) == before.model_dump(
        exclude={"display_name", "last_change"}
    )


def test_null_takes_audience_and_matching_away(setup: Setup) -> None:
    cleared = setup.patch(setup.ready(), audienceId=None, dataMatching=None).destination
    assert cleared.audience is None
    assert cleared.data_matching is None


def test_the_display_name_cannot_be_taken_away(setup: Setup) -> None:
    assert finding(setup, setup.created(), displayName=None)[:2] == ("missing", "displayName")


def test_an_audience_needs_a_sign_in(setup: Setup) -> None:
    with pytest.raises(NotConnected):
        setup.patch(setup.created(), audienceId="aud1")


@pytest.mark.parametrize("audience_id", ["aud9", "../lists", "a b"])
def test_an_unknown_audience_is_named_with_its_account(setup: Setup, audience_id: str) -> None:
    code, target, message = finding(setup, setup.connected(), audienceId=audience_id)
    assert (code, target) == ("audienceNotFound", "audienceId")
    assert f"'{audience_id}'" in message
    assert "Contoso" in message


def test_an_unknown_segment_is_named_by_its_place(setup: Setup) -> None:
    code, target, message = finding(setup, setup.created(), segments=["Gold", "Platinum"])
    assert (code, target) == ("segmentNotFound", "segments[1]")
    assert "Platinum" in message


def test_a_segment_that_cannot_be_exported_is_refused(setup: Setup) -> None:
    setup.segments.reasons["Gold"] = "it has no files"
    code, target, message = finding(setup, setup.created(), segments=["Gold"])
    assert (code, target) == ("segmentNotExportable", "segments[0]")
    assert "it has no files" in message


def test_a_segment_chosen_twice_is_refused(setup: Setup) -> None:
    assert finding(setup, setup.created(), segments=["Gold", "Gold"])[:2] == ("duplicateSegment", "segments[1]")


def test_segments_that_would_share_a_tag_are_refused(setup: Setup) -> None:
    setup.segments.fields["GOLD"] = ["EMail"]
    code, target, message = finding(setup, setup.created(), segments=["Gold", "GOLD"])
    assert (code, target) == ("duplicateSegment", "segments[1]")
    assert "same tag" in message


def test_a_segment_whose_name_is_too_long_for_a_tag_is_refused(setup: Setup) -> None:
    setup.segments.fields |= {"x" * 100: [], "x" * 101: []}
    setup.patch(setup.created(), segments=["x" * 100])
    assert finding(setup, setup.created("Other"), segments=["x" * 101])[:2] == ("segmentNameTooLong", "segments[0]")


def test_a_field_that_one_segment_lacks_is_refused_naming_both(setup: Setup) -> None:
    stored = setup.patch(setup.created(), segments=["Gold", "Silver"])
    code, target, message = finding(setup, stored, dataMatching={"email": "EMail", "lastName": "LastName"})
    assert (code, target) == ("fieldNotInSegment", "dataMatching.lastName")
    assert "'Silver'" in message
    assert "'LastName'" in message


def test_a_misspelt_field_gets_a_suggestion(setup: Setup) -> None:
    stored = setup.patch(setup.created(), segments=["Gold"])
    _, target, message = finding(setup, stored, dataMatching={"email": "Email"})
    assert target == "dataMatching.email"
    assert "Did you mean 'EMail'?" in message


def test_a_segment_added_later_must_have_the_matched_fields(setup: Setup) -> None:
    stored = setup.ready()
    matched = setup.patch(stored, dataMatching={"email": "EMail", "mergeFields": {"CITY": "City"}})
    assert finding(setup, matched, segments=["Gold", "Silver"])[:2] == (
        "fieldNotInSegment",
        "dataMatching.mergeFields.CITY",
    )


def test_a_part_of_an_address_is_named_by_its_place(setup: Setup) -> None:
    stored = setup.patch(setup.created(), segments=["Gold"])
    address = {"addr1": "City", "city": "City", "state": "City", "zip": "PostCode"}
    found = finding(setup, stored, dataMatching={"email": "EMail", "mergeFields": {"ADDRESS": address}})
    assert found[:2] == ("fieldNotInSegment", "dataMatching.mergeFields.ADDRESS.zip")


def test_a_merge_field_that_the_audience_lacks_gets_a_suggestion(setup: Setup) -> None:
    code, target, message = finding(
        setup, setup.ready(), dataMatching={"email": "EMail", "mergeFields": {"CITI": "City"}}
    )
    assert (code, target) == ("mergeFieldNotInAudience", "dataMatching.mergeFields.CITI")
    assert "'CITY'" in message


def test_an_audience_without_fname_is_said_to_have_none(setup: Setup) -> None:
    code, target, message = finding(setup, setup.ready(), audienceId="aud2")
    assert (code, target) == ("mergeFieldNotInAudience", "dataMatching.firstName")
    assert "FNAME" in message
    assert "Partners" in message


def test_an_address_field_wants_its_parts_and_only_it_does(setup: Setup) -> None:
    stored = setup.ready()
    one_field = {"email": "EMail", "mergeFields": {"ADDRESS": "City"}}
    assert finding(setup, stored, dataMatching=one_field)[0] == "mergeFieldTypeDiffers"
    parts = {"addr1": "City", "city": "City", "state": "City", "zip": "City"}
    assert finding(setup, stored, dataMatching={"email": "EMail", "mergeFields": {"CITY": parts}})[:2] == (
        "mergeFieldTypeDiffers",
        "dataMatching.mergeFields.CITY",
    )


@pytest.mark.parametrize("tag", ["FNAME", "EMAIL"])
def test_a_field_matched_twice_is_refused(setup: Setup, tag: str) -> None:
    matching = {"email": "EMail", "firstName": "FirstName", "mergeFields": {tag: "FirstName"}}
    assert finding(setup, setup.ready(), dataMatching=matching)[0] == "matchedTwice"


def test_a_required_merge_field_that_is_not_matched_is_a_warning_until_it_is(setup: Setup) -> None:
    stored = setup.patch(setup.connected(), audienceId="aud2", dataMatching={"email": "EMail"})
    (warning,) = stored.destination.warnings
    assert warning.code == "requiredMergeFieldNotMatched"
    assert "COMPANY" in warning.message
    assert setup.service.get(stored.destination.id).destination.warnings == (warning,)
    kept = setup.patch(stored, segments=["Gold"])
    assert kept.destination.warnings == (warning,)
    fixed = setup.patch(stored, dataMatching={"email": "EMail", "mergeFields": {"COMPANY": "City"}})
    assert fixed.destination.warnings == ()


def test_an_audience_that_asks_for_double_opt_in_brings_a_warning(setup: Setup) -> None:
    setup.mailchimp.double_optin.add("aud1")
    stored = setup.patch(setup.connected(), audienceId="aud1", dataMatching={"email": "EMail"})
    (warning,) = stored.destination.warnings
    assert (warning.code, warning.target) == ("doubleOptInBypassed", "audienceId")


def test_every_finding_is_reported_at_once(setup: Setup) -> None:
    with pytest.raises(ConfigurationInvalid) as caught:
        setup.patch(
            setup.connected(),
            audienceId="aud1",
            segments=["Gold", "Nope"],
            dataMatching={"email": "Nix", "mergeFields": {"ZIP": "City"}},
        )
    assert [f.target for f in caught.value.findings] == [
        "segments[1]",
        "dataMatching.email",
        "dataMatching.mergeFields.ZIP",
    ]
    assert "2 more" in str(caught.value)


def test_a_refused_change_changes_nothing(setup: Setup) -> None:
    stored = setup.ready()
    with pytest.raises(ConfigurationInvalid):
        setup.patch(stored, displayName="Other", audienceId="aud9")
    assert setup.service.get(stored.destination.id) == stored


def test_segments_can_be_changed_while_mailchimp_is_down(setup: Setup) -> None:
    stored = setup.ready()
    setup.mailchimp.fault = Unavailable("Mailchimp is down.", reason="serverError", outcome_unknown=False)
    assert setup.patch(stored, segments=["Gold", "Silver"]).destination.segments == ("Gold", "Silver")
    with pytest.raises(Unavailable):
        setup.patch(stored, audienceId="aud2")


def test_a_destination_whose_segment_is_gone_can_still_be_renamed(setup: Setup) -> None:
    stored = setup.ready()
    setup.segments.fields.clear()
    assert setup.patch(stored, displayName="Still here").destination.display_name == "Still here"


def test_a_merge_field_called_like_nothing_known_lists_what_there_is(setup: Setup) -> None:
    setup.mailchimp.fields["aud1"] = [merge_field("FNAME"), merge_field("COLOUR")]
    *_, message = finding(setup, setup.ready(), dataMatching={"email": "EMail", "mergeFields": {"XYZZY": "City"}})
    assert "Its merge fields: COLOUR, FNAME." in message
