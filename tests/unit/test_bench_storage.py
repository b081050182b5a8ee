"""Requests are counted in the class by which Azure bills them, so that docs/cost.md is right about them."""

from __future__ import annotations

import pytest

from dev.bench_storage import CLASSES, class_of, count, count_of_run

BLOB = "/devstoreaccount1/state/runs/e1/results/00/00001.json"


def line(method: str, path: str, status: int = 200) -> str:
    return f'127.0.0.1 - - [22/Nov/2026:06:13:13 +0000] "{method} {path} HTTP/1.1" {status} -'


@pytest.mark.parametrize(
    ("method", "path", "kind"),
    [
        ("PUT", BLOB, "write"),
        ("PUT", f"{BLOB}?comp=block&blockid=AA", "write"),
        ("PUT", f"{BLOB}?comp=blocklist", "write"),
        ("PUT", f"{BLOB}?comp=lease", "other"),
        ("PUT", f"{BLOB}?comp=metadata", "other"),
        ("HEAD", BLOB, "other"),
        ("GET", f"{BLOB}?comp=metadata", "other"),
        ("GET", BLOB, "read"),
        ("GET", f"{BLOB}?snapshot=2026-01-01", "read"),
        ("DELETE", BLOB, "free"),
        ("GET", "/devstoreaccount1/state?restype=container&comp=list&prefix=runs", "list"),
        ("PUT", "/devstoreaccount1/state?restype=container", "list"),
        ("HEAD", "/devstoreaccount1/state?restype=container", "other"),
        ("POST", "/devstoreaccount1/state?restype=container&comp=batch", "other"),
        ("POST", "/devstoreaccount1/lanes/messages?visibilitytimeout=5", "queue"),
        ("DELETE", "/devstoreaccount1/lanes/messages/0f?popreceipt=AA", "queue"),
        ("PUT", "/devstoreaccount1/lanes/messages/0f?popreceipt=AA&visibilitytimeout=600", "queue"),
        ("PUT", "/devstoreaccount1/lanes", "queue"),
        ("GET", "/devstoreaccount1/lanes/messages?numofmessages=8", "host"),
        ("PUT", "/devstoreaccount1/azure-webjobs-hosts/locks/schedule?comp=lease", "host"),
        ("GET", "/devstoreaccount1/state/secrets/mc-d1-0001", "vault"),
    ],
)
def test_a_request_is_in_the_class_of_its_price(method: str, path: str, kind: str) -> None:
    assert class_of(line(method, path)) == kind
    assert kind in CLASSES


def test_refused_requests_are_billed_too() -> None:
    assert class_of(line("PUT", BLOB, 409)) == "write"


def test_other_lines_of_the_log_count_for_nothing() -> None:
    assert count(["Azurite Blob service is starting at http://127.0.0.1:0", "", line("GET", BLOB)]) == {"read": 1}


def test_requests_of_one_export_are_told_apart_by_what_they_are_for() -> None:
    packs = "/devstoreaccount1/state/runs/e1/batches/a1/00/00000.ndjson"
    lines = [line("PUT", BLOB), line("PUT", BLOB, 409), line("GET", packs), line("GET", "/devstoreaccount1/state/x")]
    assert count_of_run(lines) == {"PUT results": 2, "GET batches": 1}
