"""What a wake-up leads to when there is nothing to send, or another process sends already."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from shared.exports.lane_work import LaneTools
from shared.exports.lanes import Lanes, LaneSettings
from shared.exports.messages import WakeMessage
from shared.storage import names

LEASE_S = 30
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


class HeldElsewhere:
    """Every lease is another process's. Notes whose was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    @contextmanager
    def take(self, name: str) -> Iterator[None]:
        self.asked.append(name)
        yield None


@dataclass(frozen=True)
class Sent:
    lane: int
    again: bool
    delay_s: float
    ends_wait: datetime | None


class Signals:
    """Notes the wake-ups that would be sent."""

    def __init__(self) -> None:
        self.sent: list[Sent] = []

    def wake(
        self, _account: str, lane: int, *, again: bool = False, delay_s: float = 0, ends_wait: datetime | None = None
    ) -> None:
        self.sent.append(Sent(lane, again, delay_s, ends_wait))


class World:
    """Four lanes, all held by another process."""

    def __init__(self) -> None:
        self.leases, self.signals = HeldElsewhere(), Signals()
        nothing = cast("Any", None)
        tools = LaneTools(
            store=nothing,
            leases=cast("Any", self.leases),
            signals=cast("Any", self.signals),
            sign_ins=nothing,
            paces=nothing,
            open_client=nothing,
            now=nothing,
            monotonic=nothing,
            sleep=nothing,
            random=nothing,
        )
        self._lanes = Lanes(tools, LaneSettings(max_connections=4, lease_s=LEASE_S, budget_s=60))

    def wake(self, lane: int, **options: Any) -> list[Sent]:
        self._lanes.wake(WakeMessage(account_id="account", lane=lane, **options))
        return self.signals.sent


@pytest.fixture
def world() -> World:
    return World()


def test_a_lane_that_is_held_is_woken_again_after_the_lease_of_a_dead_process_would_have_ended(world: World) -> None:
    (sent,) = world.wake(2)
    assert world.leases.asked == [names.lane("account", 2)]
    assert (sent.lane, sent.again) == (2, True)
    assert LEASE_S < sent.delay_s < 2 * LEASE_S


def test_a_wake_up_that_was_to_end_a_rest_still_is_to_when_it_comes_again(world: World) -> None:
    (sent,) = world.wake(2, ends_wait=NOON)
    assert sent.ends_wait == NOON


def test_a_wake_up_comes_again_once_only(world: World) -> None:
    assert world.wake(2, again=True) == []


def test_a_wake_up_for_a_lane_that_is_not_allowed_any_more_takes_no_lease(world: World) -> None:
    assert world.wake(4) == []
    assert world.leases.asked == []
