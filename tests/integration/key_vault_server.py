"""A stand-in for Azure Key Vault on this machine, for tests only: secrets over HTTPS, with the service's own protocol.

What it speaks (Key Vault REST API, "Secrets"; "Authentication, requests and responses"): a challenge for requests
without a token, ``api-version``, soft delete that takes a moment, purge, roles, purge protection, throttling, errors.
Clients reach it under the name of a vault in Azure, with a certificate for that name, so that nothing of the real
client has to be switched off.
"""

from __future__ import annotations

import json
import re
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

import requests
from azure.core.credentials import AccessToken
from azure.core.pipeline.transport import HttpTransport, RequestsTransport
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from requests.adapters import HTTPAdapter

TENANT = "11111111-2222-3333-4444-555555555555"
CHALLENGE = f'Bearer authorization="https://login.microsoftonline.com/{TENANT}", resource="https://vault.azure.net"'
TOKEN = "a-token-of-the-managed-identity"
_PATH = re.compile(r"/(secrets|deletedsecrets)/([0-9A-Za-z-]{1,127})(?:/[0-9a-f]*)?")


@dataclass(frozen=True, slots=True)
class Fault:
    """An answer instead of the real one, ``count`` times, for a method and a collection."""

    status: int
    method: str = ""
    collection: str = ""
    code: str = "Error"
    retry_after: str | None = None
    hang_s: float = 0


@dataclass
class Vault:
    """What the vault holds, and how it behaves. ``recovery_level`` as in the REST API's DeletionRecoveryLevel."""

    host: str
    secrets: dict[str, str] = field(default_factory=dict)
    deleted: dict[str, float] = field(default_factory=dict)
    """By name, the time at which the deletion is complete."""
    recovery_level: str = "CustomizedRecoverable+Purgeable"
    may_purge: bool = True
    deletion_s: float = 0
    faults: list[Fault] = field(default_factory=list)
    """Each strikes once, in this order."""
    calls: list[str] = field(default_factory=list)
    bodies_without_token: list[bytes] = field(default_factory=list)
    address: tuple[str, int] = ("", 0)
    certificate: str = ""
    stopped: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        return f"https://{self.host}"

    def asked(self, what: str) -> int:
        """How many calls with a token there were of this kind: ``"DELETE deletedsecrets"``."""
        return self.calls.count(what)


