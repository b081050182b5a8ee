"""The queries of alerts, workbook and documentation are such that Kusto takes them, and give what is made of them."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.unit.infra_support import ROOT, Expression, dig
from tests.unit.kusto import TABLES, KustoError, columns_of
from tests.unit.log_events import logged_events
from tests.unit.test_infra_alerts import ALERTS, alert_query, events_in, every_query, fields_in, rules, workbook

FORBIDDEN_IN_ALERTS = {"take", "AggregatedValue"}
"""What Microsoft forbids in rules ("Create or edit a log search alert rule") or advises against ("Optimize log search
alert queries"), as far as the reader knows it: it refuses ``bag_unpack``, ``pivot``, ``narrow``, ``search``, ``union``.
"""

TIME_AND_FIGURES = {"barchart", "timechart"}


def documented_queries() -> Iterator[tuple[str, str]]:
    for page in sorted((ROOT / "docs").rglob("*.md")):
        blocks = re.findall(r"^```kusto\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
        yield from ((f"{page.stem}-{place}", block) for place, block in enumerate(blocks, 1))


def parametrized(queries: Iterator[tuple[str, str]]) -> pytest.MarkDecorator:
    found = list(queries)
    return pytest.mark.parametrize("query", [query for _, query in found], ids=[name for name, _ in found])


@parametrized(iter([*every_query(), *documented_queries()]))
def test_kusto_takes_the_query(query: str) -> None:
    assert columns_of(query)


@parametrized(documented_queries())
def test_a_documented_query_names_only_events_and_fields_that_the_app_logs(query: str) -> None:
    logged = logged_events()
    names = events_in(query) or set(logged)
    assert fields_in(query) - {"traceId"} <= set[str]().union(*(logged[name] for name in names))


def words_of(query: str) -> set[str]:
    return set(re.findall(r"\w+", re.sub(r"^//.*", "", query, flags=re.MULTILINE)))


@pytest.mark.parametrize("name", rules())
def test_a_rule_uses_nothing_that_rules_refuse_and_splits_by_a_text(name: str) -> None:
    query = alert_query(name)
    assert words_of(query) & FORBIDDEN_IN_ALERTS == set()
    match rules()[name]["dimensions"]:
        case Expression(text):
            assert columns_of(query)[str(dig(ALERTS.variables[text], 0, "name"))] == "string"
        case other:
            assert other == []


def test_a_chart_of_the_workbook_gets_what_it_draws() -> None:
    items = dig(workbook(), "items")
    assert isinstance(items, list)
    for item in items:
        if dig(item, "type") != 3:
            continue
        kinds = set(columns_of(str(dig(item, "content", "query"))).values())
        match dig(item, "content", "visualization"):
            case "piechart":
                assert kinds == {"string", "long"}
            case chart if chart in TIME_AND_FIGURES:
                assert {"datetime", "long"} <= kinds <= {"datetime", "long", "string"}
            case other:
                assert other == "table"


def test_a_call_that_is_answered_5xx_counts_although_its_function_succeeds() -> None:
    """Success of a call is that of its function (WebJobsTelemetryInitializer of Azure/azure-webjobs-sdk)."""
    assert "| where Code >= 500 or (Success == false and Code !between (400 .. 499))\n" in alert_query("runs-failing")


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ("where message has 'x'", "not a word"),
        ('where message has "x"', "no column message"),
        ('where Message has "x', "not a word"),
        ('where (Message has "x"', ") is wanted"),
        ('where Message contains "x"', "string where bool"),
        ('where SeverityLevel == "3"', "long with string"),
        ("where Message > 5", "string with long"),
        ("where TimeGenerated > 5", "datetime with long"),
        ("where Properties.a == 5", "dynamic with long"),
        ("where Message between (400 .. 499)", "string with long"),
        ("where Message", "string where bool"),
        ("where count() > 5", "groups of rows"),
        ("where Message.a > 5", "string where dynamic"),
        ("where tostring(Properties.title) == Message", "word of Kusto"),
        ("extend A = tostring()", "does not take"),
        ("extend A = nothing(Message)", "no function"),
        ('extend A = coalesce(tolong(Message), "0")', "long with string"),
        ("extend by = Message", "word of Kusto"),
        ("project Message | order by TimeGenerated desc", "no column TimeGenerated"),
        ("summarize A = sum(Properties.a)", "does not take"),
        ("summarize A = Message", "many values"),
        ("summarize A = count() by B = Properties.a", "dynamic"),
        ("summarize A = count() by bin(TimeGenerated, 5)", "does not take"),
        ("summarize A = count() by bin(TimeGenerated, 5m), bin(TimeGenerated, 1h)", "twice"),
        ("mv-expand A = Message", "string where dynamic"),
        ("evaluate bag_unpack(Properties)", "no operator"),
        ("take", "too early"),
    ],
)
def test_the_reader_refuses_what_kusto_refuses_or_compares_in_vain(steps: str, said: str) -> None:
    with pytest.raises(KustoError, match=re.escape(said)):
        columns_of(f"AppTraces\n| {steps}")


def test_the_reader_knows_the_columns_after_each_step() -> None:
    query = """
        let Lines = AppTraces | where Message startswith "{" | extend Fields = parse_json(Message); // the app's
        let First = toscalar(Lines | take 1 | project tostring(Fields.id));
        Lines
        | where tostring(Fields["id"]) == First and ItemCount < 1.5
        | summarize Half = sum(ItemCount) / 2, Latest = max(TimeGenerated), arg_max(TimeGenerated, Fields) by Message
        | extend Share = round(todouble(Fields.share) / Half, 1)
    """
    kinds = {"Message": "string", "Half": "long", "Latest": "datetime", "TimeGenerated": "datetime"}
    assert columns_of(query) == kinds | {"Fields": "dynamic", "Share": "real"}
    assert columns_of("AppMetrics | where Sum > 1") == TABLES["AppMetrics"]
    with pytest.raises(KustoError, match="no table"):
        columns_of("requests | take 1")
    with pytest.raises(KustoError, match="; is wanted"):
        columns_of("let A = AppTraces | take 1\nA | take 1")
