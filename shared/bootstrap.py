"""Wires the product together: for function_app.py, for the local host through it, and for tests."""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Final

from shared.audit.log import AuditLog
from shared.destinations.authorization import CALLBACK_PATH, Authorizations
from shared.destinations.connections import Connections
from shared.destinations.fitting import Fitting
from shared.destinations.readiness import ReadinessReports
from shared.destinations.removal import Removals
from shared.destinations.service import DestinationService
from shared.destinations.store import DestinationStore
from shared.exports.counts import KnownCounts
from shared.exports.pace import Paces
from shared.exports.records import ExportRecords
from shared.exports.resume import RESUMABLE_FOR
from shared.exports.service import ExportService
from shared.exports.sign_in import SignIns
from shared.exports.signals import Signals
from shared.exports.store import ExportStore
from shared.exports.suppressed import Suppressed
from shared.mailchimp import MailchimpClient, OAuthApp, OAuthProvider
from shared.mailchimp.access import MailchimpAccess
from shared.schedule.service import ScheduleService
from shared.secrets.open import open_secret_store
from shared.segments.catalog import SegmentCatalog
from shared.settings import Settings
from shared.storage.clients import blob_service, queue_service
from shared.storage.documents import Documents
from shared.storage.leases import Leases
from shared.storage.names import AUDIT_CONTAINER, STATE_CONTAINER
from shared.storage.queues import Queues

if TYPE_CHECKING:  # imported when first needed: the engine brings DuckDB along, the API FastAPI
    from fastapi import FastAPI, Response
    from starlette.types import Receive, Scope, Send

    from shared.exports.finish import Finisher
    from shared.exports.lanes import Lanes
    from shared.exports.poison import Poison
    from shared.exports.prepare import Preparer
    from shared.exports.refusals import Refusals
    from shared.exports.sweep import Sweeper
    from shared.exports.untag import Untagger

_ID_BYTES: Final = 8


