"""Calls an application as the Functions host does: through the adapter of Microsoft's library, which buffers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import azure.functions as func
from fastapi import FastAPI


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer; ``headers`` by lower-case name."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


R = TypeVar("R", bound=Reply)
Run = Callable[[Coroutine[Any, Any, func.HttpResponse]], func.HttpResponse]


class Adapter(Generic[R]):
    """Makes a ``kind`` of every answer. ``run`` is what a call runs in: an event loop of its own unless it is given."""

    def __init__(self, app: FastAPI, kind: type[R], run: Run = asyncio.run) -> None:
        self._middleware = func.AsgiMiddleware(app)
        self._kind = kind
        self._run = run

    def call(self, method: str, url: str, headers: Mapping[str, str], body: Any = None, raw: bytes = b"") -> R:
        """``body`` is sent as JSON, ``raw`` as it is."""
        sent = dict(headers)
        if body is not None:
            raw, sent = json.dumps(body).encode(), {"Content-Type": "application/json", **sent}
        request = func.HttpRequest(method=method, url=url, headers=sent, body=raw)
        answer = self._run(self._middleware.handle_async(request))
        found = {name.lower(): value for name, value in answer.headers.items()}
        return self._kind(answer.status_code, found, answer.get_body())
