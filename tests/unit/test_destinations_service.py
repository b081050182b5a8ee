"""Destinations from consent to removal."""

from __future__ import annotations

import pytest
from azure.core.exceptions import ServiceRequestError

from shared.destinations import consent
from shared.destinations.errors import (
    ConsentRequired,
    DestinationBeingRemoved,
    DestinationChanged,
    DestinationNameTaken,
    DestinationNotFound,
    NotConnected,
    SignInRefused,
)
from shared.destinations.model import SignInState
from shared.destinations.requests import ConsentRequest, DestinationPatch
from shared.destinations.view import view_of
from shared.mailchimp.errors import AccessForbidden, ApiKeyMalformed
from shared.mailchimp.errors import SignInRefused as MailchimpSignInRefused
from shared.storage import names
from tests.unit.setup_fakes import ADA, GRACE, KEY, NOW, OTHER_ACCOUNT_KEY, OTHER_KEY, Setup

# -- create ------------------------------------------------------------------------------------------------------


def test_consent_is_recorded_with_who_when_and_which_text(setup: Setup) -> None:
    agreed = setup.created().destination.consent
    assert (agreed.agreed_by, agreed.agreed_at, agreed.text_version) == ("ada", NOW, consent.TEXT_VERSION)


@pytest.mark.parametrize("agreement", [None, ConsentRequest(agreed=False)])
def test_without_consent_nothing_is_created(setup: Setup, agreement: ConsentRequest | None) -> None:
    with pytest.raises(ConsentRequired, match="agree to data privacy"):
        setup.service.create("Newsletter", agreement, ADA)
    assert setup.service.list() == []


def test_a_display_name_is_taken_whatever_its_case(setup: Setup) -> None:
    setup.created("Newsletter")
    with pytest.raises(DestinationNameTaken):
        setup.created("NEWSLETTER")
    other = setup.created("Other")
    with pytest.raises(DestinationNameTaken):
        setup.patch(other, displayName="newsletter")
    assert setup.patch(other, displayName="OTHER").destination.display_name == "OTHER"


def test_the_list_is_sorted_by_display_name(setup: Setup) -> None:
    for name in ("b", "C", "a"):
        setup.created(name)
    assert [destination.display_name for destination in setup.service.list()] == ["a", "b", "C"]


def test_a_new_destination_says_what_is_still_to_do(setup: Setup) -> None:
    view = view_of(setup.created().destination)
    assert not view.ready
    assert view.missing_steps == [
        "sign in to Mailchimp",
        "choose an audience",
        "add yourself as export user",
        "match the Email field",
        "choose at least one segment",
    ]
    assert view_of(setup.ready("Other").destination).ready


# -- sign in -----------------------------------------------------------------------------------------------------


def test_signing_in_keeps_the_key_in_the_secret_store_only(setup: Setup) -> None:
    sign_in = setup.connected().destination.sign_in
    assert (sign_in.state, sign_in.account_id, sign_in.account_name) == (SignInState.CONNECTED, "acc1", "Contoso")
    assert sign_in.api_root == "https://us19.api.mailchimp.com"
    assert sign_in.secret_hint == "…cdef-us19"
    assert list(setup.secrets.values.items()) == [(sign_in.secret_name, KEY)]
    assert all(KEY.encode() not in data for data, _ in setup.documents.blobs.values())


def test_the_hint_of_a_short_key_does_not_give_it_away(setup: Setup) -> None:
    setup.mailchimp.accounts["short-us1"] = setup.mailchimp.accounts[KEY]
    stored = setup.connections.sign_in_with_api_key(setup.created().destination.id, "short-us1", ADA)
    assert stored.destination.sign_in.secret_hint == "…-us1"


def test_the_view_of_a_destination_shows_neither_the_secret_nor_its_name(setup: Setup) -> None:
    stored = setup.connected()
    shown = view_of(stored.destination).model_dump_json(by_alias=True)
    assert str(stored.destination.sign_in.secret_name) not in shown
    assert KEY not in shown


@pytest.mark.parametrize(
    "fault",
    [
        MailchimpSignInRefused("Mailchimp does not accept the key.", action="Enter another one.", status=401),
        AccessForbidden("The account is deactivated.", action="Ask Mailchimp.", status=403),
    ],
)
def test_a_refused_key_is_said_to_be_refused_and_not_stored(setup: Setup, fault: Exception) -> None:
    created = setup.created()
    setup.mailchimp.fault = fault
    with pytest.raises(SignInRefused, match="Nothing was stored"):
        setup.connections.sign_in_with_api_key(created.destination.id, KEY, ADA)
    assert not setup.secrets.values
    assert setup.service.get(created.destination.id) == created


