"""Mailchimp as destinations see it, in memory: accounts, their audiences and merge fields."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import cast

from shared.mailchimp.client import MailchimpClient
from shared.mailchimp.errors import AudienceNotFound, SignInRefused
from shared.mailchimp.replies import Account, Audience, MergeField, MergeFieldOptions


def merge_field(tag: str, kind: str = "text", *, required: bool = False) -> MergeField:
    return MergeField(tag, tag.title(), kind, required, "", MergeFieldOptions())


@dataclass
class FakeAccounts:
    """Accounts by their key, with their audiences, and the access to them. ``fault`` is raised by every call."""

    accounts: dict[str, Account]
    names: dict[str, str] = field(default_factory=lambda: {"aud1": "Customers", "aud2": "Partners"})
    fields: dict[str, list[MergeField]] = field(
        default_factory=lambda: {
            "aud1": [
                merge_field("FNAME"),
                merge_field("LNAME"),
                merge_field("ADDRESS", "address"),
                merge_field("CITY"),
            ],
            "aud2": [merge_field("FIRST"), merge_field("COMPANY", required=True)],
        }
    )
    double_optin: set[str] = field(default_factory=set)
    fault: Exception | None = None
    lookups: list[tuple[str | None, str]] = field(default_factory=list)

    @contextmanager
    def lookup(self, account_id: str | None, api_root: str, token: str) -> Iterator[MailchimpClient]:
        self.lookups.append((account_id, api_root))
        yield cast("MailchimpClient", _FakeClient(self, token))

    def audience(self, audience_id: str) -> Audience:
        if audience_id not in self.names:
            raise AudienceNotFound(audience_id)
        return Audience(audience_id, self.names[audience_id], 0, audience_id in self.double_optin, False, None)


class _FakeClient:
    def __init__(self, mailchimp: FakeAccounts, token: str) -> None:
        self._mailchimp = mailchimp
        self._token = token

    def account(self) -> Account:
        if self._mailchimp.fault is not None:
            raise self._mailchimp.fault
        if self._token not in self._mailchimp.accounts:
            raise SignInRefused("Mailchimp does not accept the API key.", action="Enter another one.", status=401)
        return self._mailchimp.accounts[self._token]

    def audiences(self) -> list[Audience]:
        self.account()
        return [self._mailchimp.audience(each) for each in self._mailchimp.names]

    def audience(self, audience_id: str) -> Audience:
        self.account()
        return self._mailchimp.audience(audience_id)

    def merge_fields(self, audience_id: str) -> list[MergeField]:
        self.account()
        return self._mailchimp.fields.get(audience_id, [])
