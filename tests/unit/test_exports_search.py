"""The search for contacts at whom Mailchimp fails: what becomes of those of one call."""

from __future__ import annotations

from typing import Any

import pytest

from shared.exports.backoff import Backoff
from shared.exports.troubled import Search, Troubled

LONG_S = 601.0
FAILED, HUNG = Troubled("serverError", hung=False), Troubled("timeout", hung=True)


class Silent:
    """Nobody wants to know how Mailchimp is doing."""

    def __getattr__(self, _name: str) -> Any:
        return lambda *_: None


def search_after(seconds: float) -> Search[int]:
    """A search of ten in which somebody has got through, after so long."""
    now = [0.0]
    backoff = Backoff(0, Silent(), sleep=lambda _: None, random=lambda: 0.5, still_ours=lambda: None)
    search = Search(range(10), backoff, lambda: now[0])
    search.next(4)
    search.answered()
    now[0] = seconds
    return search


@pytest.mark.parametrize(("seconds", "trouble"), [(0, FAILED), (0, HUNG), (LONG_S, FAILED)])
def test_those_at_whom_mailchimp_fails_are_searched_for(seconds: float, trouble: Troubled) -> None:
    search = search_after(seconds)
    assert search.failed(search.next(500), trouble) == ()
    left: list[int] = []
    while part := search.next(500):
        assert len(part) < 6, "in parts"
        left += part
    assert sorted(left) == [4, 5, 6, 7, 8, 9]


def test_what_hangs_after_ten_minutes_is_given_up_as_it_is() -> None:
    search = search_after(LONG_S)
    assert list(search.failed(search.next(500), HUNG)) == [4, 5, 6, 7, 8, 9]
    assert not search.next(500)
