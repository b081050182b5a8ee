"""The control API under `/_sandbox`: look into a running sandbox and set it up. No sign-in; loopback only."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, Literal, TypeVar

import msgspec

from dev.sandbox.addresses import subscriber_key
from dev.sandbox.app import Sandbox
from dev.sandbox.audiences import merge_field_objection
from dev.sandbox.contacts import RowError, merged_values, tag_ids_of
from dev.sandbox.faults import Fault, FaultError
from dev.sandbox.http import Reply, Request, json_reply
from dev.sandbox.merge_fields import MergeFieldBody
from dev.sandbox.page import show_page
from dev.sandbox.store import Account, Audience, Contact, Group, with_tags

STREAM_ROWS = 2000
T = TypeVar("T")


class ControlError(Exception):
    """A call of the control API is refused: status and sentence."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class _Body(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    pass


class AccountBody(_Body):
    """`POST /_sandbox/accounts`."""

    name: str = "Another Co"
    id: str | None = None
    api_key: str | None = None


class AudienceBody(_Body):
    """`POST /_sandbox/audiences`. `merge_fields` replace the default ones; `account` is the first one if not given."""

    name: str = "Audience"
    id: str | None = None
    account: str | None = None
    merge_fields: list[MergeFieldBody] | None = None
    double_optin: bool = False
    marketing_permissions: bool = False


class ContactBody(msgspec.Struct, forbid_unknown_fields=True):
    """One contact of a preload, in Mailchimp's field names. `compliance`: left by themselves, or reported as abuse."""

    email_address: str
    status: Literal["subscribed", "unsubscribed", "cleaned", "pending", "transactional", "archived"] = "subscribed"
    merge_fields: dict[str, Any] | None = None
    tags: list[str] | None = None
    compliance: bool = False
    forgotten: bool = False


class ContactsBody(_Body):
    """`POST /_sandbox/audiences/{id}/contacts`."""

    contacts: list[ContactBody]


class CredentialBody(_Body):
    """`POST /_sandbox/credentials`: another key, or a token without the sign-in pages."""

    kind: Literal["key", "token"] = "key"
    account: str | None = None
    value: str | None = None


class OAuthClientBody(_Body):
    """`PUT /_sandbox/oauth-client`."""

    redirect_uris: list[str]


class FaultsBody(_Body):
    """`PUT /_sandbox/faults`."""

    faults: list[Fault]


