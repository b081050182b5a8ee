"""Pages of lists: every list of the API takes ``top`` and ``after``, and answers where the next page is.

``after`` is the key of the last item of the page before, made opaque; so a page neither repeats nor misses what was
there all the time, whatever is added or removed in between.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Annotated, Final, Generic, TypeVar
from urllib.parse import quote, urlencode

from fastapi import Query, Request

from shared.api.errors import ApiError
from shared.storage.json_documents import JsonDocument

MAX_TOP: Final = 200
DEFAULT_TOP: Final = 50

Key = tuple[str, ...]
"""What the items of a list are ordered by; unique."""

T = TypeVar("T")

_NUMBER: Final = re.compile(r"[0-9]{1,9}")

Top = Annotated[int, Query(ge=1, le=MAX_TOP, description="How many items a page has at most.")]
After = Annotated[
    str | None,
    Query(max_length=8192, description="Where the page begins: take it from nextLink of the page before."),
]


class Page(JsonDocument):
    """The base of every list."""

    next_link: str | None = None
    """The address of the next page; null on the last one."""


@dataclass(frozen=True, slots=True)
class Cut(Generic[T]):
    """The items of one page and the address of the next."""

    items: list[T]
    next_link: str | None


def cut_page(items: Iterable[T], key: Callable[[T], Key], *, top: int, request: Request, public_url: str) -> Cut[T]:
    """The first ``top`` of ``items``, which begin behind the cursor already; and the link to what follows."""
    found = list(islice(items, top + 1))
    if len(found) <= top:
        return Cut(found, None)
    page = found[:top]
    return Cut(page, next_link(key(page[-1]), top, request, public_url))


def next_link(last: Key | None, top: int, request: Request, public_url: str) -> str | None:
    """The address of what follows the item ``last``, with the filters of this request; None where nothing follows.

    Of the request's own address only the path and the query count: its Host header says nothing of where we are.
    """
    if last is None:
        return None
    parameters = [(name, value) for name, value in request.query_params.multi_items() if name not in {"after", "top"}]
    query = urlencode([*parameters, ("top", top), ("after", encode(last))])
    return f"{public_url}{quote(request.scope['path'])}?{query}"


def encode(key: Key) -> str:
    """The key as a word for an address."""
    text = json.dumps(key, ensure_ascii=False)  # escapes would make the longest names too long for an address
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode(after: str | None, parts: int) -> Key | None:
    """The key in ``after``. Raises a 422 for anything that ``encode`` does not make of ``parts`` texts."""
    if after is None:
        return None
    try:
        found = json.loads(base64.urlsafe_b64decode(after + "=" * (-len(after) % 4)))
        if isinstance(found, list) and len(found) == parts and all(isinstance(part, str) for part in found):
            key = tuple(found)
            if encode(key) == after:
                return key
    except (ValueError, RecursionError):  # no base64, no UTF-8, no JSON: all of them are ValueErrors
        pass
    raise not_a_cursor()


def number_in(part: str) -> int:
    """The number that a part of a key stands for. Raises a 422 for any other text."""
    if not _NUMBER.fullmatch(part):
        raise not_a_cursor()
    return int(part)


def not_a_cursor() -> ApiError:
    """What to raise for an ``after`` that the list cannot have answered."""
    return ApiError(
        422,
        "invalidRequest",
        "after: This is not from a nextLink. Follow the nextLink of the page before as it is.",
        "after",
    )


def behind(items: Iterable[T], key: Callable[[T], Key], after: Key | None) -> Iterable[T]:
    """Those of ``items`` (in ascending order of their keys) that come after the cursor."""
    return items if after is None else (item for item in items if key(item) > after)
