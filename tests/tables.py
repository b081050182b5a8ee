"""Reads tables of the documentation, for tests that hold them to the code."""

from __future__ import annotations

import re
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"


def table(page: str, heading: str) -> list[dict[str, str]]:
    """The rows of the first table below a heading of second order, by the names of their columns.

    Cells that are code lose their backticks. Raises ValueError for a page without that table.
    """
    text = (DOCS / page).read_text(encoding="utf-8")
    section = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    lines = [line for line in section[1].splitlines() if line.startswith("|")] if section else []
    if len(lines) < 2:
        raise ValueError(f"docs/{page} has no table below '{heading}'.")
    names, _, *rows = ([_cell(cell) for cell in line.strip().strip("|").split("|")] for line in lines)
    return [dict(zip(names, row, strict=True)) for row in rows]


def _cell(text: str) -> str:
    text = text.strip()
    return text[1:-1] if re.fullmatch(r"`[^`]*`", text) else text
