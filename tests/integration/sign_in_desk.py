"""The whole product in this process with real storage, a real sandbox, people who call it, and their browsers."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from html import unescape
from typing import Any
from urllib.parse import parse_qs, urlsplit

import requests

from dev.sandbox.control import CLIENT_ID, CLIENT_SECRET, SandboxControl
from shared.bootstrap import Product, Surroundings, bootstrap
from shared.destinations.authorization import CALLBACK_PATH
from shared.people import Person
from shared.settings import read_settings
from tests import adapter
from tests.adapter import Adapter
from tests.integration.engine import LONG_LEASE, Engine

ADA = Person(id="aaaaaaaa-0000-0000-0000-000000000001", name="ada@contoso.example")
EVE = Person(id="eeeeeeee-0000-0000-0000-000000000002", name="eve@contoso.example")
NAMELESS = Person(id="", name="somebody@contoso.example")
PORTAL = "https://portal.contoso.example"
CONNECTED = "Connected to Mailchimp"
ADMINISTRATOR = ("Administrator",)


class Clock:
    """The time of day, which a test may let pass."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def pass_(self, **duration: float) -> None:
        self.ahead += timedelta(**duration)


@dataclass(frozen=True, slots=True)
class Reply(adapter.Reply):
    """An answer of the app, which may be a page."""

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def title(self) -> str:
        return self._between("<title>", "</title>")

    @property
    def sentence(self) -> str:
        """What the page says, as a person reads it."""
        return self._between("<p>", "</p>")

    def _between(self, start: str, end: str) -> str:
        assert self.headers["content-type"] == "text/html; charset=utf-8", self.body
        return unescape(self.text.partition(start)[2].partition(end)[0])

    @property
    def location(self) -> tuple[str, dict[str, str]]:
        """Where a redirect leads: the address without its query, and the query."""
        parts = urlsplit(self.headers["location"])
        query = {name: values[0] for name, values in parse_qs(parts.query, strict_parsing=True).items()}
        return f"{parts.scheme}://{parts.netloc}{parts.path}", query


def principal(person: Person, roles: Sequence[str]) -> str:
    """The header that App Service authentication adds."""
    claims = [{"typ": "preferred_username", "val": person.name}]
    claims += [{"typ": "roles", "val": role} for role in roles]
    if person.id:
        claims.append({"typ": "http://schemas.microsoft.com/identity/claims/objectidentifier", "val": person.id})
    return base64.b64encode(json.dumps({"auth_typ": "aad", "claims": claims}).encode()).decode()


