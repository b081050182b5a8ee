"""Examples of bodies for the OpenAPI document, by schema; by operation where one schema answers several calls.

Lists of a schema that is here need no entry. tests/unit/test_openapi.py checks each against its schema, and that none
is missing.
"""

from __future__ import annotations

from typing import Any, Final

from shared.api.pages import page

_ADA: Final = {"id": "7d1f6c52-3a0e-4b8e-9c41-5b2f0e7a9d13", "name": "ada@contoso.com"}
_GRACE: Final = {"id": "c2b4e8a0-91d7-4f3e-8a66-0d5e3c7b1f42", "name": "grace@contoso.com"}
_DESTINATION_ID: Final = "5f0c2a9be1d47836"
_EXPORT_ID: Final = "20261122T060000214816Z-c41d07b6e53f9a28"
_RESUMING_ID: Final = "20261123T081502690171Z-0e6fd1935ab7c284"

_DATA_MATCHING: Final = {
    "email": "EMail",
    "firstName": "FirstName",
    "lastName": "LastName",
    "mergeFields": {
        "BIRTHDAY": "BirthDate",
        "ADDRESS": {"addr1": "Street", "city": "City", "state": "State", "zip": "PostalCode"},
    },
}
_STORED_MATCHING: Final = _DATA_MATCHING | {
    "mergeFields": {
        "BIRTHDAY": "BirthDate",
        "ADDRESS": {
            "addr1": "Street",
            "city": "City",
            "state": "State",
            "zip": "PostalCode",
            "addr2": None,
            "country": None,
        },
    },
}
_RULE: Final = {
    "frequency": "weekly",
    "days": ["monday", "thursday"],
    "times": ["06:00", "18:30"],
    "timeZone": "Europe/Berlin",
}
_RUNS: Final = {
    "nextRuns": [
        "2026-11-23T05:00:00Z",
        "2026-11-23T17:30:00Z",
        "2026-11-26T05:00:00Z",
        "2026-11-26T17:30:00Z",
        "2026-11-30T05:00:00Z",
    ],
    "nextRunAt": "2026-11-23T05:00:00Z",
    "lastRunAt": "2026-11-19T17:30:00Z",
}
_CANCELED: Final = {
    "code": "canceled",
    "message": "Canceled by ada@contoso.com.",
    "action": None,
    "file": None,
    "row": None,
}

_DESTINATION: Final[dict[str, Any]] = {
    "id": _DESTINATION_ID,
    "displayName": "Newsletter",
    "ready": True,
    "missingSteps": [],
    "removal": None,
    "consent": {
        "agreedBy": "ada@contoso.com",
        "agreedAt": "2026-11-20T08:12:44Z",
        "textVersion": "2026-11",
        "withdrawnBy": None,
        "withdrawnAt": None,
    },
    "signIn": {
        "state": "connected",
        "method": "apiKey",
        "accountId": "8d3a3db4d97663a9074efcc16",
        "accountName": "Contoso",
        "role": "owner",
        "secretHint": "…9f3c-us19",
        "connectedAt": "2026-11-20T08:14:02Z",
        "connectedBy": "ada@contoso.com",
        "problem": None,
    },
    "audience": {"id": "a1b2c3d4e5", "name": "Customers", "doubleOptin": True},
    "dataMatching": _STORED_MATCHING,
    "segments": ["Gold", "Silver"],
    "warnings": [
        {
            "code": "doubleOptInBypassed",
            "message": "The audience 'Customers' asks for double opt-in. Contacts that an export adds are subscribed "
            "at once, without a confirmation e-mail: export only people who have agreed to be written to, or choose "
            "the status 'pending' for new members.",
            "target": "audienceId",
        }
    ],
    "exportUser": {**_GRACE, "addedAt": "2026-11-20T09:01:30Z"},
    "enabled": True,
    "memberStatus": "subscribed",
    "schedule": {"mode": "followSchedule", "rule": None},
    "contributors": [_GRACE],
    "everyContributor": False,
    "createdAt": "2026-11-20T08:12:44Z",
    "createdBy": "ada@contoso.com",
    "updatedAt": "2026-11-20T09:01:30Z",
    "updatedBy": "grace@contoso.com",
}

_NEW_DESTINATION: Final = _DESTINATION | {
    "ready": False,
    "missingSteps": [
        "sign in to Mailchimp",
        "choose an audience",
        "add yourself as export user",
        "match the Email field",
        "choose at least one segment",
    ],
    "signIn": {
        "state": "notConnected",
        "method": None,
        "accountId": None,
        "accountName": None,
        "role": None,
        "secretHint": None,
        "connectedAt": None,
        "connectedBy": None,
        "problem": None,
    },
    "audience": None,
    "dataMatching": None,
    "segments": [],
    "warnings": [],
    "exportUser": None,
    "contributors": [],
    "updatedAt": "2026-11-20T08:12:44Z",
    "updatedBy": "ada@contoso.com",
}

