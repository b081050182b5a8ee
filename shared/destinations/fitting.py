"""Whether a destination's segments and audience are there and fit its data matching: asks the source and Mailchimp."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Final, Protocol

from shared.destinations import checks
from shared.destinations.connections import Connections
from shared.destinations.errors import Finding
from shared.destinations.model import ChosenAudience, Destination, SetUpWarning
from shared.mailchimp import errors as mailchimp
from shared.segments.errors import SegmentError

if TYPE_CHECKING:
    from shared.segments.catalog import SegmentDetail  # needs DuckDB, which no look-up of a destination should load

_AUDIENCE_ID: Final = re.compile(r"[A-Za-z0-9]{1,64}")


class Segments(Protocol):
    """The segments there are: ``shared.segments.catalog.SegmentCatalog``."""

    def describe(self, name: str) -> SegmentDetail: ...


class Fitting:
    """Looks at a configuration as it would be; stores nothing."""

    def __init__(self, segments: Segments, connections: Connections) -> None:
        self._segments = segments
        self._connections = connections

    def check_segments(self, destination: Destination) -> list[Finding]:
        """Look every segment up, and every matched field in it; sets ``segments`` to their full names."""
        findings: list[Finding] = []
        names: list[str] = []
        fields: dict[str, Collection[str]] = {}
        for number, given in enumerate(destination.segments):
            target = f"segments[{number}]"
            try:
                detail = self._segments.describe(given)
            except SegmentError as error:
                findings.append(Finding(error.code, error.message, target))
                names.append(given)
                continue
            segment = detail.summary
            if not segment.exportable:
                message = f"The segment '{segment.name}' cannot be exported: {segment.reason}"
                findings.append(Finding("segmentNotExportable", message, target))
            else:
                fields[segment.name] = [field.name for field in detail.fields]
            names.append(segment.name)
        destination.segments = tuple(names)
        findings += checks.check_tags(names)
        if destination.data_matching is not None:
            findings += checks.check_fields(destination.data_matching, fields)
        return findings

    def check_audience(self, destination: Destination, audience_id: str | None = None) -> list[Finding]:
        """Look the audience up (its own, unless another ID is given) and fit the data matching to it; sets
        ``audience`` and ``warnings``. Raises NotConnected and Mailchimp's errors."""
        with self._connections.client(destination) as client:
            wanted = audience_id if audience_id is not None else destination.audience.id if destination.audience else ""
            if not _AUDIENCE_ID.fullmatch(wanted):
                return [_unknown_audience(wanted, destination)]
            try:
                audience = client.audience(wanted)
                merge_fields = client.merge_fields(wanted)
            except mailchimp.AudienceNotFound:
                return [_unknown_audience(wanted, destination)]
        destination.audience = ChosenAudience(id=audience.id, name=audience.name, double_optin=audience.double_optin)
        found = checks.merge_field_warnings(destination.data_matching, audience.name, merge_fields)
        destination.warnings = refreshed_warnings(destination, found)
        if destination.data_matching is None:
            return []
        return checks.check_merge_fields(destination.data_matching, audience.name, merge_fields)


def refreshed_warnings(
    destination: Destination, about_merge_fields: Sequence[SetUpWarning] | None = None
) -> tuple[SetUpWarning, ...]:
    """The warnings that hold now; those about merge fields are kept where nobody looked at the audience."""
    if about_merge_fields is None:
        about_merge_fields = [each for each in destination.warnings if each.code == checks.REQUIRED_NOT_MATCHED]
    return (*checks.audience_warnings(destination.audience, destination.member_status), *about_merge_fields)


def _unknown_audience(audience_id: str, destination: Destination) -> Finding:
    return Finding(
        "audienceNotFound",
        f"The Mailchimp account '{destination.sign_in.account_name}' has no audience with the ID '{audience_id}'. "
        "Choose one of the account's audiences (GET …/audiences).",
        "audienceId",
    )
