"""A destination of whose people Mailchimp refuses two."""

from __future__ import annotations

import pytest

from shared.destinations.model import Destination
from tests.integration.engine import Engine
from tests.integration.refusals.steps import with_two_who_are_refused


@pytest.fixture
def destination(engine: Engine) -> Destination:
    return with_two_who_are_refused(engine)
