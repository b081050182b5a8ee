"""Tags are taken away: who has a tag from one destination alone, and how far the work has come."""

from __future__ import annotations

import itertools
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.destinations.errors import DestinationNotFound
from shared.destinations.model import TagsOnRemoval
from shared.exports.memberships import Memberships
from shared.exports.messages import RemovalMessage
from shared.exports.sign_in import SignIns
from shared.exports.store import ExportStore
from shared.exports.untag import Untagger, UntagTools
from shared.exports.untag_progress import Progress
from shared.mailchimp.replies import Tag
from shared.storage import names
from tests.unit.setup_fakes import ADA, GRACE, Setup

# -- who has a tag from whom alone ---------------------------------------------------------------------------------

PEOPLE = st.sampled_from(
    ["ann@mail.example", "Bob@mail.example", "bob@MAIL.example", "İrem@mail.example", "i\u0307rem@mail.example"]
)
TAGS = st.lists(st.sampled_from(["Readers", "readers", "VIP", "Straße", "it's"]), max_size=3, unique=True)
LEDGER = st.lists(st.tuples(PEOPLE, TAGS), max_size=12)


def write_ledger(path: Path, rows: Sequence[tuple[str, Sequence[str]]]) -> Path:
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE ledger (email VARCHAR, payload HUGEINT, tags VARCHAR)")
        for email, tags in rows:
            connection.execute("INSERT INTO ledger VALUES (?, 0, ?)", [email, json.dumps(tags, ensure_ascii=False)])
        connection.execute(f"COPY ledger TO '{path}' (FORMAT parquet)")
    return path


def folded(address: str) -> str:
    return address.replace("İ", "i\u0307").lower()


