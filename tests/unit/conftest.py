"""Fixtures that unit tests of several areas share. What they need is imported when a test asks: most ask for none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.unit.api_caller import Api
    from tests.unit.setup_fakes import Setup


@pytest.fixture
def setup() -> Setup:
    """The destination service, with everything around it faked."""
    from tests.unit.setup_fakes import Setup

    return Setup()


@pytest.fixture
def api() -> Iterator[Api]:
    """The HTTP API of a local run, over services that are faked."""
    from tests.unit.api_caller import Api

    api = Api()
    yield api
    api.close()
