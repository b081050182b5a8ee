"""docs/reliability.md names a test for each promise, and each of these tests exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.tables import DOCS, table

TESTS = Path(__file__).parents[1]
NAMED = re.findall(r"`((?:unit|integration)/\w+\.py)::(\w+)`", (DOCS / "reliability.md").read_text(encoding="utf-8"))


def test_each_of_the_eight_promises_names_its_tests() -> None:
    rows = table("reliability.md", "Promises")
    assert [row["promise"].split(".")[0] for row in rows] == [str(number) for number in range(1, 9)]
    assert all("::test_" in row["tests"] and row["how it is kept"] for row in rows)


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_a_test_that_is_named_exists(file: str, name: str) -> None:
    source = (TESTS / file).read_text(encoding="utf-8")
    assert f"def {name}(" in source
