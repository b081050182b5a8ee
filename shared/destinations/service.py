"""Sets up, changes and removes destinations, and asks Mailchimp and the segments whether the configuration fits."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final, Protocol

from shared.destinations import checks, consent
from shared.destinations.errors import (
    ConfigurationInvalid,
    ConsentRequired,
    DestinationNameTaken,
    Finding,
    NotConnected,
    SignInRefused,
)
from shared.destinations.model import (
    ChosenAudience,
    Consent,
    DataMatching,
    Destination,
    SetUpWarning,
    SignIn,
    SignInState,
)
from shared.destinations.requests import ConsentRequest, DestinationPatch
from shared.destinations.store import DestinationStore, StoredDestination
from shared.mailchimp import errors as mailchimp
from shared.mailchimp.api_root import api_root_for_key
from shared.mailchimp.client import MailchimpClient
from shared.mailchimp.replies import Audience, MergeField
from shared.secrets.store import SecretNotFound, SecretStore
from shared.segments.errors import SegmentError
from shared.storage import names

if TYPE_CHECKING:
    from shared.segments.catalog import SegmentDetail  # needs DuckDB, which no look-up of a destination should load

AUDIENCES_WITH_MERGE_FIELDS: Final = 20
"""For so many audiences the list shows merge fields: each costs a call, and few accounts have more audiences."""

Findings = list[Finding]  # the service has a method of the name list
Names = list[str]

_CHARACTERS_WORTH_HIDING: Final = 12
_AUDIENCE_ID: Final = re.compile(r"[A-Za-z0-9]{1,64}")


class Access(Protocol):
    """Opens Mailchimp connections: ``shared.mailchimp.access.MailchimpAccess``."""

    def lookup(self, account_id: str | None, api_root: str, token: str) -> AbstractContextManager[MailchimpClient]: ...


class RunningExports(Protocol):
    """The part of the export service that a removal needs."""

    def stop_for_destination(self, destination_id: str, reason: str) -> None: ...


class Segments(Protocol):
    """The segments there are: ``shared.segments.catalog.SegmentCatalog``."""

    def describe(self, name: str) -> SegmentDetail: ...


@dataclass(frozen=True, slots=True)
class AudienceChoice:
    """An audience of the account; ``merge_fields`` is None where they were not asked for."""

    audience: Audience
    merge_fields: Sequence[MergeField] | None


class DestinationService:
    """Everything the API does with destinations. ``user`` is always the name of who asks."""

    def __init__(
        self,
        store: DestinationStore,
        secrets: SecretStore,
        segments: Segments,
        access: Access,
        exports: RunningExports,
        *,
        clock: Callable[[], datetime],
        new_id: Callable[[], str],
        api_url: str | None = None,
    ) -> None:
        self._store = store
        self._secrets = secrets
        self._segments = segments
        self._access = access
        self._exports = exports
        self._clock = clock
        self._new_id = new_id
        self._api_url = api_url

    # -- list, create, read ----------------------------------------------------------------------------------

    def list(self) -> list[Destination]:
        """All destinations, by display name."""
        found = [stored.destination for stored in self._store.all()]
        return sorted(found, key=lambda destination: (destination.display_name.casefold(), destination.id))

    def get(self, destination_id: str) -> StoredDestination:
        """Raises DestinationNotFound."""
        return self._store.get(destination_id)

    def create(self, display_name: str, agreement: ConsentRequest | None, user: str) -> StoredDestination:
        """A new destination, not signed in yet. Raises ConsentRequired, DestinationNameTaken."""
        if agreement is None or not agreement.agreed:
            raise ConsentRequired
        self._require_free_name(display_name, None)
        now = self._clock()
        return self._store.create(
            Destination(
                id=self._new_id(),
                display_name=display_name,
                consent=Consent(agreed_by=user, agreed_at=now, text_version=consent.TEXT_VERSION),
                created_at=now,
                created_by=user,
                updated_at=now,
                updated_by=user,
            )
        )

    def _require_free_name(self, display_name: str, own_id: str | None) -> None:
        wanted = display_name.strip().casefold()
        for other in self._store.all():
            if other.destination.id != own_id and other.destination.display_name.strip().casefold() == wanted:
                raise DestinationNameTaken(display_name)

    # -- change ----------------------------------------------------------------------------------------------

    def patch(
        self, destination_id: str, patch: DestinationPatch, user: str, if_match: str | None = None
    ) -> StoredDestination:
        """Change what ``patch`` names, after checking that everything fits together.

        Raises ConfigurationInvalid with every finding, NotConnected, DestinationNameTaken, DestinationChanged, and
        Mailchimp's errors where Mailchimp has to be asked and does not answer. Nothing is half changed.
        """

        def apply(destination: Destination) -> Destination:
            changed = self._patched(destination, patch)
            if changed != destination:
                changed.updated_at, changed.updated_by = self._clock(), user
            return changed

        return self._store.change(destination_id, apply, if_match)

    def _patched(self, old: Destination, patch: DestinationPatch) -> Destination:
        given = patch.model_fields_set
        new = old.model_copy(deep=True)
        if "display_name" in given:
            if patch.display_name is None:
                raise ConfigurationInvalid(
                    [Finding("missing", "The display name cannot be taken away.", "displayName")]
                )
            self._require_free_name(patch.display_name, old.id)
            new.display_name = patch.display_name
        if "segments" in given:
            new.segments = patch.segments or ()
        if "data_matching" in given:
            matching = patch.data_matching
            new.data_matching = DataMatching.model_validate(matching.model_dump()) if matching else None
        if "audience_id" in given and patch.audience_id is None:
            new.audience, new.warnings = None, ()
        findings = self._check_segments(old, new)
        asks_mailchimp = patch.audience_id is not None or ("data_matching" in given and new.audience is not None)
        if asks_mailchimp:
            findings += self._check_audience(new, patch.audience_id)
        if findings:
            raise ConfigurationInvalid(findings)
        return new

    def _check_segments(self, old: Destination, new: Destination) -> Findings:
        """Segments and fields are looked at again when either changes; a lost segment must not block a new name."""
        if new.segments == old.segments and new.data_matching == old.data_matching:
            return []
        findings: Findings = []
        segment_names: Names = []
        fields: dict[str, Collection[str]] = {}
        for number, given in enumerate(new.segments):
            target = f"segments[{number}]"
            try:
                detail = self._segments.describe(given)
            except SegmentError as error:
                findings.append(Finding(error.code, error.message, target))
                segment_names.append(given)
                continue
            segment = detail.summary
            if not segment.exportable:
                message = f"Segment '{segment.name}' cannot be exported: {segment.reason}"
                findings.append(Finding("segmentNotExportable", message, target))
            else:
                fields[segment.name] = [field.name for field in detail.fields]
            segment_names.append(segment.name)
        new.segments = tuple(segment_names)
        findings += checks.check_tags(segment_names)
        if new.data_matching is not None:
            findings += checks.check_fields(new.data_matching, fields)
        return findings

    def _check_audience(self, new: Destination, audience_id: str | None) -> Findings:
        """Look the audience up and fit the data matching to it; sets ``audience`` and ``warnings`` of ``new``."""
        with self.mailchimp(new) as client:
            wanted = audience_id if audience_id is not None else new.audience.id if new.audience else ""
            if not _AUDIENCE_ID.fullmatch(wanted):
                return [_unknown_audience(wanted, new)]
            try:
                audience = client.audience(wanted)
                merge_fields = client.merge_fields(wanted)
            except mailchimp.AudienceNotFound:
                return [_unknown_audience(wanted, new)]
        new.audience = ChosenAudience(id=audience.id, name=audience.name)
        new.warnings = (
            *checks.audience_warnings(audience.name, double_optin=audience.double_optin),
            *checks.merge_field_warnings(new.data_matching, audience.name, merge_fields),
        )
        if new.data_matching is None:
            return []
        return checks.check_merge_fields(new.data_matching, audience.name, merge_fields)

    def set_export_user(self, destination_id: str, user: str) -> StoredDestination:
        """Note ``user`` as the one on whose behalf the destination exports ("Add yourself as export user")."""

        def apply(destination: Destination) -> Destination:
            if destination.export_user != user:
                destination.export_user = user
                destination.updated_at, destination.updated_by = self._clock(), user
            return destination

        return self._store.change(destination_id, apply)

    # -- Mailchimp -------------------------------------------------------------------------------------------

    def sign_in_with_api_key(self, destination_id: str, api_key: str, user: str) -> StoredDestination:
        """Look up the account of the key; store both, then delete the secret that was there before.

        Raises SignInRefused (nothing is stored then), mailchimp.ApiKeyMalformed, mailchimp.Unavailable.
        """
        api_key = api_key.strip()
        api_root = api_root_for_key(api_key, self._api_url)
        self._store.change(destination_id, lambda destination: destination)  # gone or going: ask Mailchimp nothing
        try:
            with self._access.lookup(None, api_root, api_key) as client:
                account = client.account()
        except (mailchimp.SignInRefused, mailchimp.AccessForbidden) as error:
            raise SignInRefused(f"{error.message} Nothing was stored. {error.action}") from error
        return self._connect(
            destination_id,
            SignIn(
                state=SignInState.CONNECTED,
                method="apiKey",
                account_id=account.account_id,
                account_name=account.account_name,
                api_root=api_root,
                secret_hint=_hint(api_key),
                connected_at=self._clock(),
                connected_by=user,
            ),
            api_key,
            user,
        )

    def _connect(self, destination_id: str, sign_in: SignIn, secret: str, user: str) -> StoredDestination:
        """Write the secret under a new name, point the destination to it, delete the one before: in this order,
        so that at every moment the destination points to a secret that exists."""
        sign_in.secret_name = f"mc-{destination_id}-{self._new_id()[:8]}"
        self._secrets.write(sign_in.secret_name, secret)
        before: list[str | None] = [None]

        def apply(destination: Destination) -> Destination:
            before[0] = destination.sign_in.secret_name
            if destination.sign_in.account_id not in {None, sign_in.account_id}:
                destination.audience = None  # it belongs to the other account
                destination.warnings = (_ACCOUNT_CHANGED,)
            destination.sign_in = sign_in
            destination.updated_at, destination.updated_by = self._clock(), user
            return destination

        try:
            stored = self._store.change(destination_id, apply)
        except Exception:
            self._secrets.delete(sign_in.secret_name)
            raise
        if before[0] is not None:
            self._secrets.delete(before[0])
        return stored

    @contextmanager
    def mailchimp(self, destination: Destination) -> Iterator[MailchimpClient]:
        """A client for look-ups of the destination's account. A refused sign-in is noted in the destination.

        Raises NotConnected, mailchimp.access.LookupsBusy, and inside the block whatever the client raises.
        """
        sign_in = destination.sign_in
        if sign_in.state is not SignInState.CONNECTED or sign_in.secret_name is None or sign_in.api_root is None:
            raise NotConnected(destination.id, again=sign_in.state is SignInState.SIGN_IN_AGAIN)
        try:
            token = self._secrets.read(sign_in.secret_name)
            with self._access.lookup(sign_in.account_id, sign_in.api_root, token) as client:
                yield client
        except (mailchimp.SignInRefused, SecretNotFound) as error:
            self._store.mark_sign_in_again(destination.id, sign_in.secret_name)
            raise NotConnected(destination.id, again=True) from error

    def audiences(self, destination_id: str) -> Sequence[AudienceChoice]:
        """The audiences of the destination's account, the first twenty with their merge fields."""
        with self.mailchimp(self._store.get(destination_id).destination) as client:
            return [
                AudienceChoice(
                    audience, client.merge_fields(audience.id) if number < AUDIENCES_WITH_MERGE_FIELDS else None
                )
                for number, audience in enumerate(client.audiences())
            ]

    def audience(self, destination_id: str, audience_id: str) -> AudienceChoice:
        """One audience with its merge fields. Raises mailchimp.AudienceNotFound."""
        with self.mailchimp(self._store.get(destination_id).destination) as client:
            return AudienceChoice(client.audience(audience_id), client.merge_fields(audience_id))

    # -- removal ---------------------------------------------------------------------------------------------

    def remove(self, destination_id: str, user: str, if_match: str | None = None) -> None:
        """Stop the destination's exports, delete its secret, its ledgers and itself.

        It is marked first, so that nothing starts any more, and an interrupted removal can be repeated.
        Raises DestinationNotFound, DestinationChanged.
        """
        stored = self._store.get(destination_id)
        if stored.destination.removed_at is None:
            stored = self._mark_removed(stored, user, if_match)
        self._finish_removal(stored.destination, user)

    def finish_removals(self) -> int:
        """Complete removals that were interrupted, for the app's timer; returns how many there were."""
        begun = [stored.destination for stored in self._store.all() if stored.destination.removed_at is not None]
        for destination in begun:
            self._finish_removal(destination, destination.updated_by)
        return len(begun)

    def _mark_removed(self, stored: StoredDestination, user: str, if_match: str | None) -> StoredDestination:
        def mark(destination: Destination) -> Destination:
            now = self._clock()
            destination.removed_at = destination.updated_at = now
            destination.updated_by = user
            return destination

        return self._store.change(stored.destination.id, mark, if_match)

    def _finish_removal(self, destination: Destination, user: str) -> None:
        self._exports.stop_for_destination(destination.id, f"The destination was removed by {user}.")
        if destination.sign_in.secret_name is not None:
            self._secrets.delete(destination.sign_in.secret_name)
        self._store.documents.delete_all(names.ledgers(destination.id))
        self._store.documents.delete_all(names.idempotency(destination.id, "").removesuffix(".json"))
        self._store.delete(destination.id)


_ACCOUNT_CHANGED: Final = SetUpWarning(
    code="accountChanged",
    message="The sign-in belongs to another Mailchimp account than before. Choose an audience of this account.",
    target="audienceId",
)


def _hint(api_key: str) -> str:
    """Enough of a key to recognize it by: its last four characters, unless that is too much of it, and its ending."""
    key, _, data_centre = api_key.rpartition("-")
    shown = key[-4:] if len(key) >= _CHARACTERS_WORTH_HIDING else ""
    return f"…{shown}-{data_centre}"


def _unknown_audience(audience_id: str, destination: Destination) -> Finding:
    return Finding(
        "audienceNotFound",
        f"The Mailchimp account '{destination.sign_in.account_name}' has no audience with the ID '{audience_id}'. "
        "Pick one of GET …/audiences.",
        "audienceId",
    )
