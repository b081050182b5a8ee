"""Sign-ins to Mailchimp between their beginning and their end: stages, interference, tokens that have to wait."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

import pytest
from azure.core.exceptions import ServiceRequestError
from hypothesis import given
from hypothesis import strategies as st

from shared.audit.log import AuditLog
from shared.destinations.authorization import Authorization, Authorizations, Stage
from shared.destinations.connections import Access, Connections
from shared.destinations.errors import (
    AuthorizationDenied,
    AuthorizationExpired,
    AuthorizationInProgress,
    AuthorizationUnknown,
    AuthorizationUsed,
    ReturnToNotAllowed,
)
from shared.destinations.model import Consent, Destination, SignInState
from shared.destinations.store import DestinationStore
from shared.mailchimp import Account, SignIn, SignInRefused, Unavailable
from shared.people import Person
from shared.settings import SettingsError, origin_of, read_settings
from shared.storage import names
from shared.storage.documents import Changed
from tests.unit.fake_documents import FakeDocuments
from tests.unit.setup_fakes import FakeClock, FakeIds, FakeSecrets

ADA = Person(id="ada", name="ada@contoso.example")
ROOT = "https://us19.api.mailchimp.com"
DOWN = Unavailable("Mailchimp's sign-in is not available at the moment.", reason="serverError", outcome_unknown=True)
STORAGE_DOWN = ServiceRequestError("storage is down")


@dataclass
class FakeProvider:
    """Mailchimp's sign-in: each code is good for one token. ``before`` runs in the middle of each call."""

    used: list[str] = field(default_factory=list)
    faults: dict[str, Exception] = field(default_factory=dict)
    before: Callable[[str], None] = field(default=lambda _: None)

    def authorize_url(self, state: str) -> str:
        return f"https://login.mailchimp.com/oauth2/authorize?state={state}"

    def token(self, code: str) -> str:
        self._meet("token")
        if code in self.used:
            raise SignInRefused("Mailchimp did not complete the sign-in.", action="Start again.", status=400)
        self.used.append(code)
        return f"token-of-{code}"

    def sign_in(self, token: str) -> SignIn:
        self._meet("sign_in")
        return SignIn(ROOT, "us19", "Contoso", "owner", "1")

    def _meet(self, call: str) -> None:
        self.before(call)
        if call in self.faults:
            raise self.faults[call]


class FakeAccess:
    """Every token belongs to the same account."""

    @contextmanager
    def lookup(self, account_id: str | None, api_root: str, token: str) -> Any:
        class Client:
            def account(self) -> Account:
                return Account("acc1", "Contoso", "owner", 0, "monthly", "1")

        yield Client()


class Parts:
    """The sign-ins with everything around them faked, and a destination."""

    def __init__(self) -> None:
        self.documents, self.clock, self.secrets = FakeDocuments(), FakeClock(), FakeSecrets()
        self.provider, ids = FakeProvider(), FakeIds("0")
        documents = self.documents.as_documents()
        self.store = DestinationStore(documents, AuditLog(FakeDocuments().as_documents()), self.clock, ids)
        access = cast("Access", FakeAccess())
        self.connections = Connections(self.store, self.secrets, access, clock=self.clock, new_id=ids)
        self.authorizations = Authorizations(
            documents,
            self.store,
            self.connections,
            self.secrets,
            self.provider,
            portal_origins=("https://portal.contoso.example", "http://localhost:3000"),
            clock=self.clock,
            new_id=ids,
        )
        now = self.clock.now
        consent = Consent(agreed_by="ada", agreed_at=now, text_version="1")
        destination = Destination(
            id="d1",
            display_name="Newsletter",
            consent=consent,
            created_at=now,
            created_by="ada",
            updated_at=now,
            updated_by="ada",
        )
        self.store.create(destination, ADA)

    def begun(self) -> str:
        """The state of a new sign-in."""
        begun = self.authorizations.begin("d1", ADA)
        return parse_qs(urlsplit(begun.authorize_url).query)["state"][0]

    def come_back(self, state: str, code: str = "code-1") -> Destination:
        return self.authorizations.complete(self.authorizations.find(state, ADA), code).destination

    def stored(self, state: str) -> Authorization:
        found = self.documents.read(names.authorization(state))
        assert found is not None
        return Authorization.from_bytes(found.data)


