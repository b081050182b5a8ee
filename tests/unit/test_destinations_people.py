"""Who agreed, who exports, who may use a destination; copies, pauses and the audience's change."""

from __future__ import annotations

from typing import Any

import pytest

from shared.destinations import consent
from shared.destinations.errors import (
    ConfigurationInvalid,
    ConfirmationNeeded,
    ConsentRequired,
    DestinationNameTaken,
    NotConnected,
)
from shared.destinations.model import MemberStatus
from shared.destinations.requests import ConsentRequest, DuplicateRequest
from shared.people import Person
from shared.schedule.errors import ScheduleInvalid
from shared.schedule.rules import ScheduleMode
from shared.storage import names
from tests.unit.setup_fakes import ADA, GRACE, KEY, Setup

# -- consent -----------------------------------------------------------------------------------------------------


def test_a_withdrawn_consent_blocks_exports_with_a_sentence_and_ends_a_running_one(setup: Setup) -> None:
    stored = setup.ready()
    withdrawn = setup.service.set_consent(stored.destination.id, ConsentRequest(agreed=False), GRACE).destination
    assert withdrawn.missing_steps() == ["agree to data privacy and compliance again: the consent was withdrawn"]
    assert (withdrawn.consent.agreed_by, withdrawn.consent.withdrawn_by) == ("ada", "grace")
    assert setup.exports.stopped == [
        (stored.destination.id, "The consent to data privacy and compliance was withdrawn by grace.")
    ]


def test_agreeing_again_records_the_new_person_and_text_and_clears_the_way(setup: Setup) -> None:
    stored = setup.ready()
    setup.service.set_consent(stored.destination.id, ConsentRequest(agreed=False), ADA)
    setup.clock.pass_(days=1)
    again = setup.service.set_consent(stored.destination.id, ConsentRequest(agreed=True), GRACE).destination
    assert again.missing_steps() == []
    assert (again.consent.agreed_by, again.consent.agreed_at) == ("grace", setup.clock.now)
    assert (again.consent.text_version, again.consent.withdrawn_at) == (consent.TEXT_VERSION, None)


def test_withdrawing_twice_keeps_who_did_it_first(setup: Setup) -> None:
    stored = setup.created()
    setup.service.set_consent(stored.destination.id, ConsentRequest(agreed=False), ADA)
    twice = setup.service.set_consent(stored.destination.id, ConsentRequest(agreed=False), GRACE).destination
    assert twice.consent.withdrawn_by == "ada"


# -- export user -------------------------------------------------------------------------------------------------


def test_without_export_user_a_destination_is_not_ready_and_another_person_can_take_over(setup: Setup) -> None:
    stored = setup.connected()
    assert "add yourself as export user" in stored.destination.missing_steps()
    setup.service.set_export_user(stored.destination.id, ADA)
    setup.clock.pass_(hours=1)
    taken_over = setup.service.set_export_user(stored.destination.id, GRACE).destination.export_user
    assert taken_over is not None
    assert (taken_over.id, taken_over.name, taken_over.added_at) == ("grace-id", "grace", setup.clock.now)


def test_adding_oneself_twice_changes_nothing(setup: Setup) -> None:
    stored = setup.ready()
    setup.clock.pass_(hours=1)
    assert setup.service.set_export_user(stored.destination.id, ADA) == stored


# -- sharing -----------------------------------------------------------------------------------------------------


def test_a_destination_is_open_to_the_contributors_it_was_given_to(setup: Setup) -> None:
    stored = setup.patch(setup.created(), contributors=[{"id": "grace-id", "name": "Grace"}])
    assert stored.destination.is_open_to(Person(id="grace-id", name="a new name"))
    assert not stored.destination.is_open_to(Person(id="other-id", name="Grace"))
    assert not stored.destination.is_open_to(Person(id="", name="Grace"))


def test_nobody_without_an_id_slips_in(setup: Setup) -> None:
    destination = setup.created().destination
    destination.contributors = (Person(id="", name="nobody"),)
    assert not destination.is_open_to(Person(id="", name="nobody"))


