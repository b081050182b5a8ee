"""Connects destinations to Mailchimp accounts: signs in, checks the sign-in, and looks things up over it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, Protocol
from urllib.parse import urlsplit

from shared.destinations.errors import DestinationBeingRemoved, DestinationNotFound, NotConnected, SignInRefused
from shared.destinations.loose_secrets import LooseSecrets
from shared.destinations.model import ChosenAudience, Destination, SetUpWarning, SignIn, SignInState
from shared.destinations.store import DestinationStore, StoredDestination
from shared.mailchimp import errors as mailchimp
from shared.mailchimp.api_root import api_root_for_key
from shared.mailchimp.client import MailchimpClient
from shared.mailchimp.replies import Account, Audience, MergeField
from shared.people import Person
from shared.secrets.store import SecretNotFound, SecretStore

AUDIENCES_WITH_MERGE_FIELDS: Final = 20
"""For so many audiences the list shows merge fields: each costs a call, and few accounts have more audiences."""

_CHARACTERS_WORTH_HIDING: Final = 12
_ACCOUNT_CHANGED: Final = SetUpWarning(
    code="accountChanged",
    message="The sign-in is for another Mailchimp account than before. Choose an audience of this account.",
    target="audienceId",
)


class Access(Protocol):
    """Opens Mailchimp connections: ``shared.mailchimp.access.MailchimpAccess``."""

    def lookup(self, account_id: str | None, api_root: str, token: str) -> AbstractContextManager[MailchimpClient]: ...


@dataclass(frozen=True, slots=True)
class AudienceChoice:
    """An audience of the account; ``merge_fields`` is None where they were not asked for."""

    audience: Audience
    merge_fields: Sequence[MergeField] | None


@dataclass(frozen=True, slots=True)
class VerifiedConnection:
    """What Mailchimp says of a sign-in now. ``data_centre``: "us19", or the host where it is no Mailchimp address."""

    account: Account
    data_centre: str


class Connections:
    """The Mailchimp side of setting up destinations."""

    def __init__(
        self,
        store: DestinationStore,
        secrets: SecretStore,
        access: Access,
        *,
        clock: Callable[[], datetime],
        new_id: Callable[[], str],
        api_url: str | None = None,
    ) -> None:
        self._store = store
        self._secrets = secrets
        self.loose_secrets = LooseSecrets(store, secrets, clock)
        self._access = access
        self._clock = clock
        self._new_id = new_id
        self._api_url = api_url

    # -- sign in ---------------------------------------------------------------------------------------------

    def sign_in_with_api_key(self, destination_id: str, api_key: str, user: Person) -> StoredDestination:
        """Look up the account of the key; store both, then delete the secret that was there before.

        Raises SignInRefused (nothing is stored then), mailchimp.ApiKeyMalformed, mailchimp.Unavailable.
        """
        api_key = api_key.strip()
        api_root = api_root_for_key(api_key, self._api_url)
        return self.connect(destination_id, "apiKey", api_root, api_key, user)

    def connect(
        self, destination_id: str, method: Literal["apiKey", "oauth"], api_root: str, secret: str, user: Person
    ) -> StoredDestination:
        """Ask Mailchimp whose ``secret`` it is, then store it and point the destination to it.

        Raises SignInRefused (nothing is stored then), DestinationNotFound, DestinationBeingRemoved,
        mailchimp.Unavailable.
        """
        self._store.require(destination_id)  # gone or going: ask Mailchimp nothing
        try:
            with self._access.lookup(None, api_root, secret) as client:
                account = client.account()
        except (mailchimp.SignInRefused, mailchimp.AccessForbidden) as error:
            raise SignInRefused(f"{error.message} Nothing was stored. {error.action}") from error
        sign_in = SignIn(
            state=SignInState.CONNECTED,
            method=method,
            account_id=account.account_id,
            account_name=account.account_name,
            role=account.role,
            api_root=api_root,
            secret_hint=_hint(secret) if method == "apiKey" else None,
            connected_at=self._clock(),
            connected_by=user.name,
        )
        return self._keep(destination_id, sign_in, secret, user)

    def read(self, source: Destination) -> tuple[SignIn, str]:
        """The sign-in of a destination and its secret. Raises NotConnected; one whose secret is gone is noted."""
        self._require_connected(source)
        sign_in = source.sign_in
        try:
            return sign_in, self._secrets.read(sign_in.secret_name or "")
        except SecretNotFound as error:
            self._store.mark_needs_authentication(source.id, str(error), sign_in.secret_name)
            raise NotConnected(source.id, again=True) from error

    def share(self, source: Destination, secret: str, destination_id: str, user: Person) -> StoredDestination:
        """Connect another destination to the account and audience of ``source``, with a copy of the secret of its own:
        removing one leaves the other connected."""
        copy = source.sign_in.model_copy(update={"connected_at": self._clock(), "connected_by": user.name})
        return self._keep(destination_id, copy, secret, user, source.audience, source.warnings)

    def _keep(
        self,
        destination_id: str,
        sign_in: SignIn,
        secret: str,
        user: Person,
        audience: ChosenAudience | None = None,
        warnings: tuple[SetUpWarning, ...] = (),
    ) -> StoredDestination:
        """Write the secret under a new name, point the destination to it, delete the one before: in this order,
        so that at every moment the destination points to a secret that exists.

        Where nobody can tell whether the destination points to it, the secret stays, and the timer looks again.
        """
        sign_in.secret_name = f"mc-{destination_id}-{self._new_id()[:8]}"
        self.loose_secrets.write(destination_id, sign_in.secret_name, secret)
        before: list[str | None] = [None]

        def apply(destination: Destination) -> Destination:
            name = destination.sign_in.secret_name
            if name is not None and name != sign_in.secret_name:  # else a write of ours, whose answer was lost
                before[0] = name
                self.loose_secrets.note(destination_id, name)
            if destination.sign_in.account_id not in {None, sign_in.account_id}:
                destination.audience = None  # it belongs to the other account
                destination.warnings = (_ACCOUNT_CHANGED,)
            destination.sign_in = sign_in
            if audience is not None:
                destination.audience, destination.warnings = audience, warnings
            return destination

        try:
            stored = self._store.change(destination_id, apply, by=user, action="destination.connected")
        except (DestinationNotFound, DestinationBeingRemoved):
            self.loose_secrets.delete(sign_in.secret_name)
            raise
        self.loose_secrets.kept(sign_in.secret_name)
        if before[0] is not None:
            self.loose_secrets.delete(before[0])
        return stored

    # -- look ------------------------------------------------------------------------------------------------

    @contextmanager
    def client(self, destination: Destination) -> Iterator[MailchimpClient]:
        """A client for look-ups of the destination's account. A refused sign-in is noted in the destination.

        Raises NotConnected, mailchimp.access.LookupsBusy, and inside the block whatever the client raises.
        """
        try:
            sign_in, token = self.read(destination)
            with self._access.lookup(sign_in.account_id, sign_in.api_root or "", token) as client:
                yield client
        except mailchimp.SignInRefused as error:
            self._store.mark_needs_authentication(destination.id, error.message, destination.sign_in.secret_name)
            raise NotConnected(destination.id, again=True) from error

    @staticmethod
    def _require_connected(destination: Destination) -> None:
        """Raises NotConnected."""
        if destination.sign_in.state is not SignInState.CONNECTED:
            again = destination.sign_in.state is SignInState.NEEDS_AUTHENTICATION
            raise NotConnected(destination.id, again=again)

    def verify(self, destination_id: str) -> VerifiedConnection:
        """Ask Mailchimp now whether it accepts the sign-in, and as whom. Raises NotConnected."""
        destination = self._store.require(destination_id).destination
        with self.client(destination) as client:
            host = urlsplit(destination.sign_in.api_root or "").hostname or ""
            return VerifiedConnection(client.account(), host.removesuffix(".api.mailchimp.com"))

    def audiences(self, destination_id: str) -> Sequence[AudienceChoice]:
        """The audiences of the destination's account, the first twenty with their merge fields."""
        with self.client(self._store.get(destination_id).destination) as client:
            return [
                AudienceChoice(
                    audience, client.merge_fields(audience.id) if number < AUDIENCES_WITH_MERGE_FIELDS else None
                )
                for number, audience in enumerate(client.audiences())
            ]

    def audience(self, destination_id: str, audience_id: str) -> AudienceChoice:
        """One audience with its merge fields. Raises mailchimp.AudienceNotFound."""
        with self.client(self._store.get(destination_id).destination) as client:
            return AudienceChoice(client.audience(audience_id), client.merge_fields(audience_id))


def _hint(api_key: str) -> str:
    """Enough of a key to recognize it by: its last four characters, unless that is too much of it, and its ending."""
    key, _, data_centre = api_key.rpartition("-")
    shown = key[-4:] if len(key) >= _CHARACTERS_WORTH_HIDING else ""
    return f"…{shown}-{data_centre}"
