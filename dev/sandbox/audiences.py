"""The account, its audiences and their merge fields: `/`, `/ping`, `/lists`, `/lists/{list_id}/merge-fields`."""

from __future__ import annotations

import re
from typing import Any

from dev.sandbox.calls import Call
from dev.sandbox.http import Reply, json_reply
from dev.sandbox.merge_fields import TYPES, MergeFieldBody
from dev.sandbox.problems import NOT_VALIDATED, bad_request, invalid_resource
from dev.sandbox.replies import link, shown_time
from dev.sandbox.store import Audience

MAX_MERGE_FIELDS = 30
_TAG = re.compile(r"[A-Z0-9_]{1,10}")
_SUB_RESOURCES = (
    ("abuse-reports", "Abuse"),
    ("activity", "Activity"),
    ("clients", "Clients"),
    ("growth-history", "Growth"),
    ("interest-categories", "InterestCategories"),
    ("members", "Members"),
    ("merge-fields", "MergeFields"),
    ("segments", "Segments"),
    ("webhooks", "Webhooks"),
    ("signup-forms", "SignupForms"),
    ("locations", "Locations"),
)


def ping(_: Call) -> Reply:
    """`GET /ping`."""
    return json_reply({"health_status": "Everything's Chimpy!"})


def get_root(call: Call) -> Reply:
    """`GET /`: the account. `total_subscribers` counts every contact that Mailchimp charges for."""
    account = call.account
    counts = [audience.count_by_status() for audience in account.audiences.values()]
    charged = sum(sum(count for status, count in by.items() if status not in ("archived", "cleaned")) for by in counts)
    return json_reply(
        {
            "account_id": account.id,
            "login_id": str(account.user_id),
            "account_name": account.name,
            "email": f"owner-{account.id}@sandbox.example",
            "first_name": "Sandbox",
            "last_name": "Owner",
            "username": account.name,
            "avatar_url": "",
            "role": "owner",
            "member_since": "2020-08-12T16:21:04+00:00",
            "pricing_plan_type": "monthly",
            "first_payment": "",
            "account_timezone": "Europe/London",
            "account_industry": "",
            "contact": dict.fromkeys(("company", "addr1", "addr2", "city", "state", "zip", "country"), ""),
            "pro_enabled": False,
            "last_login": shown_time(call.now),
            "total_subscribers": charged,
            "industry_stats": {"open_rate": 0, "bounce_rate": 0, "click_rate": 0},
            "_links": [
                link("self", call.api_root, "GET", "Definitions/Root/Response"),
                link("lists", f"{call.api_root}/lists", "GET", "Definitions/Lists/CollectionResponse"),
            ],
        }
    )


def list_audiences(call: Call) -> Reply:
    """`GET /lists`, in pages."""
    offset, count = call.page()
    audiences = list(call.account.audiences.values())
    kind = "Definitions/Lists"
    return json_reply(
        {
            "lists": [_document(call, audience) for audience in audiences[offset : offset + count]],
            "total_items": len(audiences),
            "constraints": {"may_create": False, "max_instances": 5, "current_total_instances": len(audiences)},
            "_links": [link("self", f"{call.api_root}/lists", "GET", f"{kind}/CollectionResponse")],
        }
    )


def get_audience(call: Call) -> Reply:
    """`GET /lists/{list_id}`."""
    return json_reply(_document(call, call.audience))


