"""`make chaos`: the fault campaign; exit code 1 when a promise was broken."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from dev.chaos import report
from dev.chaos.endurance import endure
from dev.chaos.processes import NoAnswer
from dev.chaos.run import run_scenario
from dev.chaos.scenario import make_scenario
from dev.stack import StackError, stop_on_signals
from dev.terminal import Terminal

SCENARIOS: Final = 6
MEMBERS: Final = 100_000
ENDURANCE_EXPORTS: Final = 8
ENDURANCE_MEMBERS: Final = 10_000


def main() -> int:
    """Runs the scenarios, or shows a report."""
    options = parse_arguments()
    terminal = Terminal()
    if options.show or options.markdown:
        return _show(options, terminal)
    stop_on_signals()
    terminal.line(terminal.bold(f"Fault campaign: seeds {', '.join(map(str, options.seeds))}"))
    endurance = None
    try:
        scenarios = [_run(seed, options.members, terminal) for seed in options.seeds]
        if options.endurance:
            terminal.line("Endurance: one export after the other through the same hosts")
            endurance = endure(options.seeds[0], ENDURANCE_EXPORTS, ENDURANCE_MEMBERS, terminal.line)
    except (NoAnswer, StackError) as error:
        terminal.line(terminal.bad(f"The campaign cannot go on: {error}"))
        return 1
    except KeyboardInterrupt:
        terminal.line("Stopped; nothing is left running.")
        return 130
    document = report.campaign(scenarios, endurance)
    path = report.write(document)
    report.show(document, terminal)
    terminal.line()
    terminal.line(f"Written to {path}")
    if document["passed"]:
        terminal.line(terminal.good("All promises were kept."))
        return 0
    broken = [str(scenario["seed"]) for scenario in scenarios if not scenario["passed"]]
    for seed in broken:
        terminal.line(terminal.bad(f'Broken. Again: make chaos ARGS="--seed {seed} --members {options.members}"'))
    return 1


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; `seeds` are those to run, `endurance` says whether it is run too."""
    parser = argparse.ArgumentParser(prog="python -m dev.chaos", description="The fault campaign.")
    parser.add_argument("--seed", type=int, action="append", help="only the scenario of this seed; may be repeated")
    parser.add_argument("--from", dest="first", type=int, default=1, help="first seed of several (default 1)")
    parser.add_argument("--scenarios", type=int, default=SCENARIOS, help=f"how many of them (default {SCENARIOS})")
    parser.add_argument("--members", type=int, default=MEMBERS, help=f"of each export (default {MEMBERS:,})")
    parser.add_argument("--no-endurance", action="store_true", help="without the run that looks for growth")
    parser.add_argument("--show", type=Path, metavar="FILE", help="only print the tables of an earlier report")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="only print an earlier report for the docs")
    options = parser.parse_args(arguments)
    if options.members < 1000 or options.scenarios < 1:
        parser.error("at least 1,000 members and one scenario")
    options.seeds = options.seed or list(range(options.first, options.first + options.scenarios))
    options.endurance = not options.seed and not options.no_endurance
    return options


def _run(seed: int, members: int, terminal: Terminal) -> dict[str, Any]:
    scenario = make_scenario(seed, members)
    planned = ", ".join([event.kind for event in scenario.events] + ([scenario.ending] if scenario.ending else []))
    terminal.line(f"Seed {seed}: {members:,} members, {scenario.lanes} lanes; {planned}")
    result = run_scenario(scenario, terminal.progress)
    status, struck = result["export"].get("status"), sum(result["injected"].values())
    kept = "kept" if result["passed"] else "BROKEN"
    terminal.line(f"  {status} after {result['seconds']:.0f} s in all, {struck:,} faults: {kept}")
    report.show_failures(result, terminal)
    return result


def _show(options: argparse.Namespace, terminal: Terminal) -> int:
    document = json.loads((options.show or options.markdown).read_text(encoding="utf-8"))
    if options.show:
        report.show(document, terminal)
    else:
        print(report.markdown(document))
    return 0


if __name__ == "__main__":
    sys.exit(main())
