"""`make demo`: the whole story on this machine, from segments in storage to tags in Mailchimp, with its books.

The last line on stdout is one JSON object. Exit code 1 when the export did not succeed, when its books do not balance,
when anybody who had left was subscribed again, or when anything else that is listed at the end does not hold.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from dev.sample_data.sample import PROFILES, SMALLEST, SampleData, expected_books, make_sample
from dev.sample_data.upload import entity_of, upload_model, upload_plain_folder
from dev.sandbox.control import API_KEY, AUDIENCE_ID
from dev.stack import Stack, StackError, stop_on_signals
from dev.terminal import Terminal

MERGE_FIELDS = {"LTV": "LoyaltyPoints", "BIRTHDAY": "BirthDate", "JOINED": "CustomerSince"}
MATCHING = {"email": "EMail", "firstName": "FirstName", "lastName": "LastName", "mergeFields": MERGE_FIELDS}
SUCCEEDED = ("Successful", "CompletedWithErrors")
TIMEOUT_SECONDS = 300
REJECTED_SHOWN = 8
Contacts = dict[str, dict[str, Any]]
"""The contacts of the audience by address in lower case, as the sandbox's control API shows them."""


@dataclass(frozen=True, slots=True)
class Check:
    """Something that has to be true at the end."""

    sentence: str
    holds: bool


def main() -> int:
    """Runs the demo. Exit code 0 when everything holds, 1 when not, 130 after Ctrl-C."""
    options = parse_arguments()
    terminal = Terminal()
    stop_on_signals()
    try:
        summary, checks = run(options, terminal)
    except StackError as error:
        terminal.line()
        print(error, file=sys.stderr, flush=True)
        print(json.dumps({"status": "Error", "message": str(error)}))
        return 1
    except KeyboardInterrupt:
        terminal.line()
        terminal.line("Stopped; nothing is left running.")
        return 130
    print(json.dumps(summary), flush=True)
    return 0 if all(check.holds for check in checks) else 1


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m dev.demo",
        description="The whole story on this machine: sample segments, a destination, an export, its books.",
    )
    parser.add_argument("--profiles", type=int, default=PROFILES, help=f"how many profiles (default {PROFILES})")
    parser.add_argument("--hosts", type=int, default=1, help="how many local hosts share the work (default 1)")
    parser.add_argument(
        "--latency-base-ms", type=float, default=100, help="milliseconds for each call to Mailchimp (default 100)"
    )
    parser.add_argument(
        "--latency-per-member-ms",
        type=float,
        default=1.5,
        help="milliseconds added for each member of a call (default 1.5)",
    )
    options = parser.parse_args(arguments)
    if options.profiles < SMALLEST:
        parser.error(f"--profiles must be at least {SMALLEST}")
    return options


def run(options: argparse.Namespace, terminal: Terminal) -> tuple[dict[str, Any], list[Check]]:
    """The demo; the summary for the last line, and what was checked. Raises StackError."""
    latency = [f"--latency-base-ms={options.latency_base_ms}"]
    latency += [f"--latency-per-member-ms={options.latency_per_member_ms}"]
    terminal.line("Sample segments with made-up people go to a Mailchimp sandbox. Nothing leaves this machine.")
    terminal.heading("1. Starting")
    stack = Stack(
        hosts=options.hosts, sandbox_arguments=latency, name="demo", tell=lambda text: terminal.line(f"  {text}")
    )
    with stack:
        sample = make_sample(options.profiles)
        load_sample(stack, sample)
        before = contacts_of(stack)
        show_segments(stack, sample, terminal)
        destination_id = set_up_destination(stack, sample, terminal)
        export = run_export(stack, destination_id, terminal)
        show_books(export, terminal)
        after = contacts_of(stack)
        show_audience(stack, export, terminal)
        show_rejected(stack, export, terminal)
        checks = check_all(stack, sample, export, before, after)
        terminal.heading("8. What has to be true, checked against what Mailchimp holds")
        for check in checks:
            mark = terminal.good("yes") if check.holds else terminal.bad("NO ")
            terminal.line(f"  {mark}  {check.sentence}")
        terminal.heading("The summary, for programs")
        return summary_of(stack, export, checks), checks


