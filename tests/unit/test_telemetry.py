"""Figures: few lines that a query can sum, or the same through OpenTelemetry; calls of Mailchimp by their outcome."""

from __future__ import annotations

import ast
import json
import logging
import socket
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from shared import telemetry, trace
from shared.exports.arrivals import Delivery, arrived
from shared.exports.messages import ExportMessage, WakeMessage
from shared.exports.model import Books
from shared.mailchimp import MailchimpClient, MailchimpError
from shared.telemetry.instruments import ALL, Instrument
from shared.telemetry.log_lines import LogLines
from shared.telemetry.sink import Nowhere
from tests.unit.fake_mailchimp import TOKEN, SocketServer, read_request, reset

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
GIVEN = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Noted(Nowhere):
    """Keeps every value as it came."""

    def __init__(self) -> None:
        self.values: list[tuple[str, dict[str, str], float]] = []

    def record(self, instrument: Instrument, value: float, labels: Mapping[str, str], /) -> None:
        assert tuple(labels) == instrument.labels
        self.values.append((instrument.name, dict(labels), value))


@pytest.fixture
def noted() -> Iterator[Noted]:
    sink = Noted()
    before = telemetry.use(sink)
    yield sink
    telemetry.use(before)


class Clock:
    """Stands still until the test moves it."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Iterator[Clock]:
    found = Clock()
    before = telemetry.use(LogLines(found))
    yield found
    telemetry.use(before)


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Callable[[], list[dict[str, Any]]]:
    caplog.set_level(logging.INFO)
    return lambda: [json.loads(one.getMessage()) for one in caplog.records if "metrics.told" in one.getMessage()]


Told = Callable[[], list[dict[str, Any]]]


def test_the_figures_of_a_run_are_one_line_whatever_was_counted(clock: Clock, told: Told) -> None:
    with telemetry.telling():
        for number in range(1_000):
            telemetry.count(telemetry.CALLS, status="200" if number % 10 else "503")
            telemetry.measure(telemetry.BATCH_DURATION, number / 1000)
        clock.seconds += 40
        assert told() == []
    (line,) = told()
    assert line == {
        "event": "metrics.told",
        "seconds": 40.0,
        "series": [
            {"name": "mailchimp.calls", "status": "503", "sum": 100},
            {"name": "export.batch.duration", "count": 1_000, "sum": 499.5, "max": 0.999},
            {"name": "mailchimp.calls", "status": "200", "sum": 900},
        ],
    }


def test_every_function_tells_the_figures_of_its_runs() -> None:
    tree = ast.parse((Path(__file__).parents[2] / "function_app.py").read_text(encoding="utf-8"))
    functions = [one for one in tree.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)]
    triggers = [one for one in functions if any("trigger" in ast.unparse(d) for d in one.decorator_list)]
    triggers += [one for one in functions if any("route" in ast.unparse(d) for d in one.decorator_list)]
    assert len(triggers) == 12
    parts = [one for one in functions if one.name in {"work", "book_failure"}]
    assert len(parts) == 2
    for function in (*parts, *triggers):
        [first, *_] = [
            ast.unparse(item.context_expr)
            for one in ast.walk(function)
            if isinstance(one, ast.With)
            for item in one.items
        ] or [ast.unparse(function.body[0])]
        assert first.startswith(("telemetry.telling()", "work(", "book_failure(")), function.name


def test_a_run_that_fails_tells_its_figures_too(clock: Clock, told: Told) -> None:
    with suppress(ZeroDivisionError), telemetry.telling():
        telemetry.count(telemetry.CALLS, status="200")
        raise ZeroDivisionError
    assert len(told()) == 1


def test_a_long_run_tells_every_minute(clock: Clock, told: Told) -> None:
    with telemetry.telling(), trace.going_on(GIVEN):
        for _ in range(150):
            telemetry.count(telemetry.CALLS, status="200")
            clock.seconds += 1
    assert [line["series"][0]["sum"] for line in told()] == [61, 61, 28]


def test_a_thread_of_a_pool_writes_no_line_because_the_host_would_throw_it_away(clock: Clock, told: Told) -> None:
    def errand() -> None:
        clock.seconds += 100
        telemetry.count(telemetry.CALLS, status="200")

    with telemetry.telling(), trace.going_on(GIVEN):
        telemetry.count(telemetry.CALLS, status="200")
        with ThreadPoolExecutor(1) as pool:
            pool.submit(errand).result()
        assert told() == []
    assert [line["series"][0]["sum"] for line in told()] == [2]


def test_a_line_belongs_to_no_trace_and_none_is_written_while_nothing_happens(clock: Clock, told: Told) -> None:
    with telemetry.telling(), trace.going_on(GIVEN):
        telemetry.count(telemetry.CALLS, status="200")
        clock.seconds += 60
        telemetry.count(telemetry.CALLS, status="200")
        assert trace.trace_id() == "0af7651916cd43dd8448eb211c80319c"
        telemetry.count(telemetry.CALLS, status="200")
    with telemetry.telling():
        pass
    assert [line["series"][0]["sum"] for line in told()] == [2, 1]
    assert [line for line in told() if "traceId" in line] == []


def test_a_level_says_how_high_it_was_at_most_and_goes_on_over_lines(clock: Clock, told: Told) -> None:
    with (
        telemetry.calling("a ping", "GET", "https://us1.api.mailchimp.com/3.0/ping"),
        telemetry.calling("a ping", "GET", "https://us1.api.mailchimp.com/3.0/ping"),
        telemetry.telling(),
    ):
        pass
    with telemetry.telling():
        pass
    assert [line["series"] for line in told()] == [
        [{"name": "mailchimp.calls.open", "last": 2, "max": 2}],
        [{"name": "mailchimp.calls.open", "last": 0, "max": 2}],
    ]


# -- calls -------------------------------------------------------------------------------------------------------------


def answers(*replies: bytes) -> Callable[[socket.socket, int], None]:
    def converse(connection: socket.socket, number: int) -> None:
        for reply in replies:
            if not read_request(connection):
                return
            connection.sendall(reply)
        reset(connection)

    return converse


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", "200"),
        (b"HTTP/1.1 429 Too Many\r\nContent-Length: 2\r\n\r\n{}", "429"),
        (b"HTTP/1.1 503 Away\r\nContent-Length: 0\r\n\r\n", "503"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\n{", "connectionLost"),
        (b"", "connectionLost"),
    ],
)
def test_a_call_is_open_while_it_lasts_and_counted_by_its_status(noted: Noted, reply: bytes, status: str) -> None:
    with SocketServer(answers(reply)).running() as running:
        client = MailchimpClient(running.root, TOKEN)
        with suppress(MailchimpError):
            client.ping()
        client.close()
    assert noted.values == [
        ("mailchimp.calls.open", {}, 1),
        ("mailchimp.calls", {"status": status}, 1),
        ("mailchimp.calls.open", {}, -1),
    ]


def test_a_call_names_the_trace_it_is_made_in() -> None:
    requests: list[bytes] = []

    def converse(connection: socket.socket, number: int) -> None:
        for _ in range(2):
            requests.append(read_request(connection))
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    with SocketServer(converse).running() as running:
        client = MailchimpClient(running.root, TOKEN)
        with trace.going_on(GIVEN):
            client.ping()
        client.ping()
        client.close()
    inside, outside = requests
    assert b"\r\ntraceparent: 00-0af7651916cd43dd8448eb211c80319c-" in inside
    assert b"traceparent" not in outside


# -- queues and books --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "inserted_at", [NOW - timedelta(seconds=40), (NOW - timedelta(seconds=40)).replace(tzinfo=None)]
)
def test_the_age_of_a_message_counts_from_when_it_was_due(noted: Noted, inserted_at: datetime) -> None:
    for delay in (0, 30, 60):
        body = WakeMessage(account_id="a", lane=1, delay_seconds=delay).to_bytes()
        with arrived(WakeMessage, body, Delivery("lanes", inserted_at, NOW)):
            pass
    assert noted.values == [("queue.message.age", {"queue": "lanes"}, age) for age in (40, 10, 0)]


def test_a_message_of_which_no_age_is_known_is_done_all_the_same(noted: Noted) -> None:
    with arrived(ExportMessage, b'{"v": 1, "exportId": "e1"}', Delivery("prepare", None, NOW, GIVEN)) as message:
        assert (message.export_id, trace.trace_id()) == ("e1", "0af7651916cd43dd8448eb211c80319c")
    assert noted.values == []


def test_the_outcomes_of_an_export_add_up_to_the_rows_read() -> None:
    books = Books(
        rows_read=100, invalid=5, duplicates=4, merged=1, members=90, unchanged=10, suppressed=7, sent=60, not_sent=13,
        created=30, updated=25, rejected=5,
    )  # fmt: skip
    assert books.imbalances() == []
    assert sum(books.outcomes().values()) == books.rows_read
    assert set(books.outcomes()) == {
        *("invalid", "duplicates", "merged", "unchanged", "suppressed", "notSent", "created", "updated", "rejected")
    }
    assert Books().outcomes() == {}


def test_names_are_told_apart_and_labels_are_named() -> None:
    assert len({instrument.name for instrument in ALL}) == len(ALL)
