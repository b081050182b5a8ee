"""The processes of a scenario: Azurite on a disk, the storage proxy, the sandbox, and hosts that come and go."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit

import requests
from azure.core.exceptions import AzureError
from azure.storage.blob import BlobLeaseClient, BlobServiceClient

from dev.azurite import Azurite, start_azurite
from dev.chaos.scenario import TIME_SCALE as DEFAULT_SCALE
from dev.chaos.storage_proxy import StorageProxy, start_proxy
from dev.chaos.surroundings import CLOCK_SHIFT, TIME_SCALE
from dev.host.loading import FIRST_IMPORTS
from dev.host.process import HostProcess
from dev.sandbox.control import SandboxControl
from dev.stack import RUN_FOLDER, Stack
from shared.storage.names import STATE_CONTAINER

LANE_LEASE_S: Final = 15
_ANSWER_WITHIN_S: Final = 90.0
_FROZEN_S: Final = LANE_LEASE_S + 5.0
_SETTINGS: Final = {
    "LANE_LEASE_SECONDS": str(LANE_LEASE_S),
    "HOST_MESSAGE_LEASE_SECONDS": str(LANE_LEASE_S + 5),  # ten minutes in Azure, for leases of half a minute
    "AzureFunctionsJobHost__extensions__queues__visibilityTimeout": "00:00:02",  # half a minute in host.json
    FIRST_IMPORTS: "dev.chaos.surroundings",
}


class NoAnswer(Exception):
    """No host gave a usable answer in time; the text holds the last one."""


@dataclass(slots=True)
class _Host:
    process: HostProcess
    clock: int
    is_frozen: bool = False
    is_stopping: bool = False

    @property
    def serves(self) -> bool:
        return self.process.returncode is None and not self.is_frozen and not self.is_stopping


class Processes:
    """The running processes of one scenario, between `with` and the end of its block.

    `hit` counts what was done to them, by name. Everything may be called from several threads.
    """

    stack: Stack
    proxy: StorageProxy

    def __init__(
        self, seed: int, clocks: Sequence[int], lanes: int, *, scale: float = DEFAULT_SCALE, name: str = "chaos"
    ) -> None:
        self._seed, self._clocks, self._lanes, self._scale = seed, tuple(clocks), lanes, scale
        self._name = name
        self._random = Random(f"processes {seed}")
        self._exit = ExitStack()
        self._azurite_exit = ExitStack()
        self._hosts: list[_Host] = []
        self._lock = threading.Lock()
        self._session = requests.Session()
        self._session.trust_env = False
        self.hit: Counter[str] = Counter()

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._close()

    @property
    def sandbox(self) -> SandboxControl:
        return self.stack.sandbox

    def _start(self) -> None:
        RUN_FOLDER.mkdir(exist_ok=True)
        self._data = Path(tempfile.mkdtemp(prefix="chaos-azurite-", dir=RUN_FOLDER))
        self._exit.callback(shutil.rmtree, self._data, ignore_errors=True)
        azurite = self._start_azurite(0, 0)
        self._ports = (urlsplit(azurite.blob_address).port or 0, urlsplit(azurite.queue_address).port or 0)
        self._exit.callback(self._azurite_exit.close)
        self._direct = self._exit.enter_context(BlobServiceClient.from_connection_string(azurite.connection_string()))
        self.proxy = self._exit.enter_context(start_proxy(self._seed, *self._ports))
        settings = {**_SETTINGS, "MAILCHIMP_MAX_CONNECTIONS": str(self._lanes), TIME_SCALE: str(self._scale)}
        self.stack = self._exit.enter_context(
            Stack(hosts=0, storage=self.proxy.connection_string, settings=settings, name=self._name, grace_seconds=2)
        )
        for path in self.stack.log_folder.glob(f"{self._name}-host-*.log"):
            path.unlink()  # of an earlier run with more hosts
        for clock in self._clocks:
            self.add_host(clock)

    def _start_azurite(self, blob_port: int, queue_port: int) -> Azurite:
        return self._azurite_exit.enter_context(
            start_azurite(1, self._data, blob_port=blob_port, queue_port=queue_port)
        )

    def _close(self) -> None:
        for host in self._hosts:
            if host.is_frozen:
                self._continue(host)
        if hasattr(self, "proxy"):
            self.proxy.disarm()
        self._session.close()
        self._exit.close()

    # -- hosts ---------------------------------------------------------------------------------------------------

    def add_host(self, clock: int) -> None:
        """One more host whose clock is wrong by so many seconds."""
        with self._lock:  # the stack numbers its hosts
            process = self.stack.start_host(env={CLOCK_SHIFT: str(clock)})
            self._hosts.append(_Host(process, clock))

    @property
    def serving(self) -> Sequence[HostProcess]:
        """The hosts that are up."""
        return [host.process for host in self._hosts if host.serves]

    def any_clock(self) -> int:
        return self._random.choice(self._clocks)

    def kill_host(self) -> None:
        """`kill -9` of a host; another one starts a moment later."""
        self._replace(self._pick(), lambda host: host.process.kill(), "host killed")

    def stop_host(self) -> None:
        """SIGTERM, as a platform that scales in; another host starts at once."""

        def stop(host: _Host) -> None:
            host.is_stopping = True
            host.process.signal_stop()

        self._replace(self._pick(), stop, "host stopped")

    def _replace(self, host: _Host | None, end: Any, name: str) -> None:
        if host is None:
            return
        end(host)
        self.hit[name] += 1
        time.sleep(self._random.uniform(0, 3))
        self.add_host(host.clock)

    def freeze_host(self) -> None:
        """A host that gets no time until its leases are over, and then goes on where it was."""
        host = self._pick()
        if host is None:
            return
        host.is_frozen = True
        os.kill(host.process.pid, signal.SIGSTOP)
        self.hit["host frozen"] += 1
        time.sleep(_FROZEN_S)
        self._continue(host)

    def _continue(self, host: _Host) -> None:
        host.is_frozen = False
        with suppress(ProcessLookupError):
            os.kill(host.process.pid, signal.SIGCONT)

    def _pick(self) -> _Host | None:
        serving = [host for host in self._hosts if host.serves]
        return self._random.choice(serving) if serving else None

    # -- storage -------------------------------------------------------------------------------------------------

    def restart_azurite(self) -> None:
        """Azurite goes away and comes back with everything that it had acknowledged."""
        with self._lock, self.proxy.closed():
            self._azurite_exit.close()
            time.sleep(self._random.uniform(0.5, 3))
            self._start_azurite(*self._ports)
        self.hit["Azurite restarted"] += 1

    def break_lease(self) -> None:
        """Take the lease of a lane away from whoever holds it."""
        container = self._direct.get_container_client(STATE_CONTAINER)
        with suppress(AzureError):
            held = [b.name for b in container.list_blobs(name_starts_with="accounts/") if b.lease.state == "leased"]
            if held:
                blob = container.get_blob_client(self._random.choice(held))
                BlobLeaseClient(blob).break_lease(lease_break_period=0)
                self.hit["lease broken"] += 1

    def state_names(self, prefix: str) -> Sequence[str]:
        """Names of blobs of the product's state, past the proxy."""
        container = self._direct.get_container_client(STATE_CONTAINER)
        return list(container.list_blob_names(name_starts_with=prefix))

    # -- calls of the API ----------------------------------------------------------------------------------------

    def ask(
        self, method: str, path: str, json: Any = None, *, headers: dict[str, str] | None = None
    ) -> requests.Response:
        """The first answer below 500 that any host gives to a call of the HTTP API. Raises NoAnswer."""
        deadline, last = time.monotonic() + _ANSWER_WITHIN_S, "no host is up"
        while time.monotonic() < deadline:
            for host in self._random.sample(self.serving, len(self.serving)):
                try:
                    answer = self._session.request(
                        method, f"{host.address}{path}", json=json, headers=headers, timeout=30
                    )
                except requests.RequestException as error:
                    last = type(error).__name__
                    continue
                if answer.status_code < 500:
                    return answer
                last = f"{answer.status_code} {answer.text[:500]}"
            time.sleep(0.3)
        raise NoAnswer(f"{method} {path}: {last}")

    def document(self, method: str, path: str, json: Any = None, *, headers: dict[str, str] | None = None) -> Any:
        """The JSON of a call that has to succeed. Raises NoAnswer."""
        answer = self.ask(method, path, json, headers=headers)
        if not answer.ok:
            raise NoAnswer(f"{method} {path} was answered with {answer.status_code}: {answer.text[:2000]}")
        return answer.json()

    def sweep(self) -> None:
        """Fire the sweeper's timer on a host: every other second instead of every minute."""
        for host in self.serving[:1]:
            with suppress(requests.RequestException):
                self._session.post(f"{host.address}/admin/functions/sweep", json={"input": ""}, timeout=60)

    def logs(self) -> Sequence[Path]:
        """The logs of all hosts that were."""
        return sorted(self.stack.log_folder.glob(f"{self._name}-host-*.log"))
