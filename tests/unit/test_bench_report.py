"""The report of the benchmark: figures beside limits, phases cut out of samples, prices as docs/cost.md has them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dev.bench import cases, parse_arguments
from dev.bench_report import figures, filled, markdown, slope_runs, sparkline
from dev.bench_storage import PRICES, billed, requests_cost
from dev.bench_watch import HostWatch, Sample

START = datetime(2026, 11, 22, tzinfo=UTC)
COST = Path(__file__).resolve().parents[2] / "docs" / "cost.md"


def run(case: str, members: int, **changes: Any) -> dict[str, Any]:
    """A run with costs in proportion to its members, and a start that costs as much as 1,000 of them."""
    units = members / 1000 + 1
    phase = {"seconds": 1.0, "hostCpuSeconds": 0.5, "peakMb": 200.0, "growthMb": 1.0}
    return {
        "case": case,
        "members": members,
        "format": "csv",
        "lanes": 8,
        "hosts": 1,
        "realisticReplies": False,
        "latencyMs": {"base": 0, "perMember": 0},
        "seconds": units / 20,
        "phases": {"prepare": phase, "send": phase, "finish": phase},
        "cpuSeconds": {"host": units / 30, "others": 0.0},
        "hostPeakMb": 300.0,
        "memory": {"everySeconds": 0.1, "mb": [100.0, 300.0, 200.0]},
        "calls": units * 2,
        "maxOpenCalls": 8,
        "transactions": dict.fromkeys(("write", "list", "read", "other", "queue", "vault"), round(units)),
    } | changes


def met(found: list[Any]) -> dict[str, bool | None]:
    return {figure.what: figure.met for figure in found}


def test_limits_of_time_and_memory_count_at_a_million_only() -> None:
    assert None not in met(figures([run("export", 1_000_000)])).values()
    assert list(met(figures([run("export", 50_000)])).values()).count(None) == 4


@pytest.mark.parametrize(
    ("case", "changes"),
    [
        ("export", {"hostPeakMb": 513.0}),
        ("export", {"seconds": 60.1}),
        ("realistic", {"realisticReplies": True, "cpuSeconds": {"host": 40.1, "others": 0.0}}),
        ("calls", {"calls": 2011}),
        ("latency", {"maxOpenCalls": 9}),
    ],
)
def test_a_figure_beyond_its_limit_is_not_met(case: str, changes: dict[str, Any]) -> None:
    latency = (
        {"latencyMs": {"base": 130, "perMember": 10.5}, "seconds": 1350.0} if case == "latency" else {"calls": 2005}
    )
    good = run(case, 1_000_000, **latency)
    assert set(met(figures([good])).values()) == {True}
    assert list(met(figures([good | changes])).values()).count(False) == 1


def test_a_straight_slope_is_met_and_a_bent_one_is_not() -> None:
    sizes = [run("slope-1-10000", 10_000), run("slope-1-100000", 100_000)]
    large = run("slope-1-1000000", 1_000_000)
    straight = figures([large, *sizes])[-3:]
    assert [figure.met for figure in straight] == [True, True, True]
    bent = figures([large | {"calls": 2600}, *sizes])[-3:]
    assert [figure.met for figure in bent] == [False, True, True]


def test_of_each_size_in_the_slope_the_run_with_the_least_cpu_counts() -> None:
    cpu = {"slope-1-10000": 2.0, "slope-2-10000": 1.5, "slope-3-10000": 1.8, "slope-1-50000": 3.0, "slope-2-50000": 3.5}
    turns = [run(case, int(case[8:]), cpuSeconds={"host": used, "others": 0.0}) for case, used in cpu.items()]
    chosen = slope_runs([run("export", 10_000, cpuSeconds={"host": 0.1, "others": 0.0}), *reversed(turns)])
    assert [found["case"] for found in chosen] == ["slope-2-10000", "slope-1-50000"]


def test_phases_are_cut_out_of_the_samples() -> None:
    watch = HostWatch(())
    watch._samples = [Sample(START.timestamp() + n, cpu=n * 0.5, memory=100.0 + n) for n in range(9)]
    whole = watch.phase(START, START + timedelta(seconds=8))
    assert (whole.seconds, whole.cpu, whole.peak_mb, whole.growth_mb) == (8, 4, 108, 6)
    part = watch.phase(START + timedelta(seconds=1.5), START + timedelta(seconds=3.5))
    assert (part.cpu, part.peak_mb) == (1, 103)
    assert watch.phase(START + timedelta(seconds=2.2), START + timedelta(seconds=2.4)).cpu == pytest.approx(0.1)


def test_a_sparkline_shows_the_highest_of_each_part() -> None:
    assert sparkline([0, 0, 8, 0], width=2) == "▁█"
    assert len(sparkline(list(range(1, 500)))) == 60


def test_polls_and_deletions_cost_nothing() -> None:
    assert billed({"host": 5, "free": 5, "write": 2}) == 2
    assert requests_cost({"host": 5, "free": 5}) == 0


def test_prices_are_those_of_the_document() -> None:
    rows = re.findall(r"^\| (\w+) \| ([\d.]+) \| ([\d,]+) \|", COST.read_text(encoding="utf-8"), re.MULTILINE)
    found = {name: float(price) / float(number.replace(",", "")) for name, price, number in rows}
    assert {name: found[name] for name in PRICES} == pytest.approx(dict(PRICES))


def test_the_tables_of_a_result_are_markdown() -> None:
    machine = dict.fromkeys(("processor", "memoryGb", "system", "python", "duckdb"), "x") | {
        "cores": 2,
        "loadAverage": [0],
    }
    document: dict[str, Any] = {
        "at": "2026-11-22T10:00:00+00:00",
        "machine": machine,
        "failures": ["calls: no figure"],
        "figures": [],
    }
    document["runs"] = [run("export", 1_000_000), run("slope-1-10000", 10_000)]
    text = markdown(document)
    assert "| 10,000 | 2.200 |" in text
    assert "**Phases" in text
    assert "calls: no figure" in text
    page = filled("before\n<!-- bench slope -->\nold\n<!-- end -->\nafter", document)
    assert page.startswith("before\n<!-- bench slope -->\n\nMeasured 2026-11-22 on 2 cores")
    assert page.endswith("<!-- end -->\nafter")
    assert "| 10,000 | 2.200 |" in page
    assert "old" not in page
    assert "**Phases" not in page


def test_options_reach_every_case() -> None:
    options = parse_arguments(["--quick", "--lanes", "3", "--hosts", "2", "--format", "parquet", "--realistic-replies"])
    chosen = cases(options)
    assert {(case.lanes, case.hosts, case.file_format, case.has_realistic_replies) for case in chosen} == {
        (3, 2, "parquet", True)
    }
    assert [case.name for case in chosen] == ["export", "calls", "latency"] + [
        f"slope-{turn}-{size}" for turn in (1, 2, 3) for size in (10_000, 50_000)
    ]


@pytest.mark.parametrize("wrong", [["--members", "15"], ["--members", "1000010"], ["--lanes", "11"], ["--hosts", "0"]])
def test_options_that_cannot_be_are_refused(wrong: list[str]) -> None:
    with pytest.raises(SystemExit):
        parse_arguments(wrong)
