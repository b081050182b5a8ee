"""The secret store of local runs: blobs that are encrypted with a key derived from ``LOCAL_SECRET_KEY``."""

from __future__ import annotations

import base64
import hashlib
from functools import cached_property
from typing import TYPE_CHECKING, Final

from shared.secrets.store import SecretNotFound, SecretStoreError, require_secret_name
from shared.storage.documents import AlreadyExists, Documents
from shared.storage.names import SECRETS_PREFIX

if TYPE_CHECKING:
    from cryptography.fernet import Fernet

_SALT: Final = b"segments-to-mailchimp/local-secrets/1"


class LocalSecretStore:
    """Secrets as encrypted blobs of the state container. For local runs only: who has the key has all secrets."""

    def __init__(self, documents: Documents, key: str | None) -> None:
        self._documents = documents
        self._key = key

    def write(self, name: str, value: str) -> None:
        """Store ``value`` under the new ``name``. Raises SecretStoreError where LOCAL_SECRET_KEY is missing."""
        token = self._cipher.encrypt(value.encode())
        try:
            self._documents.create(self._blob(name), token)
        except AlreadyExists:
            if self.read(name) != value:  # else the write arrived, its answer did not
                raise

    def read(self, name: str) -> str:
        """The secret. Raises SecretNotFound, or SecretStoreError where the key is missing or another one."""
        from cryptography.fernet import InvalidToken

        cipher = self._cipher
        found = self._documents.read(self._blob(name))
        if found is None:
            raise SecretNotFound(name)
        try:
            return cipher.decrypt(found.data).decode()
        except InvalidToken:
            raise SecretStoreError(
                f"The secret '{name}' was stored with another LOCAL_SECRET_KEY. "
                "Set the key that was used then, or sign in to Mailchimp again."
            ) from None

    def delete(self, name: str) -> None:
        self._documents.delete(self._blob(name))

    def reachable(self) -> bool:
        return self._key is not None and self._documents.reachable()

    @staticmethod
    def _blob(name: str) -> str:
        return f"{SECRETS_PREFIX}{require_secret_name(name)}"

    @cached_property
    def _cipher(self) -> Fernet:
        # Imported here: 60 ms that a start in Azure, where this store is not used, should not pay.
        from cryptography.fernet import Fernet

        if self._key is None:
            raise SecretStoreError(
                "The setting LOCAL_SECRET_KEY is missing, so no secret can be kept on this machine. "
                "Set it to any long random text, and keep it for as long as the stored secrets are wanted."
            )
        derived = hashlib.scrypt(self._key.encode(), salt=_SALT, n=2**14, r=8, p=1, dklen=32)
        return Fernet(base64.urlsafe_b64encode(derived))
