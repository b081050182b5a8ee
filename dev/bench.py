"""`make bench`: measures the figures of docs/benchmark.md, prints each with its limit, and keeps them as JSON.

Azurite, the Mailchimp sandbox and the host share the machine, and each export starts with empty ones. A figure that
misses its limit is printed as such; it is no failure unless --check is given.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dev.bench_data import OVERLAPPING, SINGLE
from dev.bench_machine import machine
from dev.bench_runs import BENCH_FOLDER, Case, NotCounted, run_export, time_imports
from dev.stack import StackError, stop_on_signals
from dev.terminal import Terminal

MILLION = 1_000_000
QUICK_MEMBERS = 50_000
LATENCY_BASE_MS, LATENCY_PER_MEMBER_MS = 130, 10.5
"""One call of 500 members takes 5.38 s: a million profiles, one call after another, take the documented three hours."""
MEMBERS_PER_CALL = 500
DISTURBED_PERCENT = 15


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured value beside its limit. `met` is None where the limit is for another size than was measured."""

    what: str
    limit: float
    measured: float
    unit: str
    met: bool | None
    note: str = ""


def main() -> int:
    """Runs the cases. Exit code 1 when one could not be measured, or with --check when a figure misses its limit."""
    options = parse_arguments()
    terminal = Terminal()
    stop_on_signals()
    described = machine()
    terminal.line(terminal.bold("Benchmark on " + describe(described)))
    results: list[dict[str, Any]] = []
    figures: list[Figure] = []
    failures: list[str] = []
    try:
        for name, run in cases(options, terminal).items():
            if options.only in (None, name):
                _run_case(name, run, results, figures, failures, terminal)
    except KeyboardInterrupt:
        terminal.line("Stopped; nothing is left running.")
        return 130
    finally:
        if results:
            path = write(described, results, figures, failures)
    show(figures, failures, terminal)
    for result in results:
        if (share := disturbance(result, described["cores"])) > DISTURBED_PERCENT:
            terminal.line(
                f"  During '{result['case']}' other programs used {share:.0f} % of the machine: its times say little."
            )
    if results:
        terminal.line(f"Written to {path}")
    return 1 if failures or (options.check and any(figure.met is False for figure in figures)) else 0


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m dev.bench", description="Measures the figures of docs/benchmark.md."
    )
    parser.add_argument("--members", type=int, help="of the large exports, a multiple of ten (default 1,000,000)")
    parser.add_argument("--only", choices=("import", "export", "calls", "latency"), help="only this case")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_MEMBERS:,} members, to see whether all works")
    parser.add_argument(
        "--realistic-replies", action="store_true", help="member objects as long as Mailchimp's in replies"
    )
    parser.add_argument("--check", action="store_true", help="exit code 1 when a figure misses its limit")
    options = parser.parse_args(arguments)
    options.members = options.members or (QUICK_MEMBERS if options.quick else MILLION)
    if options.members % 10 or not 10 <= options.members <= MILLION:
        parser.error("--members must be a multiple of ten, up to 1,000,000")
    return options


Result = tuple[dict[str, Any], list[Figure]]


