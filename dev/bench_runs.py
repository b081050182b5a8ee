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

from dev.azurite import PUBLISHED_KEY
from dev.bench_data import entities, people_files
from dev.bench_machine import Usage, peak_memory_mb, usage
from dev.sample_data.upload import upload_model
from dev.sandbox.control import API_KEY, AUDIENCE_ID
from dev.stack import RUN_FOLDER, Stack
from shared.exports.model import Books, Export
from shared.settings import SETTING_NAMES
from shared.storage import names

BENCH_FOLDER = RUN_FOLDER / "bench"
IMPORTS = 5
_MATCHING = {
    "email": "EMail",
    "firstName": "FirstName",
    "lastName": "LastName",
    "mergeFields": {"LTV": "LoyaltyPoints"},
}
_TIME_IMPORT = "import time; start = time.perf_counter(); import function_app; print(time.perf_counter() - start)"
_SECONDS_BETWEEN_LOOKS = 2.0
_SECONDS_BETWEEN_FIRST_LOOKS = 0.25  # to see when prepare ends; these looks cost the host next to nothing
_TIMEOUT_SECONDS = 3600


class NotCounted(Exception):
    """An export whose books do not balance, or that did not do its work: no figure may come from it."""


@dataclass(frozen=True, slots=True)
class Case:
    """An export to measure: `segments` by the files they consist of (dev/bench_data.py)."""

    name: str
    members: int
    segments: Mapping[str, range]
    latency_base_ms: float = 0
    latency_per_member_ms: float = 0
    lanes: int = 8
    has_realistic_replies: bool = False

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
    """Runs the export in a fresh stack; what was measured. Raises NotCounted and StackError.

    Times come from the export's own document, calls and tags from the sandbox, CPU and memory from the system.
    """
    tell(f"{case.name}: {case.members:,} members in {len(case.segments)} segments, {case.rows:,} rows")
    files = people_files(case.members, BENCH_FOLDER)
    settings = {"MAILCHIMP_MAX_CONNECTIONS": str(case.lanes)}
    with Stack(sandbox_arguments=case.sandbox_arguments, settings=settings, name=f"bench-{case.name}") as stack:
        upload_model(stack.segments, entities(case.segments, files), refreshed_at=datetime.now(UTC))
        destination_id = _set_up(stack, list(case.segments))
        calls_before = _calls(stack)
        start = usage()
        export_id = stack.ask("POST", f"/api/destinations/{destination_id}/exports")["id"]
        sending_seen = _follow(stack, export_id, tell)
        used = usage().since(start)
        export = Export.from_bytes(stack.state(names.export(export_id)))
        measured = {
            "case": case.name,
            "members": case.members,
            "rows": case.rows,
            "csvMb": round(sum(files[n].stat().st_size for s in case.segments.values() for n in s) / 1e6, 1),
            **_times(export),
            "hostPeakMb": peak_memory_mb(stack.hosts[0].pid),
            "cpuSeconds": used,
            "afterPrepare": None if sending_seen is None else sending_seen.since_start(start),
            "calls": _calls(stack) - calls_before,
            "maxOpenCalls": stack.sandbox.state()["maxOpenCalls"],
            "lanes": case.lanes,
            "realisticReplies": case.has_realistic_replies,
            "books": export.books.model_dump(by_alias=True),
            "status": export.status.value,
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


@dataclass(frozen=True, slots=True)
class _Moment:
    """What the host has used when sending was first seen."""

    usage: Usage
    peak_mb: float

    def since_start(self, start: Usage) -> dict[str, float]:
        return {"hostCpuSeconds": self.usage.since(start)["host"], "hostPeakMb": self.peak_mb}


def _follow(stack: Stack, export_id: str, tell: Callable[[str], None]) -> _Moment | None:
    """Waits for the end; what had been used when sending was first seen, None if it was never seen."""
    moment = None
    deadline = time.monotonic() + _TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        export = stack.ask("GET", f"/api/exports/{export_id}")
        if moment is None and export["status"] == "Sending":
            moment = _Moment(usage(), peak_memory_mb(stack.hosts[0].pid))
        progress = export["progress"]
        done = f", {progress['membersDone']:,} members" if progress else ""
        tell(f"  {export['status']} {export['seconds']:.0f} s{done}")
        if export["ended"]:
            return moment
        time.sleep(_SECONDS_BETWEEN_LOOKS if moment else _SECONDS_BETWEEN_FIRST_LOOKS)
    raise NotCounted(f"the export has not ended after {_TIMEOUT_SECONDS} s")


def _times(export: Export) -> dict[str, float | None]:
    """Seconds of the phases: waiting for the host, prepare, sending with finishing, and all from request to end."""

    def between(start: datetime | None, end: datetime | None) -> float | None:
        return None if start is None or end is None else round((end - start).total_seconds(), 2)

    return {
        "queuedSeconds": between(export.created_at, export.started_at),
        "prepareSeconds": between(export.started_at, export.sending_at),
        "sendSeconds": between(export.sending_at, export.ended_at),
        "seconds": between(export.created_at, export.ended_at),
    }


def _calls(stack: Stack) -> int:
    return sum(int(count) for count in stack.sandbox.state()["calls"].values())


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