def test_a_refused_key_leaves_the_sign_in_that_there_was(setup: Setup) -> None:
    stored = setup.connected()
    with pytest.raises(SignInRefused):
        setup.connections.sign_in_with_api_key(stored.destination.id, "1" * 32 + "-us19", ADA)
    assert setup.service.get(stored.destination.id) == stored
    assert list(setup.secrets.values.values()) == [KEY]


def test_a_malformed_key_is_refused_before_anybody_is_asked(setup: Setup) -> None:
    created = setup.created()
    with pytest.raises(ApiKeyMalformed) as caught:
        setup.connections.sign_in_with_api_key(created.destination.id, "not a key", ADA)
    assert "not a key" not in str(caught.value)
    assert setup.mailchimp.lookups == []


def test_signing_in_again_replaces_the_secret_and_deletes_the_old_one(setup: Setup) -> None:
    first = setup.ready()
    second = setup.connections.sign_in_with_api_key(first.destination.id, OTHER_KEY, ADA).destination
    assert second.sign_in.secret_name != first.destination.sign_in.secret_name
    assert setup.secrets.values == {second.sign_in.secret_name: OTHER_KEY}
    assert second.audience == first.destination.audience


def test_signing_in_to_another_account_gives_up_the_audience(setup: Setup) -> None:
    stored = setup.ready()
    changed = setup.connections.sign_in_with_api_key(stored.destination.id, OTHER_ACCOUNT_KEY, ADA).destination
    assert changed.audience is None
    assert [warning.code for warning in changed.warnings] == ["accountChanged"]


def test_a_sign_in_that_cannot_be_noted_leaves_no_secret_behind(setup: Setup) -> None:
    stored = setup.created()
    setup.documents.before_replace = lambda name: setup.documents.delete(name)
    with pytest.raises(DestinationNotFound):
        setup.connections.sign_in_with_api_key(stored.destination.id, KEY, ADA)
    assert not setup.secrets.values


def test_a_refused_sign_in_is_marked_and_a_new_one_clears_the_mark(setup: Setup) -> None:
    stored = setup.ready()
    setup.store.mark_needs_authentication(stored.destination.id, "revoked", stored.destination.sign_in.secret_name)
    marked = setup.service.get(stored.destination.id).destination
    assert marked.sign_in.state is SignInState.NEEDS_AUTHENTICATION
    assert marked.missing_steps() == ["sign in to Mailchimp again"]
    again = setup.connections.sign_in_with_api_key(stored.destination.id, OTHER_KEY, ADA).destination
    assert again.sign_in.state is SignInState.CONNECTED


def test_a_late_refusal_of_the_old_secret_does_not_spoil_the_new_sign_in(setup: Setup) -> None:
    stored = setup.ready()
    old = stored.destination.sign_in.secret_name
    setup.connections.sign_in_with_api_key(stored.destination.id, OTHER_KEY, ADA)
    setup.store.mark_needs_authentication(stored.destination.id, "revoked", old)
    assert setup.service.get(stored.destination.id).destination.sign_in.state is SignInState.CONNECTED


def test_a_key_that_was_revoked_shows_when_audiences_are_looked_up(setup: Setup) -> None:
    stored = setup.connected()
    del setup.mailchimp.accounts[KEY]
    with pytest.raises(NotConnected, match="Sign in to Mailchimp again"):
        setup.connections.audiences(stored.destination.id)
    state = setup.service.get(stored.destination.id).destination.sign_in.state
    assert state is SignInState.NEEDS_AUTHENTICATION


def test_audiences_come_with_their_merge_fields(setup: Setup) -> None:
    choices = setup.connections.audiences(setup.connected().destination.id)
    assert [(c.audience.id, [f.tag for f in c.merge_fields or ()]) for c in choices] == [
        ("aud1", ["FNAME", "LNAME", "ADDRESS", "CITY"]),
        ("aud2", ["FIRST", "COMPANY"]),
    ]
    assert setup.mailchimp.lookups[-1] == ("acc1", "https://us19.api.mailchimp.com")


def test_a_long_list_of_audiences_leaves_out_the_merge_fields_of_the_later_ones(setup: Setup) -> None:
    setup.mailchimp.names = {f"aud{n}": f"Audience {n}" for n in range(25)}
    choices = setup.connections.audiences(setup.connected().destination.id)
    assert [choice.merge_fields is None for choice in choices] == [False] * 20 + [True] * 5


