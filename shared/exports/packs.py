"""Finished request bodies in packs: dealt to the lanes in turn, a blob for ten bodies of a lane, a line for each."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final
from zlib import crc32

from shared.exports.model import BATCHES_PER_PACK, Plan
from shared.storage import names
from shared.storage.documents import Documents

_UPLOADS_AT_ONCE: Final = 8
_UPLOADS_AHEAD: Final = 16
"""Packs that may wait for their upload: bounds the memory when storage is slower than DuckDB."""


class PackMissing(Exception):
    """Raised when prepared bodies are not there any more."""


def lanes_for(export_id: str, batches: int, open_lanes: int, max_connections: int) -> tuple[int, ...]:
    """The lanes that so many batches are dealt to. Open ones are among them: it is their calls that open others."""
    if batches > open_lanes:
        return tuple(range(min(batches, max_connections)))
    first = crc32(export_id.encode()) % open_lanes  # small exports do not all use lane 0
    return tuple((first + number) % open_lanes for number in range(batches))


def write_packs(
    documents: Documents, plan: Plan, bodies: Iterable[tuple[int, bytes]], check: Callable[[], None]
) -> None:
    """Write the bodies of ``plan``, by batch number from 0 and in order. ``check`` is called for each pack and may
    raise."""
    with ThreadPoolExecutor(_UPLOADS_AT_ONCE, thread_name_prefix="upload") as pool:
        uploads: deque[Future[str]] = deque()
        for place, number, pack in _packs(bodies, len(plan.lanes)):
            name = names.pack(plan.export_id, plan.attempt, plan.lanes[place], number)
            uploads.append(pool.submit(documents.write, name, pack))
            while len(uploads) > _UPLOADS_AHEAD:
                uploads.popleft().result()
            check()
        for upload in uploads:
            upload.result()


def read_bodies(documents: Documents, plan: Plan, batches: Iterable[int]) -> Iterator[tuple[int, bytes]]:
    """These batches of ``plan``, ascending, each with its body. Raises PackMissing."""
    open_packs: dict[int, tuple[int, list[bytes]]] = {}
    for batch in batches:
        lane = plan.lanes[batch % len(plan.lanes)]
        number, line = plan.place_of(batch)
        if lane not in open_packs or open_packs[lane][0] != number:
            found = documents.read(names.pack(plan.export_id, plan.attempt, lane, number))
            if found is None:
                raise PackMissing(plan.export_id)
            open_packs[lane] = number, found.data.split(b"\n")
        yield batch, open_packs[lane][1][line]


def _packs(bodies: Iterable[tuple[int, bytes]], lanes: int) -> Iterator[tuple[int, int, bytes]]:
    """Deal the bodies to the lanes in turn and pack those of each lane; yields lane (from 0), pack and its bytes.

    A body is one line: JSON writes line breaks inside texts as escapes.
    """
    waiting: list[list[bytes]] = [[] for _ in range(lanes)]
    packs = [0] * lanes
    for batch, body in bodies:
        lane = batch % lanes
        waiting[lane].append(body)
        if len(waiting[lane]) == BATCHES_PER_PACK:
            yield lane, packs[lane], b"\n".join(waiting[lane])
            waiting[lane] = []
            packs[lane] += 1
    for lane, rest in enumerate(waiting):
        if rest:
            yield lane, packs[lane], b"\n".join(rest)
