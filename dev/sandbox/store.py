"""What the sandbox holds: accounts with their audiences, contacts and tags, small enough for a million contacts.

A contact points to a *group*: all contacts of an audience with the same status, the same compliance mark and the same
set of tags share one. Counts by status and by tag are kept on the groups, and so are the pieces of JSON that are the
same for all of them. A million contacts have a handful of groups.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from dev.sandbox.merge_fields import MergeField, MergeFieldBody

STATUSES = ("subscribed", "unsubscribed", "cleaned", "pending", "transactional", "archived")


@dataclass(slots=True, eq=False)
class Tag:
    """A static segment, which Mailchimp's pages call a tag."""

    id: int
    name: str
    created: int
    updated: int


class Group:
    """Contacts with the same status, compliance mark and tags. `tag_ids` is sorted."""

    __slots__ = ("compliance", "count", "json", "status", "tag_ids")

    def __init__(self, status: str, compliance: bool, tag_ids: tuple[int, ...]) -> None:
        self.status = status
        self.compliance = compliance
        self.tag_ids = tag_ids
        self.count = 0
        self.json: tuple[bytes, bytes] | None = None  # filled and read by replies.py


class Contact:
    """One person of an audience.

    `merge` has a value for each of the audience's first merge fields, in order of `MergeField.position`; missing ones
    are empty. Times are whole seconds since 1970. `extra` holds the rarely used fields (language, vip and so on).
    """

    __slots__ = ("changed", "email", "extra", "group", "merge", "opted")

    def __init__(self, email: str, group: Group, merge: tuple[Any, ...], now: int) -> None:
        self.email = email
        self.group = group
        self.merge = merge
        self.opted = now
        self.changed = now
        self.extra: dict[str, Any] | None = None


@dataclass(slots=True)
class Totals:
    """What batch subscribe calls have done in one audience."""

    created: int = 0
    updated: int = 0
    errors: int = 0


class Audience:
    """A Mailchimp list. Contacts are keyed by the MD5 of their lower-case address (the subscriber hash)."""

    def __init__(
        self,
        audience_id: str,
        name: str,
        *,
        created: int,
        double_optin: bool = False,
        marketing_permissions: bool = False,
    ) -> None:
        self.id = audience_id
        self.name = name
        self.created = created
        self.double_optin = double_optin
        self.marketing_permissions = marketing_permissions
        self.merge_fields: dict[str, MergeField] = {}
        self.required_fields: tuple[MergeField, ...] = ()
        self.contacts: dict[bytes, Contact] = {}
        self.forgotten: set[bytes] = set()
        self.tags: dict[int, Tag] = {}
        self.totals = Totals()
        self.revision = 0  # grows with every change; listings and reply templates are kept per revision
        self._tags_by_name: dict[str, Tag] = {}
        self._groups: dict[tuple[str, bool, tuple[int, ...]], Group] = {}
        self._next_tag_id = 5_100_001
        self._listing: tuple[object, list[tuple[bytes, Contact]]] | None = None

    # Merge fields
    def add_merge_field(self, body: MergeFieldBody) -> MergeField:
        """Add a merge field at the end. The caller has checked type and tag."""
        position = len(self.merge_fields)
        merge_field = MergeField(
            merge_id=position + 1,
            tag=body.tag or free_merge_tag(self, body.name),
            name=body.name,
            type=body.type,
            position=position,
            required=body.required,
            default_value=body.default_value,
            public=body.public,
            options=body.options,
            help_text=body.help_text,
        )
        self.merge_fields[merge_field.tag] = merge_field
        if merge_field.required:
            self.required_fields += (merge_field,)
        self.revision += 1
        return merge_field

    # Tags
    def find_tag(self, name: str) -> Tag | None:
        """A tag by name; upper and lower case are the same to Mailchimp."""
        return self._tags_by_name.get(name.strip().casefold())

    def add_tag(self, name: str, now: int) -> Tag:
        """The tag of that name, created if there is none."""
        tag = self.find_tag(name)
        if tag is None:
            tag = Tag(self._next_tag_id, name.strip(), now, now)
            self._next_tag_id += 1
            self.tags[tag.id] = tag
            self._tags_by_name[tag.name.casefold()] = tag
            self.revision += 1
        return tag

    def rename_tag(self, tag: Tag, name: str, now: int) -> None:
        """Give a tag another name, which must be free."""
        del self._tags_by_name[tag.name.casefold()]
        tag.name, tag.updated = name.strip(), now
        self._tags_by_name[tag.name.casefold()] = tag
        for group in self._groups.values():
            group.json = None
        self.revision += 1

    def delete_tag(self, tag: Tag) -> None:
        """Remove a tag from the audience and from everyone who has it."""
        for contact in self.contacts.values():
            if tag.id in contact.group.tag_ids:
                self.regroup(contact, tag_ids=without_tags(contact.group.tag_ids, {tag.id}))
        del self.tags[tag.id]
        del self._tags_by_name[tag.name.casefold()]
        self.revision += 1

    # Contacts
    def find(self, key: bytes) -> Contact | None:
        """A contact by subscriber key."""
        return self.contacts.get(key)

    def add(
        self, key: bytes, email: str, status: str, merge: tuple[Any, ...], tag_ids: tuple[int, ...], now: int
    ) -> Contact:
        """Put in a contact that is not there yet."""
        group = self._group(status, False, tag_ids)
        group.count += 1
        contact = self.contacts[key] = Contact(email, group, merge, now)
        return contact

    def regroup(
        self,
        contact: Contact,
        status: str | None = None,
        compliance: bool | None = None,
        tag_ids: tuple[int, ...] | None = None,
    ) -> None:
        """Change status, compliance mark or tags of a contact; None leaves a value as it is."""
        old = contact.group
        group = self._group(
            old.status if status is None else status,
            old.compliance if compliance is None else compliance,
            old.tag_ids if tag_ids is None else tag_ids,
        )
        if group is not old:
            old.count -= 1
            group.count += 1
            contact.group = group

    def forget(self, key: bytes) -> None:
        """Delete a contact for good: the address cannot be added again through the API."""
        contact = self.contacts.pop(key, None)
        if contact is not None:
            contact.group.count -= 1
        self.forgotten.add(key)
        self.revision += 1

    def move(self, old_key: bytes, new_key: bytes, email: str) -> None:
        """Give a contact another address, which must be free."""
        contact = self.contacts.pop(old_key)
        contact.email = email
        self.contacts[new_key] = contact
        self.revision += 1

    def _group(self, status: str, compliance: bool, tag_ids: tuple[int, ...]) -> Group:
        group = self._groups.get((status, compliance, tag_ids))
        if group is None:
            group = self._groups[status, compliance, tag_ids] = Group(status, compliance, tag_ids)
        return group

    # Counts and listings
    def count_by_status(self) -> dict[str, int]:
        """How many contacts have each status; statuses without contacts are left out."""
        counts: Counter[str] = Counter()
        for group in self._groups.values():
            counts[group.status] += group.count
        return {status: counts[status] for status in STATUSES if counts[status]}

    def count_by_tag(self) -> dict[int, dict[str, int]]:
        """For each tag how many contacts of each status have it."""
        counts: dict[int, Counter[str]] = {tag_id: Counter() for tag_id in self.tags}
        for group in self._groups.values():
            if group.count:
                for tag_id in group.tag_ids:
                    counts[tag_id][group.status] += group.count
        return {tag_id: dict(by_status) for tag_id, by_status in counts.items()}

    def listing(self, statuses: frozenset[str], tag_id: int | None = None) -> list[tuple[bytes, Contact]]:
        """Contacts with one of the statuses and, if given, the tag, in the order in which they were added."""
        wanted = (self.revision, statuses, tag_id)
        if self._listing is None or self._listing[0] != wanted:
            groups = {
                group
                for group in self._groups.values()
                if group.count and group.status in statuses and (tag_id is None or tag_id in group.tag_ids)
            }
            found = [item for item in self.contacts.items() if item[1].group in groups]
            self._listing = (wanted, found)  # the last one only: it serves a client that turns pages
        return self._listing[1]

    def names_of(self, group: Group) -> list[str]:
        """Names of the tags of a group."""
        return [self.tags[tag_id].name for tag_id in group.tag_ids]


