"""Command line of the local Functions host: `python -m dev.host --port 7071 [--app DIR]`."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
from pathlib import Path

from dev.host import logs
from dev.host.config import load_host_json, load_local_settings
from dev.host.errors import HostError
from dev.host.loading import LoadedFunction, load_app, raised_by_app
from dev.host.run import RunOptions, run_host
from dev.host.worker_process import start_worker


def main() -> int:
    """Runs the host until it is told to stop. Exit code 0 after a graceful stop, 1 when it could not start."""
    parser = argparse.ArgumentParser(prog="python -m dev.host", description="Runs a function app on this machine.")
    parser.add_argument("--port", type=int, default=7071, help="0 takes a free port (default 7071)")
    parser.add_argument("--app", type=Path, default=Path(), help="folder of function_app.py (default: this one)")
    parser.add_argument(
        "--grace", type=float, default=30, help="seconds that running functions get at a stop (default 30)"
    )
    parser.add_argument(
        "--worker-python", type=Path, help="run the app in a process of its own with this Python (default: in this one)"
    )
    parser.add_argument("--stop-with-parent", action="store_true", help="stop when stdin is closed")
    arguments = parser.parse_args()
    app_dir = arguments.app.resolve()
    logs.configure()
    try:
        load_local_settings(app_dir, os.environ)
        host_json = load_host_json(app_dir, os.environ)
        options = RunOptions(arguments.port, arguments.grace, arguments.stop_with_parent)
        if arguments.worker_python:
            worker = start_worker(arguments.worker_python, app_dir, os.environ)
            asyncio.run(run_host(worker.functions, host_json, os.environ, options, worker))
        else:
            asyncio.run(run_host(_load(app_dir), host_json, os.environ, options))
    except HostError as error:
        return _fail(str(error))
    return 0


def _load(app_dir: Path) -> tuple[LoadedFunction, ...]:
    try:
        os.chdir(app_dir)  # where the real worker runs
        return load_app(app_dir, os.environ)
    except ValueError as error:
        if raised_by_app(error, app_dir):
            raise HostError(str(error)) from error
        raise


def _fail(sentence: str) -> int:
    print(sentence, file=sys.stderr)
    return 1


def _end(code: int) -> None:
    """Ends the process without waiting for threads: a function that outlived its grace must not hold it up.

    The real worker is ended in the same way; atexit functions of the app do not run there either.
    """
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    _end(main())
