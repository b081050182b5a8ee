"""Everything that the product needs, on this machine: Azurite, the Mailchimp sandbox and local hosts.

    with Stack() as stack:
        stack.upload_segments({"Readers": [("1", "ada@mail.example")]}, columns=("CustomerId", "EMail"))
        stack.api("GET", "/api/segments").json()

All processes end with the block, and their logs are in `.run/logs`. Demo, serve, benchmark and tests use it.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, NoReturn, Self

import requests
from azure.core.exceptions import ResourceExistsError
from azure.storage.blob import BlobServiceClient, ContainerClient

from dev.azurite import AzuriteError, start_azurite
from dev.host.process import HostProcess, HostStartError, start_host
from dev.sample_data.people import ATTRIBUTES
from dev.sample_data.upload import EXPORT_NAME, entity_of, upload_model
from dev.sandbox.control import CLIENT_ID, CLIENT_SECRET, SandboxControl, SandboxError, start_sandbox
from shared.bootstrap import bootstrap
from shared.settings import SETTING_NAMES, SettingsError, read_settings
from shared.storage.names import STATE_CONTAINER

RUN_FOLDER = Path(__file__).resolve().parents[1] / ".run"
SEGMENTS_CONTAINER = "segments"
START_ERRORS = (AzuriteError, HostStartError, SandboxError, SettingsError)

_LOOPBACK = "127.0.0.1"
_SAMPLE_COLUMNS = tuple(attribute.name for attribute in ATTRIBUTES)


class StackError(Exception):
    """The stack did not start, or a call that had to succeed did not; the text says what and what to do."""


class Stack:
    """The running stack, between `with` and the end of its block.

    `storage` is the connection string; `sandbox` the control API of the Mailchimp sandbox; `hosts` the running local
    hosts; `segments` the container of segments; `env` what the hosts were started with.
    """

    storage: str
    sandbox: SandboxControl
    env: Mapping[str, str]
    segments: ContainerClient

    def __init__(
        self,
        *,
        hosts: int = 1,
        host_port: int = 0,
        sandbox_port: int = 0,
        blob_port: int = 0,
        queue_port: int = 0,
        storage: str | None = None,
        sandbox_arguments: Sequence[str] = (),
        settings: Mapping[str, str] | None = None,
        name: str = "stack",
        grace_seconds: float = 5,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Nothing is started yet. Port 0 takes a free one; `host_port` is that of the first host.

        `storage` is the connection string of an account to use instead of an Azurite of its own; `settings` are added
        to those of the hosts; `name` begins the names of the logs; `tell` hears a sentence for each thing started.
        """
        self._host_count = hosts
        self._host_port = host_port
        self._blob_port, self._queue_port = blob_port, queue_port
        self._sandbox_port = sandbox_port
        self._given_storage = storage
        self._sandbox_arguments = sandbox_arguments
        self._settings = dict(settings or {})
        self.name = name
        self._grace_seconds = grace_seconds
        self._tell = tell
        self._exit = ExitStack()
        self._session = requests.Session()
        self._session.trust_env = False  # never through a proxy
        self.hosts: list[HostProcess] = []

    def __enter__(self) -> Self:
        """Starts everything. Raises StackError."""
        try:
            self._start()
        except START_ERRORS as error:
            self._exit.close()
            raise StackError(str(error)) from error
        except BaseException:
            self._exit.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._session.close()
        self._exit.__exit__(kind, error, traceback)

    # -- use -----------------------------------------------------------------------------------------------------

    @property
    def address(self) -> str:
        """Of the first host, without a slash at the end."""
        return self.hosts[0].address

    @property
    def log_folder(self) -> Path:
        return RUN_FOLDER / "logs"

    def api(
        self, method: str, path: str, *, json: Any = None, headers: Mapping[str, str] | None = None, host: int = 0
    ) -> requests.Response:
        """One call of the HTTP API, `path` with its `/api`; the answer whatever its status."""
        url = f"{self.hosts[host].address}{path}"
        return self._session.request(method, url, json=json, headers=dict(headers or {}), timeout=60)

    def ask(self, method: str, path: str, *, json: Any = None) -> Any:
        """The JSON of a call that has to succeed. Raises StackError with what the API says otherwise."""
        answer = self.api(method, path, json=json)
        if not answer.ok:
            raise StackError(f"The call {method} {path} was answered with {answer.status_code}: {answer.text[:2000]}")
        return answer.json() if answer.content else None

    def follow(self, export_id: str, *, timeout: float, every: float = 0.25) -> Iterator[dict[str, Any]]:
        """The export as the API shows it, again and again until it has ended. Raises StackError after `timeout`
        seconds."""
        deadline = time.monotonic() + timeout
        while True:
            export: dict[str, Any] = self.ask("GET", f"/api/exports/{export_id}")
            yield export
            if export["ended"]:
                return
            if time.monotonic() > deadline:
                raise StackError(f"The export is still {export['status']} after {timeout:.0f} s.")
            time.sleep(every)

    def wait(self, export_id: str, *, timeout: float = 120) -> dict[str, Any]:
        """The export when it has ended. Raises StackError after `timeout` seconds."""
        *_, export = self.follow(export_id, timeout=timeout)
        return export

    def upload_segments(
        self,
        segments: Mapping[str, Iterable[Sequence[str]]],
        *,
        columns: Sequence[str] = _SAMPLE_COLUMNS,
    ) -> str:
        """Writes rows by segment name as Customer Insights does; returns the name of the model.json."""
        entities = [entity_of(name, columns, rows) for name, rows in segments.items()]
        return upload_model(self.segments, entities, refreshed_at=datetime.now(UTC), export_name=EXPORT_NAME)

    def state(self, name: str) -> bytes:
        """A blob of the product's own state, by its name (shared/storage/names.py)."""
        with BlobServiceClient.from_connection_string(self.storage) as service:
            return service.get_blob_client(STATE_CONTAINER, name).download_blob().readall()

    def start_host(self, port: int = 0, env: Mapping[str, str] | None = None) -> HostProcess:
        """Another host on the same storage; `env` is added to what all hosts get. Raises HostStartError."""
        number = len(self.hosts) + 1
        log_file = self.log_folder / f"{self.name}-host-{number}.log"
        log_file.write_bytes(b"")
        host = self._exit.enter_context(
            start_host({**self.env, **(env or {})}, port, log_file=log_file, grace_seconds=self._grace_seconds)
        )
        self.hosts.append(host)
        return host

    # -- start ---------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        _never_through_a_proxy()
        self.log_folder.mkdir(parents=True, exist_ok=True)
        self._require_free_ports()
        self.storage = self._given_storage or self._start_azurite()
        started = start_sandbox(*self._sandbox_arguments, port=self._sandbox_port)
        self.sandbox = self._exit.enter_context(started)
        self._tell(f"Mailchimp sandbox        {self.sandbox.address}")
        port = self._choose_address()
        self._create_storage()
        for number in range(self._host_count):
            host = self.start_host() if number else self._start_first_host(port)
            self._tell(f"local Functions host     {host.address}  ({len(host.functions)} functions)")

    def _choose_address(self) -> int:
        """The port of the first host, which all settings know before it is started."""
        port = self._host_port or _free_port()
        self.env = self._environment(f"http://{_LOOPBACK}:{port}")
        self.sandbox.set_redirect_uris(f"{self.env['PUBLIC_URL']}/api/oauth/callback")
        return port

    def _start_first_host(self, port: int) -> HostProcess:
        """At another address if somebody took the port that was free when it was chosen."""
        try:
            return self.start_host(port)
        except HostStartError as error:
            if self._host_port or f"Port {port} cannot be used" not in str(error):
                raise
        return self._start_first_host(self._choose_address())

    def _start_azurite(self) -> str:
        azurite = self._exit.enter_context(start_azurite(1, blob_port=self._blob_port, queue_port=self._queue_port))
        self._tell(f"Azurite (Azure Storage)  {azurite.blob_address}")
        return azurite.connection_string()

    def _environment(self, public_url: str) -> dict[str, str]:
        """All settings of the app; those that this stack does not use are empty, whatever this process has."""
        return {
            **dict.fromkeys(SETTING_NAMES, ""),
            "AzureWebJobsStorage": self.storage,
            "SEGMENTS_CONTAINER": SEGMENTS_CONTAINER,
            "MAILCHIMP_API_URL": self.sandbox.api_url,
            "MAILCHIMP_LOGIN_URL": self.sandbox.address,
            "MAILCHIMP_CLIENT_ID": CLIENT_ID,
            "MAILCHIMP_CLIENT_SECRET": CLIENT_SECRET,
            "LOCAL_SECRET_KEY": secrets.token_urlsafe(32),
            "PUBLIC_URL": public_url,
            "PYTHON_THREADPOOL_THREAD_COUNT": "24",  # these two as in infra/modules/functionapp.bicep
            "MALLOC_ARENA_MAX": "2",
            **self._settings,
        }

    def _create_storage(self) -> None:
        """The containers and queues that infra/ declares for a deployment."""
        bootstrap(read_settings(self.env)).ensure_storage()
        service = self._exit.enter_context(BlobServiceClient.from_connection_string(self.storage))
        self.segments = service.get_container_client(SEGMENTS_CONTAINER)
        with suppress(ResourceExistsError):  # another stack on the same account may have made it
            self.segments.create_container()

    def _require_free_ports(self) -> None:
        wanted = {"local host": self._host_port, "Mailchimp sandbox": self._sandbox_port}
        if self._given_storage is None:
            wanted |= {"Azurite's blobs": self._blob_port, "Azurite's queues": self._queue_port}
        taken = [f"{port} ({what})" for what, port in wanted.items() if port and not _is_free(port)]
        if taken:
            raise StackError(
                f"Another program listens on port {', '.join(taken)}. Stop it (a 'make serve' that still runs?), "
                "or choose another port: see --help."
            )


def stop_on_signals() -> None:
    """SIGTERM and Ctrl-C raise KeyboardInterrupt, once: what is then being stopped is not interrupted again."""

    def interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, interrupt)


def _never_through_a_proxy() -> None:
    """Everything here is on this machine; the started processes inherit this."""
    for name in ("NO_PROXY", "no_proxy"):
        hosts = [host for host in os.environ.get(name, "").split(",") if host]
        os.environ[name] = ",".join(dict.fromkeys([*hosts, _LOOPBACK, "localhost"]))


def _is_free(port: int) -> bool:
    with socket.socket() as attempt:
        attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            attempt.bind((_LOOPBACK, port))
        except OSError:
            return False
    return True


def _free_port() -> int:
    with socket.socket() as attempt:
        attempt.bind((_LOOPBACK, 0))
        port: int = attempt.getsockname()[1]
        return port
