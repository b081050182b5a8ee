"""Schemathesis drives the whole API with what its OpenAPI document allows, and with what it does not allow.

The product is the real one: Azurite, the Mailchimp sandbox, a destination that is ready, an export that has ended. No
answer may be a 5xx; none may have a status, a content type, a header or a body that the document does not say.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle
from typing import Any, Final, TypeAlias

import pytest
import schemathesis
from schemathesis import Case, GenerationMode
from schemathesis.specs.openapi.schemas import OpenApiSchema
from starlette.types import Receive, Scope, Send

from dev.azurite import Azurite
from dev.sandbox.control import CLIENT_ID, CLIENT_SECRET, SandboxControl
from shared.api.app import OPENAPI_PATH
from shared.bootstrap import bootstrap
from shared.destinations.model import Destination
from shared.people import Person
from shared.settings import read_settings
from shared.storage import names
from tests.integration.engine import AUDIENCE, KEY, TESTER, Engine, build_engine, people
from tests.unit.api_caller import signed_in

SEGMENT: Final = "Readers"
REAL: Final = {
    "apiKey": KEY,
    "audienceId": AUDIENCE,
    "segments": SEGMENT,
    "email": "EMail",
    "firstName": "FirstName",
    "lastName": "LastName",
    "mergeFields": "LastName",
    "timeZone": "Europe/Berlin",
}
"""What stands for a made-up value of the property, wherever it comes in a body."""
CALLERS: Final[tuple[dict[str, str], ...]] = (
    signed_in(["Administrator"]),
    signed_in(["Contributor"], object_id="given"),
    signed_in(["Contributor"], object_id="stranger"),
    signed_in(["Viewer"]),
    signed_in([]),
    {"X-MS-CLIENT-PRINCIPAL": "e30="},
    {},
)
OAUTH: Final = {"MAILCHIMP_CLIENT_ID": CLIENT_ID, "MAILCHIMP_CLIENT_SECRET": CLIENT_SECRET}
CHECKS: Final = {
    # The state may forbid what the document allows: no export of a destination that is not ready.
    "positive_data_acceptance": {"enabled": False},
    # Tokens are the platform's affair: what reaches the app is who it found.
    "ignored_auth": {"enabled": False},
}


class Door:
    """The product as a client on this machine reaches it. Which product that is, the fixtures say."""

    def __init__(self) -> None:
        self.product = bootstrap(read_settings({"AzureWebJobsStorage": "UseDevelopmentStorage=true"}))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = [(name, value) for name, value in scope["headers"] if name != b"host"]
            scope = {**scope, "client": ("127.0.0.1", 50000), "headers": [*headers, (b"host", b"127.0.0.1:7071")]}
        await self.product.asgi(scope, receive, send)


def described(examples: int, **phases: Any) -> OpenApiSchema:
    """The API by its document, to be driven with so many random examples for each operation; always the same ones."""
    generation = {
        "max-examples": examples,
        "deterministic": True,
        "database": "none",
        "with-security-parameters": False,
    }
    config = {"seed": 20261122, "generation": generation, "checks": CHECKS, "phases": phases}
    return schemathesis.openapi.from_asgi(OPENAPI_PATH, door, config=schemathesis.Config.from_dict(config))


AnyCase: TypeAlias = Case[Any]
door = Door()
api = described(8)
few = described(6, coverage={"enabled": False})


class World:
    """What there is when the calls of an operation begin."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.callers = cycle(CALLERS)
        self._operation = ""
        self._calls = 0
        self._ids: dict[str, str] = {}
        engine.write_segment(SEGMENT, [*people(20), {"EMail": "nobody", "FirstName": "", "LastName": ""}])
        self._ended = engine.run(engine.destination([SEGMENT])).id

    def aim(self, case: AnyCase) -> None:
        """Point a call that is allowed at what there is: made-up IDs lead no further than a 404, made-up names no
        further than a 422. One call in eight stays as it is."""
        door.product = self.engine.product
        if case.operation.label != self._operation:
            self._operation = case.operation.label
            self._restore()
        self._calls += 1
        if case.meta is None or case.meta.generation.mode is not GenerationMode.POSITIVE or self._calls % 8 == 0:
            return
        case.path_parameters |= {name: found for name, found in self._ids.items() if name in case.path_parameters}
        case.headers.pop("If-Match", None)
        if isinstance(case.body, dict):
            case.body = aimed(case.body)

    def _restore(self) -> None:
        """One destination, ready; where something is to be canceled, with an export that waits to begin."""
        documents = self.engine.product.documents
        for prefix in (names.DESTINATIONS_PREFIX, names.DISPLAY_NAMES_PREFIX, names.SECRETS_PREFIX, "current/"):
            documents.delete_all(prefix)
        destination = self.engine.destination([SEGMENT])
        self.engine.product.destination_store.change(destination.id, _given, by=TESTER, action="destination.configured")
        self._ids = {"destinationId": destination.id, "audienceId": AUDIENCE, "name": SEGMENT, "exportId": self._ended}
        if self._operation.endswith("/cancel"):
            export = self.engine.product.exports.start(destination, trigger="onDemand", requested_by=TESTER)
            self._ids["exportId"] = export.id


def aimed(body: Any, name: str = "") -> Any:
    """The body with names of things that there are."""
    if isinstance(body, dict):
        return {key: aimed(value, key if key in REAL else name) for key, value in body.items()}
    if isinstance(body, list):
        return [aimed(value, name) for value in dict.fromkeys(body)] if name == "segments" else body
    return REAL[name] if isinstance(body, str) and name in REAL else body


def _given(destination: Destination) -> Destination:
    destination.contributors = (Person(id="given", name="grace@contoso.example"),)
    return destination


@pytest.fixture(scope="module")
def world(azurite: Azurite, _unused_accounts: Iterator[str], _sandbox_process: SandboxControl) -> World:
    _sandbox_process.reset()
    return World(build_engine(azurite.connection_string(next(_unused_accounts)), _sandbox_process, **OAUTH))


@pytest.fixture(scope="module")
def deployed_world(azurite: Azurite, _unused_accounts: Iterator[str], _sandbox_process: SandboxControl) -> World:
    """As in Azure, where the platform says who calls."""
    account = azurite.connection_string(next(_unused_accounts))
    return World(build_engine(account, _sandbox_process, **OAUTH, WEBSITE_AUTH_ENABLED="True"))


@api.parametrize()
def test_every_answer_is_as_documented(case: AnyCase, world: World) -> None:
    world.aim(case)
    case.call_and_validate()


@few.parametrize()
def test_every_answer_to_people_with_and_without_a_role_is_as_documented(case: AnyCase, deployed_world: World) -> None:
    deployed_world.aim(case)
    case.call_and_validate(headers=next(deployed_world.callers))
