"""What a lane's blob says while the lane rests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from shared.exports.pace import Pace


@dataclass(frozen=True, slots=True)
class LaneRest:
    """What the lane's blob says while the lane rests: failures in a row, when it will be woken, and how often lanes
    had been opened by then: once more, and Mailchimp is back."""

    failures: int = 0
    wake_at: datetime | None = None
    openings: int = 0

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> LaneRest:
        wake_at = metadata.get("wakeAt")
        return cls(
            int(metadata.get("failures", 0)),
            datetime.fromisoformat(wake_at) if wake_at else None,
            int(metadata.get("openings", 0)),
        )

    def to_metadata(self) -> dict[str, str]:
        wake_at = {"wakeAt": self.wake_at.isoformat()} if self.wake_at else {}
        return {"failures": str(self.failures), "openings": str(self.openings), **wake_at}

    def lasts(self, now: datetime, pace: Pace) -> bool:
        """Whether the lane still rests, and the message that ends this is on its way."""
        return self.wake_at is not None and self.wake_at > now and self.openings == pace.openings
