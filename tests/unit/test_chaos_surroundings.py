"""A host of the fault campaign runs the unmodified app with another clock and with shorter waits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dev.azurite import PUBLISHED_KEY
from shared.settings import SETTING_NAMES

PROJECT = Path(__file__).parents[2]
STORAGE = (
    f"DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey={PUBLISHED_KEY};"
    "BlobEndpoint=http://127.0.0.1:1/devstoreaccount1;QueueEndpoint=http://127.0.0.1:1/devstoreaccount1;"
)
LOOK = """
import json, os
from datetime import UTC, datetime
from pathlib import Path
from dev.host.loading import load_app

load_app(Path.cwd(), os.environ)
from function_app import product
from shared.exports.backoff import delay_s

client = product._access.client("http://127.0.0.1:1", "sandbox-key-us1")
print(json.dumps({
    "ahead": (product._surroundings.now() - datetime.now(UTC)).total_seconds(),
    "patience": client._transport._timeouts[1],
    "firstWait": delay_s(1, 0.5, None),
    "longestWait": delay_s(50, 0.5, None),
}))
"""


def look(**settings: str) -> dict[str, Any]:
    """What the app goes by in a process with these settings of the campaign."""
    env = {**os.environ, **dict.fromkeys(SETTING_NAMES, ""), "AzureWebJobsStorage": STORAGE, **settings}
    done = subprocess.run(
        [sys.executable, "-c", LOOK], env=env, cwd=PROJECT, capture_output=True, text=True, check=True
    )
    return dict(json.loads(done.stdout))


def test_the_campaign_shifts_the_clock_and_shortens_what_waits_for_mailchimp() -> None:
    seen = look(HOST_FIRST_IMPORTS="dev.chaos.surroundings", CHAOS_CLOCK_SHIFT_S="-30", CHAOS_TIME_SCALE="20")
    assert seen["ahead"] == pytest.approx(-30, abs=1)
    assert (seen["patience"], seen["firstWait"], seen["longestWait"]) == (6.5, 0.05, 15)


def test_without_it_the_app_goes_by_the_clock_and_waits_as_long_as_it_has_to() -> None:
    seen = look()
    assert seen["ahead"] == pytest.approx(0, abs=1)
    assert (seen["patience"], seen["firstWait"], seen["longestWait"]) == (130, 1, 300)
