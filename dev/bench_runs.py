"""Single measured runs of the benchmark: one export in a stack of its own, and the cold import of the app."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from azure.storage.blob import BlobServiceClient

from dev.azurite import PUBLISHED_KEY, start_azurite
from dev.bench_data import FileFormat, people_files, upload
from dev.bench_machine import peak_memory_mb, usage
from dev.bench_storage import CLASSES, count, count_of_run
from dev.bench_watch import HostWatch
from dev.sandbox.control import API_KEY, AUDIENCE_ID
from dev.stack import RUN_FOLDER, Stack
from shared.exports.model import BatchResult, Books, Export
from shared.settings import SETTING_NAMES
from shared.storage import names
from shared.storage.names import STATE_CONTAINER

BENCH_FOLDER = RUN_FOLDER / "bench"
LATENCY_BASE_MS, LATENCY_PER_MEMBER_MS = 130.0, 10.5
"""One call of 500 members takes 5.38 s: a million profiles, one call after another, take the documented three hours."""

IMPORTS = 5
_MATCHING = {
    "email": "EMail",
    "firstName": "FirstName",
    "lastName": "LastName",
    "mergeFields": {"LTV": "LoyaltyPoints"},
}
_TIME_IMPORT = "import time; start = time.perf_counter(); import function_app; print(time.perf_counter() - start)"
_TIMEOUT_SECONDS = 7200


class NotCounted(Exception):
    """An export whose books do not balance, or that did not do its work: no figure may come from it."""


@dataclass(frozen=True, slots=True)
class Case:
    """An export to measure: `segments` by the files they consist of (dev/bench_data.py)."""

    name: str
    members: int
    segments: Mapping[str, range]
    file_format: FileFormat = "csv"
    latency_base_ms: float = 0
    latency_per_member_ms: float = 0
    lanes: int = 8
    hosts: int = 1
    has_realistic_replies: bool = False
    idle_seconds: float = 0
    seconds_between_looks: float = 2

    @property
    def rows(self) -> int:
        return self.members // 10 * sum(len(files) for files in self.segments.values())

    @property
    def sandbox_arguments(self) -> Sequence[str]:
        return (
            f"--latency-base-ms={self.latency_base_ms}",
            f"--latency-per-member-ms={self.latency_per_member_ms}",
            *(["--realistic-replies"] if self.has_realistic_replies else []),
        )


def run_export(case: Case, tell: Callable[[str], None]) -> dict[str, Any]:
    """Runs the export in a fresh stack; what was measured. Raises NotCounted, StackError and AzuriteError.

    Times come from the export's own document, calls, tags and bytes from the sandbox, CPU and memory from the system,
    requests to storage from Azurite's access log. `background` is what the hosts ask in a minute without an export.
    """
    tell(f"{case.name}: {case.members:,} members in {len(case.segments)} segments, {case.rows:,} rows")
    files = people_files(case.members, BENCH_FOLDER, case.file_format)
    log = RUN_FOLDER / "logs" / f"bench-{case.name}-access.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with (
        start_azurite(access_log=log) as azurite,
        Stack(
            hosts=case.hosts,
            storage=azurite.connection_string(),
            sandbox_arguments=case.sandbox_arguments,
            settings={"MAILCHIMP_MAX_CONNECTIONS": str(case.lanes)},
            name=f"bench-{case.name}",
        ) as stack,
    ):
        upload(stack.segments, case.segments, files, case.file_format, refreshed_at=datetime.now(UTC))
        destination_id = _set_up(stack, list(case.segments))
        background = _background(log, case.idle_seconds)
        lines_before, sandbox_before, start = _lines(log), stack.sandbox.state(), usage()
        with HostWatch([host.pid for host in stack.hosts]) as watch:
            export_id = stack.ask("POST", f"/api/destinations/{destination_id}/exports")["id"]
            _follow(stack, export_id, case.seconds_between_looks, tell)
        used = usage().since(start)
        lines = _lines(log)[len(lines_before) :]
        counted = count(lines)
        export = Export.from_bytes(stack.state(names.export(export_id)))
        sandbox = stack.sandbox.state()
        measured = {
            "case": case.name,
            "members": case.members,
            "rows": case.rows,
            "format": case.file_format,
            "sourceMb": round(sum(files[n].stat().st_size for s in case.segments.values() for n in s) / 1e6, 1),
            "latencyMs": {"base": case.latency_base_ms, "perMember": case.latency_per_member_ms},
            "lanes": case.lanes,
            "hosts": case.hosts,
            "realisticReplies": case.has_realistic_replies,
            "status": export.status.value,
            "seconds": _between(export.created_at, export.ended_at),
            "queuedSeconds": _between(export.created_at, export.started_at),
            "phases": _phases(watch, export, _sent_until(stack, export_id)),
            "cpuSeconds": used,
            "hostPeakMb": max(peak_memory_mb(host.pid) for host in stack.hosts),
            "memory": watch.series(),
            "calls": _calls(sandbox) - _calls(sandbox_before),
            "maxOpenCalls": sandbox["maxOpenCalls"],
            "bodyBytes": sandbox["bodyBytes"] - sandbox_before["bodyBytes"],
            "transactions": {kind: counted[kind] for kind in CLASSES},
            "runRequests": dict(count_of_run(lines)),
            "background": background,
            "books": export.books.model_dump(by_alias=True),
        }
        _require_work_done(case, export, stack)
    return measured


def time_imports() -> dict[str, Any]:
    """Seconds of `import function_app` in fresh processes, after one that writes the .pyc files."""
    storage = (
        f"DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey={PUBLISHED_KEY};"
        "BlobEndpoint=http://127.0.0.1:1/devstoreaccount1;QueueEndpoint=http://127.0.0.1:1/devstoreaccount1;"
    )
    env = {**os.environ, **dict.fromkeys(SETTING_NAMES, ""), "AzureWebJobsStorage": storage}
    project = Path(__file__).resolve().parents[1]

    def once() -> float:
        done = subprocess.run(
            [sys.executable, "-c", _TIME_IMPORT], env=env, cwd=project, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise NotCounted(f"function_app cannot be imported: {done.stderr[-1000:]}")
        return float(done.stdout)

    once()
    seconds = [round(once(), 3) for _ in range(IMPORTS)]
    return {"case": "import", "seconds": seconds, "median": statistics.median(seconds)}


def _set_up(stack: Stack, segments: Sequence[str]) -> str:
    body = {"displayName": "Benchmark", "consent": {"agreed": True}}
    destination_id: str = stack.ask("POST", "/api/destinations", json=body)["id"]
    path = f"/api/destinations/{destination_id}"
    stack.ask("PUT", f"{path}/api-key", json={"apiKey": API_KEY})
    stack.ask("PUT", f"{path}/export-user")
    stack.ask("PATCH", path, json={"audienceId": AUDIENCE_ID, "dataMatching": _MATCHING, "segments": segments})
    return destination_id


def _follow(stack: Stack, export_id: str, every_s: float, tell: Callable[[str], None]) -> None:
    """Waits for the end, looking through the API as a portal would."""
    for export in stack.follow(export_id, timeout=_TIMEOUT_SECONDS, every=every_s):
        progress = export["progress"]
        done = f", {progress['membersDone']:,} members" if progress else ""
        tell(f"  {export['status']} {export['seconds']:.0f} s{done}")


def _sent_until(stack: Stack, export_id: str) -> datetime | None:
    """When the last batch was answered, by the last result of each lane."""
    with BlobServiceClient.from_connection_string(stack.storage) as service:
        found = service.get_container_client(STATE_CONTAINER).list_blob_names(name_starts_with=names.results(export_id))
        last_of_lane = {name.rsplit("/", 1)[0]: name for name in found}
    ended = [BatchResult.from_bytes(stack.state(name)).ended_at for name in last_of_lane.values()]
    return max(ended, default=None)


def _phases(watch: HostWatch, export: Export, sent_until: datetime | None) -> dict[str, dict[str, float]]:
    """Prepare, send, and finish with all that comes after it; a phase that never began is left out."""
    started, sending = export.started_at, export.sending_at
    if started is None or sending is None or sent_until is None:
        return {}
    phases = {
        "prepare": watch.phase(None, sending).document(),
        "send": watch.phase(sending, sent_until).document(),
        "finish": watch.phase(sent_until, None).document(),
    }
    phases["prepare"]["seconds"] = _between(started, sending)
    phases["finish"]["seconds"] = _between(sent_until, export.ended_at)
    return phases


def _between(start: datetime | None, end: datetime | None) -> float:
    return 0.0 if start is None or end is None else round((end - start).total_seconds(), 2)


def _background(log: Path, seconds: float) -> dict[str, int]:
    before = len(_lines(log))
    time.sleep(seconds)
    counted = count(_lines(log)[before:])
    return {kind: round(counted[kind] * 60 / seconds) for kind in CLASSES} if seconds else {}


def _lines(log: Path) -> list[str]:
    return log.read_text(encoding="utf-8").splitlines()


def _calls(state: Mapping[str, Any]) -> int:
    return sum(int(number) for number in state["calls"].values())


def _require_work_done(case: Case, export: Export, stack: Stack) -> None:
    """Raises NotCounted unless every member was created, every tag is there, and the books say so."""
    books, expected = (
        export.books,
        Books(
            rows_read=case.rows,
            merged=case.rows - case.members,
            members=case.members,
            sent=case.members,
            created=case.members,
        ),
    )
    if export.status.value != "Successful" or books != expected or books.imbalances():
        found = json.dumps(books.model_dump(by_alias=True))
        problem = export.problem.message if export.problem else ""
        raise NotCounted(f"the export ended as {export.status.value} with these books: {found} {problem}")
    tags = {tag["name"]: tag["contacts"] for tag in stack.sandbox.audience(AUDIENCE_ID)["tags"]}
    wanted = {name: len(files) * case.members // 10 for name, files in case.segments.items()}
    if tags != wanted:
        raise NotCounted(f"the tags in Mailchimp are {tags} and should be {wanted}")
