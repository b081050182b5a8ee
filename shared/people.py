"""Who does something: a person or an application that the platform signed in, or a part of this app."""

from __future__ import annotations

from typing import Final

from pydantic import ConfigDict

from shared.storage.json_documents import JsonDocument


class Person(JsonDocument):
    """``id`` is the object ID in Entra ID, which never changes and is never given to anybody else; empty where the
    sign-in tells none. ``name`` is for people to read: how somebody signs in, which may change."""

    model_config = ConfigDict(frozen=True)

    id: str
    name: str


SCHEDULE: Final = Person(id="schedule", name="schedule")
MAILCHIMP: Final = Person(id="mailchimp", name="Mailchimp")
"""Refusals of Mailchimp change a destination too; the records name it like a person."""
