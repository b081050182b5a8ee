"""Whether audience, data matching and segments fit together. Pure functions: facts in, findings out."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Final, Protocol

from shared.destinations.errors import Finding
from shared.destinations.model import AddressMatching, ChosenAudience, DataMatching, MemberStatus, SetUpWarning

MAX_TAG_CHARACTERS: Final = 100
"""The longest tag that Mailchimp takes (Mailchimp help, "Getting started with tags")."""

ADDRESS: Final = "address"
REQUIRED_NOT_MATCHED: Final = "requiredMergeFieldNotMatched"
_NAMES: Final = {"FNAME": ("firstName", "First name"), "LNAME": ("lastName", "Last name")}


class AudienceField(Protocol):
    """What the checks need to know of a merge field; see ``shared.mailchimp.replies.MergeField``."""

    @property
    def tag(self) -> str: ...
    @property
    def type(self) -> str: ...
    @property
    def required(self) -> bool: ...


def check_tags(segments: Sequence[str]) -> list[Finding]:
    """Each segment becomes a tag of its name: names that Mailchimp does not take, or takes for the same."""
    findings = []
    seen: dict[str, str] = {}
    for number, name in enumerate(segments):
        target = f"segments[{number}]"
        if name.casefold() in seen:
            other = seen[name.casefold()]
            message = (
                f"The segment '{name}' is chosen twice."
                if other == name
                else f"Mailchimp takes '{name}' and '{other}' for the same tag, as only upper and lower case differ. "
                "Choose one of them."
            )
            findings.append(Finding("duplicateSegment", message, target))
        seen.setdefault(name.casefold(), name)
        if len(name) > MAX_TAG_CHARACTERS:
            findings.append(
                Finding(
                    "segmentNameTooLong",
                    f"The name of the segment '{name[:40]}…' has {len(name)} characters; a Mailchimp tag has at most "
                    f"{MAX_TAG_CHARACTERS}. Give the segment a shorter name at its source.",
                    target,
                )
            )
        if name != name.strip():
            findings.append(
                Finding(
                    "segmentNameNotTag",
                    f"The name of the segment '{name}' begins or ends with a space, which a Mailchimp tag cannot. "
                    "Rename the segment at its source.",
                    target,
                )
            )
    return findings


def matched_fields(matching: DataMatching) -> Iterator[tuple[str, str]]:
    """Every profile field that is matched, each as (property of the request, field)."""
    yield "dataMatching.email", matching.email
    for name, value in (("firstName", matching.first_name), ("lastName", matching.last_name)):
        if value is not None:
            yield f"dataMatching.{name}", value
    for tag, matched in matching.merge_fields.items():
        if isinstance(matched, AddressMatching):
            for part, value in matched.parts().items():
                yield f"dataMatching.mergeFields.{tag}.{part}", value
        else:
            yield f"dataMatching.mergeFields.{tag}", matched


def check_fields(matching: DataMatching, fields_by_segment: Mapping[str, Collection[str]]) -> list[Finding]:
    """Every matched field must exist in every chosen segment."""
    findings = []
    for target, field in matched_fields(matching):
        for segment, fields in fields_by_segment.items():
            if field not in fields:
                findings.append(
                    Finding(
                        "fieldNotInSegment",
                        f"The segment '{segment}' has no field '{field}'.{_suggestion(field, fields, 'fields')}",
                        target,
                    )
                )
    return findings


def check_merge_fields(
    matching: DataMatching, audience_name: str, merge_fields: Sequence[AudienceField]
) -> list[Finding]:
    """Every matched merge tag must exist in the audience, and its type must fit what is matched to it."""
    by_tag = {field.tag: field for field in merge_fields}
    findings = []
    for tag, value in {"FNAME": matching.first_name, "LNAME": matching.last_name}.items():
        if value is None:
            continue
        name, label = _NAMES[tag]
        if tag in matching.merge_fields:
            findings.append(
                Finding(
                    "matchedTwice",
                    f"{label} and the merge field {tag} are the same field of the audience. Match one of them only.",
                    f"dataMatching.mergeFields.{tag}",
                )
            )
        if tag not in by_tag:
            findings.append(
                Finding(
                    "mergeFieldNotInAudience",
                    f"The audience '{audience_name}' has no merge field {tag}, which {label} is sent to. Take {label} "
                    f"out of the data matching, or match the audience's own field under mergeFields."
                    f"{_suggestion(tag, by_tag, 'merge fields')}",
                    f"dataMatching.{name}",
                )
            )
        elif by_tag[tag].type == ADDRESS:
            findings.append(_wrong_type(f"dataMatching.{name}", tag, wants_address=True))
    for tag, matched in matching.merge_fields.items():
        target = f"dataMatching.mergeFields.{tag}"
        if tag == "EMAIL":
            findings.append(
                Finding(
                    "matchedTwice",
                    "The e-mail address is matched with email, not with a merge field. Leave EMAIL out here.",
                    target,
                )
            )
        elif tag not in by_tag:
            findings.append(
                Finding(
                    "mergeFieldNotInAudience",
                    f"The audience '{audience_name}' has no merge field {tag}."
                    f"{_suggestion(tag, by_tag, 'merge fields')}",
                    target,
                )
            )
        elif (by_tag[tag].type == ADDRESS) != isinstance(matched, AddressMatching):
            findings.append(_wrong_type(target, tag, wants_address=by_tag[tag].type == ADDRESS))
    return findings


def audience_warnings(audience: ChosenAudience | None, status: MemberStatus) -> tuple[SetUpWarning, ...]:
    """What is to be known of the audience itself. A subscription through the API asks for no confirmation, whatever
    the audience's setting (Mailchimp Marketing API, members: status)."""
    if audience is None or not audience.double_optin or status is not MemberStatus.SUBSCRIBED:
        return ()
    return (
        SetUpWarning(
            code="doubleOptInBypassed",
            message=f"The audience '{audience.name}' asks for double opt-in. Contacts that an export adds are "
            "subscribed at once, without a confirmation e-mail: export only people who have agreed to be written to, "
            "or choose the status 'pending' for new members.",
            target="audienceId",
        ),
    )