def test_audiences_need_a_sign_in(setup: Setup) -> None:
    with pytest.raises(NotConnected, match="not signed in"):
        setup.connections.audiences(setup.created().destination.id)


# -- concurrency -------------------------------------------------------------------------------------------------


def test_a_stale_etag_is_refused(setup: Setup) -> None:
    stale = setup.created()
    newer = setup.patch(stale, displayName="New")
    with pytest.raises(DestinationChanged):
        setup.patch(stale, if_match=stale.etag, displayName="Newer")
    assert setup.patch(newer, if_match=newer.etag, displayName="Newer").etag != newer.etag


def test_a_change_without_etag_is_repeated_on_what_somebody_else_wrote(setup: Setup) -> None:
    stored = setup.ready()

    def interfere(_: str) -> None:
        setup.service.set_export_user(stored.destination.id, GRACE)

    setup.documents.before_replace = interfere
    changed = setup.patch(stored, displayName="New").destination
    assert changed.display_name == "New"
    assert changed.export_user is not None
    assert changed.export_user.name == "grace"


def test_a_change_that_changes_nothing_keeps_etag_and_date(setup: Setup) -> None:
    stored = setup.ready()
    setup.clock.pass_(hours=1)
    assert setup.patch(stored, segments=["Gold"]) == stored


def test_a_change_records_who_and_when(setup: Setup) -> None:
    stored = setup.created()
    setup.clock.pass_(hours=1)
    patch = DestinationPatch.model_validate({"displayName": "New"})
    changed = setup.service.patch(stored.destination.id, patch, GRACE).destination
    assert (changed.updated_by, changed.updated_at) == ("grace", setup.clock.now)
    assert (changed.created_by, changed.created_at) == ("ada", NOW)


# -- removal -----------------------------------------------------------------------------------------------------


def test_removal_stops_exports_and_deletes_secret_ledger_and_document(setup: Setup) -> None:
    stored = setup.ready()
    destination_id = stored.destination.id
    setup.documents.write(names.ledger(destination_id, "a1b2c3d4e5"), b"people")
    setup.documents.write(names.idempotency(destination_id, "abc"), b"{}")
    setup.removals.remove(destination_id, ADA)
    assert setup.exports.stopped == [(destination_id, "The destination was removed by ada.")]
    assert not setup.secrets.values
    assert not setup.documents.blobs
    with pytest.raises(DestinationNotFound):
        setup.service.get(destination_id)


def test_removal_with_a_stale_etag_is_refused(setup: Setup) -> None:
    stored = setup.created()
    setup.patch(stored, displayName="New")
    with pytest.raises(DestinationChanged):
        setup.removals.remove(stored.destination.id, ADA, stored.etag)
    assert setup.exports.stopped == []


def interrupted_removal(setup: Setup) -> str:
    stored = setup.ready()

    def break_down(destination_id: str, reason: str, code: str = "") -> None:
        raise ServiceRequestError("storage is down")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(setup.exports, "stop_for_destination", break_down)
        assert setup.removals.remove(stored.destination.id, ADA) is not None
    return stored.destination.id


def test_nothing_starts_or_changes_once_a_removal_has_begun(setup: Setup) -> None:
    destination_id = interrupted_removal(setup)
    half_removed = setup.service.get(destination_id)
    assert not view_of(half_removed.destination).ready
    with pytest.raises(DestinationBeingRemoved):
        setup.patch(half_removed, displayName="New")
    with pytest.raises(DestinationBeingRemoved):
        setup.connections.sign_in_with_api_key(destination_id, OTHER_KEY, ADA)
    setup.store.mark_needs_authentication(destination_id, "revoked")


def test_an_interrupted_removal_can_be_repeated(setup: Setup) -> None:
    setup.removals.remove(interrupted_removal(setup), ADA, if_match='"stale"')
    assert not setup.documents.blobs
    assert not setup.secrets.values


def test_an_interrupted_removal_is_completed_by_the_timer(setup: Setup) -> None:
    interrupted_removal(setup)
    setup.ready("Other")
    setup.clock.pass_(minutes=2)
    assert setup.removals.finish_removals() == 1
    setup.removals.go_on(setup.messages.removals.pop())
    assert [destination.display_name for destination in setup.service.list()] == ["Other"]
    assert setup.removals.finish_removals() == 0


def test_a_name_is_free_again_after_the_removal(setup: Setup) -> None:
    setup.removals.remove(setup.created("Newsletter").destination.id, ADA)
    setup.created("Newsletter")
