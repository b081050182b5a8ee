"""Short cuts over HTTP to the states that a destination of ``Api`` goes through."""

from __future__ import annotations

from tests.unit.api_caller import Api
from tests.unit.setup_fakes import KEY

READY = {
    "audienceId": "aud1",
    "segments": ["Gold"],
    "dataMatching": {"email": "EMail", "firstName": "FirstName", "mergeFields": {"CITY": "City"}},
}
"""What makes a destination ready that is connected and has an export user."""


def created(api: Api, name: str = "Newsletter") -> str:
    reply = api.call("POST", "/api/destinations", {"displayName": name, "consent": {"agreed": True}})
    assert reply.status == 201
    return str(reply.json["id"])


def connected(api: Api, name: str = "Newsletter") -> str:
    destination_id = created(api, name)
    assert api.call("PUT", f"/api/destinations/{destination_id}/api-key", {"apiKey": KEY}).status == 200
    return destination_id


def ready(api: Api, name: str = "Newsletter") -> str:
    destination_id = connected(api, name)
    assert api.call("PUT", f"/api/destinations/{destination_id}/export-user").status == 200
    assert api.call("PATCH", f"/api/destinations/{destination_id}", READY).json["ready"] is True
    return destination_id


def started(api: Api, name: str = "Newsletter") -> tuple[str, str]:
    destination_id = ready(api, name)
    reply = api.call("POST", f"/api/destinations/{destination_id}/exports")
    assert reply.status == 202
    return destination_id, str(reply.json["id"])