def merge_field_warnings(
    matching: DataMatching | None, audience_name: str, merge_fields: Sequence[AudienceField]
) -> tuple[SetUpWarning, ...]:
    """Required merge fields that nothing is matched to: Mailchimp refuses new members without them."""
    if matching is None:
        return ()
    matched = matching.by_merge_tag()
    return tuple(
        SetUpWarning(
            code=REQUIRED_NOT_MATCHED,
            message=f"The audience '{audience_name}' requires the merge field {field.tag}, but no profile field is "
            "matched to it. Mailchimp may refuse members without it: match it, or make it optional in Mailchimp.",
            target="dataMatching.mergeFields",
        )
        for field in merge_fields
        if field.required and field.tag not in matched
    )


def _wrong_type(target: str, tag: str, *, wants_address: bool) -> Finding:
    message = (
        f"The merge field {tag} is an address: match its parts (addr1, city, state, zip; addr2 and country if you "
        "have them) instead of one field."
        if wants_address
        else f"The merge field {tag} is not an address: match one profile field to it."
    )
    return Finding("mergeFieldTypeDiffers", message, target)


def _suggestion(wanted: str, known: Collection[str], what: str) -> str:
    """A sentence that names what was probably meant, or what there is."""
    by_lower = {name.lower(): name for name in known}
    close = [by_lower[name] for name in get_close_matches(wanted.lower(), by_lower, n=3, cutoff=0.6)]
    if close:
        return f" Did you mean {' or '.join(repr(name) for name in close)}?"
    if not known:
        return f" There are no {what}."
    shown = ", ".join(sorted(known)[:12])
    return f" Its {what}: {shown}{', …' if len(known) > 12 else '.'}"
