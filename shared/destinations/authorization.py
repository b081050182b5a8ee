"""Signs destinations in to Mailchimp with OAuth 2: begins a sign-in, and completes it when the browser comes back.

What belongs together in between lies in a blob whose name is a hash of the `state`: who began it, for which
destination, where to return to. The state itself is stored nowhere. Whoever brings it back has to be the person who
began it, within ten minutes, once.

    open ──► taken ──► used        completed, or refused for good
      ▲        │
      └────────┘                   Mailchimp, storage or the secret store did not answer: the same page may be reloaded
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, Protocol

from azure.core.exceptions import AzureError

from shared import log
from shared.destinations.connections import Connections
from shared.destinations.errors import (
    AuthorizationDenied,
    AuthorizationExpired,
    AuthorizationFailed,
    AuthorizationInProgress,
    AuthorizationOfAnother,
    AuthorizationUnknown,
    AuthorizationUsed,
    DestinationChanged,
    OAuthNotConfigured,
    PersonUnknown,
    ReturnToNotAllowed,
)
from shared.destinations.store import DestinationStore, StoredDestination
from shared.mailchimp.access import LookupsBusy
from shared.mailchimp.errors import Unavailable
from shared.mailchimp.oauth import SignIn, error_of_redirect
from shared.people import Person
from shared.secrets.store import SecretNotFound, SecretStore, SecretStoreError
from shared.settings import origin_of
from shared.storage import names
from shared.storage.documents import AlreadyExists, Changed, Documents
from shared.storage.json_documents import JsonDocument

CALLBACK_PATH: Final = "/api/oauth/callback"
"""Behind PUBLIC_URL it is the redirect address that is registered at Mailchimp, character by character."""

LIFETIME: Final = timedelta(minutes=10)
_CLAIM_COUNTS: Final = timedelta(minutes=2)
"""How long a sign-in counts as being completed: longer than completing takes, in case its process died."""
_STATE_BYTES: Final = 32
_PORTAL_PAGE: Final = re.compile(r"(https?://[^/?#]+)([/?#][!-\[\]-~]*)?", re.IGNORECASE)
"""An origin, and what may follow it: visible ASCII without the backslash, which browsers take for a slash."""

PASSING: Final = (Unavailable, LookupsBusy, SecretStoreError, AzureError, DestinationChanged)
"""After these the same sign-in can be completed once more, until it expires."""


class Provider(Protocol):
    """Mailchimp's sign-in: ``shared.mailchimp.oauth.OAuthProvider``."""

    def authorize_url(self, state: str) -> str: ...

    def token(self, code: str) -> str: ...

    def sign_in(self, token: str) -> SignIn: ...


class Stage(StrEnum):
    """See the drawing above."""

    OPEN = "open"
    TAKEN = "taken"
    USED = "used"


class ParkedToken(JsonDocument):
    """A token that was got for a code, while the rest of the sign-in has to wait. A code works once: whoever reloads
    the page brings the same code, and the token is taken from the secret store instead."""

    code_hash: str
    secret_name: str


class Authorization(JsonDocument):
    """A sign-in that was begun; stored at ``authorizations/{hash of the state}.json``.

    ``claim`` names the request that completes it, so that it knows its own write again.
    """

    who: Person
    destination_id: str
    return_to: str | None = None
    created_at: datetime
    stage: Stage = Stage.OPEN
    claim: str | None = None
    taken_at: datetime | None = None
    parked: ParkedToken | None = None


@dataclass(frozen=True, slots=True)
class BegunSignIn:
    """Where to send the browser of the person who began, and until when it has to be back."""

    authorize_url: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class StoredAuthorization:
    """A sign-in as it was read, under which name and in which version."""

    name: str
    authorization: Authorization
    etag: str


