"""A trace goes on from whoever began it, and everything else begins a new one."""

from __future__ import annotations

import json
import logging
import re

import pytest

from shared import log, trace

GIVEN = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_a_trace_goes_on_with_a_part_of_its_own() -> None:
    with trace.going_on(GIVEN):
        inside = trace.current()
        assert trace.trace_id() == "0af7651916cd43dd8448eb211c80319c"
        assert inside is not None
        assert re.fullmatch(trace.PATTERN, inside)
        assert inside != GIVEN
    assert trace.current() is None


@pytest.mark.parametrize(
    "given",
    [
        None,
        "",
        "nonsense",
        "00-" + "0" * 32 + "-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-" + "0" * 16 + "-01",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        GIVEN.upper(),
        GIVEN + "\n",
        GIVEN * 1000,
    ],
)
def test_what_is_no_trace_begins_a_new_one(given: str | None) -> None:
    with trace.going_on(given):
        first = trace.trace_id()
    with trace.going_on(given):
        assert first is not None
        assert trace.trace_id() not in {first, "0af7651916cd43dd8448eb211c80319c"}


def test_log_lines_name_their_trace(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), trace.going_on(GIVEN):
        log.event("test.happened", answer=42)
    log.event("test.outside", level=logging.WARNING)
    inside, outside = (json.loads(record.getMessage()) for record in caplog.records)
    assert inside == {"event": "test.happened", "answer": 42, "traceId": "0af7651916cd43dd8448eb211c80319c"}
    assert outside == {"event": "test.outside"}


def test_the_first_candidate_that_is_a_trace_counts() -> None:
    other = GIVEN.replace("0af7", "1bf7")
    with trace.going_on(None, "nonsense", GIVEN, other):
        assert trace.trace_id() == "0af7651916cd43dd8448eb211c80319c"
