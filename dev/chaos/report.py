"""The report of a campaign: JSON, a table for people, and the rows of docs/reliability.md."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from dev.bench_machine import machine
from dev.stack import RUN_FOLDER
from dev.terminal import Terminal

FOLDER: Final = RUN_FOLDER / "chaos"


def campaign(scenarios: Sequence[Mapping[str, Any]], endurance: Mapping[str, Any] | None) -> dict[str, Any]:
    """The document of a whole campaign."""
    runs = [*scenarios, *([endurance] if endurance else [])]
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "seeds": [scenario["seed"] for scenario in scenarios],
        "members": sum(int(scenario["members"]) for scenario in scenarios),
        "injected": _faults(runs),
        "promises": _promises(runs),
        "scenarios": list(scenarios),
        "endurance": endurance,
        "passed": all(run["passed"] for run in runs),
    }


def _faults(runs: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    """By name: how often it struck, how often in an export that kept all promises, and in how many exports."""
    injected, survived, exports = Counter[str](), Counter[str](), Counter[str]()
    for run in runs:
        struck = Counter(run["injected"])
        injected += struck
        exports += Counter(dict.fromkeys(struck, 1))
        if run["passed"]:
            survived += struck
    return {
        name: {"injected": count, "survived": survived[name], "exports": exports[name]}
        for name, count in sorted(injected.items())
    }


def _promises(runs: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    """By promise: how often it was checked, and how often kept."""
    checked, kept = Counter[str](), Counter[str]()
    for run in runs:
        for check in run["checks"]:
            checked[check["promise"]] += 1
            kept[check["promise"]] += bool(check["passed"])
    return {promise: {"checked": count, "kept": kept[promise]} for promise, count in checked.items()}


def write(document: Mapping[str, Any]) -> Path:
    """Keep the document; returns where."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"chaos-{datetime.now(UTC):%Y%m%d-%H%M%S}.json"
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def show(document: Mapping[str, Any], terminal: Terminal) -> None:
    """Tables of what struck, of the promises, and of the exports."""
    rows = [("fault", "injected", "survived", "exports")]
    rows += [(name, *(f"{found[key]:,}" for key in rows[0][1:])) for name, found in document["injected"].items()]
    terminal.heading("Injected")
    terminal.table(rows, right=(1, 2, 3))
    promises = [("promise", "checked", "kept")]
    promises += [(name, f"{f['checked']}", f"{f['kept']}") for name, f in document["promises"].items()]
    terminal.heading("Promises")
    terminal.table(promises, right=(1, 2))
    exports: list[tuple[str, ...]] = [
        ("seed", "members", "ending", "status", "seconds", "storage requests", "calls", "")
    ]
    exports += [_line(run) for run in document["scenarios"]]
    terminal.heading("Exports")
    terminal.table(exports, right=(0, 1, 4, 5, 6))
    for run in (*document["scenarios"], document["endurance"] or {"checks": ()}):
        show_failures(run, terminal)


def _line(run: Mapping[str, Any]) -> tuple[str, ...]:
    export = run["export"]
    return (
        f"{run['seed']}",
        f"{run['members']:,}",
        run["scenario"]["ending"] or "",
        export.get("status", "none"),
        f"{export.get('seconds', 0):.0f}",
        f"{run['requestsOfStorage']:,}",
        f"{run['callsOfMailchimp']:,}",
        "kept" if run["passed"] else "BROKEN",
    )


def show_failures(run: Mapping[str, Any], terminal: Terminal) -> None:
    """The promises that a run broke, each with what was found."""
    for check in run["checks"]:
        if not check["passed"]:
            terminal.line(terminal.bad(f"  seed {run['seed']}: broken: {check['promise']}: {check['detail']}"))


def markdown(document: Mapping[str, Any]) -> str:
    """What docs/reliability.md shows of a campaign, below its heading "Measured"."""
    described = document["machine"]
    seeds = ", ".join(str(seed) for seed in document["seeds"])
    lines = [
        f"Run of {document['at'][:10]}, seeds {seeds}: {document['members']:,} members in all, on {described['cores']} "
        f"cores ({described['processor']}), Python {described['python']}.",
        "",
        "| injected | times | survived | in exports |",
        "|---|---:|---:|---:|",
    ]
    for name, found in document["injected"].items():
        lines.append(f"| {name} | {found['injected']:,} | {found['survived']:,} | {found['exports']} |")
    lines += ["", "## What was kept", "", "| promise | checked | kept |", "|---|---:|---:|"]
    for name, found in document["promises"].items():
        lines.append(f"| {name} | {found['checked']} | {found['kept']} |")
    return "\n".join(lines)