def _new_id() -> str:
    return secrets.token_hex(_ID_BYTES)


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Time and chance, so that tests need neither patching nor waiting."""

    now: Callable[[], datetime] = _now
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    random: Callable[[], float] = random.random
    new_id: Callable[[], str] = _new_id


class Product:
    """The parts that the triggers use. Those of the engine are made when they are first needed."""

    def __init__(self, settings: Settings, surroundings: Surroundings) -> None:
        self.settings = settings
        self._surroundings = surroundings
        now, new_id = surroundings.now, surroundings.new_id
        storage = blob_service(settings.storage)
        container = storage.get_container_client(STATE_CONTAINER)
        self.documents = Documents(container)
        self._audit_documents = Documents(storage.get_container_client(AUDIT_CONTAINER))
        self.audit = AuditLog(self._audit_documents)
        self._queues = Queues(queue_service(settings.storage))
        self._segments_container = blob_service(settings.segments_storage).get_container_client(
            settings.segments_container
        )
        self.secrets = open_secret_store(settings, self.documents)
        self._leases = Leases(container, surroundings.monotonic, settings.lane_lease_seconds)
        self._signals = Signals(self._queues)
        self.store = ExportStore(self.documents, now)
        self.destination_store = DestinationStore(self.documents, self.audit, now, new_id)
        self._paces = Paces(self.documents, now, most_lanes=settings.mailchimp_max_connections)
        self._sign_ins = SignIns(self.destination_store, self.secrets)
        self._access = MailchimpAccess(
            self._leases,
            settings.mailchimp_max_connections,
            surroundings.monotonic,
            surroundings.sleep,
            MailchimpClient,
        )
        self.catalog = SegmentCatalog(self._segments_container, settings.segments_prefix)
        self._export_records = ExportRecords(self.audit)
        self.exports = ExportService(
            self.store, self._signals, self._export_records, self._paces, now=now, new_id=new_id
        )
        self.connections = Connections(
            self.destination_store,
            self.secrets,
            self._access,
            clock=now,
            new_id=new_id,
            api_url=settings.mailchimp_api_url,
        )
        fitting = Fitting(self.catalog, self.connections)
        self.authorizations = Authorizations(
            self.documents,
            self.destination_store,
            self.connections,
            self.secrets,
            _oauth_provider(settings),
            portal_origins=settings.portal_origins,
            clock=now,
            new_id=new_id,
        )
        self.destinations = DestinationService(
            self.destination_store, self.connections, fitting, self.exports, clock=now, new_id=new_id
        )
        counts = KnownCounts(self.store)
        self.readiness = ReadinessReports(fitting, self.catalog, counts, settings.max_profiles_per_export)
        self.schedule = ScheduleService(
            self.documents, self.destinations, self.exports, now, audit=self.audit, new_id=new_id
        )
        self.suppressed = Suppressed(
            lambda: self.refusals, self.destination_store, self.audit, clock=now, new_id=new_id
        )
        self.removals = Removals(self.destination_store, self.secrets, self.exports, self._signals, now)

    def ensure_storage(self) -> None:
        """Create the container and the queues where they are missing: infra/ declares them, a local start has none."""
        self.documents.ensure_container()
        self._audit_documents.ensure_container()
        self._queues.ensure_queues()

    async def asgi(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The HTTP API as an ASGI application, made at the first request.

        FastAPI costs a fifth of a second to import, and on Flex Consumption the queue and timer functions run in
        workers of their own, which never get a request.
        """
        await self.api(scope, receive, send)

    @staticmethod
    def unreadable_request() -> Response:
        """The answer to a request whose address or headers cannot even be handed to the API."""
        from shared.api.errors import unreadable_request

        return unreadable_request()

    @cached_property
    def api(self) -> FastAPI:
        from shared.api.app import create_app
        from shared.api.services import Services

        readiness: dict[str, Callable[[], bool]] = {
            "storage": self.documents.reachable,
            "secretStore": self.secrets.reachable,
        }
        return create_app(
            Services(
                settings=self.settings,
                destinations=self.destinations,
                connections=self.connections,
                authorizations=self.authorizations,
                removals=self.removals,
                readiness_reports=self.readiness,
                exports=self.exports,
                suppressed=self.suppressed,
                segments=self.catalog,
                schedule=self.schedule,
                audit=self.audit,
                readiness=readiness,
            )
        )

    @cached_property
    def refusals(self) -> Refusals:
        from shared.exports.refusals import Refusals

        return Refusals(
            self.store,
            self.destination_store,
            lasting=timedelta(days=self.settings.refusal_memory_days),
            now=self._surroundings.now,
            new_id=self._surroundings.new_id,
        )

    @cached_property
    def preparer(self) -> Preparer:
        from shared.exports.prepare import Preparer, PrepareTools
        from shared.segments.reader import SegmentReader

        tools = PrepareTools(
            store=self.store,
            destinations=self.destination_store,
            leases=self._leases,
            signals=self._signals,
            sign_ins=self._sign_ins,
            access=self._access,
            catalog=self.catalog,
            reader=SegmentReader(self._segments_container),
            paces=self._paces,
            refusals=self.refusals,
            now=self._surroundings.now,
            monotonic=self._surroundings.monotonic,
            new_id=self._surroundings.new_id,
            random=self._surroundings.random,
        )
        return Preparer(
            tools,
            max_profiles=self.settings.max_profiles_per_export,
            max_connections=self.settings.mailchimp_max_connections,
        )

    @cached_property
    def lanes(self) -> Lanes:
        from shared.exports.lane_work import LaneTools
        from shared.exports.lanes import Lanes, LaneSettings

        tools = LaneTools(
            store=self.store,
            leases=self._leases,
            signals=self._signals,
            sign_ins=self._sign_ins,
            paces=self._paces,
            open_client=self._access.client,
            now=self._surroundings.now,
            monotonic=self._surroundings.monotonic,
            sleep=self._surroundings.sleep,
            random=self._surroundings.random,
        )
        limits = LaneSettings(
            max_connections=self.settings.mailchimp_max_connections,
            lease_s=self.settings.lane_lease_seconds,
            budget_s=self.settings.lane_time_budget_seconds,
        )
        return Lanes(tools, limits)

    @cached_property
    def finisher(self) -> Finisher:
        from shared.exports.finish import Finisher, FinishTools

        return Finisher(
            FinishTools(
                store=self.store,
                destinations=self.destination_store,
                leases=self._leases,
                records=self._export_records,
                refusals=self.refusals,
                signals=self._signals,
                now=self._surroundings.now,
            ),
            max_connections=self.settings.mailchimp_max_connections,
            resumable_for=min(RESUMABLE_FOR, timedelta(days=self.settings.export_retention_days)),
        )

    @cached_property
    def sweeper(self) -> Sweeper:
        from shared.exports.sweep import Sweeper, SweepTools

        return Sweeper(
            SweepTools(
                store=self.store,
                destinations=self.destination_store,
                signals=self._signals,
                paces=self._paces,
                refusals=lambda: self.refusals,
                now=self._surroundings.now,
            ),
            max_connections=self.settings.mailchimp_max_connections,
            max_wait=timedelta(hours=self.settings.max_wait_hours),
            retention=timedelta(days=self.settings.export_retention_days),
        )

    @cached_property
    def untagger(self) -> Untagger:
        from shared.exports.untag import Untagger, UntagTools

        tools = UntagTools(
            store=self.store,
            destinations=self.destination_store,
            removals=self.removals,
            leases=self._leases,
            signals=self._signals,
            sign_ins=self._sign_ins,
            access=self._access,
            now=self._surroundings.now,
            monotonic=self._surroundings.monotonic,
            sleep=self._surroundings.sleep,
            random=self._surroundings.random,
        )
        return Untagger(tools, budget_s=self.settings.lane_time_budget_seconds)

    @cached_property
    def poison(self) -> Poison:
        from shared.exports.poison import Poison, PoisonTools

        tools = PoisonTools(
            store=self.store,
            leases=self._leases,
            signals=self._signals,
            paces=self._paces,
            removals=self.removals,
            finisher=lambda: self.finisher,
        )
        return Poison(tools, max_connections=self.settings.mailchimp_max_connections)


def _oauth_provider(settings: Settings) -> OAuthProvider | None:
    """Mailchimp's sign-in; None where the app is not registered there, or has not been given the secret."""
    client_id, secret = settings.mailchimp_client_id, settings.oauth_client_secret
    if client_id is None or secret is None:
        return None
    app = OAuthApp(
        settings.mailchimp_login_url,
        client_id,
        secret,
        f"{settings.public_url}{CALLBACK_PATH}",
    )
    return OAuthProvider(app, settings.mailchimp_api_url)


def bootstrap(settings: Settings, surroundings: Surroundings | None = None) -> Product:
    """The product as the settings want it. Nothing is called yet. Raises SettingsError."""
    return Product(settings, surroundings or Surroundings())
