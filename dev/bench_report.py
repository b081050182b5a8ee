"""What `make bench` says about its runs: figures beside their limits, and tables of phases, slope, memory and cost.

Everything is computed from the JSON of the benchmark, so that tables can be made again from a file, and put into docs/:

    python -m dev.bench --table FILE.json --into docs/benchmark.md docs/performance.md
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from dev.bench_storage import billed, compute_cost, requests_cost

MILLION: Final = 1_000_000
MEMBERS_PER_CALL: Final = 500
DISTURBED_PERCENT: Final = 15
_BARS: Final = "▁▂▃▄▅▆▇█"
_BARS_WIDE: Final = 60
_GROWTH_MB: Final = 32
_LINEAR: Final = 1.2

Run = Mapping[str, Any]
Table = Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured value beside its limit. `met` is None where the limit is for another size than was measured."""

    what: str
    limit: float
    measured: float
    unit: str
    met: bool | None
    note: str = ""


def figures(runs: Sequence[Run]) -> list[Figure]:
    """All figures that the runs give."""
    found: list[Figure] = []
    for run in runs:
        if give := _FIGURES.get(run["case"]):
            found += give(run)
    slope = slope_runs(runs)
    return found + (_slope_figures(slope) if len(slope) > 1 else [])


def slope_runs(runs: Sequence[Run]) -> list[Run]:
    """Of each size in the slope the run that used the least CPU, the smallest size first: other programs and a slow
    machine can only add to it."""
    turns = [run for run in runs if run["case"].startswith("slope")]
    sizes = sorted({run["members"] for run in turns})
    return [min((run for run in turns if run["members"] == size), key=_host_cpu) for size in sizes]


def _host_cpu(run: Run) -> float:
    return float(run["cpuSeconds"]["host"])


# -- figures ---------------------------------------------------------------------------------------------------------


def _import_figures(run: Run) -> list[Figure]:
    seconds = run["median"]
    return [Figure("cold import of function_app", 0.6, seconds, "s", seconds <= 0.6, "median of 5 fresh processes")]


def _export_figures(run: Run) -> list[Figure]:
    members = run["members"]
    prepare, whole, memory = run["phases"]["prepare"]["seconds"], run["seconds"], run["hostPeakMb"]
    growth = run["phases"]["send"]["growthMb"]
    return [
        Figure(f"prepare {members:,} members{_kind(run)}", 10, prepare, "s", _if_million(run, prepare <= 10)),
        Figure(
            f"peak memory of the host{_kind(run)}",
            512,
            memory,
            "MB",
            _if_million(run, memory <= 512),
            "over all phases",
        ),
        Figure(
            f"memory gained while sending{_kind(run)}",
            _GROWTH_MB,
            growth,
            "MB",
            growth <= _GROWTH_MB,
            "last quarter of the time beside the first",
        ),
        Figure(
            f"whole export of {members:,} members, no latency{_kind(run)}",
            60,
            whole,
            "s",
            _if_million(run, whole <= 60),
            "from the request to the closed books; the aim beyond is 30 s",
        ),
        _cpu_figure(run),
    ]


def _cpu_figure(run: Run) -> Figure:
    cpu = round(run["cpuSeconds"]["host"] * MILLION / run["members"], 1)
    what = f"CPU of the host per 1,000,000 members{_kind(run)}"
    return Figure(what, 40, cpu, "s", _if_million(run, cpu <= 40), "all phases")