@dataclass
class Desk:
    """One process's product behind App Service authentication, and a sandbox that knows it."""

    product: Product
    sandbox: SandboxControl
    connection_string: str
    clock: Clock

    @cached_property
    def _adapter(self) -> Adapter[Reply]:
        return Adapter(self.product.api, Reply)

    @property
    def engine(self) -> Engine:
        return Engine(self.product, self.sandbox, self.connection_string)

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        who: Person | None = ADA,
        roles: Sequence[str] = ADMINISTRATOR,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """``path`` with its query. ``who`` is None for somebody who is not signed in."""
        sent = {"Host": "127.0.0.1:7071", **(headers or {})}
        if who is not None:
            sent["X-MS-CLIENT-PRINCIPAL"] = principal(who, roles)
        return self._adapter.call(method, f"{self.product.settings.public_url}{path}", sent, body)

    # -- short cuts ----------------------------------------------------------------------------------------------

    def created(self, name: str = "Newsletter") -> str:
        """The ID of a new destination."""
        body = {"displayName": name, "consent": {"agreed": True}}
        destination_id: str = self.call("POST", "/api/destinations", body).json["id"]
        return destination_id

    def destination(self, destination_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.call("GET", f"/api/destinations/{destination_id}").json
        return found

    def sign_in_state(self, destination_id: str) -> str:
        state: str = self.destination(destination_id)["signIn"]["state"]
        return state

    def authorize(self, destination_id: str, return_to: str | None = None, who: Person = ADA) -> str:
        """Begin a sign-in; the address at Mailchimp."""
        body = None if return_to is None else {"returnTo": return_to}
        reply = self.call("POST", f"/api/destinations/{destination_id}/authorize", body, who=who)
        assert reply.status == 200, reply.body
        address: str = reply.json["authorizeUrl"]
        return address

    def returned(self, destination_id: str, return_to: str | None = None, **choices: str) -> str:
        """Begin a sign-in and go through Mailchimp's pages: the path and query that the browser comes back with."""
        return path_of(consent(self.authorize(destination_id, return_to), **choices))

    def signed_in(self, destination_id: str, **choices: str) -> Reply:
        """A sign-in from beginning to end."""
        return self.call("GET", self.returned(destination_id, **choices))

    def state_blobs(self) -> dict[str, bytes]:
        """Everything that lies in the state container."""
        container = self.product.documents.container
        return {name: container.download_blob(name).readall() for name in container.list_blob_names()}

    def authorizations(self) -> dict[str, dict[str, Any]]:
        blobs = self.state_blobs()
        return {name: json.loads(data) for name, data in blobs.items() if name.startswith("authorizations/")}

    def secrets(self) -> set[str]:
        return {name.removeprefix("secrets/") for name in self.state_blobs() if name.startswith("secrets/")}

    def tokens(self) -> set[str]:
        """The tokens that Mailchimp has given out, over all accounts."""
        return {token for account in self.sandbox.state()["accounts"] for token in account["tokens"]}


def open_desk(connection_string: str, sandbox: SandboxControl, **settings: str) -> Desk:
    """A desk on a storage account of its own; ``settings`` by their names, empty ones are left out."""
    environment = {
        "AzureWebJobsStorage": connection_string,
        "MAILCHIMP_API_URL": sandbox.address,
        "MAILCHIMP_LOGIN_URL": sandbox.address,
        "MAILCHIMP_CLIENT_ID": CLIENT_ID,
        "MAILCHIMP_CLIENT_SECRET": CLIENT_SECRET,
        "LOCAL_SECRET_KEY": "a key for tests only, not a secret",
        **LONG_LEASE,
        "PORTAL_ORIGINS": PORTAL,
        "WEBSITE_AUTH_ENABLED": "True",
        **settings,
    }
    clock = Clock()
    product = bootstrap(read_settings(environment), Surroundings(now=clock))
    product.ensure_storage()
    return Desk(product, sandbox, connection_string, clock)


def assert_not_connected(reply: Reply, status: int, words: str) -> None:
    """The page says, in these words among others, why nothing was connected."""
    assert (reply.status, reply.title) == (status, "Not connected to Mailchimp"), reply.body
    assert words in reply.sentence


def consent(address: str, decision: str = "allow", account: str | None = None) -> str:
    """What a person does in the browser at Mailchimp's page; the address to which the browser is sent then."""
    with requests.Session() as browser:
        browser.trust_env = False
        shown = browser.get(address, timeout=30)
        assert shown.status_code == 200, shown.text
        inputs = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', shown.text)
        form = {name: unescape(value) for name, value in inputs}
        chosen = account or re.findall(r'name="account" value="([^"]*)" checked', shown.text)[0]
        root = "{0.scheme}://{0.netloc}".format(urlsplit(address))
        action = re.findall(r'<form method="post" action="([^"]*)">', shown.text)[0]
        form |= {"account": chosen, "decision": decision}
        sent = browser.post(root + action, data=form, allow_redirects=False, timeout=30)
        assert sent.status_code == 302, sent.text
        return sent.headers["Location"]


def path_of(address: str) -> str:
    """Path and query of an address of the app."""
    parts = urlsplit(address)
    assert parts.path == CALLBACK_PATH
    return f"{parts.path}?{parts.query}"


def parameter(address: str, name: str) -> str:
    """A parameter of an address's query."""
    return parse_qs(urlsplit(address).query)[name][0]
