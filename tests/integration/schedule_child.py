"""A process of the app that runs the schedule once and kills itself at a chosen call of the storage.

Of the calls only those that write count: the ones that read leave nothing behind to go on from.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from azure.core.pipeline.transport import RequestsTransport

from shared.bootstrap import Surroundings, bootstrap
from shared.settings import read_settings

_READS = frozenset({"GET", "HEAD"})


def run(environment: Mapping[str, str], now: datetime, write: int) -> None:
    """Run what is due at ``now``; SIGKILL instead of the write with that number, from 0.

    That is the same as SIGKILL right after the write before, so every state that a death can leave is reached.
    """
    product = bootstrap(read_settings(environment), Surroundings(now=lambda: now))
    send, writes = RequestsTransport.send, iter(range(1_000_000))

    def deadly(transport: RequestsTransport, request: Any, **options: Any) -> Any:
        if request.method not in _READS and next(writes) == write:
            os.kill(os.getpid(), signal.SIGKILL)
        return send(transport, request, **options)

    RequestsTransport.send = deadly
    product.schedule.run(now)
