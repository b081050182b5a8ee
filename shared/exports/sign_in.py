"""The engine's side of a destination's Mailchimp sign-in: its token, and what happens when Mailchimp refuses it."""

from __future__ import annotations

from shared import log
from shared.destinations.model import SignInState
from shared.destinations.store import DestinationStore
from shared.mailchimp import SignInRefused
from shared.secrets.store import SecretNotFound, SecretStore


class SignIns:
    """Reads tokens from the secret store and marks sign-ins that are refused."""

    def __init__(self, destinations: DestinationStore, secrets: SecretStore) -> None:
        self._destinations = destinations
        self._secrets = secrets

    def token(self, secret_name: str) -> str:
        """The token. Raises SignInRefused when the secret is gone: nobody is signed in then."""
        try:
            return self._secrets.read(secret_name)
        except SecretNotFound:
            raise SignInRefused(
                "The Mailchimp sign-in of this destination was removed.",
                action="Sign in to Mailchimp again for this destination, then export again.",
            ) from None

    def newer(self, destination_id: str, secret_name: str, account_id: str) -> str | None:
        """The name of the secret that replaced ``secret_name``, if somebody signed in to the same account again."""
        found = self._destinations.find(destination_id)
        sign_in = found.destination.sign_in if found else None
        if sign_in is None or sign_in.state is not SignInState.CONNECTED or sign_in.account_id != account_id:
            return None
        return sign_in.secret_name if sign_in.secret_name != secret_name else None

    def refused(self, destination_id: str, secret_name: str, problem: str) -> None:
        """Mark the destination "sign in again" because of ``problem``, unless somebody has signed in meanwhile."""
        self._destinations.mark_needs_authentication(destination_id, problem, secret_name)
        log.warning("destination.signInRefused", destination=destination_id)
