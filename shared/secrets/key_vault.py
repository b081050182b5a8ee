"""The secret store of a deployment: Azure Key Vault, reached with the app's managed identity."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from azure.core.credentials import TokenCredential
from azure.core.exceptions import AzureError, ClientAuthenticationError, HttpResponseError, ResourceNotFoundError

from shared.secrets.store import SecretNotFound, SecretStoreError, require_secret_name

if TYPE_CHECKING:
    from azure.keyvault.secrets import SecretClient


class KeyVaultSecretStore:
    """Secrets of one vault. Faults of the network and of the service come through as ``azure.core`` exceptions."""

    def __init__(self, vault_url: str, credential: TokenCredential, client: SecretClient | None = None) -> None:
        self._vault_url = vault_url
        self._credential = credential
        self._made = client

    def write(self, name: str, value: str) -> None:
        try:
            self._client.set_secret(require_secret_name(name), value, content_type="Mailchimp token")
        except HttpResponseError as error:
            self._refused(error)

    def read(self, name: str) -> str:
        try:
            value = self._client.get_secret(require_secret_name(name)).value
        except ResourceNotFoundError:
            raise SecretNotFound(name) from None
        except HttpResponseError as error:
            self._refused(error)
        if value is None:
            raise SecretNotFound(name)
        return value

    def delete(self, name: str) -> None:
        """Delete the secret. It is unreadable at once; the vault forgets it when its retention has passed."""
        try:
            self._client.begin_delete_secret(require_secret_name(name))
        except ResourceNotFoundError:
            return
        except HttpResponseError as error:
            self._refused(error)

    def reachable(self) -> bool:
        try:
            self._client.get_secret("mc-readiness")
        except ResourceNotFoundError:
            return True  # the vault answered, and let us look
        except AzureError:
            return False
        return True

    @property
    def _client(self) -> SecretClient:
        if self._made is None:
            # Imported here: most requests of the API need no secret, and the import costs 60 ms.
            from azure.keyvault.secrets import SecretClient

            self._made = SecretClient(self._vault_url, self._credential)
        return self._made

    def _refused(self, error: HttpResponseError) -> NoReturn:
        """Say who has to do what where the vault does not let us in; raise every other fault as it is."""
        if isinstance(error, ClientAuthenticationError) or error.status_code == 403:
            raise SecretStoreError(
                f"The vault {self._vault_url} does not let this app in. Give the app's identity the role "
                "'Key Vault Secrets Officer' on the vault, and check the vault's network rules."
            ) from error
        raise error
