"""Chooses the secret store that the settings name."""

from __future__ import annotations

from shared.secrets.cached import CachedSecretStore
from shared.secrets.key_vault import KeyVaultSecretStore
from shared.secrets.local import LocalSecretStore
from shared.settings import Settings, SettingsError
from shared.storage.clients import credential
from shared.storage.documents import Documents


def open_secret_store(settings: Settings, documents: Documents) -> CachedSecretStore:
    """Key Vault where KEY_VAULT_URL is set, else the encrypted local store, which is refused in Azure.

    Nothing is called yet. Raises SettingsError.
    """
    if settings.key_vault_url is not None:
        return CachedSecretStore(KeyVaultSecretStore(settings.key_vault_url, credential(settings.storage_client_id)))
    if settings.site_name is not None:
        raise SettingsError("The setting KEY_VAULT_URL is missing; the local secret store is not used in Azure.")
    return CachedSecretStore(LocalSecretStore(documents, settings.local_secret_key))
