"""An unexpected error is known by its type and its place; its text goes nowhere."""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError

from shared.exports.messages import ExportMessage, MessageInvalid, read_message
from shared.exports.model import BatchResult
from shared.failures import RunFailed, do_each, failing_quietly, types_of

TEXT = "grace@contoso.example"


class ServerBusy(HttpResponseError):
    def __init__(self) -> None:
        super().__init__(TEXT)
        self.status_code = 503
        self.error_code: Any = "ServerBusy"


def fail() -> None:
    try:
        int(TEXT)
    except ValueError as error:
        raise KeyError(TEXT) from error


def test_a_run_that_fails_tells_type_and_place_and_no_text(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR), pytest.raises(RunFailed) as caught, failing_quietly():
        fail()
    (record,) = caplog.records
    line = json.loads(record.getMessage())
    assert (line["event"], line["errorType"]) == ("run.failed", "KeyError < ValueError")
    assert "test_failures.py:" in line["frames"].split(" < ")[0]
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + record.getMessage()
    assert "KeyError < ValueError" in shown
    assert TEXT not in shown
    assert caught.value.__suppress_context__


def test_what_storage_answered_is_told_by_its_code() -> None:
    assert types_of(ServerBusy()) == "ServerBusy (503 ServerBusy)"
    assert types_of(ResourceNotFoundError(TEXT)) == "ResourceNotFoundError"


def test_what_succeeds_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    with failing_quietly():
        pass
    assert caplog.records == []


def test_a_message_that_is_none_of_ours_is_not_repeated() -> None:
    with pytest.raises(MessageInvalid) as caught:
        read_message(ExportMessage, json.dumps({"v": 1, "exportId": TEXT}))
    assert TEXT not in "".join(traceback.format_exception(caught.value))


def test_a_document_that_cannot_be_read_is_not_repeated() -> None:
    row = {"position": "x", "email": TEXT, "code": "c", "message": "m", "action": "a", "retryable": True}
    document = {"batch": 1, "lane": 1, "rows": TEXT, "created": 0, "updated": 0, "rejected": [row], "calls": 1}
    with pytest.raises(ValueError, match="BatchResult") as caught:
        BatchResult.from_bytes(json.dumps(document).encode())
    assert TEXT not in str(caught.value)


def test_a_step_that_fails_does_not_hold_up_the_others_and_each_failure_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    done: list[int] = []
    steps = (lambda: done.append(1), fail, lambda: done.append(2), lambda: int(TEXT), lambda: done.append(3))
    with caplog.at_level(logging.ERROR), pytest.raises(RunFailed), failing_quietly():
        do_each(steps)
    assert done == [1, 2, 3]
    told = [json.loads(record.getMessage())["errorType"] for record in caplog.records]
    assert sorted(told) == ["KeyError < ValueError", "ValueError"]


def test_a_fault_of_azure_ends_it_and_what_failed_before_is_not_lost(caplog: pytest.LogCaptureFixture) -> None:
    done: list[int] = []

    def storage_is_down() -> None:
        raise ServerBusy

    with caplog.at_level(logging.ERROR), pytest.raises(KeyError):
        do_each((fail, storage_is_down, lambda: done.append(1)))
    assert done == []
    assert [json.loads(record.getMessage())["errorType"] for record in caplog.records] == [
        "ServerBusy (503 ServerBusy)"
    ]


def test_steps_that_cannot_be_found_any_more_do_not_hide_what_failed_before(caplog: pytest.LogCaptureFixture) -> None:
    def listed() -> Iterator[Callable[[], object]]:
        yield fail
        raise ServerBusy

    with caplog.at_level(logging.ERROR), pytest.raises(KeyError):
        do_each(listed())
    (record,) = caplog.records
    assert json.loads(record.getMessage())["errorType"] == "ServerBusy (503 ServerBusy)"
