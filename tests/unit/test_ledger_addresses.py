"""The ledger of a destination: who is in it after an export, and with which tags."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from shared.exports.database import open_database
from shared.exports.ledger import write_ledger
from shared.exports.model import Plan
from shared.storage.documents import Documents, Version
from tests.unit.plans import a_plan

Ledger = Mapping[str, Sequence[str]]


class LedgerOnDisk:
    """The one blob that is read and written: the destination's ledger."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "kept.parquet"

    def download(self, _name: str, path: Path) -> Version | None:
        if not self.file.exists():
            return None
        shutil.copy(self.file, path)
        return Version("", {})

    def upload(self, _name: str, path: Path, *_version: object) -> None:
        shutil.copy(path, self.file)

    upload_over = upload


def plan(members: int) -> Plan:
    return a_plan(account_id="a1", audience_id="list1", attempt="0f", members=members)


def after_exports_of(folder: Path, *exports: Ledger) -> list[tuple[str, list[str]]]:
    """What the ledger holds, in order of its addresses, when each export has sent these people with their tags."""
    ledger = LedgerOnDisk(folder)
    members = folder / "members.parquet"
    with open_database(folder) as connection:
        for sent in exports:
            connection.execute(
                "CREATE OR REPLACE TABLE m (position BIGINT, email VARCHAR, payload HUGEINT, tags VARCHAR)"
            )
            for position, (email, tags) in enumerate(sent.items()):
                connection.execute("INSERT INTO m VALUES (?, ?, 0, ?)", [position, email, json.dumps(tags)])
            connection.execute(f"COPY m TO '{members}' (FORMAT parquet)")
            write_ledger(cast("Documents", ledger), plan(len(sent)), [0], [], members, folder)
        found = connection.execute(f"SELECT email, tags FROM read_parquet('{ledger.file}') ORDER BY email").fetchall()
    return [(email, json.loads(tags)) for email, tags in found]


def test_whoever_was_sent_before_stays_and_tags_are_only_added(tmp_path: Path) -> None:
    first = {"ann@mail.example": ["Readers"], "bob@mail.example": ["Readers"]}
    second = {"Bob@mail.example": ["VIP"], "cy@mail.example": ["VIP"]}
    assert after_exports_of(tmp_path, first, second) == [
        ("Bob@mail.example", ["VIP", "Readers"]),
        ("ann@mail.example", ["Readers"]),
        ("cy@mail.example", ["VIP"]),
    ]


def test_two_people_whose_addresses_differ_by_a_turkish_letter_stay_two(tmp_path: Path) -> None:
    """As in the tables that prepare makes: a ledger with one of them would lose what the other one was tagged with."""
    both = {"irem@mail.example": ["Readers"], "İrem@mail.example": ["VIP"]}
    assert after_exports_of(tmp_path, both, {"İrem@mail.example": ["VIP"]}) == [
        ("irem@mail.example", ["Readers"]),
        ("İrem@mail.example", ["VIP"]),
    ]