def test_a_destination_may_be_open_to_every_contributor(setup: Setup) -> None:
    stored = setup.patch(setup.created(), everyContributor=True)
    assert stored.destination.is_open_to(Person(id="", name="x"))


# -- name --------------------------------------------------------------------------------------------------------


def test_of_two_who_ask_for_a_name_at_once_one_gets_it(setup: Setup) -> None:
    setup.store.claim_name("Newsletter", "other")  # somebody else is between asking and creating
    with pytest.raises(DestinationNameTaken):
        setup.created("newsletter")
    setup.clock.pass_(minutes=2)  # ... and never came to it
    setup.created("newsletter")


@pytest.mark.parametrize(("taken", "asked"), [("Straße", "STRASSE"), ("\u212bngstr\u00f6m", "\u00e5ngstro\u0308m")])
def test_names_that_look_the_same_are_the_same(setup: Setup, taken: str, asked: str) -> None:
    setup.created(taken)
    with pytest.raises(DestinationNameTaken):
        setup.created(asked)


def test_a_name_that_was_given_up_is_free(setup: Setup) -> None:
    stored = setup.created("First")
    setup.patch(stored, displayName="Second")
    setup.created("first")
    with pytest.raises(DestinationNameTaken):
        setup.created("SECOND")


def test_a_refused_rename_keeps_the_old_name_taken(setup: Setup) -> None:
    stored = setup.created("First")
    with pytest.raises(ConfigurationInvalid):
        setup.patch(stored, displayName="Second", segments=["Nope"])
    with pytest.raises(DestinationNameTaken):
        setup.created("First")


# -- status of new members, enabled, schedule ----------------------------------------------------------------------


def test_new_members_are_subscribed_unless_somebody_chooses_otherwise(setup: Setup) -> None:
    stored = setup.created()
    assert stored.destination.member_status is MemberStatus.SUBSCRIBED
    assert setup.patch(stored, memberStatus="pending").destination.member_status is MemberStatus.PENDING


def test_pending_members_are_asked_to_confirm_so_double_opt_in_is_not_bypassed(setup: Setup) -> None:
    setup.mailchimp.double_optin.add("aud1")
    stored = setup.ready()
    assert [warning.code for warning in stored.destination.warnings] == ["doubleOptInBypassed"]
    pending = setup.patch(stored, memberStatus="pending")
    assert pending.destination.warnings == ()
    assert [w.code for w in setup.patch(pending, memberStatus="subscribed").destination.warnings] == [
        "doubleOptInBypassed"
    ]


def test_a_disabled_destination_is_not_ready_and_keeps_everything(setup: Setup) -> None:
    stored = setup.ready()
    disabled = setup.patch(stored, enabled=False)
    assert disabled.destination.missing_steps() == ["enable the destination: it was disabled"]
    assert setup.patch(disabled, enabled=True).destination.missing_steps() == []


@pytest.mark.parametrize(
    "schedule",
    [
        {"mode": "ownSchedule"},
        {"mode": "off", "rule": {"times": ["06:00"], "timeZone": "UTC"}},
        {"mode": "ownSchedule", "rule": {"times": ["06:00"], "timeZone": "Mars/Olympus"}},
        {"mode": "ownSchedule", "rule": {"frequency": "weekly", "times": ["06:00"], "timeZone": "UTC"}},
    ],
)
def test_a_schedule_of_its_own_needs_a_rule_that_can_be_kept(setup: Setup, schedule: dict[str, Any]) -> None:
    with pytest.raises(ScheduleInvalid):
        setup.patch(setup.created(), schedule=schedule)


def test_a_destination_follows_the_schedule_unless_it_has_its_own(setup: Setup) -> None:
    stored = setup.created()
    assert stored.destination.schedule.mode is ScheduleMode.FOLLOW
    rule = {"times": ["18:00", "06:00"], "days": ["friday", "monday"], "timeZone": "Europe/Berlin"}
    own = setup.patch(stored, schedule={"mode": "ownSchedule", "rule": rule}).destination.schedule
    assert own.rule is not None
    assert (own.rule.frequency, own.rule.days, own.rule.times) == ("weekly", ("monday", "friday"), ("06:00", "18:00"))


