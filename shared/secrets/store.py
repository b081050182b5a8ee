"""Where Mailchimp secrets live: Key Vault in Azure, an encrypted store in blobs for local runs."""

from __future__ import annotations

import re
from typing import Final, Protocol

_NAME: Final = re.compile(r"[0-9A-Za-z-]{1,127}")


class SecretStoreError(Exception):
    """The secret store refused or does not know a secret. The message never holds the secret."""

    code = "secretStoreError"


class SecretNotFound(SecretStoreError):
    """Raised when no secret has the name: it was deleted, or never written."""

    code = "secretNotFound"

    def __init__(self, name: str) -> None:
        super().__init__(  # without the name: the sentence is shown on the destination
            "The Mailchimp sign-in is no longer in the secret store: it was deleted there. Sign in to Mailchimp again."
        )
        self.name = name


class SecretStore(Protocol):
    """Secrets by name. Names are never used twice: a vault keeps a deleted name reserved."""

    def write(self, name: str, value: str) -> None:
        """Store ``value`` under the new ``name``."""

    def read(self, name: str) -> str:
        """The secret. Raises SecretNotFound."""

    def delete(self, name: str) -> None:
        """Delete the secret, if it is there, for good where the store allows it. Nobody can read it any more."""

    def reachable(self) -> bool:
        """Whether the store answers."""


def require_secret_name(name: str) -> str:
    """``name``, if a vault takes it (Key Vault, "Objects, identifiers, and versioning": 1-127 of 0-9, a-z, A-Z, -)."""
    if not _NAME.fullmatch(name):
        raise SecretStoreError("A secret's name has 1 to 127 letters, digits and hyphens.")
    return name
