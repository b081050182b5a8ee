"""Each due export is started exactly once: over instances that run into each other at any call of the storage, and
over processes that are killed at any of them. The start of exports is the real one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from functools import partial

import pytest

from shared.destinations.model import SignInState
from shared.exports.errors import ExportRunning
from shared.exports.model import Status
from shared.exports.view import ExportView
from shared.storage import names
from tests.unit.schedule_fakes import ADA, MINUTE, SIX, Killed, World, own

Happening = Callable[[World], object]


def installation() -> World:
    """Two destinations that run, one that is not ready, one that is not due, and one that is gone."""
    world = World()
    world.put(times=["06:00", "18:00"])
    world.ready("gone")
    world.run(SIX - timedelta(hours=12))
    world.end_all()
    del world.destinations["gone"]
    world.ready("d1")
    world.ready("d2", **own("06:00", zone="Europe/London"))
    world.ready("broken").sign_in.state = SignInState.NEEDS_AUTHENTICATION
    world.ready("later", **own("07:00"))
    return world


def every_step(
    happens: Happening, make: Callable[[], World] = installation, at_least: int = 30
) -> Iterator[tuple[int, str, World]]:
    """For each call of the storage that a run makes, before and after: a world in which ``happens`` at that step.

    Only once, and with the run going on afterwards, unless ``happens`` kills it.
    """
    number = 0
    while True:
        world, seen, where = make(), 0, ""

        def watch(call: str, name: str, world: World = world, number: int = number) -> None:
            nonlocal seen, where
            seen += 1
            if seen == number + 1:
                where = f"{call} {name}"
                happens(world)

        world.steps.watch = watch
        with suppress(Killed):
            world.run(SIX)
        world.steps.watch = None
        if not where:
            break
        yield number, where, world
        number += 1
    assert number >= at_least, "the run is watched at all"


def kill(_: World) -> None:
    raise Killed


def assert_each_ran_once(world: World, where: str) -> None:
    """Of the runs at 06:00; and nothing is left that nobody would go on with."""
    found = {id_: world.scheduled(id_) for id_ in world.destinations}
    assert {id_: len(exports) for id_, exports in found.items()} == {"d1": 1, "d2": 1, "broken": 1, "later": 0}, where
    assert found["broken"][0].status is Status.SKIPPED, where
    for id_ in ("d1", "d2"):
        (export,) = found[id_]
        assert export.status in {Status.QUEUED, Status.SUCCESSFUL}, where
        assert export.ended or names.active(export.id) in world.documents.blobs, "the sweeper goes on with it"
    assert set(world.last_runs()) == {"*", "d1", "d2", "broken"}, where
    assert world.run(SIX + 2 * MINUTE) == [], where
    assert not any(name.startswith("exports/") and "gone" in name for name in world.documents.blobs)


def test_undisturbed_each_runs_once() -> None:
    world = installation()
    world.run(SIX)
    assert_each_ran_once(world, "undisturbed")


def test_two_instances_at_once_start_each_due_export_once() -> None:
    for _, where, world in every_step(lambda world: world.run(SIX)):
        assert_each_ran_once(world, where)


def test_two_instances_at_once_whose_clocks_differ_start_each_due_export_once() -> None:
    for now in (SIX - timedelta(seconds=30), SIX + timedelta(seconds=30)):
        for _, where, world in every_step(partial(World.run, now=now)):
            assert_each_ran_once(world, where)


def test_an_instance_that_stands_still_while_others_run_and_end_starts_nothing_again() -> None:
    def others(world: World) -> None:
        world.run(SIX)
        world.end_all()
        world.run(SIX + MINUTE)

    for _, where, world in every_step(others):
        assert_each_ran_once(world, where)


def test_three_instances_into_each_other_start_each_due_export_once() -> None:
    def second(world: World) -> None:
        seen = 0

        def watch(call: str, name: str) -> None:
            nonlocal seen
            seen += 1
            if seen == 20:
                world.run(SIX + timedelta(seconds=1))

        world.steps.watch = watch
        world.run(SIX)
        world.steps.watch = None

    for _, where, world in every_step(second):
        assert_each_ran_once(world, where)


def test_killed_at_any_call_nothing_is_lost_and_nothing_doubled() -> None:
    for _, where, world in every_step(kill):
        world.run(SIX + MINUTE)
        assert_each_ran_once(world, where)


def test_killed_at_any_call_and_the_exports_ended_before_the_next_run() -> None:
    for _, where, world in every_step(kill):
        world.end_all()
        world.run(SIX + MINUTE)
        assert_each_ran_once(world, where)


def test_killed_twice_at_any_two_calls_nothing_is_lost_and_nothing_doubled() -> None:
    steps = [number for number, _, _ in every_step(kill)]
    for first in steps[::3]:
        for second in steps[::3]:
            world = installation()
            for at, stop in ((SIX, first), (SIX + MINUTE, second)):
                calls = iter(range(1000))

                def die(call: str, name: str, stop: int = stop, calls: Iterator[int] = calls) -> None:
                    if next(calls) == stop:
                        raise Killed

                world.steps.watch = die
                with suppress(Killed):
                    world.run(at)
                world.steps.watch = None
            world.run(SIX + timedelta(seconds=90))
            assert_each_ran_once(world, f"killed at {first} and {second}")


def test_killed_while_another_instance_runs_nothing_is_lost_and_nothing_doubled() -> None:
    def other_and_death(world: World) -> None:
        world.run(SIX)
        raise Killed

    for _, where, world in every_step(other_and_death):
        world.run(SIX + MINUTE)
        assert_each_ran_once(world, where)


def test_a_run_that_comes_due_while_another_is_noted_is_not_passed_over() -> None:
    """Ours sees 06:00 at 06:01, when 06:01 is due too; another one, a minute behind, does 06:00 in the middle. Then
    06:01 is still to come, unless ours had done both with one run before."""
    in_the_middle = 0
    for stop in range(100):
        world = World()
        world.ready("d1", **own("06:00", "06:01"))
        calls, behind = iter(range(1000)), list[ExportView | None]()

        def watch(
            call: str,
            name: str,
            world: World = world,
            calls: Iterator[int] = calls,
            behind: list[ExportView | None] = behind,
            stop: int = stop,
        ) -> None:
            if next(calls) == stop:
                behind.extend(world.run(SIX) or [None])
                world.end_all()

        world.steps.watch = watch
        world.run(SIX + MINUTE)
        world.steps.watch = None
        if not behind:
            break
        world.end_all()
        world.run(SIX + 2 * MINUTE)
        assert len(world.scheduled("d1")) == (1 if behind == [None] else 2), stop
        in_the_middle += behind != [None]
    assert in_the_middle > 10


def test_somebody_who_exports_on_demand_in_the_middle_is_told_of_the_run_or_the_run_is_skipped() -> None:
    for _, where, world in every_step(on_demand):
        assert_the_run_is_there(world, where)
        world.end_all()
        assert world.run(SIX + MINUTE) == [], where


def test_a_run_that_loses_its_place_by_a_hair_is_not_lost_whoever_runs_and_dies_then() -> None:
    """Somebody exports on demand just before the run takes its place, another instance counts on the run, ours dies."""

    def make() -> World:
        world = World()
        world.ready("d1", **own("06:00"))
        return world

    numbers = [number for number, _, _ in every_step(kill, make, at_least=20)]
    for other in numbers:
        for death in numbers[other + 1 :]:
            world = make()
            calls = iter(range(1000))

            def watch(
                call: str,
                name: str,
                world: World = world,
                calls: Iterator[int] = calls,
                other: int = other,
                death: int = death,
            ) -> None:
                if (call, name) == ("before create", names.current_export("d1")):
                    on_demand(world)
                number = next(calls)
                if number == other:
                    world.run(SIX)
                if number == death:
                    raise Killed

            world.steps.watch = watch
            with suppress(Killed):
                world.run(SIX)
            world.steps.watch = None
            world.run(SIX + MINUTE)
            assert_the_run_is_there(world, f"another instance at {other}, death at {death}")


def on_demand(world: World) -> None:
    with suppress(ExportRunning):
        world.engine.start(world.destinations["d1"], trigger="onDemand", requested_by=ADA)


def assert_the_run_is_there(world: World, where: str) -> None:
    """Started, or skipped because of the export on demand; or about to be: prepare skips what has not got the place."""
    exports = [export for export in world.exports() if export.destination_id == "d1"]
    (scheduled,) = [export for export in exports if export.trigger == "scheduled"]
    others = [export for export in exports if export.trigger == "onDemand"]
    if scheduled.status is Status.SKIPPED:
        assert others, where
        assert scheduled.problem is not None
        assert scheduled.problem.code == "exportRunning", where
        return
    assert scheduled.status is Status.QUEUED, where
    assert names.active(scheduled.id) in world.documents.blobs, where


@pytest.mark.parametrize("change", ["schedule", "own rule"])
def test_a_rule_set_in_the_middle_of_a_run_is_kept(change: str) -> None:
    def set_it(world: World) -> None:
        if change == "schedule":
            world.put(times=["20:00"])
        else:
            world.schedule("d1", **own("20:00"))

    for _, where, world in every_step(set_it):
        view = world.instance().of(world.destinations["d1"])
        assert view.rule is not None
        assert view.rule.times == ("20:00",), where
        assert view.next_run_at == SIX.replace(hour=20), where
        assert len(world.scheduled("d1")) <= 1, where


def test_a_destination_removed_in_the_middle_of_a_run_is_forgotten_in_the_end() -> None:
    def remove(world: World) -> None:
        world.destinations.pop("d2", None)

    for _, where, world in every_step(remove):
        world.run(SIX + MINUTE)
        assert "d2" not in world.last_runs(), where
        assert len(world.scheduled("d1")) == 1, where