@pytest.mark.parametrize("name", ["memberStatus", "enabled", "schedule", "contributors", "everyContributor"])
def test_what_always_has_a_value_cannot_be_taken_away(setup: Setup, name: str) -> None:
    with pytest.raises(ConfigurationInvalid, match=name):
        setup.patch(setup.created(), **{name: None})


# -- change of audience --------------------------------------------------------------------------------------------


def exported(setup: Setup) -> Any:
    stored = setup.ready()
    setup.mailchimp.fields["aud2"] = setup.mailchimp.fields["aud1"]
    setup.documents.write(names.ledger(stored.destination.id, "aud1"), b"who was sent")
    return stored


def test_changing_the_audience_after_an_export_has_to_be_confirmed(setup: Setup) -> None:
    stored = exported(setup)
    with pytest.raises(ConfirmationNeeded, match=r"'Customers'.*stay.*'Partners'.*confirm"):
        setup.patch(stored, audienceId="aud2")
    with pytest.raises(ConfirmationNeeded):
        setup.patch(stored, audienceId=None)
    assert setup.service.get(stored.destination.id) == stored
    changed = setup.patch(stored, audienceId="aud2", confirm=True).destination.audience
    assert changed is not None
    assert changed.id == "aud2"


def test_the_same_audience_or_one_that_was_never_exported_to_needs_no_confirmation(setup: Setup) -> None:
    stored = exported(setup)
    setup.patch(stored, audienceId="aud1")
    other = setup.ready("Other")
    setup.patch(other, audienceId="aud2")


# -- duplicate -----------------------------------------------------------------------------------------------------


def duplicate(setup: Setup, source: Any, **changes: Any) -> Any:
    wanted = {"displayName": "Copy", "consent": {"agreed": True}} | changes
    return setup.service.duplicate(source.destination.id, DuplicateRequest.model_validate(wanted), GRACE).destination


def test_a_copy_that_shares_the_sign_in_has_a_secret_of_its_own(setup: Setup) -> None:
    source = setup.ready()
    copy = duplicate(setup, source, shareSignIn=True)
    assert copy.audience == source.destination.audience
    assert (copy.segments, copy.data_matching) == (source.destination.segments, source.destination.data_matching)
    assert copy.missing_steps() == ["add yourself as export user"]
    assert copy.sign_in.secret_name != source.destination.sign_in.secret_name
    assert list(setup.secrets.values.values()) == [KEY, KEY]
    setup.removals.remove(source.destination.id, ADA)
    assert setup.secrets.values == {copy.sign_in.secret_name: KEY}


def test_a_copy_that_does_not_share_asks_for_a_sign_in_and_an_audience(setup: Setup) -> None:
    copy = duplicate(setup, setup.ready())
    assert copy.missing_steps() == ["sign in to Mailchimp", "choose an audience", "add yourself as export user"]
    assert copy.segments == ("Gold",)


def test_a_copy_runs_only_when_somebody_starts_it(setup: Setup) -> None:
    assert duplicate(setup, setup.ready(), shareSignIn=True).schedule.mode is ScheduleMode.OFF


def test_a_copy_needs_consent_of_its_own_and_a_free_name(setup: Setup) -> None:
    source = setup.ready()
    with pytest.raises(ConsentRequired):
        duplicate(setup, source, consent=None)
    with pytest.raises(DestinationNameTaken):
        duplicate(setup, source, displayName="NEWSLETTER")
    assert [each.id for each in setup.service.list()] == [source.destination.id]


def test_a_sign_in_that_is_not_there_cannot_be_shared(setup: Setup) -> None:
    source = setup.created()
    with pytest.raises(NotConnected):
        duplicate(setup, source, shareSignIn=True)
    assert len(setup.service.list()) == 1
