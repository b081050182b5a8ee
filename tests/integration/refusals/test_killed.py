"""No refusal is lost and nobody comes back who was cleared, whatever dies and whoever else writes the memory."""

from __future__ import annotations

import json
import threading
from base64 import b64decode
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest

from shared.destinations.model import Destination
from shared.exports.model import BatchResult, Status
from shared.exports.refusals import Outcome
from shared.storage import names
from shared.storage.documents import Documents
from shared.storage.names import FINISH_QUEUE, LANES_QUEUE, PREPARE_QUEUE
from tests.integration.engine import Engine, people, scheduled
from tests.integration.refusals.steps import (
    FAKE,
    FORGOTTEN,
    MEMORY,
    clear,
    remembered,
    until_finish,
)
from tests.integration.removal_support import Killed, Stops, another_process, kill


def finish_dying(
    engine: Engine, destination: Destination, dying: Engine, stops: Stops, step: int
) -> tuple[str, bytes, bool]:
    """An export whose process dies at this step of finishing it; its ID, the message, and whether it got that far."""
    export_id = engine.start(destination)
    body = until_finish(engine, export_id)
    stops.at(step, kill)
    with suppress(Killed):
        dying.invoke(FINISH_QUEUE, body)
    return export_id, body, stops.off()


def test_a_finish_that_dies_at_any_step_loses_no_refusal(engine: Engine, destination: Destination) -> None:
    dying = another_process(engine)
    stops = Stops(dying.product.documents)
    for step in range(1, 100):
        export_id, body, died = finish_dying(engine, destination, dying, stops, step)
        engine.invoke(FINISH_QUEUE, body)
        assert engine.export(export_id).status is Status.COMPLETED_WITH_ERRORS
        assert remembered(engine, destination) == {FAKE: "fakeOrInvalid", FORGOTTEN: "forgotten"}
        if not died:
            assert step > 8
            assert scheduled(engine).status is Status.SKIPPED
            return
        clear(engine, destination)
    raise AssertionError("it never came through")


def test_nobody_comes_back_who_was_cleared_while_a_finish_lay_dead(engine: Engine, destination: Destination) -> None:
    """It dies after it has remembered them, and before its books are written: at every step between."""
    dying = another_process(engine)
    stops, between = Stops(dying.product.documents), 0
    for step in range(1, 100):
        export_id, body, died = finish_dying(engine, destination, dying, stops, step)
        known = remembered(engine, destination)
        assert clear(engine, destination) == len(known)
        if known and not engine.product.documents.exists(names.books(export_id)):
            between += 1
            engine.invoke(FINISH_QUEUE, body)
            assert remembered(engine, destination) == {}
            assert scheduled(engine).status is Status.COMPLETED_WITH_ERRORS, "they are sent again"
        else:
            engine.invoke(FINISH_QUEUE, body)
        clear(engine, destination)
        if not died:
            assert between
            return
    raise AssertionError("it never came through")


@pytest.mark.parametrize("interference", [1, 2], ids=["before it reads", "before it writes"])
def test_two_finishers_of_an_audience_lose_nothing(engine: Engine, destination: Destination, interference: int) -> None:
    """The second one finishes just before each access of the first one to the memory."""
    engine.write_segment("Others", [{"EMail": "second@mailinator.com"}])
    other = engine.destination(["Others"], id_="d2")
    first, second = engine.start(destination), engine.start(other)
    bodies = {}
    for stage in (PREPARE_QUEUE, LANES_QUEUE):
        for queue, message in engine.receive([stage]):
            engine.handle(queue, message)
    for _, message in engine.receive([FINISH_QUEUE]):
        bodies[json.loads(b64decode(message.content))["exportId"]] = b64decode(message.content)
    slow = another_process(engine)
    _before_access(slow.product.documents, interference, lambda: engine.invoke(FINISH_QUEUE, bodies[second]))
    slow.invoke(FINISH_QUEUE, bodies[first])
    assert engine.export(second).ended, "it came in between"
    assert set(remembered(engine, destination)) == {FAKE, FORGOTTEN, "second@mailinator.com"}
    assert scheduled(engine).status is Status.SKIPPED
    assert scheduled(engine, "d2").status is Status.SKIPPED


def _before_access(documents: Documents, number: int, action: Callable[[], object]) -> None:
    """Run ``action`` once, before the access ``number`` (1, 2, …) to the memory."""
    left = [number]
    lock = threading.Lock()

    def counting(operation: Callable[..., object]) -> Callable[..., object]:
        def counted(name: str, *arguments: object, **options: object) -> object:
            if name == MEMORY:
                with lock:
                    left[0] -= 1
                    now = left[0] == 0
                if now:
                    action()
            return operation(name, *arguments, **options)

        return counted

    for name in ("download", "upload_over", "delete"):
        setattr(documents, name, counting(getattr(documents, name)))


def test_a_clear_while_a_finish_writes_clears_and_loses_nothing(engine: Engine, destination: Destination) -> None:
    engine.run(destination)
    engine.write_segment("Readers", [*people(5), {"EMail": "second@mailinator.com"}])
    body = until_finish(engine, engine.start(destination))
    slow = another_process(engine)
    _before_access(slow.product.documents, 2, lambda: clear(engine, destination, FAKE))
    slow.invoke(FINISH_QUEUE, body)
    assert set(remembered(engine, destination)) == {FORGOTTEN, "second@mailinator.com"}


def test_a_finisher_that_was_overtaken_adds_nothing(engine: Engine, destination: Destination, tmp_path: Path) -> None:
    """Another one has closed the books meanwhile, and its refusals were cleared."""
    export_id = engine.start(destination)
    body = until_finish(engine, export_id)
    engine.invoke(FINISH_QUEUE, body)
    clear(engine, destination)
    late = another_process(engine)
    _fold_again(late, export_id, tmp_path / "members.parquet")
    assert remembered(engine, destination) == {}


def _fold_again(engine: Engine, export_id: str, members: Path) -> None:
    store = engine.product.store
    plan = store.plan(export_id)
    assert plan is not None
    [result] = store.recorded(export_id)
    found = store.documents.read(result.name)
    assert found is not None
    rejected = [(0, row) for row in BatchResult.from_bytes(found.data).rejected]
    store.documents.download(names.members(export_id, plan.attempt), members)
    engine.product.refusals.fold_in(plan, Outcome(members, [0], rejected, datetime.now(UTC)))
