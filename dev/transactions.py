"""Counts what an export asks of Azure Storage and of the secret store: the basis of docs/cost.md.

    python -m dev.transactions --members 10000 100000

An export of each size runs in a stack of its own, with the latency that is documented for Mailchimp, and is counted by
dev/bench_storage.py. A first minute without an export shows what the host asks for all the time.
"""

from __future__ import annotations

import argparse
import json
import sys

from dev.bench_data import SINGLE
from dev.bench_runs import LATENCY_BASE_MS, LATENCY_PER_MEMBER_MS, Case, run_export


def main() -> int:
    """Prints one line of JSON for each size."""
    parser = argparse.ArgumentParser(prog="python -m dev.transactions", description=__doc__.splitlines()[0])
    parser.add_argument("--members", type=int, nargs="+", default=[10_000, 100_000], help="sizes, multiples of ten")
    parser.add_argument("--idle-seconds", type=float, default=60, help="how long the host is watched without an export")
    options = parser.parse_args()
    for members in options.members:
        case = Case(
            f"transactions-{members}",
            members,
            SINGLE,
            latency_base_ms=LATENCY_BASE_MS,
            latency_per_member_ms=LATENCY_PER_MEMBER_MS,
            idle_seconds=options.idle_seconds,
            seconds_between_looks=10,  # each look costs a few reads
        )
        result = run_export(case, lambda _: None)
        kept = ("members", "status", "seconds", "transactions", "background")
        print(json.dumps({name: result[name] for name in kept}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