def load_sample(stack: Stack, sample: SampleData) -> None:
    """Segments into storage, and contacts into the audience as if they had been there for years."""
    entities = [entity_of(segment.name, segment.columns, segment.rows) for segment in sample.segments]
    upload_model(stack.segments, entities, refreshed_at=datetime.now(UTC))
    upload_plain_folder(stack.segments, sample.plain.name, sample.plain.columns, sample.plain.rows)
    stack.sandbox.add_contacts(sample.contacts)


def contacts_of(stack: Stack) -> Contacts:
    return {contact["email_address"].lower(): contact for contact in stack.sandbox.members(AUDIENCE_ID)}


def show_segments(stack: Stack, sample: SampleData, terminal: Terminal) -> None:
    terminal.heading("2. Segments found in storage  (GET /api/segments)")
    rows = {segment.name: len(segment.people) for segment in sample.all_segments}
    table = [("segment", "written as", "files", "size", "rows")]
    for segment in stack.ask("GET", "/api/segments")["value"]:
        kind = "Common Data Model" if segment["kind"] == "commonDataModel" else f"folder of {segment['kind'].upper()}"
        size = f"{segment['sizeBytes'] / 1e6:.1f} MB"
        table.append((segment["name"], kind, str(segment["fileCount"]), size, f"{rows[segment['name']]:,}"))
    terminal.table(table, right=(2, 3, 4))


def set_up_destination(stack: Stack, sample: SampleData, terminal: Terminal) -> str:
    """Every step that a person takes in a portal, as HTTP calls; returns the destination's ID."""
    terminal.heading("3. Setting up an export destination  (the calls that a portal makes)")

    def step(method: str, path: str, what: str, body: Mapping[str, Any] | None = None) -> Any:
        answer = stack.ask(method, path, json=body)
        terminal.line(f"  {what:<48}  {terminal.dim(f'{method} {path}')}")
        return answer

    name = "Mailchimp, spring campaign"
    created = step(
        "POST",
        "/api/destinations",
        "Create it, and agree to data privacy",
        {"displayName": name, "consent": {"agreed": True}},
    )
    destination_id: str = created["id"]
    path = f"/api/destinations/{destination_id}"
    signed_in = step("PUT", f"{path}/api-key", "Sign in to Mailchimp with an API key", {"apiKey": API_KEY})
    step("PUT", f"{path}/export-user", "Add yourself as export user")
    audiences = step("GET", f"{path}/audiences", "Look at the audiences of the account")["value"]
    audience = next(audience for audience in audiences if audience["id"] == AUDIENCE_ID)
    types = {field["tag"]: f"{field['name']}, {field['type']}" for field in audience["mergeFields"]}
    account = signed_in["signIn"]["accountName"]
    step("PATCH", path, f"Choose the audience '{audience['name']}' of {account}", {"audienceId": AUDIENCE_ID})
    step("PATCH", path, "Match the fields: EMail is the address, and", {"dataMatching": MATCHING})
    for tag, field in {"FNAME": "FirstName", "LNAME": "LastName", **MERGE_FIELDS}.items():
        terminal.line(terminal.dim(f"      {field:<14} fills {tag:<9} ({types[tag]})"))
    names = [segment.name for segment in sample.all_segments]
    step("PATCH", path, "Choose the segments", {"segments": names})
    for segment in names:
        terminal.line(terminal.dim(f"      {segment}"))
    report = step("GET", f"{path}/readiness", "Is anything missing?")
    if not report["ready"]:
        missing = " ".join(check["message"] for check in report["checks"] if check["state"] == "missing")
        raise StackError(f"The destination is not ready. {missing}")
    done = sum(check["state"] == "done" for check in report["checks"])
    terminal.line(terminal.dim(f"      No: {done} of {len(report['checks'])} checks are done"))
    for warning in report["warnings"]:
        terminal.line(f"      Warning: {warning['message']}")
    return destination_id


