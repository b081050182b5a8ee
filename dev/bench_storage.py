"""What an export asks of Azure Storage and of the secret store, counted from Azurite's access log, and what it costs.

Every request is put into the class by which Azure bills it ("Map each REST operation to a price", Azure documentation,
2025-05). Prices and their sources are those of docs/cost.md.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

CLASSES: Final = ("write", "list", "read", "other", "free", "queue", "vault", "host")
"""Of blobs: write, list (and create container), read, other, free (delete). Then queue operations, reads and writes of
secrets (Key Vault in Azure), and what the host asks for itself: polls of empty queues, locks of timers."""

PRICES: Final[Mapping[str, float]] = MappingProxyType(
    {
        "write": 0.05 / 10_000,
        "list": 0.05 / 10_000,
        "read": 0.004 / 10_000,
        "other": 0.004 / 10_000,
        "queue": 0.004 / 10_000,
        "vault": 0.03 / 10_000,
        "compute": 0.000026,
    }
)
"""US dollars for one: a request of the class, or a GB-second of an instance that works on demand."""

INSTANCE_GB: Final = 2
"""One instance of this size serves all lanes of an account (infra/)."""

_REQUEST = re.compile(r'"(?P<method>[A-Z]+) /(?P<account>[^/ ]+)/(?P<path>[^? ]*)(?:\?(?P<query>[^ ]*))? HTTP')
_LOCKS_OF_THE_HOST = "azure-webjobs-hosts"
_SECRETS = "state/secrets/"
_RUNS = "state/runs/"


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


def count_of_run(lines: Iterable[str]) -> Counter[str]:
    """Requests for what belongs to an export alone, by method and kind: "PUT results", "GET batches", …"""
    found = (_REQUEST.search(line) for line in lines)
    return Counter(
        f"{one['method']} {one['path'].removeprefix(_RUNS).split('/')[1]}"
        for one in found
        if one is not None and one["path"].startswith(_RUNS)
    )


def billed(counted: Mapping[str, int]) -> int:
    """Requests that are the export's and cost something."""
    return sum(number for kind, number in counted.items() if kind not in {"free", "host"})


def requests_cost(counted: Mapping[str, int]) -> float:
    """US dollars for the requests."""
    return sum(number * PRICES.get(kind, 0) for kind, number in counted.items())


def compute_cost(seconds: float) -> float:
    """US dollars for one instance that works for so long."""
    return seconds * INSTANCE_GB * PRICES["compute"]
