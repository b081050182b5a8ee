"""How far the tags of a destination that is being removed are taken away; stored at ``removals/{id}.json``."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field, PrivateAttr

from shared.storage.json_documents import JsonDocument


class Progress(JsonDocument):
    """The call that was made last, which may or may not have been applied; everything before it is through.

    ``ledger``: the ETag under which the audience's ledger was read. ``tag``, and the rows of the ledger from ``row`` to
    before ``end``: the call. ``others``: the version of other destinations' ledgers that it accounted for, empty before
    the first call. ``taken`` and ``left`` count memberships in tags before that call, ``reasons`` says why some are
    left. ``failures`` in a row and ``unavailable_since`` are Mailchimp's, ``wake_at`` is when the next message comes.
    """

    audience: str = ""
    ledger: str = ""
    tag: str = ""
    row: int = 0
    end: int = 0
    others: str = ""
    taken: int = 0
    left: int = 0
    reasons: list[str] = Field(default_factory=list)
    failures: int = 0
    unavailable_since: datetime | None = None
    wake_at: datetime | None = None
    # What came of the last call: counted when the next one is written down, because until then it may be made again.
    _taken: int = PrivateAttr(default=0)
    _left: list[tuple[int, str]] = PrivateAttr(default_factory=list)

    def begin(self, audience: str, ledger: str) -> None:
        """Go to the beginning of an audience, unless the place is in this version of its ledger already."""
        if (self.audience, self.ledger) != (audience, ledger):
            self.settle()
            self.audience, self.ledger = audience, ledger
            self.tag, self.row, self.end, self.others = "", 0, 0, ""

    def first_row(self, tag: str) -> int:
        """The first row that is still to be done for ``tag``: tags are done in the order of their names."""
        if tag == self.tag:
            return self.row
        return 0 if tag > self.tag else NO_ROW

    def take(self, count: int) -> None:
        self._taken += count

    def leave(self, count: int, reason: str) -> None:
        if count:
            self._left.append((count, reason))

    @property
    def taken_so_far(self) -> int:
        return self.taken + self._taken

    def pass_over(self) -> None:
        """Go on after the last call: it was answered, and nothing crossed it."""
        self.settle()
        self.row = self.end

    def settle(self) -> None:
        """Count what came of the last call."""
        self.taken += self._taken
        for count, reason in self._left:
            self.left += count
            self.reasons = self.reasons if reason in self.reasons else [*self.reasons, reason]
        self._taken, self._left = 0, []


NO_ROW = 2**62
"""Beyond every row of a ledger."""
