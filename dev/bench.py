"""`make bench`: measures the figures of docs/benchmark.md, prints each with its limit, and keeps them as JSON.

Azurite, the Mailchimp sandbox and the hosts share the machine, and each export starts with empty ones. A figure that
misses its limit is printed as such; it is no failure unless --check is given.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from dev.azurite import AzuriteError
from dev.bench_data import OVERLAPPING, SINGLE
from dev.bench_machine import machine
from dev.bench_report import MILLION, describe, disturbances, figures, filled, markdown, tables
from dev.bench_runs import (
    BENCH_FOLDER,
    LATENCY_BASE_MS,
    LATENCY_PER_MEMBER_MS,
    Case,
    NotCounted,
    run_export,
    time_imports,
)
from dev.stack import StackError, stop_on_signals
from dev.terminal import Terminal

QUICK_MEMBERS = 50_000
LATENCY_MEMBERS = 100_000
SLOPE_MEMBERS, SLOPE_TURNS = (10_000, 100_000), 3
CASES = ("import", "export", "parquet", "realistic", "calls", "latency", "slope")

Result = dict[str, Any]
Run = Callable[[], Result]


def main() -> int:
    """Runs the cases. Exit code 1 when one could not be measured, or with --check when a figure misses its limit."""
    options = parse_arguments()
    terminal = Terminal()
    if options.table:
        return print_tables(json.loads(options.table.read_text(encoding="utf-8")), options.into, terminal)
    stop_on_signals()
    described = machine()
    terminal.line(terminal.bold("Benchmark on " + describe(described)))
    results: list[Result] = []
    failures: list[str] = []
    try:
        for name, run in runs(options, terminal).items():
            _run(name, run, results, failures, terminal)
    except KeyboardInterrupt:
        terminal.line("Stopped; nothing is left running.")
        return 130
    finally:
        document = document_of(described, results, failures)
        path = write(document) if results else None
    show(document, terminal)
    if path:
        terminal.line(f"Written to {path}")
    return 1 if failures or (options.check and any(figure["met"] is False for figure in document["figures"])) else 0


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m dev.bench", description="Measures the figures of docs/benchmark.md."
    )
    parser.add_argument("--members", type=int, help="of the large exports, a multiple of ten (default 1,000,000)")
    parser.add_argument("--only", choices=CASES, action="append", help="only this case; may be repeated")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_MEMBERS:,} members, to see whether all works")
    parser.add_argument("--lanes", type=int, default=8, help="connections per account, 1 to 10 (default 8)")
    parser.add_argument("--hosts", type=int, default=1, help="host processes (default 1)")
    parser.add_argument("--format", choices=("csv", "parquet"), default="csv", help="of the segments (default csv)")
    parser.add_argument(
        "--latency-base-ms", type=float, default=LATENCY_BASE_MS, help=f"of 'latency' (default {LATENCY_BASE_MS:g})"
    )
    parser.add_argument(
        "--latency-per-member-ms",
        type=float,
        default=LATENCY_PER_MEMBER_MS,
        help=f"of 'latency' (default {LATENCY_PER_MEMBER_MS:g})",
    )
    parser.add_argument("--latency-members", type=int, default=LATENCY_MEMBERS, help="of 'latency' (default 100,000)")
    parser.add_argument(
        "--realistic-replies", action="store_true", help="member objects as long as Mailchimp's in all replies"
    )
    parser.add_argument("--check", action="store_true", help="exit code 1 when a figure misses its limit")
    parser.add_argument("--table", type=Path, metavar="FILE", help="only print the tables of a result, as Markdown")
    parser.add_argument(
        "--into",
        type=Path,
        nargs="+",
        default=[],
        metavar="PAGE",
        help="with --table: put them into these pages instead",
    )
    options = parser.parse_args(arguments)
    options.members = options.members or (QUICK_MEMBERS if options.quick else MILLION)
    for name in ("members", "latency_members"):
        if getattr(options, name) % 10 or not 10 <= getattr(options, name) <= MILLION:
            parser.error(f"--{name.replace('_', '-')} must be a multiple of ten, up to 1,000,000")
    if not 1 <= options.lanes <= 10 or options.hosts < 1:
        parser.error("--lanes must be 1 to 10, and --hosts at least 1")
    return options


def runs(options: argparse.Namespace, terminal: Terminal) -> Mapping[str, Run]:
    """What is to be run, by name, in this order."""

    def tell(text: str) -> None:
        terminal.progress(f"  {text}", is_new=not text.startswith(" "))

    chosen = options.only or CASES
    prepared = {case.name: case for case in cases(options)}
    found: dict[str, Run] = {"import": time_imports} if "import" in chosen else {}
    for name, case in prepared.items():
        if name.partition("-")[0] in chosen:
            found[name] = partial(run_export, case, tell)
    return found


def cases(options: argparse.Namespace) -> list[Case]:
    """The exports that can be run. Those of the slope take turns: what slows the machine down for a while must not meet
    one size alone."""
    export = Case(
        "export",
        options.members,
        OVERLAPPING,
        file_format=options.format,
        lanes=options.lanes,
        hosts=options.hosts,
        has_realistic_replies=options.realistic_replies,
    )
    sizes = [size for size in SLOPE_MEMBERS if size < options.members] + [options.members]
    return [
        export,
        *([] if options.format == "parquet" else [replace(export, name="parquet", file_format="parquet")]),
        *([] if options.realistic_replies else [replace(export, name="realistic", has_realistic_replies=True)]),
        replace(export, name="calls", segments=SINGLE),
        replace(
            export,
            name="latency",
            members=min(options.latency_members, options.members),
            latency_base_ms=options.latency_base_ms,
            latency_per_member_ms=options.latency_per_member_ms,
            seconds_between_looks=5,
        ),
        *(
            replace(export, name=f"slope-{turn}-{size}", members=size)
            for turn in range(1, SLOPE_TURNS + 1)
            for size in sizes
        ),
    ]


def print_tables(document: Mapping[str, Any], pages: Sequence[Path], terminal: Terminal) -> int:
    """The tables of an earlier result, on the terminal or in pages that have a place for them."""
    if not pages:
        terminal.line(markdown(document))
    for page in pages:
        page.write_text(filled(page.read_text(encoding="utf-8"), document), encoding="utf-8")
    return 0


def document_of(described: Mapping[str, Any], results: Sequence[Result], failures: Sequence[str]) -> dict[str, Any]:
    """Everything that was measured, as JSON has it."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": described,
        "figures": [asdict(figure) for figure in figures(results)],
        "failures": list(failures),
        "runs": list(results),
    }


def show(document: Mapping[str, Any], terminal: Terminal) -> None:
    """All tables, what failed, and what disturbed."""
    for title, table in tables(document):
        terminal.heading(title)
        terminal.table(table, right=range(1, len(table[0]) - 1))
    terminal.line()
    for failure in document["failures"]:
        terminal.line(f"  {terminal.bad(failure)}")
    for sentence in disturbances(document):
        terminal.line(f"  {sentence}")


def write(document: Mapping[str, Any]) -> Path:
    """The document as a file; returns where."""
    path = BENCH_FOLDER / f"bench-{datetime.fromisoformat(document['at']):%Y%m%d-%H%M%S}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return path


def _run(name: str, run: Run, results: list[Result], failures: list[str], terminal: Terminal) -> None:
    try:
        results.append(run())
    except (NotCounted, StackError, AzuriteError) as error:
        failures.append(f"{name}: no figure, because {error}")
        terminal.line(f"  {terminal.bad(failures[-1])}")
        return
    for figure in figures(results[-1:]):
        terminal.line(f"  {figure.what}: {figure.measured:,.10g} {figure.unit}".rstrip())


if __name__ == "__main__":
    sys.exit(main())
