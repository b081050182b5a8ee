"""The names of queues, containers and blobs: one place, so that code, host.json and infrastructure cannot drift."""

from __future__ import annotations

import hashlib
from typing import Final

STATE_CONTAINER: Final = "state"
AUDIT_CONTAINER: Final = "audit"
CONTAINERS: Final = (STATE_CONTAINER, AUDIT_CONTAINER)

PREPARE_QUEUE: Final = "prepare"
LANES_QUEUE: Final = "lanes"
FINISH_QUEUE: Final = "finish"
REMOVALS_QUEUE: Final = "removals"
QUEUES: Final = (PREPARE_QUEUE, LANES_QUEUE, FINISH_QUEUE, REMOVALS_QUEUE)

SCHEDULE: Final = "schedule.json"
SCHEDULE_RUNS: Final = "schedule-runs.json"
DESTINATIONS_PREFIX: Final = "destinations/"
DISPLAY_NAMES_PREFIX: Final = "names/"
EXPORTS_PREFIX: Final = "exports/"
ACTIVE_PREFIX: Final = "active/"
RUNS_PREFIX: Final = "runs/"
IDEMPOTENCY_PREFIX: Final = "idempotency/"
LEDGERS_PREFIX: Final = "ledgers/"
REFUSALS_PREFIX: Final = "refusals/"
REMOVALS_PREFIX: Final = "removals/"
SECRETS_PREFIX: Final = "secrets/"
SUCCEEDED_PREFIX: Final = "succeeded/"
COUNTS_PREFIX: Final = "counts/"
AUTHORIZATIONS_PREFIX: Final = "authorizations/"
LOOSE_SECRETS_PREFIX: Final = "loose-secrets/"


def poison(queue: str) -> str:
    """The queue to which the Functions host moves a message that failed too often."""
    return f"{queue}-poison"


def destination(destination_id: str) -> str:
    return f"{DESTINATIONS_PREFIX}{destination_id}.json"


def display_name(normalized: str) -> str:
    """Names the destination that has this display name."""
    return f"{DISPLAY_NAMES_PREFIX}{hashlib.sha256(normalized.encode()).hexdigest()}.json"


def authorization(state: str) -> str:
    """A sign-in to Mailchimp that was begun. The state itself is stored nowhere: whoever knows it, has it."""
    return f"{AUTHORIZATIONS_PREFIX}{hashlib.sha256(state.encode()).hexdigest()}.json"


def loose_secret(name: str) -> str:
    """The note that no destination may be pointing to this secret."""
    return f"{LOOSE_SECRETS_PREFIX}{name}.json"


def secret_of(note: str) -> str:
    """The name of the secret that the note of this name is about."""
    return note.removeprefix(LOOSE_SECRETS_PREFIX).removesuffix(".json")


def current_export(destination_id: str) -> str:
    """Names the export that this destination is running: one at a time."""
    return f"current/{destination_id}.json"


def succeeded(destination_id: str) -> str:
    """Names the export whose data the destination's audience has, as long as no other data were sent."""
    return f"{SUCCEEDED_PREFIX}{destination_id}.json"


def segment_rows(fingerprint: str) -> str:
    """How many rows one version of a segment has."""
    return f"{COUNTS_PREFIX}{fingerprint}.json"


def members_of_destination(destination_id: str) -> str:
    return f"{COUNTS_PREFIX}{destination_id}/"


def destination_members(destination_id: str, fingerprint: str) -> str:
    """How many people one version of the destination's segments holds."""
    return f"{members_of_destination(destination_id)}{fingerprint}.json"


def idempotency_keys(destination_id: str) -> str:
    return f"{IDEMPOTENCY_PREFIX}{destination_id}/"


def idempotency(destination_id: str, key_hash: str) -> str:
    return f"{idempotency_keys(destination_id)}{key_hash}.json"


def export(export_id: str) -> str:
    return f"{EXPORTS_PREFIX}{export_id}.json"


def exports_of(destination_id: str) -> str:
    return f"by-destination/{destination_id}/"


