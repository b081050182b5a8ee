"""Counts what an export asks of Azure Storage and of the secret store: the basis of docs/cost.md.

    python -m dev.transactions --members 10000 100000

An export of each size runs in a stack of its own, with the latency that is documented for Mailchimp. Azurite's access
log is read afterwards, and every request is put into the class by which Azure bills it ("Map each REST operation to a
price", Azure documentation, 2025-05). A first minute without an export shows what the host asks for all the time.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dev.azurite import start_azurite
from dev.bench_data import SINGLE, entities, people_files
from dev.bench_runs import BENCH_FOLDER, Case
from dev.sample_data.upload import upload_model
from dev.sandbox.control import API_KEY, AUDIENCE_ID
from dev.stack import RUN_FOLDER, Stack

CLASSES = ("write", "list", "read", "other", "free", "queue", "vault", "host")
"""Of blobs: write, list (and create container), read, other, free (delete). Then queue operations, reads and writes of
secrets (Key Vault in Azure), and what the host asks for itself: polls of empty queues, locks of timers."""

LATENCY_BASE_MS, LATENCY_PER_MEMBER_MS = 130.0, 10.5
"""Three hours for a million profiles, one call of 500 after another, as documented for Customer Insights' connector."""

_REQUEST = re.compile(r'"(?P<method>[A-Z]+) /(?P<account>[^/ ]+)/(?P<path>[^? ]*)(?:\?(?P<query>[^ ]*))? HTTP')
_LOCKS_OF_THE_HOST = "azure-webjobs-hosts"
_SECRETS = "state/secrets/"


def class_of(line: str) -> str | None:
    """The class of the request in a line of the access log; None for any other line."""
    found = _REQUEST.search(line)
    if found is None:
        return None
    method, path = found["method"], found["path"]
    query = dict(part.partition("=")[::2] for part in (found["query"] or "").split("&"))
    container, _, rest = path.partition("/")
    if container == _LOCKS_OF_THE_HOST:
        return "host"
    if rest == "messages" or rest.startswith("messages/") or (not rest and "restype" not in query):
        # A GET asks for messages, found or not. The host asks again and again, the export only sends and deletes.
        return "host" if method == "GET" else "queue"
    if path.startswith(_SECRETS):
        return "vault"
    return _class_of_blob(method, query)


def _class_of_blob(method: str, query: dict[str, str]) -> str:
    comp = query.get("comp")
    if query.get("restype") == "container":
        return "list" if comp == "list" or (method == "PUT" and comp is None) else "other"
    if comp in {"block", "blocklist"} or (method == "PUT" and comp is None):
        return "write" if method == "PUT" else "other"
    if method == "DELETE":
        return "free"
    return "read" if method == "GET" and comp is None else "other"


def count(lines: Iterable[str]) -> Counter[str]:
    """Requests by class."""
    return Counter(kind for kind in map(class_of, lines) if kind is not None)


def run(members: int, idle_seconds: float) -> dict[str, Any]:
    """Run one export and count. ``background`` is what the host asks in a minute without an export."""
    case = Case(f"transactions-{members}", members, SINGLE, LATENCY_BASE_MS, LATENCY_PER_MEMBER_MS)
    log = RUN_FOLDER / "logs" / f"{case.name}-access.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    files = people_files(members, BENCH_FOLDER)
    with (
        start_azurite(access_log=log) as azurite,
        Stack(storage=azurite.connection_string(), sandbox_arguments=case.sandbox_arguments, name=case.name) as stack,
    ):
        upload_model(stack.segments, entities(case.segments, files), refreshed_at=datetime.now(UTC))
        destination_id = _set_up(stack, list(case.segments))
        before = _lines(log)
        time.sleep(idle_seconds)
        idle = _lines(log)
        export_id = stack.ask("POST", f"/api/destinations/{destination_id}/exports")["id"]
        export = stack.wait(export_id, timeout=7200, every=10)  # seldom: each look costs a few reads
        after = _lines(log)
    background = count(idle[len(before) :])
    return {
        "members": members,
        "status": export["status"],
        "seconds": export["seconds"],
        "counted": {kind: count(after[len(idle) :])[kind] for kind in CLASSES},
        "background": {kind: round(background[kind] * 60 / idle_seconds) for kind in CLASSES},
    }


def _set_up(stack: Stack, segments: Sequence[str]) -> str:
    body = {"displayName": "Transactions", "consent": {"agreed": True}}
    path = f"/api/destinations/{stack.ask('POST', '/api/destinations', json=body)['id']}"
    matching = {"email": "EMail", "firstName": "FirstName", "lastName": "LastName"}
    stack.ask("PUT", f"{path}/export-user")
    stack.ask("PUT", f"{path}/api-key", json={"apiKey": API_KEY})
    stack.ask("PATCH", path, json={"audienceId": AUDIENCE_ID, "dataMatching": matching, "segments": segments})
    return path.rsplit("/", 1)[1]


def _lines(log: Path) -> list[str]:
    return log.read_text(encoding="utf-8").splitlines()


def main() -> int:
    """Prints one line of JSON for each size."""
    parser = argparse.ArgumentParser(prog="python -m dev.transactions", description=__doc__.splitlines()[0])
    parser.add_argument("--members", type=int, nargs="+", default=[10_000, 100_000], help="sizes, multiples of ten")
    parser.add_argument("--idle-seconds", type=float, default=60, help="how long the host is watched without an export")
    options = parser.parse_args()
    for members in options.members:
        print(json.dumps(run(members, options.idle_seconds)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
