"""Alerts and the workbook watch what the app really says: their queries name only events and fields that it logs."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator

import pytest

from shared.exports.model import Status
from shared.telemetry import instruments
from tests.unit.infra_support import INFRA, MAIN, ROOT, Expression, Value, dig, load
from tests.unit.log_events import logged_events

ALERTS = load(INFRA / "modules" / "alerts.bicep")

PROMISED = {"export-failed", "sign-in-refused", "timer-silent", "message-poisoned", "waiting-too-long", "runs-failing"}

EVENTS_OF_ALERTS = {
    "export-failed": {"export.ended"},
    "sign-in-refused": {"destination.signInRefused"},
    "timer-silent": {"schedule.tick", "sweep.tick"},
    "message-poisoned": {"poison.prepare", "poison.lane", "poison.finish", "poison.unreadable"},
    "waiting-too-long": {"export.waiting"},
    "runs-failing": set[str](),
}
"""What each rule has to see; ``runs-failing`` reads the platform's own table of runs."""


def rules() -> dict[str, dict[str, Value]]:
    found = ALERTS.variables["rules"]
    assert isinstance(found, list)
    return {str(dig(rule, "name")): rule for rule in found if isinstance(rule, dict)}


def alert_query(name: str) -> str:
    return (INFRA / "alerts" / f"{name}.kql").read_text(encoding="utf-8")


def workbook() -> Value:
    document: Value = json.loads((INFRA / "workbooks" / "exports.json").read_text(encoding="utf-8"))
    return document


def workbook_queries() -> dict[str, str]:
    items = dig(workbook(), "items")
    assert isinstance(items, list)
    return {str(dig(item, "name")): str(dig(item, "content", "query")) for item in items if dig(item, "type") == 3}


def every_query() -> Iterator[tuple[str, str]]:
    yield from ((path.stem, path.read_text(encoding="utf-8")) for path in sorted((INFRA / "alerts").glob("*.kql")))
    yield from workbook_queries().items()


def events_in(query: str) -> set[str]:
    """Logged events that a query lets through; fails on a name that the app never logs."""
    logged = set(logged_events())
    names = set(re.findall(r'Fields\.event\) == "([^"]+)"', query))
    for listed in re.findall(r"Fields\.event\) in \(([^)]*)\)", query):
        names |= set(re.findall(r'"([^"]+)"', listed))
    assert names <= logged, names - logged
    for prefix in re.findall(r'Fields\.event\) startswith "([^"]+)"', query):
        begun = {name for name in logged if name.startswith(prefix)}
        assert begun, prefix
        names |= begun
    return names


def fields_in(query: str) -> set[str]:
    return set(re.findall(r"\bFields\.(\w+)", query)) - {"event"}


queries = pytest.mark.parametrize(("name", "query"), list(every_query()), ids=[name for name, _ in every_query()])


@queries
def test_a_query_names_only_events_and_fields_that_the_app_logs(name: str, query: str) -> None:
    logged = logged_events()
    events = events_in(query)
    assert events or "AppTraces" not in query, "a query over log lines that names no event"
    known = set[str]().union(*(logged[event] for event in events))
    assert fields_in(query) - known == set()


@queries
def test_the_quick_filter_of_a_query_lets_every_event_through_that_it_asks_for(name: str, query: str) -> None:
    terms = re.findall(r'Message has "([^"]+)"', query)
    for listed in re.findall(r"Message has_any \(([^)]*)\)", query):
        terms += re.findall(r'"([^"]+)"', listed)
    for event in events_in(query):
        assert any(re.search(rf"(^|\.){re.escape(term)}($|\.)", event) for term in terms), event


@queries
def test_a_status_in_a_query_is_one_of_the_status_words(name: str, query: str) -> None:
    assert set(re.findall(r'Fields\.status\) == "([^"]+)"', query)) <= {status.value for status in Status}


@queries
def test_a_query_reads_tables_that_the_app_fills(name: str, query: str) -> None:
    lines = [line for line in query.splitlines() if not line.startswith("//")]
    assert lines[0] in {"AppTraces", "AppRequests"}
    assert all(line.startswith("| ") for line in lines[1:])


@queries
def test_a_query_over_figures_names_one_that_there_is_and_its_labels(name: str, query: str) -> None:
    named = set(re.findall(r'Series\.name\) == "([^"]+)"', query))
    known = {one.name: set(one.labels) for one in instruments.ALL}
    assert named <= set(known)
    assert named or "Series" not in query
    labels = set[str]().union(*(known[one] for one in named))
    assert set(re.findall(r"\bSeries\.(\w+)", query)) <= {"name", "count", "sum", "max", "last"} | labels


