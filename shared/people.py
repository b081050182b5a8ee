"""Who does something: a person or an application that the platform signed in, or a part of this app."""

from __future__ import annotations

from typing import Final

from pydantic import ConfigDict

from shared.storage.json_documents import JsonDocument


class Person(JsonDocument):
    """A person or an application, as the sign-in names them. IDs of Entra ID are never given to anybody else."""

    model_config = ConfigDict(frozen=True)

    id: str
    """The object ID in Entra ID, which never changes; empty where the sign-in tells none."""
    name: str
    """For people to read: how somebody signs in, which may change."""


SCHEDULE: Final = Person(id="schedule", name="schedule")
MAILCHIMP: Final = Person(id="mailchimp", name="Mailchimp")
"""Refusals of Mailchimp change a destination too; the records name it like a person."""
