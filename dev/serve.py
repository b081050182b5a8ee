"""`make serve`: the whole stack on fixed ports, with sample segments, until Ctrl-C."""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from dev.demo import load_sample
from dev.sample_data.sample import PROFILES, SMALLEST, make_sample
from dev.sandbox.control import API_KEY
from dev.stack import RUN_FOLDER, Stack, StackError, stop_on_signals
from dev.terminal import Terminal


def main() -> int:
    """Runs until SIGTERM or Ctrl-C, then stops everything. Exit code 1 when something could not be started."""
    options = parse_arguments()
    terminal = Terminal()
    stop_on_signals()
    try:
        serve(options, terminal)
    except StackError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        terminal.line("Stopped; nothing is left running.")
    return 0


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; port 0 takes a free one."""
    parser = argparse.ArgumentParser(
        prog="python -m dev.serve",
        description="The whole stack on this machine with sample segments, left running until Ctrl-C.",
    )
    parser.add_argument("--port", type=int, default=7071, help="port of the local Functions host (default 7071)")
    parser.add_argument("--sandbox-port", type=int, default=8085, help="port of the Mailchimp sandbox (default 8085)")
    parser.add_argument("--blob-port", type=int, default=10000, help="port of Azurite's blobs (default 10000)")
    parser.add_argument("--queue-port", type=int, default=10001, help="port of Azurite's queues (default 10001)")
    parser.add_argument(
        "--profiles", type=int, default=PROFILES, help=f"how many profiles the sample has (default {PROFILES})"
    )
    options = parser.parse_args(arguments)
    if options.profiles < SMALLEST:
        parser.error(f"--profiles must be at least {SMALLEST}")
    return options


def serve(options: argparse.Namespace, terminal: Terminal) -> None:
    """Starts the stack, prints its addresses, and waits for a signal. Raises StackError."""
    stack = Stack(
        host_port=options.port,
        sandbox_port=options.sandbox_port,
        blob_port=options.blob_port,
        queue_port=options.queue_port,
        sandbox_arguments=("--latency-base-ms=100", "--latency-per-member-ms=1"),
        name="serve",
        tell=lambda text: terminal.line(f"  {text}"),
    )
    terminal.line(terminal.bold("Starting"))
    with stack:
        sample = make_sample(options.profiles)
        load_sample(stack, sample)
        segments = ", ".join(segment.name for segment in sample.all_segments)
        terminal.heading("Running. Ctrl-C stops everything; nothing is kept.")
        addresses = (
            ("What to try", "docs/user-guide.md, in another terminal"),
            ("Page of the API", f"{stack.address}/api/docs"),
            ("OpenAPI", f"{stack.address}/api/openapi.json"),
            ("What Mailchimp holds", f"{stack.sandbox.address}/"),
            ("Mailchimp API key", API_KEY),
            ("Segments", segments),
            ("Storage", stack.storage),
            ("Another host", f". {write_settings(stack)} && make host PORT=7072"),
            ("Logs", str(stack.log_folder)),
        )
        for label, value in addresses:
            terminal.line(f"  {label:<22}{value}")
        while stack.hosts[0].returncode is None:
            time.sleep(1)
        raise StackError(f"The local host ended by itself. Its log says why: {stack.log_folder / 'serve-host-1.log'}")


def write_settings(stack: Stack) -> Path:
    """The settings of the running host as a shell script for another one; its secret key is that of this run only."""
    path = RUN_FOLDER / "serve.env"
    lines = [f"export {name}={shlex.quote(value)}\n" for name, value in stack.env.items() if value]
    path.touch(mode=0o600)
    path.write_text("".join(lines), encoding="utf-8")
    return path.relative_to(RUN_FOLDER.parent)


if __name__ == "__main__":
    sys.exit(main())
