"""Where the databases of exports keep what does not fit into their memory: nowhere but in the folder of the work."""

from __future__ import annotations

from pathlib import Path

import pytest

import shared.exports
from shared.exports.database import open_database


@pytest.mark.parametrize("name", [None, "people"])
def test_what_memory_does_not_hold_lies_in_the_folder_of_the_work(
    name: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, elsewhere = tmp_path / "work", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    with open_database(folder, name, memory_limit="24MB") as connection:
        connection.execute("CREATE TABLE people AS SELECT hash(range) AS a, hash(range + 1) AS b FROM range(2000000)")
        assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) > 8_000_000
    assert list(elsewhere.rglob("*")) == []


def test_every_part_of_an_export_opens_its_database_the_same_way() -> None:
    """One that DuckDB opens by itself spills profiles into the folder that the process was started in."""
    folder = Path(shared.exports.__path__[0])
    found = [file.name for file in folder.glob("*.py") if "duckdb.connect(" in file.read_text(encoding="utf-8")]
    assert found == ["database.py"]
