"""Settings of a running sandbox: set by command-line flags, changed through the control API."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

NotNegative = Annotated[float, msgspec.Meta(ge=0)]


class Settings(msgspec.Struct, rename="camel", forbid_unknown_fields=True, frozen=True):
    """What every call obeys. Times are in milliseconds."""

    latency_base_ms: NotNegative = 0.0
    latency_per_member_ms: NotNegative = 0.0
    tags_reach_existing: bool = True
    realistic_replies: bool = False
    max_connections: Annotated[int, msgspec.Meta(ge=1)] = 10

    def changed(self, changes: dict[str, Any]) -> Settings:
        """A copy with some values replaced. Raises `msgspec.ValidationError` that names the wrong one."""
        return msgspec.convert({**msgspec.to_builtins(self), **changes}, Settings)

    def latency_seconds(self, rows: int) -> float:
        """How long a call with `rows` members takes."""
        return (self.latency_base_ms + self.latency_per_member_ms * rows) / 1000