@pytest.fixture
def parts() -> Parts:
    return Parts()


# -- stages ------------------------------------------------------------------------------------------------------


def test_a_sign_in_that_was_completed_is_used_and_holds_no_token(parts: Parts) -> None:
    state = parts.begun()
    assert parts.come_back(state).sign_in.state is SignInState.CONNECTED
    stored = parts.stored(state)
    assert (stored.stage, stored.parked) == (Stage.USED, None)
    assert list(parts.secrets.values.values()) == ["token-of-code-1"]
    with pytest.raises(AuthorizationUsed):
        parts.come_back(state)


def test_of_two_who_read_the_same_version_one_gets_it(parts: Parts) -> None:
    state = parts.begun()
    one, two = (parts.authorizations.find(state, ADA) for _ in range(2))
    parts.authorizations.complete(one, "code-1")
    with pytest.raises(AuthorizationUsed):
        parts.authorizations.complete(two, "code-2")
    with pytest.raises(AuthorizationUsed):
        parts.authorizations.refuse(two, "access_denied")
    assert parts.provider.used == ["code-1"]


def test_the_loser_of_a_race_does_not_ask_mailchimp(parts: Parts) -> None:
    state = parts.begun()
    late = parts.authorizations.find(state, ADA)
    losers: list[type[Exception]] = []

    def meanwhile(call: str) -> None:
        if call == "token":
            with pytest.raises(AuthorizationInProgress) as caught:
                parts.authorizations.complete(late, "code-2")
            losers.append(caught.type)

    parts.provider.before = meanwhile
    parts.come_back(state)
    assert losers == [AuthorizationInProgress]
    assert parts.provider.used == ["code-1"]


def test_a_sign_in_whose_process_died_can_be_taken_over_after_two_minutes(parts: Parts) -> None:
    state = parts.begun()

    def die(_: str) -> None:
        raise SystemExit

    parts.provider.before = die
    with pytest.raises(SystemExit):
        parts.come_back(state)
    parts.provider.before = lambda _: None
    parts.clock.pass_(seconds=119)
    with pytest.raises(AuthorizationInProgress):
        parts.come_back(state)
    parts.clock.pass_(seconds=1)
    assert parts.come_back(state).sign_in.state is SignInState.CONNECTED


def test_a_write_whose_answer_was_lost_is_known_again(parts: Parts) -> None:
    state = parts.begun()
    found = parts.authorizations.find(state, ADA)
    real = parts.documents.replace

    def lose_the_answer(name: str, data: bytes, etag: str, metadata: Mapping[str, str] | None = None) -> str:
        parts.documents.replace = real  # type: ignore[method-assign]
        real(name, data, etag, metadata)
        raise Changed(name)  # what the repeated request finds

    parts.documents.replace = lose_the_answer  # type: ignore[method-assign]
    parts.authorizations.complete(found, "code-1")
    assert parts.stored(state).stage is Stage.USED


def test_a_sign_in_that_is_deleted_at_the_last_moment_is_not_known(parts: Parts) -> None:
    state = parts.begun()
    found = parts.authorizations.find(state, ADA)
    parts.documents.before_replace = parts.documents.delete
    with pytest.raises(AuthorizationUnknown):
        parts.authorizations.complete(found, "code-1")
    assert parts.provider.used == []


def test_who_denied_late_is_told_that_it_was_late(parts: Parts) -> None:
    state = parts.begun()
    found = parts.authorizations.find(state, ADA)
    with pytest.raises(AuthorizationDenied):
        parts.authorizations.refuse(found, "access_denied")
    other = parts.authorizations.find(parts.begun(), ADA)
    parts.clock.pass_(minutes=10)
    with pytest.raises(AuthorizationExpired):
        parts.authorizations.refuse(other, "access_denied")


