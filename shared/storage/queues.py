"""Messages to the app's own queues, with a delay where wanted (which a queue output binding cannot give)."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping
from contextlib import suppress

from azure.core.exceptions import ResourceExistsError, ResourceNotFoundError
from azure.storage.queue import QueueServiceClient

from shared.storage.names import QUEUES


class Queues:
    """Sends JSON messages in the encoding of host.json (base64). Messages carry references, never profiles."""

    def __init__(self, service: QueueServiceClient) -> None:
        self._service = service
        self._clients = {name: service.get_queue_client(name) for name in QUEUES}

    def ensure_queues(self) -> None:
        for client in self._clients.values():
            with suppress(ResourceExistsError):
                client.create_queue()

    def send(self, queue: str, message: Mapping[str, object], delay_s: float = 0) -> None:
        """Put ``message`` on ``queue``, visible after ``delay_s`` seconds (rounded up; at most seven days)."""
        text = b64encode(json.dumps(message, separators=(",", ":")).encode()).decode()
        delay = min(-int(-delay_s // 1), 7 * 24 * 3600)
        client, hidden_s = self._clients[queue], delay if delay > 0 else None
        try:
            client.send_message(text, visibility_timeout=hidden_s)
        except ResourceNotFoundError:  # a new installation; the Functions host makes the queues that it listens to
            with suppress(ResourceExistsError):
                client.create_queue()
            client.send_message(text, visibility_timeout=hidden_s)