def export_of(destination_id: str, export_id: str) -> str:
    """Marks an export as one of this destination: its history is found without looking at that of the others."""
    return f"{exports_of(destination_id)}{export_id}"


def active(export_id: str) -> str:
    """Exists while the export has not ended; its lease is held by whoever prepares or finishes the export."""
    return f"{ACTIVE_PREFIX}{export_id}"


def run(export_id: str) -> str:
    """Everything of one export that holds profiles; expires after the export."""
    return f"{RUNS_PREFIX}{export_id}/"


def plan(export_id: str) -> str:
    return f"{run(export_id)}plan.json"


def all_batches(export_id: str) -> str:
    """The prepared bodies; deleted at the end of the export, or when it cannot be resumed any more."""
    return f"{run(export_id)}batches/"


def batches(export_id: str, attempt: str) -> str:
    return f"{all_batches(export_id)}{attempt}/"


def pack(export_id: str, attempt: str, lane: int, number: int) -> str:
    """Request bodies of one lane, a line each."""
    return f"{batches(export_id, attempt)}{lane:02}/{number:05}.ndjson"


def members(export_id: str, attempt: str) -> str:
    return f"{run(export_id)}members/{attempt}.parquet"


def left_out(export_id: str, attempt: str) -> str:
    return f"{run(export_id)}left-out/{attempt}.parquet"


def results(export_id: str, lane: int | None = None) -> str:
    return f"{run(export_id)}results/" if lane is None else f"{run(export_id)}results/{lane:02}/"


def result(export_id: str, lane: int, number: int) -> str:
    return f"{results(export_id, lane)}{number:05}.json"


def all_progress(export_id: str) -> str:
    return f"{run(export_id)}progress/"


def progress(export_id: str, lane: int) -> str:
    return f"{all_progress(export_id)}{lane:02}"


def lane_ends(export_id: str) -> str:
    return f"{run(export_id)}ends/"


def lane_end(export_id: str, lane: int) -> str:
    return f"{lane_ends(export_id)}{lane:02}.json"


def rejected(export_id: str) -> str:
    return f"{run(export_id)}rejected.csv"


def books(export_id: str) -> str:
    return f"{run(export_id)}books.json"


def lane(account: str, number: int) -> str:
    """The blob whose lease is one of the connections of a Mailchimp account."""
    return f"accounts/{account}/lanes/{number:02}"


def account_lanes(account: str) -> str:
    return f"accounts/{account}/lanes/"


def pace(account: str) -> str:
    """How fast the account is sent to."""
    return f"accounts/{account}/pace.json"


def open_exports(account: str) -> str:
    return f"accounts/{account}/open/"


def open_export(account: str, export_id: str) -> str:
    """Exists while the export has batches that the lanes of the account may send."""
    return f"{open_exports(account)}{export_id}"


def ledgers(destination_id: str) -> str:
    return f"{LEDGERS_PREFIX}{destination_id}/"


def ledger(destination_id: str, audience_id: str) -> str:
    return f"{ledgers(destination_id)}{audience_id}.parquet"


def ledger_of(name: str) -> tuple[str, str]:
    """The destination and the audience of a ledger by the name of its blob."""
    destination_id, _, file = name.removeprefix(LEDGERS_PREFIX).partition("/")
    return destination_id, file.removesuffix(".parquet")


def refusals(account: str, audience_id: str) -> str:
    """Whom Mailchimp has refused for good in an audience, whichever destination sent them."""
    return f"{REFUSALS_PREFIX}{account}/{audience_id}.parquet"


def refusals_of(name: str) -> tuple[str, str]:
    """The account and the audience of such a blob by its name."""
    account, _, file = name.removeprefix(REFUSALS_PREFIX).partition("/")
    return account, file.removesuffix(".parquet")


def removal(destination_id: str) -> str:
    """How far the tags of a destination that is being removed are taken away; leased by whoever does it."""
    return f"{REMOVALS_PREFIX}{destination_id}.json"


def removal_of(name: str) -> str:
    """The destination of a removal by the name of its blob."""
    return name.removeprefix(REMOVALS_PREFIX).removesuffix(".json")
