"""Lists that change while they are read page by page: of the archived contacts none may be missing, because the batch
call would subscribe whoever is."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import parse_qsl, urlsplit

import requests

from tests.unit.fake_mailchimp import AUDIENCE, Canned, FakeMailchimp

ARCHIVED = [f"person{number}@mail.example" for number in range(2500)]


class Archive:
    """The archived contacts of an audience, a thousand a page; ``after`` runs when so many pages have been answered."""

    def __init__(self, after: dict[int, Callable[[list[str]], None]], *, says_total: bool = True) -> None:
        self.contacts = list(ARCHIVED)
        self.offsets: list[int] = []
        self._after = after
        self._says_total = says_total

    def answer(self, request: requests.PreparedRequest) -> Canned:
        query = dict(parse_qsl(urlsplit(request.url or "").query))
        offset = int(query["offset"])
        self.offsets.append(offset)
        page = [{"email_address": each} for each in self.contacts[offset : offset + 1000]]
        body = {"members": page, **({"total_items": len(self.contacts)} if self._says_total else {})}
        if change := self._after.get(len(self.offsets)):
            change(self.contacts)
        return Canned(body=body)

    def read(self) -> set[str]:
        return set(FakeMailchimp(respond=self.answer).client().archived(AUDIENCE))


def take_first(contacts: list[str]) -> None:
    del contacts[0]


def test_nobody_is_missing_when_somebody_comes_back_from_the_archive_meanwhile() -> None:
    archive = Archive({1: take_first})
    assert archive.read() >= set(archive.contacts)
    assert archive.offsets == [0, 1000, 2000, 0, 1000, 2000]


def test_who_is_archived_meanwhile_costs_no_second_reading() -> None:
    archive = Archive({1: lambda contacts: contacts.append("new@mail.example")})
    assert archive.read() == {*ARCHIVED, "new@mail.example"}
    assert archive.offsets == [0, 1000, 2000]


def test_all_are_read_where_mailchimp_does_not_say_how_many_there_are() -> None:
    archive = Archive({}, says_total=False)
    assert archive.read() == set(ARCHIVED)
    assert archive.offsets == [0, 1000, 2000, 2500]


def test_an_archive_that_never_stands_still_is_not_read_for_ever() -> None:
    archive = Archive(dict.fromkeys(range(2000), take_first))
    assert archive.read() >= set(archive.contacts)
    assert len(archive.offsets) == 4 * 3