def test_the_thresholds_are_those_that_the_mails_and_the_documentation_name() -> None:
    wanted = {
        "waiting-too-long": ("for more than an hour", "toint(Fields.seconds) > 3600\n"),
        "timer-silent": ("No tick of the schedule, or of the sweep", "where Schedule == 0 or Sweep == 0\n"),
        "runs-failing": ("More than five function runs failed or answered 5xx", "where Failed > 5\n"),
        "export-failed": ("ended as Failed", 'tostring(Fields.status) == "Failed"\n'),
    }
    for name, (words, condition) in wanted.items():
        rule = rules()[name]
        assert words in f"{rule['title']} {rule['description']}", name
        assert condition in alert_query(name), name


def test_the_alerts_that_were_promised_exist_and_see_their_events() -> None:
    assert set(rules()) == PROMISED == set(EVENTS_OF_ALERTS)
    for name, rule in rules().items():
        assert rule["query"] == Expression(f"loadTextContent('../alerts/{name}.kql')")
        assert EVENTS_OF_ALERTS[name] <= events_in(alert_query(name)), name


def test_every_poison_queue_says_so_when_it_is_emptied() -> None:
    tree = ast.parse((ROOT / "shared/exports/poison.py").read_text(encoding="utf-8"))
    (poison,) = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Poison"]
    handlers = [node for node in poison.body if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")]
    assert handlers != []
    for handler in handlers:
        first = next(one for one in handler.body if not _is_docstring(one))
        assert ast.unparse(first).startswith("log.error('poison."), handler.name


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


@pytest.mark.parametrize("timer", ["schedule", "sweep"])
def test_a_timer_ticks_when_its_work_is_done_and_not_before(timer: str) -> None:
    tree = ast.parse((ROOT / "function_app.py").read_text(encoding="utf-8"))
    (function,) = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == timer]
    assert ast.unparse(function.body[-1]).startswith(f"event('{timer}.tick'")
    assert "* * * * *" in ast.unparse(function.decorator_list[0]), "the alert counts on a tick a minute"


def test_any_row_alerts_and_the_window_overlaps_the_next_look() -> None:
    properties = dig(ALERTS.resources["alertRules"].body, "properties")
    criterion = dig(properties, "criteria", "allOf", 0)
    assert (dig(criterion, "timeAggregation"), dig(criterion, "operator"), dig(criterion, "threshold")) == (
        "Count",
        "GreaterThan",
        0,
    )
    assert dig(criterion, "query") == Expression("rule.query")
    assert (dig(properties, "evaluationFrequency"), dig(properties, "windowSize")) == ("PT15M", "PT30M")
    assert dig(properties, "actions", "actionGroups") == [Expression("actionGroup.id")]


def test_lines_and_runs_that_alerts_count_on_are_not_sampled_away() -> None:
    host = json.loads((ROOT / "host.json").read_text(encoding="utf-8"))
    sampling = host["logging"]["applicationInsights"]["samplingSettings"]
    assert {"Trace", "Request"} <= set(sampling["excludedTypes"].split(";"))
    assert host["logging"]["logLevel"]["default"] == "Information", "export.ended is logged at this level"


def test_the_workbook_belongs_to_the_workspace_and_its_picture_of_time_is_chosen_above() -> None:
    document = workbook()
    assert dig(document, "version") == "Notebook/1.0"
    assert dig(document, "fallbackResourceIds") == ["{workspaceId}"]
    body = load(INFRA / "modules" / "workbook.bicep").resources["exports"].body
    assert dig(body, "kind") == "shared"
    data = dig(body, "properties", "serializedData")
    assert data == Expression("replace(loadTextContent('../workbooks/exports.json'), '{workspaceId}', workspaceId)")
    items = dig(document, "items")
    assert isinstance(items, list)
    (time,) = [one for item in items if dig(item, "type") == 9 for one in _list(dig(item, "content", "parameters"))]
    assert dig(time, "name") == "Time"
    for item in items:
        if dig(item, "type") == 3:
            assert dig(item, "content", "timeContextFromParameter") == "Time"
            assert dig(item, "content", "resourceType") == "microsoft.operationalinsights/workspaces"
    assert len({str(dig(item, "name")) for item in items}) == len(items)


def _list(value: Value) -> list[Value]:
    assert isinstance(value, list)
    return value


def test_alerts_go_to_the_address_and_are_made_only_where_there_is_one() -> None:
    receiver = dig(ALERTS.resources["actionGroup"].body, "properties", "emailReceivers", 0)
    assert dig(receiver, "emailAddress") == Expression("alertEmail")
    assert dig(load(MAIN).variables["features"], "alerts") == Expression("!empty(alertEmail)")


def test_the_reader_of_log_calls_sees_names_fields_and_expansions() -> None:
    logged = logged_events()
    assert {"export", "destination", "status", "problem", "rowsRead", "notSent"} <= logged["export.ended"]
    assert logged["sweep.tick"] == set()