def _document(call: Call, audience: Audience) -> dict[str, Any]:
    counts = audience.count_by_status()
    zero = ("campaign_count", "avg_sub_rate", "avg_unsub_rate", "target_sub_rate", "open_rate", "click_rate")
    return {
        "id": audience.id,
        "web_id": int.from_bytes(audience.id.encode()[:3], "big"),
        "name": audience.name,
        "permission_reminder": "You signed up in the sandbox.",
        "use_archive_bar": True,
        "campaign_defaults": {
            "from_name": "Sandbox",
            "from_email": f"news@{audience.id}.example",
            "subject": "",
            "language": "en",
        },
        "notify_on_subscribe": "",
        "notify_on_unsubscribe": "",
        "date_created": shown_time(audience.created),
        "list_rating": 0,
        "email_type_option": False,
        "subscribe_url_short": "http://eepurl.com/xxxxxx",
        "subscribe_url_long": f"https://example.us1.list-manage.com/subscribe?u=0&id={audience.id}",
        "beamer_address": "us1-0000000000-0000000000@inbound.mailchimp.com",
        "visibility": "prv",
        "double_optin": audience.double_optin,
        "has_welcome": False,
        "marketing_permissions": audience.marketing_permissions,
        "modules": [],
        "stats": {
            "member_count": counts.get("subscribed", 0),
            "unsubscribe_count": counts.get("unsubscribed", 0),
            "cleaned_count": counts.get("cleaned", 0),
            "member_count_since_send": counts.get("subscribed", 0),
            "unsubscribe_count_since_send": counts.get("unsubscribed", 0),
            "cleaned_count_since_send": counts.get("cleaned", 0),
            **dict.fromkeys(zero, 0),
            "campaign_last_sent": "",
            "merge_field_count": len(audience.merge_fields),
            "last_sub_date": "",
            "last_unsub_date": "",
        },
        "_links": _audience_links(call, audience),
    }


def _audience_links(call: Call, audience: Audience) -> list[dict[str, str]]:
    parent, kind = f"{call.api_root}/lists", "Definitions/Lists"
    me = f"{parent}/{audience.id}"
    links = [
        link("self", me, "GET", f"{kind}/Response"),
        link("parent", parent, "GET", f"{kind}/CollectionResponse", "Paths/Lists/Collection"),
        link("update", me, "PATCH", f"{kind}/Response", f"{kind}/PATCH"),
        link("batch-sub-unsub-members", me, "POST", f"{kind}/BatchPOST-Response", f"{kind}/BatchPOST"),
        link("delete", me, "DELETE"),
    ]
    return links + [
        link(name, f"{me}/{name}", "GET", f"{kind}/{schema}/CollectionResponse", f"Paths/Lists/{schema}/Collection")
        for name, schema in _SUB_RESOURCES
    ]


def list_merge_fields(call: Call) -> Reply:
    """`GET …/merge-fields`, in pages, ordered by tag as recorded."""
    offset, count = call.page()
    audience = call.audience
    fields = sorted(audience.merge_fields.values(), key=lambda merge_field: merge_field.tag)
    wanted_type = call.request.query.get("type")
    if wanted_type is not None:
        fields = [merge_field for merge_field in fields if merge_field.type == wanted_type]
    href = f"{call.api_root}/lists/{audience.id}/merge-fields"
    return json_reply(
        {
            "merge_fields": [merge_field.document(audience.id) for merge_field in fields[offset : offset + count]],
            "list_id": audience.id,
            "total_items": len(fields),
            "merge_field_limit": MAX_MERGE_FIELDS,
            "_links": [link("self", href, "GET", "Definitions/Lists/MergeFields/CollectionResponse")],
        }
    )


def add_merge_field(call: Call, body: MergeFieldBody) -> Reply:
    """`POST …/merge-fields`."""
    audience = call.audience
    problem = merge_field_objection(audience, body)
    if problem is not None:
        field, sentence = problem
        raise invalid_resource(NOT_VALIDATED, [{"field": field, "message": sentence}])
    if len(audience.merge_fields) >= MAX_MERGE_FIELDS:
        raise bad_request(f"Your audience already has {MAX_MERGE_FIELDS} merge fields, which is the limit.")
    return json_reply(audience.add_merge_field(body).document(audience.id))


def merge_field_objection(audience: Audience, body: MergeFieldBody) -> tuple[str, str] | None:
    """What speaks against a new merge field: the property and a sentence."""
    if body.type not in TYPES:
        return "type", f"Data presented is not one of the accepted values: {', '.join(TYPES)}."
    if body.tag is not None and not _TAG.fullmatch(body.tag):
        return "tag", "A merge tag has up to ten upper-case letters, digits and underscores."
    if body.tag in audience.merge_fields:
        return "tag", f'A Merge Field with the tag "{body.tag}" already exists for this list.'
    if body.type in ("dropdown", "radio") and not body.options.get("choices"):
        return "options.choices", "Please provide at least one choice."
    return None
