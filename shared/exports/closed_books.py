"""The closed books of an export: what finish found when it added up the results. Written once, true from then on."""

from __future__ import annotations

from pydantic import Field

from shared.exports.model import Books, LeftOut, Tally
from shared.storage import names
from shared.storage.documents import Documents
from shared.storage.json_documents import JsonDocument


class ClosedBooks(JsonDocument):
    """Stored once at ``runs/{id}/books.json``."""

    books: Books
    tally: Tally
    rejected_reasons: dict[str, int]
    retryable: int = 0
    """Rejected profiles that a later export may send as they are."""
    left_out: LeftOut | None = None
    """What keeps the members out whom Mailchimp has refused for good; None where there are none."""
    batches: list[int] = Field(default_factory=list)
    """The batches whose results are in the books. A result that came later counts nowhere."""

    @property
    def nobody_is_due(self) -> bool:
        """Whether nobody of those who were sent is to be sent again: no refusal for a passing reason, no tag left."""
        return not (self.tally.untagged or self.retryable)

    @property
    def all_arrived(self) -> bool:
        """Whether everybody arrived who can: sending the same data again would change nothing."""
        return not self.books.not_sent and self.nobody_is_due


def read_closed_books(documents: Documents, export_id: str) -> ClosedBooks | None:
    """The books of the export; None while they are open, and after they have been deleted."""
    found = documents.read(names.books(export_id))
    return ClosedBooks.from_bytes(found.data) if found else None