class ControlApi:
    """Answers every path that is neither the Mailchimp API nor its sign-in."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        audience = r"/_sandbox/audiences/([^/]+)"
        self._routes: tuple[tuple[str, str, Callable[..., Reply]], ...] = (
            ("GET", r"/|/_sandbox/?", self._page),
            ("GET", r"/_sandbox/state", self._state),
            ("GET", audience + "/members", self._members),
            ("POST", r"/_sandbox/accounts", self._add_account),
            ("POST", r"/_sandbox/audiences", self._add_audience),
            ("DELETE", audience, self._delete_audience),
            ("POST", audience + "/contacts", self._add_contacts),
            ("POST", r"/_sandbox/credentials", self._add_credential),
            ("DELETE", r"/_sandbox/credentials/([^/]+)", self._revoke),
            ("PUT", r"/_sandbox/oauth-client", self._set_oauth_client),
            ("GET", r"/_sandbox/settings", self._settings),
            ("PUT", r"/_sandbox/settings", self._change_settings),
            ("GET", r"/_sandbox/faults", self._faults),
            ("PUT", r"/_sandbox/faults", self._set_faults),
            ("DELETE", r"/_sandbox/faults", self._clear_faults),
            ("GET", r"/_sandbox/calls", self._calls),
            ("POST", r"/_sandbox/reset", self._reset),
        )

    def answer(self, request: Request) -> Reply:
        """Route one call; errors are `{"error": {"message"}}`."""
        allowed = []
        for method, path, handle in self._routes:
            match = re.fullmatch(path, request.path)
            if match is None:
                continue
            if method != request.method:
                allowed.append(method)
                continue
            try:
                return handle(request, *match.groups())
            except ControlError as error:
                return _refusal(error.status, str(error))
        if allowed:
            return _refusal(405, f"{request.path} takes {', '.join(allowed)}")
        return _refusal(404, f"{request.path} is no address of the sandbox")

    # What it holds
    def _page(self, request: Request) -> Reply:
        return show_page(self._sandbox, request)

    def _state(self, _: Request) -> Reply:
        sandbox, journal = self._sandbox, self._sandbox.journal
        return json_reply(
            {
                "address": sandbox.address,
                "datacenter": sandbox.world.datacenter,
                "settings": sandbox.settings,
                "accounts": [_account_document(account) for account in sandbox.world.accounts.values()],
                "calls": dict(journal.by_kind),
                "answers": {str(status): count for status, count in sorted(journal.by_status.items())},
                "openCalls": journal.open_calls,
                "maxOpenCalls": journal.max_open_calls,
                "bodyBytes": journal.body_bytes,
                "faults": dict(journal.by_fault),
                "oauthClient": {
                    "clientId": sandbox.oauth.client.client_id,
                    "redirectUris": list(sandbox.oauth.client.redirect_uris),
                },
            }
        )

    def _members(self, _: Request, audience_id: str) -> Reply:
        deleted = self._sandbox.world.deleted.get(audience_id)
        return Reply(content_type="application/x-ndjson", stream=_ndjson(deleted or self._audience(audience_id)))

    def _calls(self, request: Request) -> Reply:
        records = list(self._sandbox.journal.recent)
        if kind := request.query.get("kind"):
            records = [record for record in records if record.kind == kind]
        limit = request.query.get("limit", "")
        if limit.isdigit():
            records = records[-int(limit) :] if int(limit) else []
        return json_reply({"calls": [record.document() for record in records]})

    # Setting it up
    def _add_account(self, request: Request) -> Reply:
        body = _decoded(request, AccountBody)
        if body.id is not None and body.id in self._sandbox.world.accounts:
            raise ControlError(409, f"there is an account {body.id} already")
        if body.api_key is not None and self._sandbox.world.account_of(body.api_key) is not None:
            raise ControlError(409, "another account has this API key")
        return json_reply(_account_document(self._sandbox.add_account(body.name, body.id, body.api_key)), 201)

    def _add_audience(self, request: Request) -> Reply:
        body = _decoded(request, AudienceBody)
        if body.id is not None and self._sandbox.world.audience(body.id) is not None:
            raise ControlError(409, f"there is an audience {body.id} already")
        audience = self._sandbox.add_audience(
            self._account(body.account),
            body.name,
            body.id,
            [] if body.merge_fields is not None else None,
            double_optin=body.double_optin,
            marketing_permissions=body.marketing_permissions,
        )
        for merge_field in body.merge_fields or ():
            if objection := merge_field_objection(audience, merge_field):
                raise ControlError(400, f"merge field {merge_field.tag or merge_field.name}: {': '.join(objection)}")
            audience.add_merge_field(merge_field)
        return json_reply(_audience_document(audience), 201)

    def _delete_audience(self, _: Request, audience_id: str) -> Reply:
        if not self._sandbox.world.delete_audience(audience_id):
            raise ControlError(404, f"there is no audience {audience_id}")
        return Reply(204, content_type="")

    def _add_contacts(self, request: Request, audience_id: str) -> Reply:
        audience = self._audience(audience_id)
        body = _decoded(request, ContactsBody)
        now = int(self._sandbox.clock())
        for contact in body.contacts:
            _put_contact(audience, contact, now)
        audience.revision += 1
        return json_reply(_audience_document(audience), 201)

    def _add_credential(self, request: Request) -> Reply:
        body = _decoded(request, CredentialBody)
        account, world = self._account(body.account), self._sandbox.world
        value = body.value or self._sandbox.new_secret()
        if body.kind == "key":
            value = body.value or f"{value}-{world.datacenter}"
            account.keys.add(value)
        else:
            account.tokens.add(value)
        return json_reply({"account": account.id, "kind": body.kind, "value": value}, 201)

    def _revoke(self, _: Request, credential: str) -> Reply:
        account = self._sandbox.world.account_of(credential)
        if account is None:
            raise ControlError(404, "no account has this key or token")
        account.keys.discard(credential)
        account.tokens.discard(credential)
        return Reply(204, content_type="")

    def _set_oauth_client(self, request: Request) -> Reply:
        client = self._sandbox.oauth.client
        client.redirect_uris = tuple(_decoded(request, OAuthClientBody).redirect_uris)
        return json_reply({"clientId": client.client_id, "redirectUris": list(client.redirect_uris)})

    def _settings(self, _: Request) -> Reply:
        return json_reply(self._sandbox.settings)

    def _change_settings(self, request: Request) -> Reply:
        changes = _decoded(request, dict[str, Any])
        try:
            self._sandbox.settings = self._sandbox.settings.changed(changes)
        except msgspec.ValidationError as error:
            raise ControlError(400, str(error)) from None
        return json_reply(self._sandbox.settings)

    def _faults(self, _: Request) -> Reply:
        return json_reply({"faults": self._sandbox.faults.document()})

    def _set_faults(self, request: Request) -> Reply:
        try:
            self._sandbox.faults.replace(_decoded(request, FaultsBody).faults)
        except FaultError as error:
            raise ControlError(400, str(error)) from None
        return self._faults(request)

    def _clear_faults(self, _: Request) -> Reply:
        self._sandbox.faults.replace([])
        return Reply(204, content_type="")

    def _reset(self, _: Request) -> Reply:
        self._sandbox.reset()
        return Reply(204, content_type="")

    def _audience(self, audience_id: str) -> Audience:
        audience = self._sandbox.world.audience(audience_id)
        if audience is None:
            raise ControlError(404, f"there is no audience {audience_id}")
        return audience

    def _account(self, account_id: str | None) -> Account:
        accounts = self._sandbox.world.accounts
        if account_id is None:
            return next(iter(accounts.values()))
        if account_id not in accounts:
            raise ControlError(404, f"there is no account {account_id}")
        return accounts[account_id]


def _decoded(request: Request, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(request.body or b"{}", type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ControlError(400, str(error)) from None


def _refusal(status: int, message: str) -> Reply:
    return json_reply({"error": {"message": message}}, status)


def _account_document(account: Account) -> dict[str, Any]:
    return {
        "id": account.id,
        "name": account.name,
        "apiKeys": sorted(account.keys),
        "tokens": sorted(account.tokens),
        "openCalls": account.open_calls,
        "maxOpenCalls": account.max_open_calls,
        "calls": dict(account.calls),
        "audiences": [_audience_document(audience) for audience in account.audiences.values()],
    }


def _audience_document(audience: Audience) -> dict[str, Any]:
    counts = audience.count_by_tag()
    return {
        "id": audience.id,
        "name": audience.name,
        "doubleOptin": audience.double_optin,
        "marketingPermissions": audience.marketing_permissions,
        "contacts": len(audience.contacts),
        "byStatus": audience.count_by_status(),
        "forgotten": len(audience.forgotten),
        "tags": [
            {"id": tag.id, "name": tag.name, "contacts": sum(counts[tag.id].values()), "byStatus": counts[tag.id]}
            for tag in audience.tags.values()
        ],
        "mergeFields": list(audience.merge_fields),
        "batchTotals": {
            "created": audience.totals.created,
            "updated": audience.totals.updated,
            "errors": audience.totals.errors,
        },
    }


def _put_contact(audience: Audience, body: ContactBody, now: int) -> None:
    """Put a contact in whatever state is asked for, without Mailchimp's rules about who may be added."""
    email = body.email_address.strip()
    key = subscriber_key(email)
    if body.forgotten:
        audience.forget(key)
        return
    audience.forgotten.discard(key)
    contact = audience.find(key)
    try:
        merge = merged_values(audience, contact.merge if contact else (), body.merge_fields, skip_required=True)
    except RowError as error:
        raise ControlError(400, f"contact {email}: {error.field}: {error.field_message}") from None
    tag_ids = with_tags((), tag_ids_of(audience, body.tags, now))
    if contact is None:
        contact = audience.add(key, email, body.status, merge, tag_ids, now)
    contact.merge = merge
    audience.regroup(contact, body.status, body.compliance, tag_ids)


def _ndjson(audience: Audience) -> Iterator[bytes]:
    """All contacts, one JSON object a line. The list is fixed at the start, the contents are read as it goes."""
    encode = msgspec.json.Encoder().encode
    contacts = list(audience.contacts.values())
    names: dict[Group, list[str]] = {}
    for start in range(0, len(contacts), STREAM_ROWS):
        lines = []
        for contact in contacts[start : start + STREAM_ROWS]:
            group = contact.group
            if group not in names:
                names[group] = audience.names_of(group)
            lines.append(encode(_contact_document(audience, contact, names[group])))
        lines.append(b"")
        yield b"\n".join(lines)


def _contact_document(audience: Audience, contact: Contact, tags: list[str]) -> dict[str, Any]:
    """A contact as the control API shows it; merge fields without a value are left out."""
    merge_fields = zip(audience.merge_fields, contact.merge, strict=False)
    return {
        "email_address": contact.email,
        "status": contact.group.status,
        "merge_fields": {tag: value for tag, value in merge_fields if value != ""},
        "tags": tags,
        "compliance": contact.group.compliance,
    }
