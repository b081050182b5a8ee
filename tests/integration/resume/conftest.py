"""An export that leaves something: two lanes, two segments, and a clock that a test moves."""

from __future__ import annotations

import pytest

from dev.sandbox.control import SandboxControl
from shared.destinations.model import Destination
from tests.integration.engine import Engine, MovedClock
from tests.integration.resume.steps import with_two_lanes, with_two_segments
from tests.support import StorageAccount


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock()


@pytest.fixture
def engine(storage_account: StorageAccount, sandbox: SandboxControl, clock: MovedClock) -> Engine:
    return with_two_lanes(storage_account, sandbox, clock)


@pytest.fixture
def destination(engine: Engine) -> Destination:
    return with_two_segments(engine)