_AUDIENCE: Final = {
    "id": "a1b2c3d4e5",
    "name": "Customers",
    "memberCount": 48210,
    "doubleOptin": True,
    "marketingPermissions": False,
    "mergeFields": [
        {"tag": "FNAME", "name": "First Name", "type": "text", "required": False},
        {"tag": "BIRTHDAY", "name": "Birthday", "type": "birthday", "required": False},
    ],
}

_SEGMENT: Final = {
    "name": "Gold",
    "kind": "commonDataModel",
    "exportable": True,
    "reason": None,
    "refreshedAt": "2026-11-22T04:30:11Z",
    "fileCount": 1,
    "sizeBytes": 18874368,
}

_EXPORT: Final[dict[str, Any]] = {
    "id": _EXPORT_ID,
    "destinationId": _DESTINATION_ID,
    "destinationName": "Newsletter",
    "trigger": "onDemand",
    "requestedBy": "grace@contoso.com",
    "status": "CompletedWithErrors",
    "ended": True,
    "problem": None,
    "waiting": None,
    "createdAt": "2026-11-22T06:00:00.214816Z",
    "startedAt": "2026-11-22T06:00:00.918201Z",
    "endedAt": "2026-11-22T06:00:41.530774Z",
    "resumes": None,
    "resumedBy": None,
    "resumableUntil": None,
    "seconds": 41.316,
    "audienceId": "a1b2c3d4e5",
    "segments": [
        {
            "name": "Gold",
            "tag": "Gold",
            "rows": 12500,
            "invalid": 40,
            "duplicates": 10,
            "merged": 0,
            "members": 12450,
            "tagged": 12450,
        }
    ],
    "sources": [
        {
            "name": "Gold",
            "kind": "commonDataModel",
            "model": {"name": "CustomerInsights/model.json", "etag": '"0x8DD0A1B2C3D4E5F"'},
            "columns": ["CustomerId", "EMail", "FirstName", "LastName", "BirthDate"],
            "files": [
                {
                    "name": "CustomerInsights/Gold/part-0.csv",
                    "snapshot": None,
                    "etag": '"0x8DD0A1B2C3D4E60"',
                    "size": 18874368,
                    "lastModified": "2026-11-22T04:30:11Z",
                    "csv": {"hasHeader": True, "delimiter": ",", "quoted": True, "encoding": "utf-8"},
                }
            ],
        }
    ],
    "progress": None,
    "pace": None,
    "books": {
        "rowsRead": 12500,
        "invalid": 40,
        "duplicates": 10,
        "merged": 0,
        "members": 12450,
        "unchanged": 10994,
        "suppressed": 6,
        "sent": 1450,
        "notSent": 0,
        "created": 420,
        "updated": 1018,
        "rejected": 12,
    },
    "invalidReasons": {"invalidAddress": 40},
    "suppressedReasons": {"archived": 4, "forgotten": 2},
    "rejectedReasons": {"complianceState": 12},
    "contactStatuses": {"subscribed": 1438},
    "calls": 5,
    "resentBatches": 0,
    "repairedTags": 0,
    "untagged": 3,
}

_BOOKS_AT_FIRST: Final = dict.fromkeys(_EXPORT["books"], 0)

_QUEUED: Final = _EXPORT | {
    "status": "Queued",
    "ended": False,
    "startedAt": None,
    "endedAt": None,
    "seconds": 0.118,
    "audienceId": None,
    "segments": [],
    "sources": [],
    "books": _BOOKS_AT_FIRST,
    "invalidReasons": {},
    "suppressedReasons": {},
    "rejectedReasons": {},
    "contactStatuses": {},
    "calls": 0,
    "untagged": 0,
}

_RECORD: Final = {
    "id": "20261120T081244103811Z-3f9a1c20b7d54e66",
    "at": "2026-11-20T08:12:44.103811Z",
    "who": _ADA,
    "action": "destination.configured",
    "targetType": "destination",
    "targetId": _DESTINATION_ID,
    "targetName": "Newsletter",
    "changes": [{"property": "memberStatus", "before": "subscribed", "after": "pending"}],
    "detail": None,
}

_SUPPRESSED: Final = {
    "email": "grace@mail.example",
    "code": "forgotten",
    "message": "grace@mail.example was permanently deleted and cannot be re-imported. The contact must re-subscribe to "
    "get back on the list.",
    "refusedAt": "2026-11-22T06:01:33.104220Z",
    "until": "2027-02-20T06:01:33.104220Z",
    "exportId": _EXPORT_ID,
    "number": 1207,
}

_SHARED_WITH: Final = [{"id": "9b1e44d07c6a2f58", "displayName": "Newsletter, second brand"}]

