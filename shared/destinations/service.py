"""Sets up and changes destinations, and asks Mailchimp and the segments whether the configuration fits."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Protocol

from pydantic.alias_generators import to_snake

from shared.destinations import consent
from shared.destinations.connections import Connections
from shared.destinations.errors import (
    ConfigurationInvalid,
    ConfirmationNeeded,
    ConsentRequired,
    Finding,
)
from shared.destinations.fitting import Fitting, refreshed_warnings
from shared.destinations.model import (
    Consent,
    DataMatching,
    Destination,
    ExportUser,
)
from shared.destinations.requests import ConsentRequest, DestinationPatch, DuplicateRequest
from shared.destinations.store import DestinationStore, StoredDestination
from shared.people import Person
from shared.schedule.rules import ScheduleMode
from shared.storage import names

Findings = list[Finding]  # the service has a method of the name list


class RunningExports(Protocol):
    """The part of the export service that ends what may not go on."""

    def stop_for_destination(self, destination_id: str, reason: str, code: str = ...) -> None: ...


class DestinationService:
    """Everything the API does with the configuration of destinations. ``user`` is who asks."""

    def __init__(
        self,
        store: DestinationStore,
        connections: Connections,
        fitting: Fitting,
        exports: RunningExports,
        *,
        clock: Callable[[], datetime],
        new_id: Callable[[], str],
    ) -> None:
        self._store = store
        self._connections = connections
        self._fitting = fitting
        self._exports = exports
        self._clock = clock
        self._new_id = new_id

    # -- list, create, read ----------------------------------------------------------------------------------

    def list(self) -> list[Destination]:
        """All destinations, by display name."""
        found = [stored.destination for stored in self._store.all()]
        return sorted(found, key=lambda destination: (destination.display_name.casefold(), destination.id))

    def get(self, destination_id: str) -> StoredDestination:
        """Raises DestinationNotFound."""
        return self._store.get(destination_id)

    def create(self, display_name: str, agreement: ConsentRequest | None, user: Person) -> StoredDestination:
        """A new destination, not signed in yet. Raises ConsentRequired, DestinationNameTaken."""
        now = self._clock()
        destination = Destination(
            id=self._new_id(),
            display_name=display_name,
            consent=self._agreed(agreement, user),
            created_at=now,
            created_by=user.name,
            updated_at=now,
            updated_by=user.name,
        )
        return self._create(destination, user)

    def duplicate(self, destination_id: str, wanted: DuplicateRequest, user: Person) -> StoredDestination:
        """A new destination with the configuration of another one: without its history, and switched off in the
        schedule, so that nothing runs before somebody has looked at it.

        ``share_sign_in``: connected to the same account, with a copy of the secret of its own; otherwise somebody
        signs in, and chooses the audience again if it is another account. Raises ConsentRequired, NotConnected,
        DestinationNameTaken, DestinationNotFound, DestinationBeingRemoved.
        """
        source = self._store.require(destination_id).destination
        now = self._clock()
        copy = Destination(
            id=self._new_id(),
            display_name=wanted.display_name,
            consent=self._agreed(wanted.consent, user),
            data_matching=source.data_matching,
            segments=source.segments,
            member_status=source.member_status,
            schedule=source.schedule.model_copy(update={"mode": ScheduleMode.OFF}),
            contributors=source.contributors,
            every_contributor=source.every_contributor,
            created_at=now,
            created_by=user.name,
            updated_at=now,
            updated_by=user.name,
        )
        if not wanted.share_sign_in:
            return self._create(copy, user)
        _, secret = self._connections.read(source)
        return self._connections.share(source, secret, self._create(copy, user).destination.id, user)

    def _create(self, destination: Destination, user: Person) -> StoredDestination:
        self._store.claim_name(destination.display_name, destination.id)
        return self._store.create(destination, user)

    def _agreed(self, agreement: ConsentRequest | None, user: Person) -> Consent:
        if agreement is None or not agreement.agreed:
            raise ConsentRequired
        return Consent(agreed_by=user.name, agreed_at=self._clock(), text_version=consent.TEXT_VERSION)

    # -- consent and people ----------------------------------------------------------------------------------

    def set_consent(self, destination_id: str, agreement: ConsentRequest, user: Person) -> StoredDestination:
        """Agree (again) to the present text, or withdraw: then a running export ends, and none starts any more."""

        def apply(destination: Destination) -> Destination:
            if agreement.agreed:
                destination.consent = self._agreed(agreement, user)
            elif destination.consent.withdrawn_at is None:
                destination.consent.withdrawn_by, destination.consent.withdrawn_at = user.name, self._clock()
            return destination

        action = "destination.consentGiven" if agreement.agreed else "destination.consentWithdrawn"
        stored = self._store.change(destination_id, apply, by=user, action=action)
        if not agreement.agreed:
            reason = f"The consent to data privacy and compliance was withdrawn by {user.name}."
            self._exports.stop_for_destination(destination_id, reason, code="consentWithdrawn")
        return stored

    def set_export_user(self, destination_id: str, user: Person) -> StoredDestination:
        """Note ``user`` as the one in whose name the destination exports ("Add yourself as export user")."""

        def apply(destination: Destination) -> Destination:
            old = destination.export_user
            if old is None or (old.id, old.name) != (user.id, user.name):
                destination.export_user = ExportUser(id=user.id, name=user.name, added_at=self._clock())
            return destination

        return self._store.change(destination_id, apply, by=user, action="destination.exportUserSet")

    # -- change ----------------------------------------------------------------------------------------------

    def patch(
        self, destination_id: str, patch: DestinationPatch, user: Person, if_match: str | None = None
    ) -> StoredDestination:
        """Change what ``patch`` names, after checking that everything fits together.

        Raises ConfigurationInvalid with every finding, ConfirmationNeeded, NotConnected, DestinationNameTaken,
        DestinationChanged, and Mailchimp's errors where Mailchimp has to be asked and does not answer. Nothing is half
        changed.
        """
        before: list[str] = []

        def apply(destination: Destination) -> Destination:
            before[:] = [destination.display_name]
            return self._patched(destination, patch)

        stored = self._store.change(destination_id, apply, if_match, by=user, action="destination.configured")
        if before[0] != stored.destination.display_name:
            self._store.release_name(before[0], destination_id)
        return stored

    def _patched(self, old: Destination, patch: DestinationPatch) -> Destination:
        given = patch.model_fields_set
        new = old.model_copy(deep=True)
        findings = _cleared(patch)
        if patch.display_name is not None:
            self._store.claim_name(patch.display_name, old.id)
            new.display_name = patch.display_name
        _set_options(new, patch)
        if (new.schedule, new.enabled) != (old.schedule, old.enabled):
            new.scheduled_since = self._clock()
        if "segments" in given:
            new.segments = patch.segments or ()
        if "data_matching" in given:
            matching = patch.data_matching
            new.data_matching = DataMatching.model_validate(matching.model_dump()) if matching else None
        if "audience_id" in given and patch.audience_id is None:
            new.audience, new.warnings = None, ()
        if new.segments != old.segments or new.data_matching != old.data_matching:
            findings += self._fitting.check_segments(new)  # only then: a lost segment must not block a new name
        if patch.audience_id is not None or ("data_matching" in given and new.audience is not None):
            findings += self._fitting.check_audience(new, patch.audience_id)
        elif new.member_status is not old.member_status:
            new.warnings = refreshed_warnings(new)
        if findings:
            raise ConfigurationInvalid(findings)
        self._check_audience_change(old, new, confirmed=bool(patch.confirm))
        return new

    def _check_audience_change(self, old: Destination, new: Destination, *, confirmed: bool) -> None:
        """Who was exported before stays where they are: that has to be known before the audience is changed."""
        if old.audience is None or (new.audience is not None and new.audience.id == old.audience.id) or confirmed:
            return
        if self._store.documents.exists(names.ledger(old.id, old.audience.id)):
            raise ConfirmationNeeded(old.audience.name, new.audience.name if new.audience else None)


def _set_options(destination: Destination, patch: DestinationPatch) -> None:
    """What needs no look at anything else. Raises ScheduleInvalid."""
    for name in ("member_status", "enabled", "every_contributor"):
        if getattr(patch, name) is not None:
            setattr(destination, name, getattr(patch, name))
    if patch.contributors is not None:
        destination.contributors = tuple({each.id: each.person() for each in patch.contributors}.values())
    if patch.schedule is not None:
        destination.schedule = patch.schedule.checked()


def _cleared(patch: DestinationPatch) -> Findings:
    """What cannot be taken away with null."""
    return [
        Finding("missing", f"{name} cannot be null: leave it out, or give it a value.", name)
        for name in ("displayName", "memberStatus", "enabled", "everyContributor", "contributors", "schedule")
        if to_snake(name) in patch.model_fields_set and getattr(patch, to_snake(name)) is None
    ]
