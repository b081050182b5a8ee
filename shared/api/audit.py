"""The route of the audit log: who did what, when, and what it changed."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import StringConstraints

from shared.api.auth import Administrator
from shared.api.paging import DEFAULT_TOP, After, Page, Top, decode, next_link, not_a_cursor
from shared.api.parameters import ID_PATTERN, From, To
from shared.api.services import Services
from shared.audit.log import RECORD_ID_PATTERN, AuditQuery
from shared.audit.model import AuditRecord, TargetType

_RECORD_ID = re.compile(RECORD_ID_PATTERN)


class AuditList(Page):
    """Records of the audit log, the newest first."""

    value: list[AuditRecord]
    """The newest first."""


Action = Annotated[str, StringConstraints(pattern=r"^[A-Za-z.]{1,100}$")]


def routes(services: Services) -> APIRouter:
    """``/api/audit``."""
    router = APIRouter(prefix="/api", tags=["audit"])

    @router.get("/audit")
    def list_audit_records(
        _: Administrator,
        request: Request,
        since: From = None,
        until: To = None,
        action: Annotated[
            list[Action] | None, Query(max_length=50, description="May be given several times: any of them.")
        ] = None,
        target_type: Annotated[
            TargetType | None, Query(alias="targetType", description="What it was done to: the kind.")
        ] = None,
        target_id: Annotated[
            str | None, Query(alias="targetId", pattern=ID_PATTERN, description="What it was done to: its ID.")
        ] = None,
        who: Annotated[
            str | None, Query(min_length=1, max_length=200, description="The ID or the name of a person.")
        ] = None,
        top: Top = DEFAULT_TOP,
        after: After = None,
    ) -> AuditList:
        """Every change and every run: who, what, when, before and after; the newest first.

        A page that looks for something rare may be short, even empty: go on while there is a nextLink.
        """
        query = AuditQuery(
            since=since,
            until=until,
            actions=frozenset(action or ()),
            target_type=target_type,
            target_id=target_id,
            who=who,
        )
        page = services.audit.newest(query, after=_record_id(after), top=top)
        following = (page.next_after,) if page.next_after is not None else None
        return AuditList(value=page.records, next_link=next_link(following, top, request, services.settings.public_url))

    return router


def _record_id(after: str | None) -> str | None:
    key = decode(after, 1)
    if key is not None and not _RECORD_ID.fullmatch(key[0]):
        raise not_a_cursor()
    return key[0] if key is not None else None