EXAMPLES: Final[dict[str, Any]] = {
    # who and what
    "AuditRecord": _RECORD,
    "Me": {**_ADA, "role": "Administrator"},
    # requests
    "ApiKeyRequest": {"apiKey": "your-key-us19"},
    "ConsentRequest": {"agreed": True},
    "DestinationRequest": {"displayName": "Newsletter", "consent": {"agreed": True}},
    "DuplicateRequest": {
        "displayName": "Newsletter, second brand",
        "consent": {"agreed": True},
        "shareSignIn": True,
    },
    "DestinationPatch": {
        "audienceId": "a1b2c3d4e5",
        "dataMatching": _DATA_MATCHING,
        "segments": ["Gold", "Silver"],
        "schedule": {"mode": "followSchedule"},
        "contributors": [_GRACE],
    },
    "ScheduleRequest": {
        "isActive": True,
        "days": ["monday", "thursday"],
        "times": ["06:00", "18:30"],
        "timeZone": "Europe/Berlin",
    },
    "StartRequest": {},
    "ClearRequest": {"emails": ["grace@mail.example"]},
    # answers
    "AudienceView": _AUDIENCE,
    "ConsentText": {
        "version": "2026-11",
        "text": "By setting up this destination you allow the profiles of the chosen segments, … to be sent …",
    },
    "DestinationView": _DESTINATION,
    "createDestination": _NEW_DESTINATION,
    "duplicateDestination": _NEW_DESTINATION | {"displayName": "Newsletter, second brand"},
    "ExportView": _EXPORT,
    "SuppressedMemberList": {
        "nextLink": None,
        "audienceId": "a1b2c3d4e5",
        "sharedWith": _SHARED_WITH,
        "value": [_SUPPRESSED],
    },
    "ClearedMembers": {"cleared": 1, "sharedWith": _SHARED_WITH},
    "startExport": _QUEUED,
    "cancelExport": _QUEUED | {"problem": _CANCELED},
    "resumeExport": _QUEUED | {"id": _RESUMING_ID, "resumes": _EXPORT_ID, "sources": _EXPORT["sources"]},
    "StartedExports": {
        "started": [_QUEUED],
        "skipped": [
            {
                "destinationId": "91b0e4d7c8a25f36",
                "displayName": "Partners",
                "code": "destinationNotReady",
                "message": "The destination is not ready. Still to do: choose at least one segment.",
                "exportId": None,
            }
        ],
    },
    "getRejectedProfiles": (
        "segment,file,row,email,foundBy,code,field,message,action,retryable\n"
        "Gold,CustomerInsights/Gold/part-0.csv,118,ada@mail.example,mailchimp,complianceState,,"
        "ada@mail.example is in a compliance state.,"
        "\"The contact unsubscribed, bounced or is under review. Only they can join again, with Mailchimp's sign-up "
        'form.",false\n'
    ),
    "Health": {"status": "ok"},
    "AppReadiness": {"status": "ready", "checks": {"storage": True, "secretStore": True}},
    "Readiness": {
        "ready": False,
        "checks": [
            {"code": "signIn", "title": "Signed in to Mailchimp", "state": "done", "message": None},
            {
                "code": "segments",
                "title": "At least one segment is chosen",
                "state": "missing",
                "message": "Choose the segments to export.",
            },
        ],
        "warnings": _DESTINATION["warnings"],
        "segments": [],
        "profiles": None,
        "members": None,
        "limit": 1000000,
    },
    "SegmentView": _SEGMENT,
    "SegmentDetailView": _SEGMENT
    | {
        "fields": [
            {"name": "CustomerId", "dataType": "string", "semanticType": None},
            {"name": "EMail", "dataType": "string", "semanticType": "Identity.Service.Email"},
            {"name": "FirstName", "dataType": "string", "semanticType": "Person.FirstName"},
        ],
        "files": [
            {
                "name": "CustomerInsights/Gold/part-0.csv",
                "sizeBytes": 18874368,
                "lastModified": "2026-11-22T04:30:11Z",
            }
        ],
        "suggestedDataMatching": {"email": "EMail", "firstName": "FirstName", "lastName": None},
    },
    "AuthorizeRequest": {"returnTo": "https://portal.contoso.com/destinations"},
    "AuthorizeView": {
        "authorizeUrl": "https://login.mailchimp.com/oauth2/authorize?response_type=code&client_id=123456789012&state=…",
        "expiresAt": "2026-11-20T08:24:02Z",
    },
    "completeSignIn": bytes(
        page("Connected to Mailchimp", "Connected to Mailchimp as Contoso, you can close this window.").body
    ).decode(),
    "DestinationScheduleView": {"mode": "followSchedule", "rule": _RULE, **_RUNS},
    "ScheduleView": _RULE
    | _RUNS
    | {
        "isActive": True,
        "updatedAt": "2026-11-20T08:20:19Z",
        "updatedBy": "ada@contoso.com",
    },
    "VerifiedSignIn": {
        "accountId": "8d3a3db4d97663a9074efcc16",
        "accountName": "Contoso",
        "role": "owner",
        "plan": "monthly",
        "dataCentre": "us19",
        "contacts": 48210,
    },
}