def test_a_connected_destination_tells_its_account_role_plan_and_data_centre(parts: Parts) -> None:
    parts.come_back(parts.begun())
    found = parts.connections.verify("d1")
    assert found.data_centre == "us19"
    account = found.account
    assert (account.account_name, account.role, account.pricing_plan) == ("Contoso", "owner", "monthly")


# -- tokens that wait --------------------------------------------------------------------------------------------


def test_a_token_waits_in_the_secret_store_and_not_in_the_document(parts: Parts) -> None:
    state = parts.begun()
    parts.provider.faults["sign_in"] = DOWN
    with pytest.raises(Unavailable):
        parts.come_back(state)
    stored = parts.stored(state)
    assert stored.stage is Stage.OPEN
    assert stored.parked is not None
    assert parts.secrets.values == {stored.parked.secret_name: "token-of-code-1"}
    document, _ = parts.documents.blobs[names.authorization(state)]
    assert b"token-of" not in document
    assert b"code-1" not in document


def test_a_token_that_waits_goes_when_the_sign_in_ends_in_whatever_way(parts: Parts) -> None:
    state = parts.begun()
    parts.provider.faults["sign_in"] = DOWN
    with pytest.raises(Unavailable):
        parts.come_back(state)
    with pytest.raises(AuthorizationDenied):
        parts.authorizations.refuse(parts.authorizations.find(state, ADA), "access_denied")
    assert parts.secrets.values == {}


def test_a_token_that_waits_and_was_deleted_by_hand_is_asked_for_anew(parts: Parts) -> None:
    state = parts.begun()
    parts.provider.faults["sign_in"] = DOWN
    with pytest.raises(Unavailable):
        parts.come_back(state)
    parts.provider.faults.clear()
    parts.secrets.values.clear()
    with pytest.raises(SignInRefused):  # the code was used: Mailchimp says so, and the person begins again
        parts.come_back(state)


def test_a_secret_store_that_is_down_too_leaves_the_sign_in_open(parts: Parts) -> None:
    state = parts.begun()
    parts.provider.faults["sign_in"] = DOWN
    write = parts.secrets.write

    def broken(name: str, value: str) -> None:
        raise STORAGE_DOWN

    parts.secrets.write = broken  # type: ignore[method-assign]
    with pytest.raises(Unavailable):
        parts.come_back(state)
    parts.secrets.write = write  # type: ignore[method-assign]
    parts.provider.faults.clear()
    assert parts.stored(state).stage is Stage.OPEN
    assert parts.come_back(state, "code-2").sign_in.state is SignInState.CONNECTED
    assert list(parts.secrets.values.values()) == ["token-of-code-2"]


def test_storage_that_fails_at_the_end_does_not_turn_a_success_into_a_failure(parts: Parts) -> None:
    state = parts.begun()
    found = parts.authorizations.find(state, ADA)
    real = parts.documents.replace

    def fail_at_the_end(name: str, data: bytes, etag: str, metadata: Mapping[str, str] | None = None) -> str:
        if name == found.name and Authorization.from_bytes(data).stage is Stage.USED:
            raise STORAGE_DOWN
        return real(name, data, etag, metadata)

    parts.documents.replace = fail_at_the_end  # type: ignore[method-assign]
    assert parts.authorizations.complete(found, "code-1").destination.sign_in.state is SignInState.CONNECTED
    with pytest.raises(AuthorizationInProgress):
        parts.come_back(state)


def test_an_old_secret_that_cannot_be_deleted_does_not_undo_the_sign_in(parts: Parts) -> None:
    parts.come_back(parts.begun())

    def broken(name: str) -> None:
        raise STORAGE_DOWN

    parts.secrets.delete = broken  # type: ignore[method-assign]
    destination = parts.come_back(parts.begun(), "code-2")
    assert parts.secrets.read(destination.sign_in.secret_name or "") == "token-of-code-2"


