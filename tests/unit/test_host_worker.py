"""What the local host's worker makes of what a function gives back."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import azure.functions as func
import pytest
from azure.functions.meta import Datum

from dev.host.loading import HttpTrigger, LoadedFunction
from dev.host.worker import Call, CallResult, Worker


def answer(value: Any) -> CallResult:
    """What comes of a function for HTTP that returns `value`."""

    async def function(message: str) -> Any:
        return value

    trigger = HttpTrigger(parameter="message", route="answers", methods=frozenset())
    loaded = LoadedFunction(
        "answers", Path(), function, trigger, outputs=(), takes_context=False, takes_plain_text=True, is_async=True
    )

    async def called() -> CallResult:
        return await Worker(1).invoke(Call("id", loaded, Datum("a message", "string"), {}))

    return asyncio.run(called())


@pytest.mark.parametrize("value", ["text", func.HttpResponse("text")], ids=["text", "a response"])
def test_what_the_binding_takes_is_answered(value: Any) -> None:
    reply = answer(value).reply
    assert reply is not None
    assert b"text" in str(reply.value).encode()


@pytest.mark.parametrize("value", [{"a": "dictionary"}, [1]], ids=["a dictionary", "a list"])
def test_what_the_binding_does_not_take_is_named(value: Any) -> None:
    with pytest.raises(TypeError, match=f"a value of type {type(value).__name__} cannot go to a binding of type http"):
        answer(value)
