"""The secret store of a deployment: Azure Key Vault, reached with the app's managed identity."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NoReturn

from azure.core.credentials import TokenCredential
from azure.core.exceptions import AzureError, ClientAuthenticationError, HttpResponseError, ResourceNotFoundError
from azure.core.pipeline import PipelineResponse
from azure.core.pipeline.policies import RetryPolicy
from azure.core.pipeline.transport import HttpTransport, RequestsTransport

from shared import log
from shared.secrets.store import SecretNotFound, SecretStoreError, require_secret_name

if TYPE_CHECKING:
    from azure.keyvault.secrets import DeletedSecret, SecretClient

CONNECT_TIMEOUT_S: Final = 5
READ_TIMEOUT_S: Final = 10
"""A vault answers within a second as a rule; the library's defaults are five minutes each, and somebody waits."""
_LONGEST_WAIT_S: Final = 5.0
_RETRIES: Final = 2

PURGE_WITHIN_S: Final = 5.0
"""How long a deletion may take until the secret can be purged: "several seconds" (SecretClient.begin_delete_secret)."""
_PURGE_POLL_S: Final = 0.5
_STILL_BEING_DELETED: Final = frozenset({404, 409})
_PURGEABLE: Final = "Purgeable"
"""Part of a recovery level where a deleted secret may be purged (Key Vault REST API, DeletionRecoveryLevel)."""


class _Patience(RetryPolicy[Any, Any]):
    """Two more tries. A vault that asks to come back much later (429, Retry-After) is told to the caller at once, who
    knows better what to do in the meantime; the library would sleep for as long as it is asked to."""

    def is_retry(self, settings: dict[str, Any], response: PipelineResponse[Any, Any]) -> bool:
        wait = self.get_retry_after(response)
        return bool(super().is_retry(settings, response)) and (wait is None or wait <= _LONGEST_WAIT_S)


def open_vault(
    vault_url: str, credential: TokenCredential, transport: HttpTransport[Any, Any] | None = None
) -> SecretClient:
    """A client of the vault that gives up within half a minute. Nothing is called yet."""
    # Imported here: most requests of the API need no secret, and the import costs 60 ms.
    from azure.keyvault.secrets import SecretClient

    return SecretClient(
        vault_url,
        credential,
        transport=transport or RequestsTransport(connection_timeout=CONNECT_TIMEOUT_S, read_timeout=READ_TIMEOUT_S),
        retry_policy=_Patience(retry_total=_RETRIES, retry_backoff_factor=0.4),
    )


class KeyVaultSecretStore:
    """Secrets of one vault. Faults of the network and of the service come through as ``azure.core`` exceptions."""

    def __init__(
        self,
        vault_url: str,
        credential: TokenCredential,
        client: SecretClient | None = None,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._vault_url = vault_url
        self._credential = credential
        self._made = client
        self._monotonic = monotonic
        self._sleep = sleep

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
        """Delete the secret, then purge it where the vault allows that: else the vault forgets it when its retention
        has passed. It is unreadable at once either way."""
        try:
            deleted: DeletedSecret = self._client.begin_delete_secret(require_secret_name(name)).result()
        except ResourceNotFoundError:
            self._purge(name, within_s=0)  # an earlier try may have been cut off between the two steps
            return
        except HttpResponseError as error:
            self._refused(error)
        if _PURGEABLE in (deleted.properties.recovery_level or "") and deleted.recovery_id is not None:
            self._purge(name, within_s=PURGE_WITHIN_S)

    def _purge(self, name: str, *, within_s: float) -> None:
        """Purge a deleted secret, as soon as its deletion is complete. What hinders it is no error: it is deleted."""
        give_up_at = self._monotonic() + within_s
        while True:
            try:
                self._client.purge_deleted_secret(name)
            except AzureError as error:
                status = getattr(error, "status_code", None)
                if status in _STILL_BEING_DELETED and self._monotonic() < give_up_at:
                    self._sleep(_PURGE_POLL_S)
                    continue
                if within_s:
                    log.event("secret.notPurged", status=status, error=type(error).__name__)
            return

    def reachable(self) -> bool:
        try:
            self._client.get_secret("mc-readiness", retry_total=0)
        except ResourceNotFoundError:
            return True  # the vault answered, and let us look
        except AzureError:
            return False
        return True

    @property
    def _client(self) -> SecretClient:
        if self._made is None:
            self._made = open_vault(self._vault_url, self._credential)
        return self._made

    def _refused(self, error: HttpResponseError) -> NoReturn:
        """Say who has to do what where the vault does not let us in; raise every other fault as it is."""
        if isinstance(error, ClientAuthenticationError) or error.status_code == 403:
            raise SecretStoreError(
                f"The vault {self._vault_url} does not let this app in. Give the app's identity the role "
                "'Key Vault Secrets Officer' on the vault, and check the vault's network rules."
            ) from error
        raise error
