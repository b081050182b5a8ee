"""Faults on demand: what the sandbox does wrong, to which calls, and how often."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec

from dev.sandbox.calls import Tampering
from dev.sandbox.http import Delivery, Reply, Request
from dev.sandbox.problems import NOT_VALIDATED, PRESETS, ProblemError, invalid_resource

Action = Literal[
    "problem",  # an error document: `preset`, or `status`, `title`, `detail`; with `applied` after the call's work
    "bare",  # a status without a document: empty or HTML, as gateways and throttles answer; `applied` as above
    "rowError",  # 400 for the whole call that names row `row`, or the first row that `emailContains` finds
    "memberError",  # 200, but the members that `emailContains` finds are refused with `detail`
    "resetBefore",  # the connection is reset, nothing is applied
    "resetAfter",  # everything is applied, then the connection is reset
    "noReply",  # everything is applied, no answer for `ms`, then the connection closes
    "hang",  # the call takes `ms` longer
    "truncate",  # the JSON of the reply breaks off; with `closeEarly` the connection does
    "malformed",  # everything is applied, the reply is a 200 with the text `body`
    "skipRows",  # the last `rows` rows are neither applied nor reported
    "hideRows",  # everything is applied, but `rows` members are missing in the report
]
Positive = Annotated[int, msgspec.Meta(ge=1)]


class Match(msgspec.Struct, rename="camel", forbid_unknown_fields=True, frozen=True):
    """Which calls a fault hits; what is left out does not matter.

    `path_pattern` is a regular expression, searched in the path. `every_nth` and `first_n` count the calls that fit
    the other conditions. `email_contains` looks at the addresses in the body.
    """

    method: str | None = None
    path_pattern: str | None = None
    every_nth: Positive | None = None
    first_n: Positive | None = None
    email_contains: str | None = None


class Fault(msgspec.Struct, rename="camel", forbid_unknown_fields=True, frozen=True):
    """One fault. `count` is how often it strikes; without it, until it is cleared. Times are in milliseconds.

    `name` is what the journal and the counts call it; without it, they take the action.
    """

    action: Action
    name: str | None = None
    match: Match = Match()
    count: Positive | None = None
    preset: str | None = None
    status: Annotated[int, msgspec.Meta(ge=400, le=599)] | None = None
    title: str | None = None
    detail: str | None = None
    row: Annotated[int, msgspec.Meta(ge=0)] | None = None
    field: str = "email_address"
    rows: Positive = 1
    ms: Annotated[float, msgspec.Meta(ge=0)] = 120_000
    close_early: bool = False
    applied: bool = False
    body: str = "<html><body>We'll be back soon.</body></html>"

    @property
    def label(self) -> str:
        """What the journal and the counts call it."""
        return self.name or self.action


class FaultError(Exception):
    """A list of faults makes no sense; the text says which entry and why."""


class _Addresses(msgspec.Struct):
    """The places of a body that hold addresses."""

    members: list[dict[str, Any]] = msgspec.field(default_factory=list)
    members_to_add: list[str] = msgspec.field(default_factory=list)
    members_to_remove: list[str] = msgspec.field(default_factory=list)
    email_address: str = ""


@dataclass(slots=True)
class _Armed:
    fault: Fault
    pattern: re.Pattern[str] | None
    seen: int = 0
    struck: int = 0


@dataclass(frozen=True, slots=True)
class Strike:
    """What hits one call: at most one fault, and any number of refused members."""

    fault: Fault | None
    tampering: Tampering | None
    row: int | None = None  # the first row whose address `email_contains` found
    labels: tuple[str, ...] = ()  # of all that struck


NO_STRIKE = Strike(None, None)


class FaultPlan:
    """The faults that are set, and how often each has struck."""

    def __init__(self) -> None:
        self._armed: list[_Armed] = []

    def replace(self, faults: list[Fault]) -> None:
        """Set these faults instead of all others. Raises `FaultError`."""
        armed = []
        for number, fault in enumerate(faults):
            if fault.action == "problem" and fault.preset not in {None, *PRESETS}:
                raise FaultError(f"faults[{number}].preset must be one of {', '.join(PRESETS)}")
            if fault.action == "memberError" and not fault.match.email_contains:
                raise FaultError(f"faults[{number}].match.emailContains is needed for memberError")
            if fault.applied and fault.action not in {"problem", "bare"}:
                raise FaultError(f"faults[{number}].applied belongs to problem and bare")
            try:
                pattern = re.compile(fault.match.path_pattern) if fault.match.path_pattern else None
            except re.error as error:
                raise FaultError(f"faults[{number}].match.pathPattern is no regular expression: {error}") from None
            armed.append(_Armed(fault, pattern))
        self._armed = armed

    def document(self) -> list[dict[str, Any]]:
        """The faults with the number of calls that fitted (`seen`) and that were hit (`struck`)."""
        return [
            {"fault": msgspec.to_builtins(armed.fault), "seen": armed.seen, "struck": armed.struck}
            for armed in self._armed
        ]

    def strike(self, request: Request) -> Strike:
        """What hits this call. The first fault that fits wins; refused members come on top."""
        if not self._armed:
            return NO_STRIKE
        addresses: list[str] | None = None
        chosen: Fault | None = None
        row: int | None = None
        refused: list[tuple[str, str]] = []
        labels: list[str] = []
        for armed in self._armed:
            fault = armed.fault
            if not _fits(armed, request):
                continue
            found = None
            if part := (fault.match.email_contains or "").lower():
                addresses = _addresses(request.body) if addresses is None else addresses
                found = next((number for number, address in enumerate(addresses) if part in address), None)
                if found is None:
                    continue
            armed.seen += 1
            if not _due(armed) or (chosen is not None and fault.action != "memberError"):
                continue
            armed.struck += 1
            labels.append(fault.label)
            if fault.action == "memberError":
                refused.append((part, fault.detail or TOO_MANY_SIGN_UPS))
            else:
                chosen, row = fault, found
        return Strike(chosen, _tampering(chosen, refused), row, tuple(labels))


TOO_MANY_SIGN_UPS = "has signed up to a lot of lists very recently; we're not allowing more signups for now"


def _fits(armed: _Armed, request: Request) -> bool:
    method = armed.fault.match.method
    if method is not None and method.upper() != request.method:
        return False
    return armed.pattern is None or armed.pattern.search(request.path) is not None


def _due(armed: _Armed) -> bool:
    fault, match = armed.fault, armed.fault.match
    if fault.count is not None and armed.struck >= fault.count:
        return False
    if match.first_n is not None and armed.seen > match.first_n:
        return False
    return match.every_nth is None or armed.seen % match.every_nth == 0


def _addresses(body: bytes) -> list[str]:
    try:
        found = msgspec.json.decode(body, type=_Addresses)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return []
    rows = [str(row.get("email_address") or "") for row in found.members]
    single = [found.email_address] if found.email_address else []
    return [address.lower() for address in (*rows, *found.members_to_add, *found.members_to_remove, *single)]


def _tampering(fault: Fault | None, refused: list[tuple[str, str]]) -> Tampering | None:
    skip = fault.rows if fault is not None and fault.action == "skipRows" else 0
    hide = fault.rows if fault is not None and fault.action == "hideRows" else 0
    return Tampering(refused, skip, hide) if refused or skip or hide else None


def instead(strike: Strike, instance: str) -> Reply | None:
    """The answer of a fault that keeps a call from being applied, or None."""
    fault = strike.fault
    if fault is None or fault.applied:
        return None
    if fault.action in ("problem", "bare"):
        return _error_reply(fault, instance)
    if fault.action == "rowError":
        number = fault.row if fault.row is not None else strike.row or 0
        error = {"field": f"members.item:{number}.{fault.field}", "message": fault.detail or "Invalid value."}
        return invalid_resource(NOT_VALIDATED, [error]).reply(instance)
    if fault.action == "resetBefore":
        return Reply(0, delivery=Delivery.RESET)
    return None


def afterwards(fault: Fault | None, reply: Reply, instance: str) -> Reply:
    """The reply of an applied call as the fault leaves it."""
    if fault is None:
        return reply
    if fault.applied:
        return _error_reply(fault, instance)
    if fault.action == "malformed":
        return Reply(body=fault.body.encode())
    if fault.action in ("resetAfter", "noReply"):
        return Reply(0, delivery=Delivery.RESET)
    if fault.action == "truncate":
        if fault.close_early:
            reply.delivery = Delivery.BREAK_OFF
        else:
            reply.body = reply.body[: len(reply.body) // 2]
    return reply


def _error_reply(fault: Fault, instance: str) -> Reply:
    return bare_reply(fault.status or 503) if fault.action == "bare" else _problem(fault).reply(instance)


def _problem(fault: Fault) -> ProblemError:
    if fault.preset is not None:
        problem = PRESETS[fault.preset]()
        problem.detail = fault.detail or problem.detail
        return problem
    return ProblemError(
        fault.status or 500, fault.title or "Internal Server Error", fault.detail or "An unexpected error has occurred."
    )


_AKAMAI = (
    "<HTML><HEAD>\n<TITLE>Access Denied</TITLE>\n</HEAD><BODY>\n<H1>Access Denied</H1>\n \n"
    "You don't have permission to access this resource on this server.<P>\n"
    "Reference&#32;&#35;18&#46;5c1e1602&#46;1700000000&#46;0\n</BODY>\n</HTML>\n"
)
_GATEWAY = (
    "<html>\r\n<head><title>{status} {name}</title></head>\r\n<body>\r\n<center><h1>{status} {name}</h1></center>\r\n"
    "<hr><center>openresty</center>\r\n</body>\r\n</html>\r\n"
)
_GATEWAY_NAMES = {502: "Bad Gateway", 504: "Gateway Time-out"}


def bare_reply(status: int) -> Reply:
    """A status without an error document: HTML for 403, 502 and 504, nothing for the others."""
    if status == 403:
        return Reply(status, _AKAMAI.encode(), "text/html")
    if status in _GATEWAY_NAMES:
        return Reply(status, _GATEWAY.format(status=status, name=_GATEWAY_NAMES[status]).encode(), "text/html")
    return Reply(status, content_type="")
