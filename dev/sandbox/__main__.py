"""Command line of the Mailchimp sandbox: ``python -m dev.sandbox --port 8085``."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import gc
import json
import logging
import os
import signal
import sys
import threading

from dev.sandbox.app import Sandbox
from dev.sandbox.control_api import ControlApi
from dev.sandbox.http import HttpServer
from dev.sandbox.oauth import DEFAULT_REDIRECT_URI
from dev.sandbox.settings import Settings

STOP_PATIENCE_SECONDS = 2.0


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line. Exits with a message when it is wrong."""
    parser = argparse.ArgumentParser(prog="python -m dev.sandbox", description="A sandbox of the Mailchimp API.")
    parser.add_argument("--port", type=int, default=8085, help="port on 127.0.0.1; 0 takes a free one (default 8085)")
    parser.add_argument("--latency-base-ms", type=float, default=0.0, help="how long every call takes")
    parser.add_argument("--latency-per-member-ms", type=float, default=0.0, help="how much each member adds to that")
    parser.add_argument("--realistic-replies", action="store_true", help="about 3.5 kB for every member in a reply")
    parser.add_argument("--no-tags-on-existing", action="store_true", help="`tags` do not reach existing members")
    parser.add_argument("--max-connections", type=int, default=10, help="open calls per account (default 10)")
    parser.add_argument(
        "--redirect-uri",
        action="append",
        metavar="URI",
        help=f"registered OAuth redirect address, may be repeated (default {DEFAULT_REDIRECT_URI})",
    )
    parser.add_argument("--stop-with-parent", action="store_true", help="stop when stdin is closed")
    return parser.parse_args(arguments)


async def serve(options: argparse.Namespace) -> None:
    """Run until SIGTERM or SIGINT."""
    sandbox = Sandbox(
        Settings().changed(
            {
                "latencyBaseMs": options.latency_base_ms,
                "latencyPerMemberMs": options.latency_per_member_ms,
                "realisticReplies": options.realistic_replies,
                "tagsReachExisting": not options.no_tags_on_existing,
                "maxConnections": options.max_connections,
            }
        ),
        tuple(options.redirect_uri or ()),
    )
    sandbox.other_routes = ControlApi(sandbox).answer
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    if options.stop_with_parent:
        stop_when_input_closes(stop)
    server = HttpServer(sandbox.answer)
    port = await server.start(options.port)
    sandbox.listens_at(f"http://127.0.0.1:{port}")
    print(json.dumps({"event": "sandbox.ready", "address": sandbox.address}), flush=True)
    await stop.wait()
    await server.stop(STOP_PATIENCE_SECONDS)


def stop_when_input_closes(stop: asyncio.Event) -> None:
    """The system closes the pipe of a parent that was killed, however it died."""
    loop = asyncio.get_running_loop()

    def watch() -> None:
        while os.read(sys.stdin.fileno(), 4096):
            pass
        with contextlib.suppress(RuntimeError):  # the loop has ended already
            loop.call_soon_threadsafe(stop.set)

    threading.Thread(target=watch, daemon=True, name="parent").start()


def keep_freed_memory() -> None:
    """Tell glibc to keep freed memory: giving it back after each 1.8 MB reply costs more than writing the reply."""
    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
    with contextlib.suppress(OSError, AttributeError):  # another C library: the sandbox only runs slower
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(trim_threshold, 256 * 1024 * 1024)
        libc.mallopt(mmap_threshold, 32 * 1024 * 1024)


def main() -> None:
    """Entry point of the process."""
    logging.basicConfig(format="%(message)s")
    keep_freed_memory()
    # Contacts hold no cycles: looking for some among a million of them would only stop the calls for a second.
    gc.freeze()
    gc.set_threshold(200_000, 50, 1000)
    asyncio.run(serve(parse_arguments()))


if __name__ == "__main__":
    main()