def cases(options: argparse.Namespace, terminal: Terminal) -> Mapping[str, Callable[[], Result]]:
    """What can be run, by name."""
    members = options.members
    delayed = min(100_000, members)
    realistic = options.realistic_replies

    def tell(text: str) -> None:
        terminal.progress(f"  {text}", is_new=not text.startswith(" "))

    def imports() -> Result:
        result = time_imports()
        seconds = result["median"]
        note = "median of 5 fresh processes"
        return result, [Figure("cold import of function_app", 0.6, seconds, "s", seconds <= 0.6, note)]

    def export() -> Result:
        result = run_export(Case("export", members, OVERLAPPING, has_realistic_replies=realistic), tell)
        return result, export_figures(result)

    def calls() -> Result:
        result = run_export(Case("calls", members, SINGLE, has_realistic_replies=realistic), tell)
        limit = -(-members // MEMBERS_PER_CALL) + 10
        what = f"calls for {members:,} new members in one segment"
        return result, [Figure(what, limit, result["calls"], "", result["calls"] <= limit)]

    def latency() -> Result:
        case = Case(
            "latency",
            delayed,
            OVERLAPPING,
            latency_base_ms=LATENCY_BASE_MS,
            latency_per_member_ms=LATENCY_PER_MEMBER_MS,
            has_realistic_replies=realistic,
        )
        result = run_export(case, tell)
        return result, [latency_figure(result)]

    return {"import": imports, "export": export, "calls": calls, "latency": latency}


def export_figures(result: Mapping[str, Any]) -> list[Figure]:
    """The figures of the export without latency."""
    members = result["members"]

    def at_a_million(met: bool) -> bool | None:
        return met if members == MILLION else None

    prepare, whole = result["prepareSeconds"], result["seconds"]
    memory = result["hostPeakMb"]
    cpu = round(result["cpuSeconds"]["host"] * MILLION / members, 1)
    return [
        Figure(f"prepare {members:,} members", 10, prepare, "s", at_a_million(prepare <= 10)),
        Figure("peak memory of the host", 512, memory, "MB", at_a_million(memory <= 512), "over all phases"),
        Figure(
            f"whole export of {members:,} members, no latency",
            60,
            whole,
            "s",
            at_a_million(whole <= 60),
            "from the request to the closed books; the aim beyond is 30 s",
        ),
        Figure("CPU of the host per 1,000,000 members", 40, cpu, "s", at_a_million(cpu <= 40), "all phases"),
    ]


def latency_figure(result: Mapping[str, Any]) -> Figure:
    """The whole export beside what Mailchimp alone takes: calls of full latency, dealt to the lanes."""
    calls = -(-result["members"] // MEMBERS_PER_CALL)
    one_call = (LATENCY_BASE_MS + LATENCY_PER_MEMBER_MS * MEMBERS_PER_CALL) / 1000
    least = calls * one_call / result["lanes"]
    return Figure(
        f"whole export of {result['members']:,} members, 130 ms + 10.5 ms per member",
        round(least * 1.05, 1),
        result["seconds"],
        "s",
        result["seconds"] <= least * 1.05 if result["members"] == 100_000 else None,
        f"calls x latency / lanes is {least:.1f} s: {100 * (result['seconds'] / least - 1):+.1f} %",
    )


def _run_case(
    name: str,
    run: Callable[[], Result],
    results: list[dict[str, Any]],
    figures: list[Figure],
    failures: list[str],
    terminal: Terminal,
) -> None:
    try:
        result, found = run()
    except (NotCounted, StackError) as error:
        failures.append(f"{name}: no figure, because {error}")
        terminal.line(f"  {terminal.bad(failures[-1])}")
        return
    results.append(result)
    figures += found
    for figure in found:
        terminal.line(f"  {figure.what}: {figure.measured:,g} {figure.unit}".rstrip())


def disturbance(result: Mapping[str, Any], cores: int) -> float:
    """How much of the machine other programs used while the export ran, in percent."""
    if "cpuSeconds" not in result:
        return 0
    return float(100 * result["cpuSeconds"]["others"] / (cores * result["seconds"]))


def describe(described: Mapping[str, Any]) -> str:
    """The machine in one line."""
    load = described["loadAverage"][0]
    return (
        f"{described['cores']} cores ({described['processor']}), {described['memoryGb']} GB, {described['system']}, "
        f"Python {described['python']}, DuckDB {described['duckdb']}, load average {load}"
    )


def show(figures: Sequence[Figure], failures: Sequence[str], terminal: Terminal) -> None:
    """The table of all figures."""
    words = {True: "met", False: "NOT MET", None: "limit is for another size"}
    table = [("figure", "limit", "measured", "", "")]
    for figure in figures:
        limit, measured = (f"{value:,g} {figure.unit}".rstrip() for value in (figure.limit, figure.measured))
        table.append((figure.what, limit, measured, words[figure.met], figure.note))
    terminal.line()
    terminal.table(table, right=(1, 2))
    for failure in failures:
        terminal.line(f"  {terminal.bad(failure)}")


def write(
    described: Mapping[str, Any], results: Sequence[Any], figures: Sequence[Figure], failures: Sequence[str]
) -> Path:
    """Everything as JSON; returns where."""
    now = datetime.now(UTC)
    document = {
        "at": now.isoformat(timespec="seconds"),
        "machine": described,
        "figures": [asdict(figure) for figure in figures],
        "failures": list(failures),
        "runs": list(results),
    }
    path = BENCH_FOLDER / f"bench-{now:%Y%m%d-%H%M%S}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return path


if __name__ == "__main__":
    sys.exit(main())
