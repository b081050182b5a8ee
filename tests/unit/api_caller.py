"""Calls the API the way the Functions host does: through the adapter of Microsoft's library, which buffers."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from fastapi import FastAPI

from shared.api.app import create_app
from shared.api.services import Services
from shared.schedule.service import ScheduleService
from shared.settings import Settings, read_settings
from tests import adapter
from tests.adapter import Adapter
from tests.openapi import Documentation
from tests.unit.setup_fakes import FakeIds, Setup

LOCAL = {"AzureWebJobsStorage": "UseDevelopmentStorage=true", "PUBLIC_URL": "http://127.0.0.1:7071"}
DEPLOYED = LOCAL | {
    "WEBSITE_SITE_NAME": "app-1",
    "WEBSITE_AUTH_ENABLED": "True",
    "KEY_VAULT_URL": "https://kv-1.vault.azure.net",
    "PUBLIC_URL": "https://app-1.azurewebsites.net",
}


@dataclass(frozen=True, slots=True)
class Reply(adapter.Reply):
    """An answer of the API."""

    @property
    def error(self) -> dict[str, Any]:
        found = self.json["error"]
        assert isinstance(found, dict)
        assert set(found) == {"code", "message", "target", "details"}
        return found


class Api:
    """The whole API over faked services, with the settings of a local run or of a deployment."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.setup = Setup()
        self.settings = settings or read_settings(LOCAL)
        self.readiness = {"storage": True, "secretStore": True}
        self.schedule = ScheduleService(
            self.setup.documents.as_documents(),
            self.setup.service,
            self.setup.exports,
            self.setup.clock,
            audit=self.setup.audit,
            new_id=FakeIds("schedule"),
        )
        self.app: FastAPI = create_app(
            Services(
                settings=self.settings,
                destinations=self.setup.service,
                connections=self.setup.connections,
                authorizations=self.setup.authorizations,
                removals=self.setup.removals,
                readiness_reports=self.setup.readiness,
                exports=self.setup.exports,
                suppressed=self.setup.suppressed,
                segments=self.setup.segments,
                schedule=self.schedule,
                audit=self.setup.audit,
                readiness={name: self._readiness(name) for name in self.readiness},
                new_request_id=FakeIds("request"),
            )
        )
        self._runner = asyncio.Runner()
        self._adapter = Adapter(self.app, Reply, self._runner.run)

    def _readiness(self, name: str) -> Any:
        return lambda: self.readiness[name]

    def close(self) -> None:
        self._runner.close()

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
        raw: bytes = b"",
    ) -> Reply:
        """``body`` is sent as JSON, ``raw`` as it is. Host is this machine unless ``headers`` say otherwise."""
        sent = {"Host": "127.0.0.1:7071", **(headers or {})}
        reply = self._adapter.call(method, f"{self.settings.public_url}{path}", sent, body, raw)
        faults = documentation().faults_of(method, path, reply.status, reply.headers, reply.body)
        assert not faults, f"{method} {path}: {'; '.join(faults)}"
        return reply


@cache
def documentation() -> Documentation:
    """The OpenAPI document, for looking at every answer."""
    api = Api()
    api.close()
    return Documentation(api.app.openapi())


def signed_in(
    roles: Sequence[str], name: str = "ada@contoso.example", role_kind: str = "roles", object_id: str = "ada-id"
) -> dict[str, str]:
    """The header that App Service authentication adds for a user with these app roles."""
    principal = {
        "auth_typ": "aad",
        "name_typ": "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/emailaddress",
        "role_typ": "http://schemas.microsoft.com/ws/2008/06/identity/claims/role",
        "claims": [
            {"typ": "preferred_username", "val": name},
            {"typ": "http://schemas.microsoft.com/identity/claims/objectidentifier", "val": object_id},
            *({"typ": role_kind, "val": role} for role in roles),
        ],
    }
    return {"X-MS-CLIENT-PRINCIPAL": base64.b64encode(json.dumps(principal).encode()).decode()}
