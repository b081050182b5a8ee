"""The ledger of a destination, when two finishers write it: nobody whom an export has tagged falls off it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import duckdb

from shared.exports.ledger import write_ledger
from shared.storage import names
from shared.storage.documents import Changed, Version
from tests.unit.fake_documents import FakeDocuments
from tests.unit.plans import a_plan

LEDGER = names.ledger("d1", "audience")


class FileDocuments(FakeDocuments):
    """With files. ``asleep`` runs between the download of a finisher and its upload, once."""

    def __init__(self) -> None:
        super().__init__()
        self.asleep: Callable[[], None] = lambda: None

    def download(self, name: str, path: Path) -> Version | None:
        found = self.read(name)
        if found is None:
            return None
        path.write_bytes(found.data)
        return Version(found.etag, {})

    def upload_over(self, name: str, path: Path, etag: str | None, metadata: Mapping[str, str]) -> None:
        meanwhile, self.asleep = self.asleep, lambda: None
        meanwhile()
        found = self.read(name)
        if (found.etag if found else None) != etag:
            raise Changed(name)
        self.write(name, path.read_bytes(), metadata)


def finish(documents: FileDocuments, folder: Path, tag: str, emails: Sequence[str]) -> None:
    """Fold an export that has tagged these people into the ledger."""
    folder.mkdir(parents=True)
    members = folder / "members.parquet"
    rows = ", ".join(f"({number}, '{email}', 'x', '{json.dumps([tag])}')" for number, email in enumerate(emails))
    with duckdb.connect() as connection:
        connection.execute(
            f"COPY (SELECT * FROM (VALUES {rows}) t (position, email, payload, tags)) TO '{members}' (FORMAT parquet)"
        )
    plan = a_plan(tag, members=len(emails), tag_ids={tag: 1})
    write_ledger(documents.as_documents(), plan, [0], [], members, folder)


def ledger(documents: FileDocuments, folder: Path) -> dict[str, set[str]]:
    """Everybody's tags."""
    path = folder / "read.parquet"
    assert documents.download(LEDGER, path)
    with duckdb.connect() as connection:
        found = connection.execute(f"SELECT email, tags FROM read_parquet('{path}')").fetchall()
    assert len(found) == len(dict(found)), "each person once"
    return {email: set(json.loads(tags)) for email, tags in found}


def test_a_finisher_that_was_asleep_leaves_those_whom_the_next_export_has_tagged(tmp_path: Path) -> None:
    documents = FileDocuments()
    finish(documents, tmp_path / "first", "Old", ["ada@mail.example"])
    documents.asleep = lambda: finish(documents, tmp_path / "next", "New", ["ada@mail.example", "grace@mail.example"])
    finish(documents, tmp_path / "late", "Late", ["ada@mail.example"])
    assert ledger(documents, tmp_path) == {"ada@mail.example": {"Old", "New", "Late"}, "grace@mail.example": {"New"}}


def test_two_finishers_of_a_first_export_write_one_ledger(tmp_path: Path) -> None:
    documents = FileDocuments()
    documents.asleep = lambda: finish(documents, tmp_path / "one", "Gold", ["ada@mail.example"])
    finish(documents, tmp_path / "other", "Gold", ["ada@mail.example"])
    assert ledger(documents, tmp_path) == {"ada@mail.example": {"Gold"}}