def run_export(stack: Stack, destination_id: str, terminal: Terminal) -> dict[str, Any]:
    """Starts the export and shows how it goes until it has ended. Raises StackError."""
    terminal.heading("4. Exporting  (POST /api/destinations/{id}/exports)")
    export_id = stack.ask("POST", f"/api/destinations/{destination_id}/exports")["id"]
    export: dict[str, Any] = {}
    shown: tuple[str, int] = ("", -1)
    for export in stack.follow(export_id, timeout=TIMEOUT_SECONDS):
        if export["ended"]:
            break
        progress = export["progress"]
        quarter = int(progress["percent"] // 25) if progress else 0
        now = (export["status"], quarter)
        terminal.progress(f"  {progress_text(export)}", is_new=now != shown)
        shown = now
    status = terminal.bold(export["status"])
    terminal.line(f"  {status} after {export['seconds']:.1f} s and {export['calls']} calls to Mailchimp")
    if export["status"] == "CompletedWithErrors":
        terminal.line("  That is normal with real data: everybody arrived who can, and part 7 lists the others.")
    if problem := export["problem"]:
        terminal.line(f"  {problem['message']} {problem['action'] or ''}")
    return export


def progress_text(export: Mapping[str, Any]) -> str:
    """One line: status, members, speed, time left."""
    text = f"{export['status']:<10} {export['seconds']:5.1f} s"
    progress = export["progress"]
    if not progress:
        return text
    done, total = progress["membersDone"], progress["membersTotal"]
    filled = int(20 * done / total) if total else 0
    text += f"  [{'#' * filled}{'.' * (20 - filled)}] {progress['percent']:3.0f} %  {done:,} of {total:,} members"
    if progress["membersPerSecond"]:
        text += f"  {progress['membersPerSecond']:,.0f} a second"
    if progress["secondsLeft"]:
        text += f"  {progress['secondsLeft']:.0f} s left"
    return text


def show_books(export: Mapping[str, Any], terminal: Terminal) -> None:
    """The account of every row, so that each sum can be followed with a finger."""
    terminal.heading("5. The books: where every row ended")
    books = export["books"]
    lines = (
        ("rows read", "rowsRead", " ", ""),
        ("not usable", "invalid", "-", "no valid address, or a value that does not fit its merge field"),
        ("duplicates", "duplicates", "-", "the same address again in the same segment"),
        ("merged", "merged", "-", "the same person in another segment: one member with several tags"),
        ("members", "members", "=", ""),
        ("unchanged", "unchanged", "-", "always 0 in this version"),
        ("suppressed", "suppressed", "-", "left alone: archived in Mailchimp, or refused for good before"),
        ("not sent", "notSent", "-", "the export ended early: canceled or failed"),
        ("sent", "sent", "=", ""),
        ("created", "created", "-", "new in the audience"),
        ("updated", "updated", "-", "were there already"),
        ("rejected", "rejected", "-", "refused by Mailchimp, each with its reason"),
    )
    for label, name, sign, note in lines:
        text = f"  {sign} {label:<12} {books[name]:>9,}"
        terminal.line(terminal.bold(text) if sign == "=" else f"{text}  {terminal.dim(note)}".rstrip())
    rest = books["sent"] - books["created"] - books["updated"] - books["rejected"]
    terminal.line(terminal.bold(f"  = {'left over':<12} {rest:>9,}"))


def show_audience(stack: Stack, export: Mapping[str, Any], terminal: Terminal) -> None:
    terminal.heading("6. What Mailchimp holds now")
    audience = stack.sandbox.audience(AUDIENCE_ID)
    tags = {tag["name"]: tag["contacts"] for tag in audience["tags"]}
    table = [("segment = tag", "people sent", "tagged in Mailchimp", "rejected")]
    for segment in export["segments"]:
        tagged = tags.pop(segment["tag"], 0)
        table.append((segment["tag"], f"{segment['tagged']:,}", f"{tagged:,}", f"{segment['tagged'] - tagged:,}"))
    terminal.table(table, right=(1, 2, 3))
    for tag, count in tags.items():
        terminal.line(f"  Set by hand and left alone: '{tag}' on {count:,} contacts")
    statuses = ", ".join(f"{count:,} {status}" for status, count in audience["byStatus"].items() if count)
    terminal.line(
        f"  {audience['contacts']:,} contacts: {statuses}; {audience['forgotten']:,} more were deleted for good"
    )
    terminal.line(f"  To look around yourself: make serve, then open {terminal.bold('http://127.0.0.1:8085/')}")


def show_rejected(stack: Stack, export: Mapping[str, Any], terminal: Terminal) -> None:
    terminal.heading("7. Rejected profiles: why, and what to do  (GET /api/exports/{id}/rejected)")
    answer = stack.api("GET", f"/api/exports/{export['id']}/rejected")
    if not answer.ok:
        raise StackError(f"The rejected profiles were answered with {answer.status_code}: {answer.text[:500]}")
    rows = list(csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig"))))
    reasons = Counter((row["foundBy"], row["code"], row["field"]) for row in rows)
    samples = {(row["foundBy"], row["code"], row["field"]): row for row in rows}
    for reason, count in reasons.most_common():
        found_by, code, field = reason
        who = "before sending" if found_by == "prepare" else "by Mailchimp"
        sentence = _shortened(_without_address(samples[reason]), 100) + (f" ({field})" if field else "")
        terminal.line(f"  {count:>6,}  {terminal.bold(code)}, found {who}: {sentence}")
        terminal.line(terminal.dim(f"          {samples[reason]['action']}"))
    terminal.line(f"  The CSV has {len(rows):,} lines, one for each. Some of them:")
    chosen = rows[:: max(1, len(rows) // REJECTED_SHOWN)][:REJECTED_SHOWN]
    some = [(row["segment"], row["row"], _shortened(row["email"], 40), row["code"]) for row in chosen]
    terminal.table([("segment", "row", "address", "code"), *some], right=(1,))


def _without_address(row: Mapping[str, str]) -> str:
    """The sentence for all rows with the same reason. In the CSV an apostrophe keeps spreadsheets from calculating."""
    address = row["email"].removeprefix("'")
    message = row["message"].removeprefix("'")
    sentence = message.replace(address, "this address") if address else message
    return sentence[:1].upper() + sentence[1:]


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def check_all(
    stack: Stack, sample: SampleData, export: Mapping[str, Any], before: Contacts, after: Contacts
) -> list[Check]:
    """The promises that the demo can check, by what the sandbox holds rather than by what the product says."""
    books = export["books"]
    audience, state = stack.sandbox.audience(AUDIENCE_ID), stack.sandbox.state()
    expected = expected_books(sample.all_segments)
    totals = audience["batchTotals"]
    back = [address for address in sample.left if after.get(address, {}).get("status") in ("subscribed", "pending")]
    touched = [address for address in sample.strangers if after.get(address) != before[address]]
    untagged = [
        address
        for address, contact in before.items()
        if not set(contact["tags"]) <= set(after.get(address, {"tags": ()})["tags"])
    ]
    return [
        Check(f"The export succeeded ({export['status']})", export["status"] in SUCCEEDED),
        Check("The books balance", balance(books)),
        Check(f"All {expected.rows_read:,} rows of the segments were read", books["rowsRead"] == expected.rows_read),
        Check(
            f"Mailchimp counted the same: {totals['created']:,} created, {totals['updated']:,} updated",
            (totals["created"], totals["updated"]) == (books["created"], books["updated"]),
        ),
        Check(
            f"Of {len(sample.left):,} people who had left or were archived, {len(back)} were subscribed again", not back
        ),
        Check(f"Of {len(sample.strangers):,} contacts in no segment, {len(touched)} were touched", not touched),
        Check(f"Tags that were set by hand are missing on {len(untagged)} contacts", not untagged),
        Check(
            f"Never more than {state['maxOpenCalls']} calls were open at once (Mailchimp allows 10)",
            state["maxOpenCalls"] <= 10,
        ),
    ]


def balance(books: Mapping[str, int]) -> bool:
    """Whether every row read ended in exactly one column."""
    return all(
        books[whole] == sum(books[part] for part in parts)
        for whole, parts in {
            "rowsRead": ("invalid", "duplicates", "merged", "members"),
            "members": ("unchanged", "suppressed", "sent", "notSent"),
            "sent": ("created", "updated", "rejected"),
        }.items()
    )


def summary_of(stack: Stack, export: Mapping[str, Any], checks: Sequence[Check]) -> dict[str, Any]:
    """The object of the last line."""
    return {
        "status": export["status"],
        **export["books"],
        "calls": export["calls"],
        "maxOpenCalls": stack.sandbox.state()["maxOpenCalls"],
        "seconds": export["seconds"],
        "booksBalance": balance(export["books"]),
        "failedChecks": [check.sentence for check in checks if not check.holds],
    }


if __name__ == "__main__":
    sys.exit(main())
