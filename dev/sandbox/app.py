"""The sandbox itself: takes a request, checks it in Mailchimp's order, and answers.

Order of checks for a call of the API: key or token (401), data centre of the key (403), open calls of the account
(429), faults that are set, resource and method (404, 405), body (400), then the latency, then the call is applied.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import re
import secrets
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from dev.sandbox import audiences, members, problems, segments
from dev.sandbox.bodies import (
    decode_batch,
    decode_member,
    decode_member_tags,
    decode_merge_field,
    decode_segment,
    decode_segment_members,
)
from dev.sandbox.calls import Call, CallRecord, Journal
from dev.sandbox.faults import FaultPlan, Strike, afterwards, instead
from dev.sandbox.http import Reply, Request
from dev.sandbox.merge_fields import DEFAULT_FIELDS, MergeFieldBody
from dev.sandbox.oauth import OAuth, OAuthClient
from dev.sandbox.problems import ProblemError
from dev.sandbox.projection import project
from dev.sandbox.settings import Settings
from dev.sandbox.store import Account, Audience, World
from dev.sandbox.subscribe import batch_subscribe

T = TypeVar("T")

logger = logging.getLogger(__name__)

DATACENTER = "us1"
DEFAULT_ACCOUNT = "sandbox"
DEFAULT_KEY = "sandbox-key-us1"
DEFAULT_AUDIENCE = "a1b2c3d4e5"
_KEY_WITH_DATACENTER = re.compile(r".*-(?P<datacenter>us\d+)")


@dataclass(frozen=True, slots=True)
class Opened:
    """A call whose body was decoded: how many members are in it, for latency and journal, and what applies it."""

    apply: Callable[[Call], Reply]
    rows: int = 0


@dataclass(frozen=True, slots=True)
class Route:
    """One operation of the API. `open` takes the body, and raises 400 for one that is not as it should be."""

    method: str
    path: re.Pattern[str]
    kind: str
    open: Callable[[bytes], Opened]


def _route(method: str, path: str, kind: str, handle: Callable[[Call], Reply]) -> Route:
    """A route that does not look at the body."""
    return Route(method, _pattern(path), kind, lambda _: Opened(handle))


def _body_route(
    method: str,
    path: str,
    kind: str,
    decode: Callable[[bytes], T],
    handle: Callable[[Call, T], Reply],
    rows: Callable[[T], int] = lambda _: 0,
) -> Route:
    def opened(raw: bytes) -> Opened:
        body = decode(raw)
        return Opened(lambda call: handle(call, body), rows(body))

    return Route(method, _pattern(path), kind, opened)


def _pattern(path: str) -> re.Pattern[str]:
    return re.compile("/3\\.0" + path.replace("*", "([^/]+)") + "/?")


def _one(_: object) -> int:
    return 1


_LIST = "/lists/*"
_MEMBER = "/lists/*/members/*"
_SEGMENT = "/lists/*/segments/*"
ROUTES = (
    _body_route("POST", _LIST, "batchSubscribe", decode_batch, batch_subscribe, lambda body: len(body.members)),
    _body_route(
        "POST",
        _SEGMENT,
        "segmentMembers",
        decode_segment_members,
        segments.change_segment_members,
        lambda body: len(body.members_to_add or ()) + len(body.members_to_remove or ()),
    ),
    _route("GET", "", "root", audiences.get_root),
    _route("GET", "/ping", "ping", audiences.ping),
    _route("GET", "/lists", "audiences", audiences.list_audiences),
    _route("GET", _LIST, "audience", audiences.get_audience),
    _route("GET", _LIST + "/merge-fields", "mergeFields", audiences.list_merge_fields),
    _body_route("POST", _LIST + "/merge-fields", "mergeFieldAdd", decode_merge_field, audiences.add_merge_field),
    _route("GET", _LIST + "/members", "members", members.list_members),
    _body_route("POST", _LIST + "/members", "memberAdd", decode_member, members.add_member, _one),
    _route("GET", _MEMBER, "member", members.get_member),
    _body_route("PUT", _MEMBER, "memberPut", decode_member, members.put_member, _one),
    _body_route("PATCH", _MEMBER, "memberPatch", decode_member, members.patch_member, _one),
    _route("DELETE", _MEMBER, "memberArchive", members.archive_member),
    _route("POST", _MEMBER + "/actions/delete-permanent", "memberForget", members.forget_member),
    _route("GET", _MEMBER + "/tags", "memberTags", members.list_member_tags),
    _body_route("POST", _MEMBER + "/tags", "memberTagsChange", decode_member_tags, members.change_tags, _one),
    _route("GET", _LIST + "/segments", "segments", segments.list_segments),
    _body_route("POST", _LIST + "/segments", "segmentAdd", decode_segment, segments.add_segment),
    _route("GET", _SEGMENT, "segment", segments.get_segment),
    _body_route("PATCH", _SEGMENT, "segmentPatch", decode_segment, segments.patch_segment),
    _route("DELETE", _SEGMENT, "segmentDelete", segments.delete_segment),
    _route("GET", _SEGMENT + "/members", "segmentMembersList", segments.list_segment_members),
    _route("GET", _LIST + "/tag-search", "tagSearch", segments.search_tags),
)


class Sandbox:
    """All state of a running sandbox, and the answer to every request.

    `clock` gives seconds since 1970, `sleep` waits seconds, `new_secret` makes ids, codes and tokens.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        redirect_uris: tuple[str, ...] = (),
        *,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        new_secret: Callable[[], str] = lambda: secrets.token_hex(16),
    ) -> None:
        self._first_settings = settings or Settings()
        self._redirect_uris = redirect_uris
        self.clock = clock
        self._sleep = sleep
        self.new_secret = new_secret
        self.address = ""
        self.other_routes: Callable[[Request], Reply] | None = None  # control API and pages, set by the entry point
        self.reset()

    def reset(self) -> None:
        """Back to the state after the start: the settings of the flags, one account, one empty audience."""
        self.settings = self._first_settings
        self.world = World(DATACENTER)
        self.journal = Journal()
        self.faults = FaultPlan()
        client = OAuthClient(redirect_uris=self._redirect_uris) if self._redirect_uris else OAuthClient()
        self.oauth = OAuth(self.world, client, self.clock, self.new_secret, self.address)
        account = self.add_account("Sandbox Co", DEFAULT_ACCOUNT, DEFAULT_KEY)
        self.add_audience(account, "Newsletter", DEFAULT_AUDIENCE)

    def listens_at(self, address: str) -> None:
        """Tell the sandbox its own address, which it puts into links and into the OAuth metadata."""
        self.address = self.oauth.address = address

    def add_account(self, name: str, account_id: str | None = None, api_key: str | None = None) -> Account:
        """A new account with one key."""
        account = Account(account_id or self.new_secret()[:8], name, 1_000_001 + len(self.world.accounts))
        account.keys.add(api_key or f"{self.new_secret()}-{self.world.datacenter}")
        self.world.accounts[account.id] = account
        return account

    def add_audience(
        self,
        account: Account,
        name: str,
        audience_id: str | None = None,
        merge_fields: list[MergeFieldBody] | None = None,
        *,
        double_optin: bool = False,
        marketing_permissions: bool = False,
    ) -> Audience:
        """A new audience, with Mailchimp's default merge fields and some typed ones unless others are given."""
        audience = Audience(
            audience_id or self.new_secret()[:10],
            name,
            created=int(self.clock()),
            double_optin=double_optin,
            marketing_permissions=marketing_permissions,
        )
        for body in DEFAULT_FIELDS if merge_fields is None else merge_fields:
            audience.add_merge_field(body)
        account.audiences[audience.id] = audience
        return audience

    async def answer(self, request: Request) -> Reply:
        """The answer to any request that reaches the port."""
        try:
            if request.path == "/3.0" or request.path.startswith("/3.0/"):
                return await self._answer_api(request)
            if request.path.startswith("/oauth2/"):
                return self.oauth.answer(request)
            if self.other_routes is not None:
                return self.other_routes(request)
        except Exception:  # the client must get an answer, and the developer the trace
            logger.exception("sandbox.failed")
            return problems.internal_server_error().reply(str(uuid.uuid4()))
        return problems.not_found().reply(str(uuid.uuid4()))

    async def _answer_api(self, request: Request) -> Reply:
        instance = str(uuid.uuid4())
        route, params, allowed = find_route(request)
        kind = route.kind if route is not None else "unknown"
        try:
            account = self._authenticated(request)
        except ProblemError as problem:
            record = self.journal.begin(None, request, kind, self.clock())
            return self._ended(record, problem.reply(instance), instance)
        self._opened(account)
        record = self.journal.begin(account, request, kind, self.clock())
        account.calls[kind] += 1
        try:
            # Limit first: Mailchimp's throttle stands in front of everything else.
            if account.open_calls > self.settings.max_connections:
                raise problems.too_many_requests(self.settings.max_connections)
            strike = self.faults.strike(request)
            if strike.fault is not None:
                record.fault = strike.fault.label
            self.journal.by_fault.update(strike.labels)
            reply = instead(strike, instance)
            if reply is None:
                if route is None:
                    raise problems.method_not_allowed(allowed) if allowed else problems.not_found()
                reply = await self._applied(request, account, route, params, strike, record, instance)
        except ProblemError as problem:
            reply = problem.reply(instance)
        finally:
            account.open_calls -= 1
            self.journal.open_calls -= 1
        return self._ended(record, reply, instance)

    async def _applied(
        self,
        request: Request,
        account: Account,
        route: Route,
        params: tuple[str, ...],
        strike: Strike,
        record: CallRecord,
        instance: str,
    ) -> Reply:
        """Decode, wait, apply. A call goes on to its end, whether or not its client is still there."""
        opened = route.open(request.body)
        record.rows = opened.rows
        fault = strike.fault
        seconds = self.settings.latency_seconds(record.rows)
        if fault is not None and fault.action == "hang":
            seconds += fault.ms / 1000
        if seconds > 0:
            await self._sleep(seconds)
        call = Call(
            request=request,
            account=account,
            settings=self.settings,
            api_root=f"{self.address}/3.0",
            now=int(self.clock()),
            params=params,
            tampering=strike.tampering,
        )
        reply = opened.apply(call)
        if request.method == "GET" and ("fields" in request.query or "exclude_fields" in request.query):
            reply.body = project(reply.body, request.query)
        if fault is not None and fault.action == "noReply":
            await self._sleep(fault.ms / 1000)
        return afterwards(fault, reply, instance)

    def _opened(self, account: Account) -> None:
        account.open_calls += 1
        account.max_open_calls = max(account.max_open_calls, account.open_calls)
        self.journal.open_calls += 1
        self.journal.max_open_calls = max(self.journal.max_open_calls, self.journal.open_calls)

    def _ended(self, record: CallRecord, reply: Reply, instance: str) -> Reply:
        self.journal.end(record, reply, self.clock())
        reply.headers = (*reply.headers, ("X-Request-Id", instance))
        return reply

    def _authenticated(self, request: Request) -> Account:
        credential = credential_of(request.headers.get("authorization", ""))
        if not credential:
            raise problems.api_key_missing()
        match = _KEY_WITH_DATACENTER.fullmatch(credential)
        if match is not None and match["datacenter"] != self.world.datacenter:
            raise problems.wrong_datacenter(match["datacenter"])
        account = self.world.account_of(credential)
        if account is None:
            raise problems.api_key_invalid()
        return account


def find_route(request: Request) -> tuple[Route | None, tuple[str, ...], list[str]]:
    """The operation for a request, the variable parts of its path, and the methods that this path takes."""
    allowed = []
    for route in ROUTES:
        match = route.path.fullmatch(request.path)
        if match is not None:
            if route.method == request.method:
                return route, match.groups(), []
            allowed.append(route.method)
    return None, (), allowed


def credential_of(header: str) -> str:
    """The key or token of an Authorization header: `Bearer`, `OAuth`, or `Basic` with any user name."""
    scheme, _, value = header.partition(" ")
    value = value.strip()
    if scheme.lower() in ("bearer", "oauth"):
        return value
    if scheme.lower() == "basic":
        try:
            decoded = base64.b64decode(value, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            return ""
        return decoded.partition(":")[2]
    return ""