class Authorizations:
    """The sign-ins of one installation. ``provider`` is None where the app is not registered at Mailchimp."""

    def __init__(
        self,
        documents: Documents,
        destinations: DestinationStore,
        connections: Connections,
        secret_store: SecretStore,
        provider: Provider | None,
        *,
        portal_origins: Collection[str],
        clock: Callable[[], datetime],
        new_id: Callable[[], str],
    ) -> None:
        self._documents = documents
        self._destinations = destinations
        self._connections = connections
        self._secrets = secret_store
        self._provider = provider
        self._portal_origins = frozenset(portal_origins)
        self._clock = clock
        self._new_id = new_id

    # -- begin -----------------------------------------------------------------------------------------------

    def begin(self, destination_id: str, person: Person, return_to: str | None = None) -> BegunSignIn:
        """Remember that ``person`` signs the destination in, and say where.

        ``return_to``: a page of a portal (PORTAL_ORIGINS) that the browser is sent to afterwards. Raises
        DestinationNotFound, DestinationBeingRemoved, OAuthNotConfigured, PersonUnknown, ReturnToNotAllowed.
        """
        self._destinations.require(destination_id)
        provider = self._require_provider()
        if not person.id:
            raise PersonUnknown
        if return_to is not None and not self._is_portal_page(return_to):
            raise ReturnToNotAllowed
        now = self._clock()
        authorization = Authorization(who=person, destination_id=destination_id, return_to=return_to, created_at=now)
        state = secrets.token_urlsafe(_STATE_BYTES)
        with suppress(AlreadyExists):  # nobody else has this state: the write arrived, its answer did not
            self._documents.create(names.authorization(state), authorization.to_bytes())
        log.event("authorization.begun", destination=destination_id)
        return BegunSignIn(provider.authorize_url(state), now + LIFETIME)

    def _require_provider(self) -> Provider:
        if self._provider is None:
            raise OAuthNotConfigured
        return self._provider

    def _is_portal_page(self, address: str) -> bool:
        match = _PORTAL_PAGE.fullmatch(address)
        return match is not None and origin_of(match[1]) in self._portal_origins

    # -- come back -------------------------------------------------------------------------------------------

    def find(self, state: str, person: Person) -> StoredAuthorization:
        """The sign-in that ``person`` began with this state, in whatever stage it is.

        Raises AuthorizationUnknown, AuthorizationOfAnother: it is left as it is then.
        """
        found = self._read(names.authorization(state))
        if found.authorization.who.id != person.id:
            log.warning("authorization.ofAnother", destination=found.authorization.destination_id)
            raise AuthorizationOfAnother
        return found

    def complete(self, found: StoredAuthorization, code: str) -> StoredDestination:
        """Exchange the code for a token, look whose it is, and connect the destination with it.

        Everything else of the destination stays; only another account gives up the audience. Raises AuthorizationUsed,
        AuthorizationExpired, AuthorizationInProgress, OAuthNotConfigured, DestinationNotFound, DestinationBeingRemoved,
        SignInRefused, mailchimp.SignInRefused (the code is used or too old), mailchimp.SignInNotConfigured,
        mailchimp.ApiRootRefused, and everything in PASSING: then the same state and code may be brought once more.
        """
        provider = self._require_provider()
        with self._taken(found) as authorization:
            return self._connect(provider, authorization, code)

    def refuse(self, found: StoredAuthorization, error: str) -> None:
        """Note that Mailchimp sent the browser back with an OAuth error (RFC 6749, 4.1.2.1), and raise what it means.

        Raises AuthorizationDenied, AuthorizationFailed, mailchimp.SignInNotConfigured; mailchimp.Unavailable, which
        leaves the sign-in open; AuthorizationUsed, AuthorizationExpired, AuthorizationInProgress.
        """
        with self._taken(found):
            if error == "access_denied":
                raise AuthorizationDenied
            raise error_of_redirect(error) or AuthorizationFailed()

    def _connect(self, provider: Provider, authorization: Authorization, code: str) -> StoredDestination:
        destination_id = authorization.destination_id
        self._destinations.require(destination_id)  # gone or going: take no token that nobody could use
        token = self._parked_token(authorization, code) or provider.token(code)
        try:
            api_root = provider.sign_in(token).api_root
            return self._connections.connect(destination_id, "oauth", api_root, token, authorization.who)
        except PASSING:
            self._park(authorization, code, token)
            raise

    # -- stages ----------------------------------------------------------------------------------------------

    @contextmanager
    def _taken(self, found: StoredAuthorization) -> Iterator[Authorization]:
        """Hold the sign-in inside the block, alone: of two who bring the same state at once, one gets it."""
        taken = self._take(found)
        authorization = taken.authorization
        try:
            yield authorization
        except PASSING as error:
            self._leave(taken, Stage.OPEN, _code_of(error))
            raise
        except Exception as error:
            self._leave(taken, Stage.USED, _code_of(error))
            raise
        self._leave(taken, Stage.USED, "connected")

    def _take(self, found: StoredAuthorization) -> StoredAuthorization:
        claim = self._new_id()
        while True:
            self._require_usable(found.authorization)
            wanted = found.authorization.model_copy(
                update={"stage": Stage.TAKEN, "claim": claim, "taken_at": self._clock()}
            )
            try:
                etag = self._documents.replace(found.name, wanted.to_bytes(), found.etag)
            except Changed:
                found = self._read(found.name)
                if found.authorization.claim == claim:  # our own write, whose answer was lost
                    return found
            else:
                return replace(found, authorization=wanted, etag=etag)

    def _require_usable(self, authorization: Authorization) -> None:
        """Raises AuthorizationUsed, AuthorizationExpired, AuthorizationInProgress."""
        if authorization.stage is Stage.USED:
            raise AuthorizationUsed
        if self._is_expired(authorization):
            raise AuthorizationExpired
        taken_at = authorization.taken_at
        if authorization.stage is Stage.TAKEN and taken_at and self._clock() - taken_at < _CLAIM_COUNTS:
            raise AuthorizationInProgress

    def _is_expired(self, authorization: Authorization) -> bool:
        return self._clock() - authorization.created_at >= LIFETIME

    def _leave(self, taken: StoredAuthorization, stage: Stage, outcome: str) -> None:
        """Note the stage. Where storage does not answer, the sign-in counts as taken for two more minutes."""
        authorization = taken.authorization
        authorization.stage = stage
        log.event("authorization.ended", destination=authorization.destination_id, outcome=outcome, stage=stage.value)
        if stage is Stage.USED:
            self._drop_parked(authorization)
        with suppress(AzureError, Changed):
            self._documents.replace(taken.name, authorization.to_bytes(), taken.etag)

    def _read(self, name: str) -> StoredAuthorization:
        found = self._documents.read(name)
        if found is None:
            raise AuthorizationUnknown
        return StoredAuthorization(name, Authorization.from_bytes(found.data), found.etag)

    # -- parked tokens ---------------------------------------------------------------------------------------

    def _parked_token(self, authorization: Authorization, code: str) -> str | None:
        """The token that was got for this code before. For another code, perhaps of another account, there is none."""
        parked = authorization.parked
        if parked is None or parked.code_hash != _hash(code):
            return None
        try:
            return self._secrets.read(parked.secret_name)
        except SecretNotFound:
            return None

    def _park(self, authorization: Authorization, code: str, token: str) -> None:
        """Keep the token for the next try. Where that fails too, the next try says that the code was used."""
        if authorization.parked is not None and authorization.parked.code_hash == _hash(code):
            return
        name = f"mc-{authorization.destination_id}-{self._new_id()[:8]}"
        with suppress(AzureError, SecretStoreError):
            self._drop_parked(authorization)
            authorization.parked = ParkedToken(code_hash=_hash(code), secret_name=name)  # first: no secret unknown
            self._connections.loose_secrets.write(authorization.destination_id, name, token)

    def _drop_parked(self, authorization: Authorization) -> None:
        if authorization.parked is not None:
            self._connections.loose_secrets.delete(authorization.parked.secret_name)
            authorization.parked = None

    # -- expire ----------------------------------------------------------------------------------------------

    def delete_expired(self) -> int:
        """Delete the sign-ins that can no longer be completed, for the app's daily timer; returns how many."""
        deleted = 0
        for entry in list(self._documents.list(names.AUTHORIZATIONS_PREFIX)):
            with suppress(AuthorizationUnknown):
                authorization = self._read(entry.name).authorization
                if self._is_expired(authorization):
                    self._drop_parked(authorization)
                    self._documents.delete(entry.name)
                    deleted += 1
        return deleted


def _hash(code: str) -> str:
    return hashlib.sha256(code.encode()).hexdigest()


def _code_of(error: Exception) -> str:
    """What the log says of an error: a constant, never a text that may hold anything."""
    return str(getattr(error, "code", None) or type(error).__name__)
