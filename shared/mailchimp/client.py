"""The calls to Mailchimp's Marketing API 3.0 that an export needs, one method each.

Every method makes its calls once and returns, or raises one of `errors`: waiting, retrying and splitting belong to
the caller, who knows how many connections are open. (Mailchimp's own SDK is not used: it returns an error reply with
an empty body as success.)
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec
import requests

from shared.mailchimp import replies
from shared.mailchimp.api_root import require_token
from shared.mailchimp.errors import (
    AudienceNotFound,
    Problem,
    ReplyUnusable,
    TagNameRefused,
    TagNotFound,
)
from shared.mailchimp.problems import MAX_ROWS, Call, error_for, read_problem
from shared.mailchimp.replies import Account, Audience, MergeField, SubscribeReply, Tag, TagReply
from shared.mailchimp.transport import Reply, Transport

_PAGE = 1000  # the most that one page may hold; the API's own default is 10
_MAX_PAGES = 1000
_MAX_READINGS = 4
_AUDIENCE_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_AUDIENCE_FIELDS = ("id", "name", "stats.member_count", "double_optin", "marketing_permissions", "date_created")

_Entry = TypeVar("_Entry")


class MailchimpClient:
    """One Mailchimp user's access to one account. Safe to share between threads; counts no connections itself.

    api_root: checked by `api_root.validate_api_root` beforehand, without /3.0. token: an OAuth token or an API key.
    Every method may raise Unavailable (pause), SignInRefused, AccessForbidden, AccountRestricted (stop) and
    RequestInvalid (defect); methods with an audience_id also AudienceNotFound. See `errors`. Raises ApiRootRefused
    and ApiKeyMalformed.
    """

    def __init__(
        self,
        api_root: str,
        token: str,
        *,
        session: requests.Session | None = None,
        connect_timeout_s: float = 10,
        read_timeout_s: float = 130,  # Mailchimp gives up after 120 s
        utc_now: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._token = require_token(token)
        self._utc_now = utc_now
        self._transport = Transport(
            api_root,
            session=session,
            connect_timeout_s=connect_timeout_s,
            read_timeout_s=read_timeout_s,
            monotonic=monotonic,
        )

    def __repr__(self) -> str:
        return f"MailchimpClient({self._transport.root!r})"

    def close(self) -> None:
        """Closes kept-alive connections."""
        self._transport.close()

    # --- The account and its audiences ---

    def ping(self) -> None:
        """Returns if Mailchimp answers and accepts the sign-in (GET /ping)."""
        self._get("/ping", Call("a ping"))

    def account(self) -> Account:
        """The account and the role of the user who signed in (GET /)."""
        fields = "account_id,account_name,role,total_subscribers,pricing_plan_type,login_id"
        return replies.read_account(self._get("/", Call("reading the account"), {"fields": fields}))

    def audiences(self) -> list[Audience]:
        """All audiences of the account, in Mailchimp's order (GET /lists)."""
        return self._pages("/lists", Call("reading the audiences"), "lists", _AUDIENCE_FIELDS, replies.read_audience)

    def audience(self, audience_id: str) -> Audience:
        """One audience (GET /lists/{id}). Raises AudienceNotFound."""
        path, call = self._of_audience(audience_id, "", "reading the audience")
        audience = replies.read_audience(self._get(path, call, {"fields": ",".join(_AUDIENCE_FIELDS)}))
        if audience is None:
            raise ReplyUnusable("Mailchimp's answer while reading the audience names no audience.")
        return audience

    def merge_fields(self, audience_id: str) -> list[MergeField]:
        """All merge fields of an audience (GET /lists/{id}/merge-fields)."""
        path, call = self._of_audience(audience_id, "/merge-fields", "reading the merge fields")
        fields = ("tag", "name", "type", "required", "default_value", "options")
        return self._pages(path, call, "merge_fields", fields, replies.read_merge_field)

    # --- Tags, which the API keeps as static segments ---

    def tags(self, audience_id: str) -> list[Tag]:
        """All tags of an audience (GET /lists/{id}/segments?type=static)."""
        path, call = self._of_audience(audience_id, "/segments", "reading the tags")
        fields = ("id", "name", "member_count", "type")
        return self._pages(path, call, "segments", fields, replies.read_tag, {"type": "static"})

    def find_tag(self, audience_id: str, name: str) -> Tag | None:
        """The tag of that name, whatever its case, as Mailchimp compares (GET /lists/{id}/tag-search); without
        member_count.
        """
        _require_tag_name(name)
        path, call = self._of_audience(audience_id, "/tag-search", "looking for a tag")
        reply = self._get(path, call, {"name": name})
        found = [tag for tag in map(replies.read_tag, _entries(reply, "tags", call)) if tag]
        match = _same_name(found, name)
        if match is None and len(found) < replies.count(reply.get("total_items")):
            match = _same_name(
                self.tags(audience_id), name
            )  # the search goes by prefix and showed only some of its hits
        return match

    def create_tag(self, audience_id: str, name: str) -> Tag:
        """Creates a tag without members and returns it, or returns the one that has this name already (POST
        /lists/{id}/segments).

        Raises TagNameRefused. After Unavailable, ask for `find_or_create_tag` again: the tag may exist.
        """
        _require_tag_name(name)
        path, call = self._of_audience(audience_id, "/segments", "creating a tag")
        body = msgspec.json.encode({"name": name, "static_segment": []})
        reply = self._send("POST", path, call, body=body)
        if reply.status == 400:
            # "Sorry, that tag already exists.", but in which language? So look instead of comparing words.
            existing = self.find_tag(audience_id, name)
            if existing is None:
                raise TagNameRefused(name, status=reply.status, problem=read_problem(reply.body) or Problem())
            return existing
        tag = replies.read_tag(self._object(reply, call))
        if tag is None:
            raise ReplyUnusable("Mailchimp's answer while creating a tag names no tag.")
        return tag

    def find_or_create_tag(self, audience_id: str, name: str) -> Tag:
        """The tag of that name, created if there is none. Raises TagNameRefused."""
        return self.find_tag(audience_id, name) or self.create_tag(audience_id, name)

    def tag_members(self, audience_id: str, tag_id: int, addresses: Sequence[str]) -> TagReply:
        """Sets a tag on up to 500 members (POST /lists/{id}/segments/{tag_id}); strangers to the audience are left
        out silently.

        Raises BatchRefused, TagNotFound; ValueError for more than 500 addresses.
        """
        return self._change_tag(audience_id, tag_id, "members_to_add", addresses)

    def untag_members(self, audience_id: str, tag_id: int, addresses: Sequence[str]) -> TagReply:
        """Takes a tag off up to 500 members, who stay in the audience. Raises like `tag_members`."""
        return self._change_tag(audience_id, tag_id, "members_to_remove", addresses)

    # --- Members ---

    def archived(self, audience_id: str) -> list[str]:
        """Addresses of all archived contacts (GET /lists/{id}/members?status=archived).

        The batch call would bring them back as subscribed.
        """
        path, call = self._of_audience(audience_id, "/members", "reading the archived contacts")
        return self._pages(path, call, "members", ("email_address",), replies.read_address, {"status": "archived"})

    def subscribe(self, audience_id: str, body: bytes) -> SubscribeReply:
        """Sends one batch of up to 500 members (POST /lists/{id}?skip_duplicate_check=true).

        body: the finished JSON, {"members": […], "update_existing": true}; it is sent as it is.
        Check the reply with `SubscribeReply.check` before counting it. Raises BatchRefused.
        """
        path, call = self._of_audience(audience_id, "", "sending members", rows=True)
        reply = self._send("POST", path, call, {"skip_duplicate_check": "true"}, body)
        self._require_success(reply, call)
        return replies.read_subscribe(reply.body)

    # --- How ---

    def _change_tag(self, audience_id: str, tag_id: int, change: str, addresses: Sequence[str]) -> TagReply:
        if len(addresses) > MAX_ROWS:
            raise ValueError(f"{len(addresses)} addresses in one call; Mailchimp takes {MAX_ROWS}")
        path, call = self._of_audience(audience_id, f"/segments/{int(tag_id)}", "tagging members", rows=True)
        reply = self._send("POST", path, call, body=msgspec.json.encode({change: list(addresses)}))
        try:
            self._require_success(reply, call)
        except AudienceNotFound:
            self.audience(audience_id)  # the same 404 for the tag as for the audience: ask which one is gone
        else:
            return replies.read_tag_reply(reply.body)
        raise TagNotFound(audience_id, tag_id)

    def _of_audience(self, audience_id: str, rest: str, doing: str, *, rows: bool = False) -> tuple[str, Call]:
        """The path below an audience. An id that could leave that path ("..") is no audience."""
        if not _AUDIENCE_ID.fullmatch(audience_id):
            raise AudienceNotFound(audience_id)
        return f"/lists/{quote(audience_id, safe='')}{rest}", Call(doing, audience_id, rows)

    def _pages(
        self,
        path: str,
        call: Call,
        key: str,
        fields: Sequence[str],
        read: Callable[[dict[str, Any]], _Entry | None],
        query: dict[str, str] | None = None,
    ) -> list[_Entry]:
        """All entries under `key`, page by page until a page is empty or the stated total is reached.

        Where the total gets smaller on the way, somebody took an entry out, and what followed it has moved up, perhaps
        past the place that was reached: all pages are read once more, a few times at most. So nobody is missing who was
        there all the time.
        """
        wanted = ",".join([*(f"{key}.{field}" for field in fields), "total_items"])
        found: dict[_Entry, None] = {}  # a page shifts when an entry is added or deleted meanwhile: no entry twice
        for _ in range(_MAX_READINGS):
            offset = total = 0
            shrank = False
            for _ in range(_MAX_PAGES):
                page_query = {**(query or {}), "count": str(_PAGE), "offset": str(offset), "fields": wanted}
                reply = self._get(path, call, page_query)
                page = _entries(reply, key, call)
                found |= dict.fromkeys(entry for entry in map(read, page) if entry is not None)
                offset += len(page)
                before, total = total, replies.count(reply.get("total_items"), default=max(total, offset + 1))
                shrank = shrank or total < before
                if not page or offset >= total:
                    break
            else:
                raise ReplyUnusable(f"Mailchimp's answer while {call.doing} has no end.")
            if not shrank:
                break
        return list(found)

    def _get(self, path: str, call: Call, query: dict[str, str] | None = None) -> dict[str, Any]:
        return self._object(self._send("GET", path, call, query), call)

    def _object(self, reply: Reply, call: Call) -> dict[str, Any]:
        self._require_success(reply, call)
        return replies.read_object(reply.body, call.doing)

    def _require_success(self, reply: Reply, call: Call) -> None:
        if not 200 <= reply.status < 300:
            raise error_for(reply, call, self._utc_now)

    def _send(
        self, method: str, path: str, call: Call, query: dict[str, str] | None = None, body: bytes | None = None
    ) -> Reply:
        headers = {"Authorization": f"Bearer {self._token}", "Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        reply = self._transport.send(method, "/3.0" + path, doing=call.doing, headers=headers, query=query, body=body)
        if 200 <= reply.status < 300:
            return reply
        # An error that repeats the request's headers must not carry the token into a message.
        return Reply(reply.status, reply.retry_after, reply.body.replace(self._token.encode(), b"<token>"))


def _entries(reply: dict[str, Any], key: str, call: Call) -> list[dict[str, Any]]:
    entries = reply.get(key)
    if not isinstance(entries, list):
        raise ReplyUnusable(f"Mailchimp's answer while {call.doing} holds no {key}.")
    return [entry for entry in entries if isinstance(entry, dict)]


def _require_tag_name(name: str) -> None:
    """Raises TagNameRefused for a name that no request can carry: blank, or with half a character (a surrogate)."""
    if not name.strip() or any("\ud800" <= char <= "\udfff" for char in name):
        raise TagNameRefused(name)


def _same_name(tags: Sequence[Tag], name: str) -> Tag | None:
    wanted = name.strip().casefold()
    return next((tag for tag in tags if tag.name.strip().casefold() == wanted), None)
