"""What a portal does: sets up a destination, starts an export, looks at it, through whichever host answers."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Mapping
from typing import Any, Final

from dev.chaos.people import MATCHING, segment_names
from dev.chaos.processes import NoAnswer, Processes
from dev.chaos.verdict import Check
from shared.storage import names

_TIDY_WITHIN_S: Final = 60.0
_LOOK_EVERY_S: Final = 1.0


def set_up_destination(processes: Processes, audience: str, key: str) -> str:
    """A destination that is ready; returns its path."""
    body = {"displayName": "Chaos", "consent": {"agreed": True}}
    path = f"/api/destinations/{processes.document('POST', '/api/destinations', body)['id']}"
    processes.document("PUT", f"{path}/api-key", {"apiKey": key})
    processes.document("PUT", f"{path}/export-user")
    configuration = {"audienceId": audience, "dataMatching": MATCHING, "segments": list(segment_names())}
    ready = processes.document("PATCH", path, configuration)
    if ready["missingSteps"]:
        raise NoAnswer(f"the destination is not ready: {ready['missingSteps']}")
    return path


def start_export(processes: Processes, destination: str, key: str) -> str:
    """Start an export; with its key the same call may be made again when its answer was lost."""
    started = processes.document("POST", f"{destination}/exports", headers={"Idempotency-Key": key})
    return str(started["id"])


def wait_for_end(processes: Processes, export_id: str, seconds: float) -> dict[str, Any]:
    """The export when it has ended; the sweeper looks every other second meanwhile. Raises NoAnswer."""
    deadline = time.monotonic() + seconds
    while True:
        export: dict[str, Any] = processes.document("GET", f"/api/exports/{export_id}")
        if export["ended"]:
            return export
        if time.monotonic() > deadline:
            raise NoAnswer(f"the export is still {export['status']} after {seconds:.0f} s")
        processes.sweep()
        time.sleep(_LOOK_EVERY_S)


def rejected_profiles(processes: Processes, export_id: str) -> list[dict[str, str]]:
    """The lines of the rejected-profiles file."""
    answer = processes.ask("GET", f"/api/exports/{export_id}/rejected")
    if not answer.ok:
        raise NoAnswer(f"the rejected profiles were answered with {answer.status_code}: {answer.text[:500]}")
    return list(csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig"))))


def wait_until_tidy(processes: Processes, export: Mapping[str, Any]) -> Check:
    """Whether an ended export leaves no marks of being under way and, unless it can be resumed, no request bodies: they
    hold profiles."""
    deadline = time.monotonic() + _TIDY_WITHIN_S
    export_id = str(export["id"])
    prefixes = [names.active(export_id)]
    if export["resumableUntil"] is None:
        prefixes.append(names.all_batches(export_id))
    while True:
        left = [name for prefix in prefixes for name in processes.state_names(prefix)]
        left += [name for name in processes.state_names("accounts/") if name.endswith(f"/open/{export_id}")]
        if not left or time.monotonic() > deadline:
            return Check("nothing is left behind", not left, ", ".join(left[:3]))
        processes.sweep()
        time.sleep(_LOOK_EVERY_S)


def summary(export: Mapping[str, Any]) -> dict[str, Any]:
    """What the report keeps of an export."""
    kept = ("status", "problem", "seconds", "books", "calls", "resentBatches", "repairedTags", "untagged")
    return {name: export.get(name) for name in (*kept, "rejectedReasons") if name in export}