def _calls_figures(run: Run) -> list[Figure]:
    members, calls = run["members"], run["calls"]
    limit = -(-members // MEMBERS_PER_CALL) + 10
    return [Figure(f"calls for {members:,} new members in one segment", limit, calls, "", calls <= limit)]


def _latency_figures(run: Run) -> list[Figure]:
    """The whole export beside what Mailchimp alone takes: calls of full latency, dealt to the lanes."""
    base, per_member = run["latencyMs"]["base"], run["latencyMs"]["perMember"]
    seconds, least = run["seconds"], least_seconds(run)
    most_open = run["maxOpenCalls"]
    return [
        Figure(
            f"whole export of {run['members']:,} members, {base:g} ms + {per_member:g} ms per member",
            round(least * 1.05, 1),
            seconds,
            "s",
            seconds <= least * 1.05 if run["members"] >= 100_000 else None,
            f"calls x latency / lanes is {least:.1f} s: {100 * (seconds / least - 1):+.1f} %",
        ),
        Figure("calls open at once", run["lanes"], most_open, "", most_open <= run["lanes"], "as Mailchimp counts"),
    ]


def least_seconds(run: Run) -> float:
    """Calls times their latency, dealt to the lanes: no export over so many connections can be faster."""
    calls = -(-run["members"] // MEMBERS_PER_CALL)
    one_call = (run["latencyMs"]["base"] + run["latencyMs"]["perMember"] * MEMBERS_PER_CALL) / 1000
    return float(calls * one_call / run["lanes"])


def _slope_figures(runs: Sequence[Run]) -> list[Figure]:
    """What a further member costs between the two largest sizes, beside what it costs among the smaller ones."""
    *_, smaller, larger = runs
    earlier = runs[-3] if len(runs) > 2 else None
    found = []
    for name, cost in _COSTS.items():
        further, before = _per_1000(cost, smaller, larger), _per_1000(cost, earlier, smaller)
        start = f"{earlier['members']:,}" if earlier else "0"
        found.append(
            Figure(
                f"{name} per 1,000 further members, {smaller['members']:,} to {larger['members']:,}",
                round(before * _LINEAR, 3),
                further,
                "",
                further <= before * _LINEAR,
                f"{start} to {smaller['members']:,}: {before:,.3g}; the limit is a fifth more",
            )
        )
    return found


def _per_1000(cost: Callable[[Run], float], smaller: Run | None, larger: Run) -> float:
    members, costs = (smaller["members"], cost(smaller)) if smaller else (0, 0)
    return float(round((cost(larger) - costs) * 1000 / (larger["members"] - members), 3))


_COSTS: Final[Mapping[str, Callable[[Run], float]]] = MappingProxyType(
    {
        "calls": lambda run: float(run["calls"]),
        "requests to storage": lambda run: float(billed(run["transactions"])),
        "CPU seconds of the host": _host_cpu,
    }
)

_FIGURES: Final[Mapping[str, Callable[[Run], list[Figure]]]] = {
    "import": _import_figures,
    "export": _export_figures,
    "parquet": _export_figures,
    "realistic": lambda run: [_cpu_figure(run)],
    "calls": _calls_figures,
    "latency": _latency_figures,
}


def _kind(run: Run) -> str:
    parquet = ", Parquet" if run["format"] == "parquet" else ""
    return parquet + (", replies of full weight" if run["realisticReplies"] else "")


def _if_million(run: Run, met: bool) -> bool | None:
    return met if run["members"] == MILLION else None


# -- tables ----------------------------------------------------------------------------------------------------------


def tables(document: Mapping[str, Any]) -> Iterator[tuple[str, Table]]:
    """The tables of a result, each with its title: figures, phases, memory, requests, slope. The first row is the
    heading."""
    yield "Figures", _figure_table([Figure(**figure) for figure in document["figures"]])
    exports = [run for run in document["runs"] if run["case"] != "import"]
    if exports:
        yield "Phases: seconds, CPU of the host, most memory", _phase_table(exports)
        yield "Memory of the host over time", _memory_table(exports)
        yield "Requests to storage, and Azure's price for them", _cost_table(exports)
    slope = slope_runs(document["runs"])
    if slope:
        yield "Slope: cost per 1,000 members", _slope_table(slope)


def _figure_table(found: Sequence[Figure]) -> Table:
    words = {True: "met", False: "NOT MET", None: "limit is for another size"}
    rows = [("figure", "limit", "measured", "", "")]
    for figure in found:
        limit, measured = (f"{value:,.10g} {figure.unit}".rstrip() for value in (figure.limit, figure.measured))
        rows.append((figure.what, limit, measured, words[figure.met], figure.note))
    return rows


def _phase_table(runs: Sequence[Run]) -> Table:
    rows: list[tuple[str, ...]] = [("run", "prepare", "send", "finish", "all", "others used")]
    for run in runs:
        cells = [
            f"{phase['seconds']:.1f} s, {phase['hostCpuSeconds']:.1f} s CPU, {phase['peakMb']:.0f} MB"
            for phase in run["phases"].values()
        ]
        whole = f"{run['seconds']:.1f} s, {run['cpuSeconds']['host']:.1f} s CPU, {run['hostPeakMb']:.0f} MB"
        rows.append((_title(run), *cells, whole, f"{run['cpuSeconds']['others']:.1f} s CPU"))
    return rows


def _memory_table(runs: Sequence[Run]) -> Table:
    rows = [("run", "over time", "least", "most", "gained while sending")]
    for run in runs:
        memory = run["memory"]["mb"]
        gained = f"{run['phases']['send']['growthMb']:+.1f} MB"
        rows.append((_title(run), sparkline(memory), f"{min(memory):.0f} MB", f"{max(memory):.0f} MB", gained))
    return rows


def sparkline(values: Sequence[float], width: int = _BARS_WIDE) -> str:
    """The series as bars from nothing to the highest value; each bar is the highest of its part."""
    width = min(width, len(values))
    parts = [values[len(values) * n // width : len(values) * (n + 1) // width] for n in range(width)]
    top = max(values)
    return "".join(_BARS[min(len(_BARS) - 1, int(max(part) / top * len(_BARS)))] for part in parts)


def _cost_table(runs: Sequence[Run]) -> Table:
    kinds = ("write", "list", "read", "other", "queue", "vault")
    rows: list[tuple[str, ...]] = [
        ("run", *kinds, "per 1,000 members", "requests, for a million", "and compute, for a million")
    ]
    for run in runs:
        counted, times = run["transactions"], MILLION / run["members"]
        each = billed(counted) * 1000 / run["members"]
        requests, compute = requests_cost(counted) * times, compute_cost(run["seconds"]) * times
        numbers = [f"{counted[kind]:,}" for kind in kinds]
        rows.append((_title(run), *numbers, f"{each:.2f}", f"${requests:.3f}", f"${requests + compute:.3f}"))
    return rows


def _slope_table(runs: Sequence[Run]) -> Table:
    rows = [("members", "calls", "requests to storage", "CPU of the host", "memory while sending", "gained in it")]
    for run in runs:
        members = run["members"] / 1000
        send = run["phases"]["send"]
        rows.append(
            (
                f"{run['members']:,}",
                f"{run['calls'] / members:.3f}",
                f"{billed(run['transactions']) / members:.2f}",
                f"{run['cpuSeconds']['host'] / members * 1000:.0f} ms",
                f"{send['peakMb']:.0f} MB at most",
                f"{send['growthMb']:+.1f} MB",
            )
        )
    return rows


def _title(run: Run) -> str:
    latency = ", with latency" if run["latencyMs"]["perMember"] or run["latencyMs"]["base"] else ""
    return f"{run['case']}, {run['members']:,}{latency}"


# -- words -----------------------------------------------------------------------------------------------------------


def describe(machine: Mapping[str, Any]) -> str:
    """The machine in one line."""
    load = machine["loadAverage"][0]
    return (
        f"{machine['cores']} cores ({machine['processor']}), {machine['memoryGb']} GB, {machine['system']}, "
        f"Python {machine['python']}, DuckDB {machine['duckdb']}, load average {load}"
    )


def disturbances(document: Mapping[str, Any]) -> Iterator[str]:
    """A sentence for each run during which other programs used much of the machine."""
    for run in document["runs"]:
        if "cpuSeconds" in run:
            share = 100 * run["cpuSeconds"]["others"] / (document["machine"]["cores"] * run["seconds"])
            if share > DISTURBED_PERCENT:
                yield f"During '{run['case']}' other programs used {share:.0f} % of the machine: its times say little."


def markdown(document: Mapping[str, Any], part: str = "all") -> str:
    """The tables as they are put into docs/: all of them, or that whose title begins with `part`."""
    parts = [f"Measured {document['at'][:10]} on {describe(document['machine'])}."]
    for title, table in tables(document):
        if part in ("all", title.partition(":")[0].split()[0].lower()):
            heading, *rows = [f"| {' | '.join(row)} |" for row in table]
            parts.append("\n".join([f"**{title}**", "", heading, f"|{'---|' * len(table[0])}", *rows]))
    shown = slope_runs(document["runs"]) if part == "slope" else document["runs"]
    parts += document["failures"] if part == "all" else []
    parts += disturbances({**document, "runs": shown})
    return "\n\n".join(parts)


def filled(text: str, document: Mapping[str, Any]) -> str:
    """`text` of a page with what is between `<!-- bench PART -->` and `<!-- end -->` made anew."""

    def fill(found: re.Match[str]) -> str:
        return f"{found[1]}\n\n{markdown(document, found[2])}\n\n<!-- end -->"

    return re.sub(r"(<!-- bench (\w+) -->).*?<!-- end -->", fill, text, flags=re.DOTALL)
