"""Calls the API with any identity: byte by byte over a socket, or the application itself over real storage."""

from __future__ import annotations

import asyncio
import base64
import http.client
import json
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from azure.storage.blob import BlobServiceClient

from dev.sandbox.control import API_KEY, AUDIENCE_ID
from shared.storage.names import AUDIT_CONTAINER, CONTAINERS
from tests.adapter import Adapter, Reply
from tests.integration.engine import Engine

GIVEN_ID: Final = "11111111-1111-1111-1111-111111111111"
"""The contributor to whom the destination of App.set_up is given."""

_ROLE_TYPE = "http://schemas.microsoft.com/ws/2008/06/identity/claims/role"


@dataclass(frozen=True, slots=True)
class Answer(Reply):
    """What came back."""

    @property
    def code(self) -> str:
        """Of an error, which has to be one of the API's documents."""
        assert self.headers["content-type"] == "application/json"
        (error,) = self.json.values()
        assert set(error) == {"code", "message", "target", "details"}
        return str(error["code"])


def send(
    address: str,
    method: str,
    target: str,
    headers: Mapping[str, str] | Sequence[tuple[str, str]] = (),
    body: bytes = b"",
) -> Answer:
    """One request as it is written here: nothing is checked, normalised or escaped. Host and Content-Length are added
    where ``headers`` have none."""
    url = urlsplit(address)
    given = list(headers.items() if isinstance(headers, Mapping) else headers)
    names = {name.lower() for name, _ in given}
    if "host" not in names:
        given.append(("Host", url.netloc))
    if body and not names & {"content-length", "transfer-encoding"}:
        given.append(("Content-Length", str(len(body))))
    head = "".join(f"{name}: {value}\r\n" for name, value in [*given, ("Connection", "close")])
    with socket.create_connection((url.hostname or "", url.port or 80), timeout=60) as connection:
        connection.sendall(f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body)
        response = http.client.HTTPResponse(connection, method=method)
        response.begin()
        return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())


def claims(*pairs: tuple[str, Any], **more: Any) -> dict[str, str]:
    """The header of a principal with exactly these claims; ``more`` are further properties of its document."""
    document = {"auth_typ": "aad", "claims": [{"typ": kind, "val": value} for kind, value in pairs], **more}
    return principal_header(json.dumps(document).encode())


def principal_header(document: bytes) -> dict[str, str]:
    return {"X-MS-CLIENT-PRINCIPAL": base64.b64encode(document).decode()}


def signed_in(role: str | None, *, id_: str = "", name: str = "") -> dict[str, str]:
    """The header that App Service authentication writes for somebody with this app role."""
    who = name or f"{(role or 'nobody').lower()}@contoso.example"
    roles = [("roles", role)] if role else []
    return claims(("oid", id_ or f"id-of-{who}"), ("preferred_username", who), *roles, role_typ=_ROLE_TYPE)


def versions(connection_string: str) -> dict[str, str]:
    """The ETags of everything that the product keeps, but for what timers and locks of running hosts write."""
    kept = ("destinations/", "names/", "secrets/", "exports/", "idempotency/", "schedule")
    with BlobServiceClient.from_connection_string(connection_string) as service:
        return {
            f"{container}/{blob.name}": str(blob.etag)
            for container in CONTAINERS
            for blob in service.get_container_client(container).list_blobs()
            if container == AUDIT_CONTAINER or blob.name.startswith(kept)
        }


@dataclass
class App:
    """The application as the platform would call it, and one destination that is ready, with an export."""

    engine: Engine
    destination_id: str = ""
    export_id: str = ""

    def __post_init__(self) -> None:
        self._runner = asyncio.Runner()
        self._adapter = Adapter(self.engine.product.api, Answer, self._runner.run)

    def close(self) -> None:
        self._runner.close()

    # -- calling -------------------------------------------------------------------------------------------------

    def call(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
        sent = {"Host": "app.example", **(headers or {})}
        return self._adapter.call(method.upper(), f"https://app.example{path}", sent, body)

    def administer(self, method: str, path: str, body: Any = None) -> Any:
        answer = self.call(method, path, body, signed_in("Administrator"))
        assert answer.status < 300, answer.body
        return answer.json if answer.body else None

    def set_up(self) -> None:
        """Make the destination, give it to one contributor, and start an export that nobody works on."""
        made = self.administer("post", "/api/destinations", {"displayName": "Given", "consent": {"agreed": True}})
        self.destination_id = made["id"]
        path = f"/api/destinations/{self.destination_id}"
        self.administer("put", f"{path}/api-key", {"apiKey": API_KEY})
        self.administer("put", f"{path}/export-user")
        configuration = {
            "audienceId": AUDIENCE_ID,
            "dataMatching": {"email": "EMail"},
            "segments": ["Readers"],
            "contributors": [{"id": GIVEN_ID, "name": "grace@contoso.example"}],
        }
        assert self.administer("patch", path, configuration)["ready"]
        self.export_id = self.administer("post", f"{path}/exports")["id"]

    def fill(self, path: str) -> str:
        return path.format(
            destinationId=self.destination_id, exportId=self.export_id, audienceId=AUDIENCE_ID, name="Readers"
        )
