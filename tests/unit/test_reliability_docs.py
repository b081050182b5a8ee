"""docs/reliability.md names a test for each promise, and each of these tests exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.tables import DOCS, table

TESTS = Path(__file__).parents[1]
NAMED = re.findall(r"`((?:unit|integration)/[\w/]+\.py)::(\w+)`", (DOCS / "reliability.md").read_text(encoding="utf-8"))


def test_each_of_the_eight_promises_names_its_tests() -> None:
    rows = table("reliability.md", "Promises")
    assert [row["promise"].split(".")[0] for row in rows] == [str(number) for number in range(1, 9)]
    assert all("::test_" in row["tests"] and row["how it is kept"] for row in rows)


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_a_test_that_is_named_exists(file: str, name: str) -> None:
    source = (TESTS / file).read_text(encoding="utf-8")
    assert f"def {name}(" in source


def test_every_other_page_names_tests_that_exist_too() -> None:
    named = {name for page in DOCS.glob("*.md") for name in re.findall(r"`(test_\w+)`", page.read_text("utf-8"))}
    sources = [path.read_text(encoding="utf-8") for path in TESTS.rglob("test_*.py")]
    defined = {name for source in sources for name in re.findall(r"def (test_\w+)\(", source)}
    modules = {path.stem for path in TESTS.rglob("test_*.py")}
    assert named - defined - modules == set()


def test_whatever_was_injected_in_the_measured_campaign_was_survived() -> None:
    rows = table("reliability.md", "Measured")
    assert len(rows) > 20
    assert [row["injected"] for row in rows if row["times"] != row["survived"]] == []
