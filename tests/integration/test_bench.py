"""The benchmark in small, with real processes: what an export costs that does not depend on how fast the machine is.

A second request for each batch, a body sent twice, or replies kept in memory are noticed. `make bench` measures the
rest (docs/benchmark.md).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dev.bench_data import OVERLAPPING
from dev.bench_report import figures, tables
from dev.bench_runs import Case, run_export
from dev.bench_storage import billed
from shared.exports.model import BATCHES_PER_PACK

SMALL, LARGE = 10_000, 50_000
LANES = 4
CASE = Case(
    "test",
    LARGE,
    OVERLAPPING,
    lanes=LANES,
    hosts=2,
    latency_base_ms=30,
    has_realistic_replies=True,
    seconds_between_looks=1,
)


@pytest.fixture(scope="module")
def large() -> dict[str, Any]:
    """50,000 members in three overlapping segments, sent by two hosts; its books are checked by the benchmark."""
    return run_export(replace(CASE, name="export"), lambda _: None)


@pytest.fixture(scope="module")
def small() -> dict[str, Any]:
    return run_export(replace(CASE, name="slope-test", members=SMALL), lambda _: None)


def test_a_call_of_500_members_and_a_handful_of_look_ups(small: dict[str, Any], large: dict[str, Any]) -> None:
    assert large["calls"] <= LARGE // 500 + 10
    further = large["calls"] - small["calls"] - (LARGE - SMALL) // 500
    assert abs(further) <= 1, "a second lane begins with a small call too if it does so before the first answer"


def test_never_more_calls_open_than_lanes_over_all_hosts(large: dict[str, Any]) -> None:
    assert 1 < large["maxOpenCalls"] <= LANES


def test_each_member_is_sent_once_and_with_little_around(large: dict[str, Any]) -> None:
    assert large["bodyBytes"] / LARGE < 200


def test_a_batch_costs_one_result_and_a_tenth_of_a_pack(large: dict[str, Any]) -> None:
    packs = LANES * -(-LARGE // 500 // LANES // BATCHES_PER_PACK)
    requests = large["runRequests"]
    assert requests["PUT results"] == LARGE // 500
    assert "GET results" not in requests
    assert requests["PUT batches"] == requests["GET batches"] == packs


def test_at_most_five_requests_to_storage_for_a_further_batch(small: dict[str, Any], large: dict[str, Any]) -> None:
    """Result and a tenth of a pack; and where the time for it has come, progress, a look for a stop, one for work."""
    further = (LARGE - SMALL) // 500
    assert (billed(large["transactions"]) - billed(small["transactions"])) / further < 5.5
    assert large["transactions"]["vault"] <= 2 * LANES


def test_memory_does_not_grow_while_sending(large: dict[str, Any]) -> None:
    assert large["phases"]["send"]["growthMb"] < 32
    assert large["phases"]["finish"]["peakMb"] < large["phases"]["send"]["peakMb"] + 32


def test_memory_grows_little_with_the_number_of_members(small: dict[str, Any], large: dict[str, Any]) -> None:
    bytes_per_member = (large["hostPeakMb"] - small["hostPeakMb"]) * 1024**2 / (LARGE - SMALL)
    assert bytes_per_member < 4000
    assert large["hostPeakMb"] < 400


def test_the_report_shows_phases_memory_cost_and_slope(small: dict[str, Any], large: dict[str, Any]) -> None:
    assert [set(phase) for phase in large["phases"].values()] == [
        {"seconds", "hostCpuSeconds", "peakMb", "growthMb"}
    ] * 3
    assert 0 < sum(phase["hostCpuSeconds"] for phase in large["phases"].values()) <= large["cpuSeconds"]["host"] + 0.5
    runs = [large, small, large | {"case": "slope-test"}]
    document = {"figures": [], "runs": runs, "failures": [], "machine": {"cores": 2}}
    shown = dict(tables(document))
    assert [row[0] for row in shown["Slope: cost per 1,000 members"]] == ["members", "10,000", "50,000"]
    assert any("per 1,000 further members" in figure.what for figure in figures(runs))
