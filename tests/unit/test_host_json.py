"""host.json: every value has its reason in docs/host.md, and those that hang together fit together."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping
from inspect import signature
from typing import Any, cast

from azure.storage.queue import QueueServiceClient

from dev.host.config import load_host_json, parse_time_span
from dev.packaging.requirements import PROJECT
from shared.mailchimp.client import MailchimpClient
from shared.settings import Settings
from shared.storage.names import PREPARE_QUEUE
from shared.storage.queues import Queues
from tests.tables import table

HOST_JSON: dict[str, Any] = json.loads((PROJECT / "host.json").read_text(encoding="utf-8"))
QUEUES = load_host_json(PROJECT, {}).extensions.queues
MOST_AT_ONCE = QUEUES.batch_size + QUEUES.fetch_at
THREADS = "PYTHON_THREADPOOL_THREAD_COUNT"


def leaves(document: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    """Every value with its path, as the page writes them. A name with dots (a log category) stays as it is."""
    for name, value in document.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value if isinstance(value, str) else json.dumps(value)


def default(field: str) -> Any:
    return Settings.model_fields[field].default


def limit(field: str) -> int:
    """The largest value that a setting takes."""
    (bound,) = [one.le for one in Settings.model_fields[field].metadata if hasattr(one, "le")]
    return cast("int", bound)


def test_every_value_is_explained_and_nothing_else_is() -> None:
    rows = table("host.md", "host.json")
    assert {row["setting"]: row["value"] for row in rows} == dict(leaves(HOST_JSON))
    assert all(len(row["why"]) > 20 for row in rows)


def test_a_thread_waits_for_every_message_that_the_host_hands_out() -> None:
    """In Azure, in local runs and in the stack of demo, benchmark and tests."""
    places = {
        "infra/modules/functionapp.bicep": rf"{THREADS}: '(\d+)'",
        "dev/stack.py": rf'"{THREADS}": "(\d+)"',
        "local.settings.json.example": rf'"{THREADS}": "(\d+)"',
        "docs/host.md": r"`PYTHON_THREADPOOL_THREAD_COUNT` is \*\*(\d+)\*\*",
    }
    threads = {
        place: [int(count) for count in re.findall(pattern, (PROJECT / place).read_text(encoding="utf-8"))]
        for place, pattern in places.items()
    }
    assert len({tuple(counts) for counts in threads.values()}) == 1, threads
    (count,) = threads["dev/stack.py"]
    assert count >= MOST_AT_ONCE
    # A local host runs all functions in one process: the lanes of two accounts leave room for the other functions.
    assert count - MOST_AT_ONCE >= 8


def test_the_wake_ups_of_one_account_are_fetched_at_once() -> None:
    assert QUEUES.batch_size == default("mailchimp_max_connections")


def test_a_lane_that_has_used_its_time_is_fetched_again_while_the_others_run() -> None:
    assert QUEUES.fetch_at >= default("mailchimp_max_connections") - 1


def test_a_function_ends_by_itself_before_the_host_ends_it() -> None:
    timeout = parse_time_span(HOST_JSON["functionTimeout"])
    client = signature(MailchimpClient).parameters
    one_call = client["connect_timeout_s"].default + client["read_timeout_s"].default
    assert default("lane_time_budget_seconds") + one_call < timeout
    assert limit("lane_time_budget_seconds") + one_call + limit("lane_lease_seconds") < timeout


def test_a_fault_of_two_minutes_costs_no_message() -> None:
    pauses = QUEUES.max_dequeue_count - 1
    assert pauses * QUEUES.visibility_timeout >= 120


def test_an_export_waits_seconds_for_its_three_queues() -> None:
    assert 3 * QUEUES.max_polling_interval <= 3


def test_messages_are_sent_in_the_encoding_that_the_host_reads() -> None:
    sent: list[str] = []

    class Recorder:
        def get_queue_client(self, name: str) -> Recorder:
            return self

        def send_message(self, text: str, visibility_timeout: int | None) -> None:
            sent.append(text)

    Queues(cast("QueueServiceClient", Recorder())).send(PREPARE_QUEUE, {"v": 1})
    assert QUEUES.message_encoding == "base64"
    assert json.loads(base64.b64decode(sent[0], validate=True)) == {"v": 1}


def test_the_host_does_not_choose_the_concurrency_itself() -> None:
    assert "concurrency" not in HOST_JSON
    assert "retry" not in HOST_JSON


def test_the_records_that_alerts_count_are_written_and_none_is_sampled_away() -> None:
    levels = HOST_JSON["logging"]["logLevel"]
    assert levels.get("Host.Results", levels["default"]) in {"Trace", "Debug", "Information"}
    assert levels.get("Function", levels["default"]) in {"Trace", "Debug", "Information"}
    excluded = HOST_JSON["logging"]["applicationInsights"]["samplingSettings"]["excludedTypes"].split(";")
    assert {"Request", "Exception", "Trace"} <= set(excluded)


def test_the_queue_trigger_comes_from_the_fourth_generation_of_the_bundle() -> None:
    assert re.fullmatch(r"\[4\.\*, 5\.0\.0\)", HOST_JSON["extensionBundle"]["version"])