@given(mine=LEDGER, others=st.lists(LEDGER, max_size=2), first=st.integers(0, 4))
def test_nobody_is_named_whom_another_ledger_has_with_the_tag(
    mine: Sequence[tuple[str, Sequence[str]]], others: Sequence[Sequence[tuple[str, Sequence[str]]]], first: int
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = [write_ledger(folder / f"{number}.parquet", rows) for number, rows in enumerate([mine, *others])]
        members = Memberships(paths[0], paths[1:], folder)
        held = {(folded(email), tag.casefold()) for rows in others for email, tags in rows for tag in tags}
        assert members.tags == sorted({tag.casefold() for _, tags in mine for tag in tags})
        for tag in members.tags:
            having = [(row, email) for row, (email, tags) in enumerate(mine) if tag in {t.casefold() for t in tags}]
            alone = [(row, email) for row, email in having if row >= first and (folded(email), tag) not in held]
            assert members.count(tag, first) == len(alone)
            batches = list(members.batches())
            assert [email for batch in batches for email in batch.addresses] == [email for _, email in alone]
            assert [(batch.first, batch.end) for batch in batches] == (
                [(alone[0][0], alone[-1][0] + 1)] if alone else []
            )
            both = [email for row, email in having if row >= first and (folded(email), tag) in held]
            assert members.shared(tag, first, len(mine)) == both
        members.close()


def test_batches_are_of_five_hundred_and_in_the_order_of_the_ledger(tmp_path: Path) -> None:
    rows = [(f"person{n}@mail.example", ["Readers"] if n % 3 else ["VIP"]) for n in range(1700)]
    members = Memberships(write_ledger(tmp_path / "mine.parquet", rows), [], tmp_path)
    assert members.count("readers") == 1133
    batches = list(members.batches())
    assert [len(batch.addresses) for batch in batches] == [500, 500, 133]
    assert [email for batch in batches for email in batch.addresses] == [
        email for email, tags in rows if "VIP" not in tags
    ]
    assert members.count("readers", batches[0].end) == 633, "a place is where a batch ends"
    members.close()


# -- the place in the work -----------------------------------------------------------------------------------------


def at(**state: Any) -> Progress:
    return Progress.model_validate({"audience": "a1", "ledger": "e1", "tag": "m", "row": 500, "end": 1000} | state)


def test_tags_before_the_place_are_through_and_those_after_it_are_not_begun() -> None:
    progress = at()
    assert progress.first_row("m") == 500
    assert progress.first_row("n") == 0
    assert progress.first_row("l") > 10**15


@pytest.mark.parametrize(("audience", "ledger", "row"), [("a1", "e1", 500), ("a1", "e2", 0), ("a2", "e1", 0)])
def test_a_place_holds_for_one_version_of_one_ledger(audience: str, ledger: str, row: int) -> None:
    progress = at()
    progress.begin(audience, ledger)
    assert progress.row == row


def test_what_came_of_a_call_counts_when_the_next_one_is_written_down() -> None:
    progress = at()
    progress.take(497)
    progress.leave(3, "Mailchimp refused them")
    again = Progress.from_bytes(progress.to_bytes())
    assert (again.taken, again.left, again.reasons) == (0, 0, []), "killed here, the call is made and counted again"
    assert progress.taken_so_far == 497
    progress.settle()
    progress.settle()
    stored: Mapping[str, Any] = json.loads(progress.to_bytes())
    assert (stored["taken"], stored["left"], stored["reasons"]) == (497, 3, ["Mailchimp refused them"])


# -- completed by somebody else meanwhile --------------------------------------------------------------------------


class Held:
    """The lease of a removal."""

    client = "the proof that it is ours"

    def check(self, margin_s: float = 0) -> None:
        pass


class Untagging(Setup):
    """The removal of a destination with this ledger, and whoever takes its tags away.

    ``before_step`` is called before each look at storage, at the secret store and at Mailchimp. The clock goes on by a
    second with each look at it, so that everything happens that is due.
    """

    def __init__(self, ledger: bytes) -> None:
        super().__init__()
        self.id = self.ready().destination.id
        self.documents.write(names.ledger(self.id, "aud1"), ledger)
        self.removals.remove(self.id, ADA, tags=TagsOnRemoval.REMOVE)
        self.before_step: Callable[[], None] = lambda: None
        self.untagged: list[str] = []
        self.seconds = 0.0
        tools: dict[str, Any] = {
            "store": ExportStore(self.documents.as_documents(), self.clock),
            "destinations": self.store,
            "removals": self.removals,
            "leases": self,
            "signals": self.messages,
            "sign_ins": SignIns(self.store, self.secrets),
            "access": self,
            "now": self.clock,
            "monotonic": self._monotonic,
            "sleep": lambda _seconds: None,
            "random": lambda: 0.5,
        }
        self.untagger = Untagger(UntagTools(**tools), budget_s=10_000)
        for place, steps in ((self.documents, ("read", "list", "create", "replace")), (self.secrets, ("read",))):
            for step in steps:
                self._watch(place, step)

    def _watch(self, place: object, step: str) -> None:
        real = getattr(place, step)

        def watched(*arguments: Any, **options: Any) -> Any:
            self.before_step()
            return real(*arguments, **options)

        setattr(place, step, watched)

    def _monotonic(self) -> float:
        self.seconds += 1
        return self.seconds

    @contextmanager
    def take(self, name: str) -> Iterator[Held | None]:
        self.documents.blobs.setdefault(name, (b"", "new"))
        yield Held()

    @contextmanager
    def lookup(self, _account_id: str | None, _api_root: str, _token: str) -> Iterator[Untagging]:
        """The client is the test itself."""
        yield self

    def tags(self, _audience: str) -> list[Tag]:
        self.before_step()
        return [Tag(id=1, name="Gold", member_count=None)]

    def untag_members(self, _audience: str, _tag: int, addresses: Sequence[str]) -> None:
        self.before_step()
        self.untagged += addresses

    def close(self) -> None:
        pass

    def keep(self) -> None:
        """What another process does when somebody chooses to keep the tags: nothing is waited for any more."""
        self.before_step = lambda: None
        self.documents.leased = {names.removal(self.id)}
        with suppress(DestinationNotFound):
            self.removals.remove(self.id, GRACE, tags=TagsOnRemoval.KEEP)
        self.documents.leased = set()


def test_tags_that_are_to_be_kept_after_all_may_be_so_at_any_moment(tmp_path: Path) -> None:
    people = ["ann@mail.example", "bob@mail.example"]
    ledger = write_ledger(tmp_path / "ledger.parquet", [(person, ["Gold"]) for person in people])
    for moment in itertools.count():
        product = Untagging(ledger.read_bytes())
        left = itertools.count(moment, -1)

        def step(product: Untagging = product, left: Iterator[int] = left) -> None:
            if next(left) == 0:
                product.keep()

        product.before_step = step
        product.untagger.go_on(RemovalMessage(destination_id=product.id))
        assert product.store.find(product.id) is None
        if next(left) >= 0:
            assert moment > 50, "there are so many steps at least"
            assert product.untagged == people
            return
        [end] = [record for record in product.audit_records() if record.action == "destination.removed"]
        assert end.detail is not None
