"""``/v1/models``: once, or again after each change."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any, Final

from diplex.v1 import generation_pb2, models_pb2
from gateway.caller import Caller
from gateway.http.endpoint import Request
from gateway.http.facts import encode, word
from gateway.http.reply import Reply
from gateway.inference import Inference

_LIVE_SECONDS: Final = 50.0
"""After that a live list ends, and the client asks anew: rights may have changed, and proxies cut what is
silent for a minute."""
_PAUSE_SECONDS: Final = 0.2
"""Between two events of a live list."""


class ModelList:
    """Tells of models.

    Args:
        inference: Knows them.
    """

    def __init__(self, inference: Inference) -> None:
        self._inference = inference
        self._ending = asyncio.Event()

    async def all(self, request: Request, caller: Caller, reply: Reply) -> None:
        """``GET /v1/models``: one list, or events with one each if the client accepts events."""
        if "text/event-stream" in request.headers.get("accept", "").lower():
            await self._live(caller, reply)
            return
        await reply.whole(_listed(self._inference.list_models(caller)).encode())

    async def one(self, request: Request, caller: Caller, reply: Reply) -> None:
        """``GET /v1/models/{name}``."""
        wanted = models_pb2.GetModelRequest(model=request.path["name"])
        model = self._inference.get_model(wanted, caller).model
        await reply.whole(encode(model_object(model)).encode())

    def end(self) -> None:
        """Ends the live lists, for which a server that drains doesn't wait."""
        self._ending.set()

    async def _live(self, caller: Caller, reply: Reply) -> None:
        telling = asyncio.create_task(self._tell(caller, reply))
        ending = asyncio.create_task(self._ending.wait())
        try:
            await asyncio.wait((telling, ending), timeout=_LIVE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        finally:
            telling.cancel()
            ending.cancel()
            await asyncio.wait((telling, ending))
        if not telling.cancelled():
            telling.result()
        await reply.end_events()

    async def _tell(self, caller: Caller, reply: Reply) -> None:
        told = ""
        lists = self._inference.model_lists(caller)
        await reply.begin_events()
        async with aclosing(lists):
            async for known in lists:
                if (listed := _listed(known)) != told:
                    told = listed
                    await reply.events(f"data: {listed}\n\n".encode())
                await asyncio.sleep(_PAUSE_SECONDS)


def _listed(known: models_pb2.ListModelsResponse) -> str:
    data = [model_object(model, known.default_model) for model in known.models]
    return encode({"object": "list", "data": data})


def model_object(model: models_pb2.Model, default: str = "") -> dict[str, Any]:
    """A model as OpenAI's clients know them, and under ``diplex`` what there is to know.

    Args:
        model: As the core tells of it.
        default: Name of the model that serves requests which name none.
    """
    able = model.capabilities
    return {
        "id": model.name,
        "object": "model",
        "created": 0,
        "owned_by": "diplex",
        "diplex": {
            "default": model.name == default,
            "aliases": list(model.aliases),
            "architecture": model.architecture,
            "licence": model.licence,
            "chat": able.chat,
            "images": able.images,
            "tools": able.tools,
            "context_length": able.context_length,
            "deployments": [_deployment(each) for each in model.deployments],
        },
    }


def _deployment(deployment: models_pb2.ModelDeployment) -> dict[str, Any]:
    slots, rates = deployment.slots, deployment.rates
    return {
        "worker": deployment.worker,
        "backend": word(generation_pb2.Backend, deployment.backend),
        "precision": word(generation_pb2.Precision, deployment.precision),
        "state": word(models_pb2.ModelState, deployment.state),
        "detail": deployment.detail,
        "pinned": deployment.pinned,
        "slots": {"total": slots.total, "busy": slots.busy, "queued": slots.queued},
        "rates": {
            "prefill_tokens_per_second": rates.prefill_tokens_per_second,
            "decode_tokens_per_second": rates.decode_tokens_per_second,
        },
        "resident_bytes": deployment.resident_bytes,
        "predicted_bytes": deployment.predicted_bytes,
        "loaded_bytes": deployment.loaded_bytes,
    }
