"""What happens when one contact is written: the rules that batch subscribe and the single-member calls share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dev.sandbox.addresses import objection
from dev.sandbox.bodies import Row
from dev.sandbox.merge_fields import REQUIRED_VALUE, MergeValueError, stored_value
from dev.sandbox.problems import NOT_VALIDATED, ProblemError, invalid_resource
from dev.sandbox.store import Audience, Contact, with_tags


class RowError(Exception):
    """One contact is refused. In a batch it becomes an entry of `errors`, in a single call a 400.

    `title` is the title of that 400; `field` and `field_message` are set when a merge value is wrong.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str = "ERROR_GENERIC",
        title: str = "Invalid Resource",
        field: str = "",
        field_message: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.title = title
        self.field = field
        self.field_message = field_message

    def document(self, address: str) -> dict[str, str]:
        """An entry of `errors` of a batch."""
        return {
            "email_address": address,
            "error": self.message,
            "error_code": self.code,
            "field": self.field,
            "field_message": self.field_message,
        }

    def problem(self) -> ProblemError:
        """The answer of a single-member call. Documents with a title of their own have no `type` (as recorded)."""
        if self.field:
            return invalid_resource(
                "Your merge fields were invalid.", [{"field": self.field, "message": self.field_message}]
            )
        if self.title == "Invalid Resource":
            return invalid_resource(self.message)
        return ProblemError(400, self.title, self.message, type_url=None)


@dataclass(frozen=True, slots=True)
class Options:
    """How rows are applied."""

    update_existing: bool
    skip_merge_validation: bool
    tags_reach_existing: bool
    sync_tags: bool = False


class RowWriter:
    """Writes rows of one call to one audience; `now` is in seconds since 1970."""

    def __init__(self, audience: Audience, options: Options, now: int) -> None:
        self._audience = audience
        self._options = options
        self._now = now
        self._known_tags: dict[tuple[str, ...], tuple[int, ...]] = {}  # most rows of a call have the same tags

    def write(self, key: bytes, email: str, row: Row) -> tuple[Contact, bool]:
        """Add or update one member. Returns the contact and whether it counts as created. Raises `RowError`."""
        if sentence := objection(email):
            raise RowError(sentence)
        contact = self._audience.contacts.get(key)
        if contact is None:
            return self._added(key, email, row), True
        # An archived contact is no member: it comes back, and counts as created (recorded on POST /members).
        returns = contact.group.status == "archived"
        if not returns and not self._options.update_existing:
            raise RowError(
                f"{email} is already a list member, do you want to update? please provide update_existing:true in "
                "the request body",
                code="ERROR_CONTACT_EXISTS",
            )
        self._update(contact, email, row, returns)
        return contact, returns

    def _added(self, key: bytes, email: str, row: Row) -> Contact:
        if key in self._audience.forgotten:
            raise RowError(
                f"{email} was permanently deleted and cannot be re-imported. The contact must re-subscribe to get "
                "back on the list.",
                title="Forgotten Email Not Subscribed",
            )
        merge = self._merged((), row)
        status = row.status_if_new or row.status or "subscribed"
        tag_ids = self._tag_ids(row.tags) if row.tags else ()
        contact = self._audience.add(key, email, status, merge, tag_ids, self._now)
        contact.extra = row.extra()
        return contact

    def _update(self, contact: Contact, email: str, row: Row, returns: bool) -> None:
        """`status_if_new` counts only for contacts that return; without `status` a member's status stays."""
        status = (row.status_if_new or row.status) if returns else row.status
        group = contact.group
        if status == "subscribed" and (group.compliance or group.status == "cleaned"):
            # Nobody who unsubscribed by themselves or bounced is subscribed again through the API.
            raise RowError(
                f"{email} is in a compliance state due to unsubscribe, bounce, or compliance review and cannot be "
                "subscribed.",
                title="Member In Compliance State",
            )
        contact.merge = self._merged(contact.merge, row)
        contact.changed = self._now
        if extra := row.extra():
            contact.extra = {**(contact.extra or {}), **extra}
        tag_ids = group.tag_ids
        if self._options.sync_tags:
            tag_ids = self._tag_ids(row.tags or [])
        elif row.tags and (returns or self._options.tags_reach_existing):
            added = self._tag_ids(row.tags)
            if added != tag_ids:
                tag_ids = with_tags(tag_ids, added)
        if tag_ids != group.tag_ids or (status is not None and status != group.status):
            # A pending contact was sent a confirmation mail: answering it ends the compliance state.
            self._audience.regroup(contact, status, group.compliance and status != "pending", tag_ids)

    def _tag_ids(self, names: list[str]) -> tuple[int, ...]:
        wanted = tuple(names)
        found = self._known_tags.get(wanted)
        if found is None:
            found = self._known_tags[wanted] = tag_ids_of(self._audience, names, self._now)
        return found

    def _merged(self, had: tuple[Any, ...], row: Row) -> tuple[Any, ...]:
        return merged_values(self._audience, had, row.merge_fields, self._options.skip_merge_validation)


def tag_ids_of(audience: Audience, names: list[str] | None, now: int) -> tuple[int, ...]:
    """Sorted ids of tags by name; tags that do not exist are created, empty names are ignored."""
    return with_tags((), tuple(audience.add_tag(name, now).id for name in names or () if name.strip()))


def merged_values(
    audience: Audience, had: tuple[Any, ...], given: dict[str, Any] | None, skip_required: bool
) -> tuple[Any, ...]:
    """The value tuple of a contact after a write. Unknown merge tags are ignored. Raises `RowError`."""
    fields = audience.merge_fields
    values = [*had, *[""] * (len(fields) - len(had))]
    if given:
        for tag, value in given.items():
            merge_field = fields.get(tag)
            if merge_field is None:
                continue
            if merge_field.type == "text" and type(value) is str:
                values[merge_field.position] = value
                continue
            try:
                values[merge_field.position] = stored_value(merge_field, value)
            except MergeValueError as error:
                raise RowError(NOT_VALIDATED, field=tag, field_message=str(error)) from None
    if audience.required_fields and not skip_required:
        for merge_field in audience.required_fields:
            if values[merge_field.position] == "":
                raise RowError(NOT_VALIDATED, field=merge_field.tag, field_message=REQUIRED_VALUE)
    return tuple(values)
