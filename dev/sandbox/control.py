"""Start a sandbox and steer it from Python: for tests, the demo and the benchmark."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector
from typing import Any

import msgspec
import requests

from dev.child import Child, start_child
from dev.sandbox.app import DEFAULT_AUDIENCE, DEFAULT_KEY

REPOSITORY = Path(__file__).resolve().parents[2]
API_KEY = DEFAULT_KEY
AUDIENCE_ID = DEFAULT_AUDIENCE
CLIENT_ID = "sandbox-client"
CLIENT_SECRET = "sandbox-secret"
PRELOAD_ROWS = 50_000


class SandboxError(Exception):
    """The sandbox did not start, or refused a call of its control API; the text says what."""


class SandboxControl:
    """The control API of a running sandbox at `address` (``http://127.0.0.1:8085``)."""

    def __init__(self, address: str) -> None:
        self.address = address.rstrip("/")
        self._session = requests.Session()
        self._session.trust_env = False  # never through a proxy

    def close(self) -> None:
        """Close the connections to the sandbox."""
        self._session.close()

    def __enter__(self) -> SandboxControl:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def api_url(self) -> str:
        """The root of the Mailchimp API, without `/3.0`."""
        return self.address

    # What it holds
    def state(self) -> dict[str, Any]:
        """Accounts, audiences with counts, calls, open calls."""
        return self._json("GET", "/state")

    def audience(self, audience_id: str = AUDIENCE_ID) -> dict[str, Any]:
        """One audience of the state. Raises `SandboxError` if there is none."""
        for account in self.state()["accounts"]:
            for audience in account["audiences"]:
                if audience["id"] == audience_id:
                    found: dict[str, Any] = audience
                    return found
        raise SandboxError(f"there is no audience {audience_id}")

    def members(self, audience_id: str = AUDIENCE_ID) -> Iterator[dict[str, Any]]:
        """All contacts: email_address, status, merge_fields, tags (names), compliance."""
        with self._call("GET", f"/audiences/{audience_id}/members", stream=True) as response:
            rest = b""
            for piece in response.iter_content(chunk_size=None):
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    yield msgspec.json.decode(line)

    def addresses(self, audience_id: str = AUDIENCE_ID) -> set[str]:
        """The addresses of all contacts, in lower case."""
        return {member["email_address"].lower() for member in self.members(audience_id)}

    def calls(self, kind: str | None = None, limit: int | None = None) -> list[dict[str, Any]]:
        """The most recent calls of the API (10,000 at most), oldest first; `limit` takes the last ones."""
        query = {"kind": kind, "limit": limit}
        found: list[dict[str, Any]] = self._json(
            "GET", "/calls", params={name: value for name, value in query.items() if value is not None}
        )["calls"]
        return found

    # Setting it up
    def reset(self) -> None:
        """Back to the state after the start."""
        self._call("POST", "/reset")

    def add_account(self, name: str = "Another Co", **more: Any) -> dict[str, Any]:
        """A new account; `id` and `apiKey` may be given. Its first key is in `apiKeys`."""
        return self._json("POST", "/accounts", json={"name": name, **more})

    def add_audience(self, name: str = "Audience", **more: Any) -> dict[str, Any]:
        """A new audience; `id`, `account`, `mergeFields`, `doubleOptin`, `marketingPermissions` may be given."""
        return self._json("POST", "/audiences", json={"name": name, **more})

    def delete_audience(self, audience_id: str = AUDIENCE_ID) -> None:
        """Delete an audience: the API knows it no more, `members` still shows what it held."""
        self._call("DELETE", f"/audiences/{audience_id}")

    def add_contacts(self, contacts: Iterable[dict[str, Any]], audience_id: str = AUDIENCE_ID) -> None:
        """Put contacts in: email_address, status, merge_fields, tags, compliance, forgotten."""
        batch: list[dict[str, Any]] = []
        for contact in contacts:
            batch.append(contact)
            if len(batch) == PRELOAD_ROWS:
                self._add_batch(batch, audience_id)
                batch = []
        if batch:
            self._add_batch(batch, audience_id)

    def _add_batch(self, contacts: list[dict[str, Any]], audience_id: str) -> None:
        self._call("POST", f"/audiences/{audience_id}/contacts", json={"contacts": contacts})

    def add_key(self, value: str | None = None) -> str:
        """Another API key of the first account."""
        key: str = self._json("POST", "/credentials", json={"kind": "key", "value": value})["value"]
        return key

    def add_token(self, account: str) -> str:
        """An OAuth token of an account, without the sign-in pages."""
        token: str = self._json("POST", "/credentials", json={"kind": "token", "account": account})["value"]
        return token

    def revoke(self, credential: str) -> None:
        """Take back a key or token: calls with it answer 401 from now on."""
        self._call("DELETE", f"/credentials/{credential}")

    def set_redirect_uris(self, *uris: str) -> None:
        """Register these OAuth redirect addresses instead of all others."""
        self._call("PUT", "/oauth-client", json={"redirectUris": uris})

    def settings(self) -> dict[str, Any]:
        """The settings."""
        return self._json("GET", "/settings")

    def change_settings(self, **changes: Any) -> dict[str, Any]:
        """Change settings: latencyBaseMs, latencyPerMemberMs, tagsReachExisting, realisticReplies, maxConnections."""
        return self._json("PUT", "/settings", json=changes)

    def faults(self) -> list[dict[str, Any]]:
        """The faults that are set, each with the calls `seen` and `struck`."""
        found: list[dict[str, Any]] = self._json("GET", "/faults")["faults"]
        return found

    def set_faults(self, *faults: dict[str, Any]) -> None:
        """Set these faults instead of all others; their form is in docs/sandbox.md."""
        self._call("PUT", "/faults", json={"faults": faults})

    def clear_faults(self) -> None:
        """No faults any more."""
        self._call("DELETE", "/faults")

    def _json(self, method: str, path: str, **arguments: Any) -> dict[str, Any]:
        document: dict[str, Any] = self._call(method, path, **arguments).json()
        return document

    def _call(self, method: str, path: str, **arguments: Any) -> requests.Response:
        url = f"{self.address}/_sandbox{path}"
        response = self._session.request(method, url, timeout=60, **arguments)
        if not response.ok:
            raise SandboxError(f"{method} {path} answered {response.status_code}: {response.text}")
        return response


@contextmanager
def start_sandbox(
    *arguments: str, port: int = 0, ready_seconds: float = 120.0, python: str = sys.executable
) -> Iterator[SandboxControl]:
    """Run a sandbox in a process of its own, on a free port, until the block ends.

    `arguments` are command-line flags such as ``"--realistic-replies"``. Raises `SandboxError` if it does not start.
    """
    command = [python, "-m", "dev.sandbox", "--port", str(port), "--stop-with-parent", *arguments]
    with (
        start_child(command, cwd=REPOSITORY, end_seconds=10) as child,
        child.output,
        SandboxControl(_ready_address(child, ready_seconds)) as control,
    ):
        yield control


def _ready_address(child: Child, seconds: float) -> str:
    """The address in the line that the process prints when it is ready."""
    with DefaultSelector() as selector:
        selector.register(child.output, EVENT_READ)
        if not selector.select(seconds):
            raise SandboxError(f"the sandbox was not ready within {seconds:g} seconds")
    line = child.output.readline()
    if not line:
        raise SandboxError(f"the sandbox ended with exit code {child.process.wait(10)} before it was ready")
    address: str = json.loads(line)["address"]
    return address