def test_the_timer_deletes_what_waits_for_a_sign_in_that_expired(parts: Parts) -> None:
    state = parts.begun()
    parts.provider.faults["sign_in"] = DOWN
    with pytest.raises(Unavailable):
        parts.come_back(state)
    parts.clock.pass_(minutes=10)
    assert parts.authorizations.delete_expired() == 1
    assert parts.secrets.values == {}
    with pytest.raises(AuthorizationUnknown):
        parts.authorizations.find(state, ADA)


# -- where a sign-in may return to -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    [
        "https://portal.contoso.example",
        "https://portal.contoso.example/",
        "https://portal.contoso.example:443/a",
        "HTTPS://Portal.Contoso.example/a",
        "https://portal.contoso.example?a=1",
        "https://portal.contoso.example#/destinations/1",
        "https://portal.contoso.example/a?b=https://evil.example/@",
        "http://localhost:3000/a",
    ],
)
def test_pages_of_the_portals_are_taken(parts: Parts, address: str) -> None:
    parts.authorizations.begin("d1", ADA, address)


@pytest.mark.parametrize(
    "address",
    [
        "http://localhost/a",
        "http://localhost:3001/a",
        "https://localhost:3000/a",
        "https://portal.contoso.example./",
        "https://[::1]/",
        "https://portal.contoso.example/\\evil",
        "https:/portal.contoso.example/",
        "https:portal.contoso.example",
        " https://portal.contoso.example",
        "https://portal.contoso.example/\t",
        "https://portal.contoso.example\n/",
    ],
)
def test_other_addresses_are_not(parts: Parts, address: str) -> None:
    with pytest.raises(ReturnToNotAllowed):
        parts.authorizations.begin("d1", ADA, address)


@given(rest=st.text(alphabet="/\\@?#:.%&a portal\t\n\x00é", max_size=24))
def test_whatever_follows_the_origin_stays_at_the_portal(rest: str) -> None:
    """As browsers read an address: the backslash counts as a slash (WHATWG URL)."""
    parts = Parts()
    address = f"https://portal.contoso.example{rest}"
    try:
        parts.authorizations.begin("d1", ADA, address)
    except ReturnToNotAllowed:
        return
    assert urlsplit(address.replace("\\", "/")).netloc in {"portal.contoso.example", "portal.contoso.example:443"}


# -- the setting -------------------------------------------------------------------------------------------------

STORAGE = {"AzureWebJobsStorage": "UseDevelopmentStorage=true"}


def test_the_origins_of_portals_are_kept_as_browsers_write_them() -> None:
    given_ = (
        " https://Portal.Contoso.example , http://localhost:3000,https://portal.contoso.example:443,http://[::1]:80,"
    )
    settings = read_settings(STORAGE | {"PORTAL_ORIGINS": given_})
    assert settings.portal_origins == ("https://portal.contoso.example", "http://localhost:3000", "http://[::1]")
    assert read_settings(STORAGE).portal_origins == ()


@pytest.mark.parametrize(
    "value",
    [
        "https://portal.contoso.example/",
        "https://portal.contoso.example/app",
        "http://portal.contoso.example",
        "https://portal.contoso.example?a=1",
        "https://user@portal.contoso.example",
        "https://portal.contoso.example:0",
        "https://portal.contoso.example:65536",
        "https://*.contoso.example",
        "portal.contoso.example",
        "ftp://portal.contoso.example",
        "null",
        "*",
        "https://",
        "https://portal.contoso.example https://other.contoso.example",
        "https://portal.contoso.example,*",
    ],
)
def test_what_is_no_origin_is_refused_with_the_name_of_the_setting(value: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings(STORAGE | {"PORTAL_ORIGINS": value})
    assert str(caught.value).startswith("The setting PORTAL_ORIGINS must be a list of origins, separated by commas")


@given(text=st.text(alphabet="htps:/.@\\#?%a0[]1 é", max_size=30))
def test_what_counts_as_an_origin_is_one(text: str) -> None:
    found = origin_of(text)
    if found is not None:
        parts = urlsplit(found)
        assert f"{parts.scheme}://{parts.netloc}" == found
        assert parts.hostname
        assert parts.username is None