def with_tags(tag_ids: tuple[int, ...], added: tuple[int, ...]) -> tuple[int, ...]:
    """Tag ids with some added, sorted and without repetition."""
    return tuple(sorted({*tag_ids, *added}))


def without_tags(tag_ids: tuple[int, ...], removed: set[int]) -> tuple[int, ...]:
    """Tag ids with some taken out."""
    return tuple(tag_id for tag_id in tag_ids if tag_id not in removed)


def free_merge_tag(audience: Audience, name: str) -> str:
    """A merge tag made from a field's name, as Mailchimp does when none is given: at most ten letters, unique."""
    base = "".join(letter for letter in name.upper() if letter.isascii() and letter.isalnum())[:10]
    if base and base not in audience.merge_fields:
        return base
    return f"MMERGE{len(audience.merge_fields) + 1}"


@dataclass(slots=True, eq=False)
class Account:
    """A Mailchimp account with its sign-ins. All its keys and tokens share one limit of open calls."""

    id: str
    name: str
    user_id: int
    keys: set[str] = field(default_factory=set)
    tokens: set[str] = field(default_factory=set)
    audiences: dict[str, Audience] = field(default_factory=dict)
    open_calls: int = 0
    max_open_calls: int = 0
    calls: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class World:
    """All accounts of one data centre."""

    datacenter: str
    accounts: dict[str, Account] = field(default_factory=dict)
    deleted: dict[str, Audience] = field(default_factory=dict)  # by id; the API does not know them any more

    def account_of(self, credential: str) -> Account | None:
        """The account that a key or token belongs to."""
        for account in self.accounts.values():
            if credential in account.keys or credential in account.tokens:
                return account
        return None

    def audience(self, audience_id: str) -> Audience | None:
        """An audience of any account."""
        for account in self.accounts.values():
            if audience_id in account.audiences:
                return account.audiences[audience_id]
        return None

    def delete_audience(self, audience_id: str) -> bool:
        """Take an audience out of its account, as its owner may do at any moment; False if there is none."""
        for account in self.accounts.values():
            audience = account.audiences.pop(audience_id, None)
            if audience is not None:
                self.deleted[audience_id] = audience
                return True
        return False

    def audiences(self) -> Iterator[tuple[Account, Audience]]:
        """Every audience with its account."""
        for account in self.accounts.values():
            for audience in account.audiences.values():
                yield account, audience