class Credential:
    """A managed identity that is given a token for what it is asked for."""

    def __init__(self, fault: Exception | None = None) -> None:
        self.asked: list[tuple[tuple[str, ...], object]] = []
        """Scopes and tenant."""
        self._fault = fault

    def get_token(self, *scopes: str, **more: Any) -> AccessToken:
        self.asked.append((scopes, more.get("tenant_id")))
        if self._fault is not None:
            raise self._fault
        return AccessToken(TOKEN, int(time.time()) + 3600)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, vault: Vault) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.vault = vault

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that gave up is what some tests want."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def vault(self) -> Vault:
        return cast("_Server", self.server).vault

    def do_GET(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def do_DELETE(self) -> None:
        self._answer()

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = urlsplit(self.path)
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self.vault.bodies_without_token.append(body)
            return self._error(401, "Unauthorized", {"WWW-Authenticate": CHALLENGE})
        match = _PATH.fullmatch(parts.path)
        if not parse_qs(parts.query).get("api-version"):
            return self._error(400, "BadParameter")
        if match is None:
            return self._error(400, "BadParameter")
        collection, name = match[1], match[2]
        with self.vault.lock:
            self.vault.calls.append(f"{self.command} {collection}")
            fault = self._fault(collection)
        if fault is not None:
            self.vault.stopped.wait(fault.hang_s)
            more = {} if fault.retry_after is None else {"Retry-After": fault.retry_after}
            return self._error(fault.status, fault.code, more)
        with self.vault.lock:
            status, answer = self._done(collection, name, body)
        return self._error(status, answer) if isinstance(answer, str) else self._send(status, answer, {})

    def _fault(self, collection: str) -> Fault | None:
        for number, fault in enumerate(self.vault.faults):
            if fault.method in {"", self.command} and fault.collection in {"", collection}:
                return self.vault.faults.pop(number)
        return None

    def _done(self, collection: str, name: str, body: bytes) -> tuple[int, str | dict[str, Any]]:
        """Status, and the document or the code of an error."""
        vault = self.vault
        complete = vault.deleted.get(name, 0) <= time.monotonic()
        match self.command, collection:
            case "PUT", "secrets" if name in vault.deleted:
                return 409, "ObjectIsDeletedButRecoverable" if complete else "ObjectIsBeingDeleted"
            case "PUT", "secrets":
                vault.secrets[name] = json.loads(body)["value"]
                return 200, self._bundle(name, vault.secrets[name])
            case "GET", "secrets" if name in vault.secrets:
                return 200, self._bundle(name, vault.secrets[name])
            case "DELETE", "secrets" if name in vault.secrets:
                value = vault.secrets.pop(name)
                if vault.recovery_level == "Purgeable":  # no soft delete
                    return 200, self._bundle(name, value)
                vault.deleted[name] = time.monotonic() + vault.deletion_s
                return 200, self._deleted_bundle(name)
            case "GET", "deletedsecrets" if name in vault.deleted and complete:
                return 200, self._deleted_bundle(name)
            case "DELETE", "deletedsecrets" if "Purgeable" not in vault.recovery_level or not vault.may_purge:
                return 403, "Forbidden"
            case "DELETE", "deletedsecrets" if name in vault.deleted and not complete:
                return 409, "ObjectIsBeingDeleted"
            case "DELETE", "deletedsecrets" if name in vault.deleted:
                del vault.deleted[name]
                return 204, {}
        return 404, "SecretNotFound"

    def _bundle(self, name: str, value: str) -> dict[str, Any]:
        return {"value": value, **self._properties(name)}

    def _properties(self, name: str) -> dict[str, Any]:
        seconds = int(time.time())
        attributes = {
            "enabled": True,
            "created": seconds,
            "updated": seconds,
            "recoveryLevel": self.vault.recovery_level,
            "recoverableDays": 7,
        }
        return {"id": f"{self.vault.url}/secrets/{name}/{'0' * 32}", "attributes": attributes}

    def _deleted_bundle(self, name: str) -> dict[str, Any]:
        seconds = int(time.time())
        return {
            "recoveryId": f"{self.vault.url}/deletedsecrets/{name}",
            "deletedDate": seconds,
            "scheduledPurgeDate": seconds + 7 * 24 * 3600,
            **self._properties(name),
        }

    def _error(self, status: int, code: str, headers: dict[str, str] | None = None) -> None:
        outer = {403: "Forbidden", 409: "Conflict", 429: "Throttled"}.get(status, code)
        error = {"code": outer, "message": f"The vault refuses: {code}.", "innererror": {"code": code}}
        self._send(status, {"error": error}, headers or {})

    def _send(self, status: int, document: dict[str, Any], headers: dict[str, str]) -> None:
        content = b"" if status == 204 else json.dumps(document).encode()
        self.send_response(status)
        sent = {"Content-Type": "application/json; charset=utf-8", "Content-Length": str(len(content)), **headers}
        for name, value in sent.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


class _ToThisMachine(HTTPAdapter):
    """Sends what is meant for the vault's name to the stand-in, and checks that its certificate is for that name."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        super().__init__()

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        host = self._vault.host
        super().init_poolmanager(*args, **options, server_hostname=host, assert_hostname=host)

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        parts = urlsplit(request.url or "")
        assert parts.hostname == self._vault.host
        address, port = self._vault.address
        request.url = parts._replace(netloc=f"{address}:{port}").geturl()
        request.headers["Host"] = self._vault.host
        options.update(verify=self._vault.certificate, proxies={})
        return super().send(request, *args, **options)


def transport_to(vault: Vault, slept: list[float], read_timeout_s: float = 60) -> HttpTransport[Any, Any]:
    """The client library's transport to the stand-in. It notes in ``slept`` how long it would have waited."""
    session = requests.Session()
    session.mount("https://", _ToThisMachine(vault))
    transport: Any = RequestsTransport(session=session, connection_timeout=60, read_timeout=read_timeout_s)
    transport.sleep = slept.append
    return cast("HttpTransport[Any, Any]", transport)


def _write_certificate(host: str, folder: Path) -> tuple[Path, Path]:
    """A certificate for ``host`` that lasts for a day, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate_file, key_file = folder / f"{host}.pem", folder / f"{host}.key"
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certificate_file, key_file


@contextmanager
def start_vault(host: str, folder: Path) -> Iterator[Vault]:
    """Serve a vault of the name ``host`` (``….vault.azure.net``) until the block ends; its certificate in `folder`."""
    vault = Vault(host)
    certificate, key = _write_certificate(host, folder)
    server = _Server(vault)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    vault.address, vault.certificate = ("127.0.0.1", server.server_address[1]), str(certificate)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield vault
    finally:
        vault.stopped.set()
        server.shutdown()
        server.server_close()
        thread.join()
