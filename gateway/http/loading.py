"""``/diplex/v1/models/load`` and ``unload``, for operators."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

from pydantic import Field

from diplex.v1 import generation_pb2, models_pb2
from gateway.caller import Caller
from gateway.http.endpoint import Request
from gateway.http.facts import encode, word
from gateway.http.fields import BACKENDS, PRECISIONS, BackendName, PrecisionName
from gateway.http.models import model_object
from gateway.http.parsing import Fields, parse
from gateway.http.reply import Reply
from gateway.models import Models


class ModelWanted(Fields):
    """Which model is to be loaded or unloaded, and where."""

    model: str = Field("", description="Name or alias, perhaps with a precision. Empty: the default.")
    backend: BackendName | None = Field(None, description="Of which backend. Not set: the best, or all.")
    precision: PrecisionName | None = Field(
        None, description="At which precision. Not set: the best, or all."
    )


class Loading:
    """Loads and unloads models.

    Args:
        models: Does it.
    """

    def __init__(self, models: Models) -> None:
        self._models = models

    async def load(self, request: Request, caller: Caller, reply: Reply) -> None:
        """``POST /diplex/v1/models/load``: events with the progress, and a last one with the model."""
        wanted = parse(ModelWanted, request.body, {})
        events = self._models.load(
            models_pb2.LoadModelRequest(
                model=wanted.model,
                backend=BACKENDS[wanted.backend or "auto"],
                precision=PRECISIONS.get(wanted.precision or "", generation_pb2.PRECISION_UNSPECIFIED),
            ),
            caller,
        )
        async with aclosing(events):
            async for event in events:
                if not reply.code:
                    await reply.begin_events()
                await reply.events(f"data: {encode(_event(event))}\n\n".encode())
        await reply.end_events()

    async def unload(self, request: Request, caller: Caller, reply: Reply) -> None:
        """``POST /diplex/v1/models/unload``; answers once the memory is free."""
        wanted = parse(ModelWanted, request.body, {})
        await self._models.unload(
            models_pb2.UnloadModelRequest(
                model=wanted.model,
                backend=BACKENDS[wanted.backend or "auto"],
                precision=PRECISIONS.get(wanted.precision or "", generation_pb2.PRECISION_UNSPECIFIED),
            ),
            caller,
        )
        await reply.whole(b"{}")


def _event(event: models_pb2.LoadModelResponse) -> dict[str, Any]:
    if event.HasField("model"):
        return {"model": model_object(event.model)}
    progress = event.progress
    return {
        "progress": {
            "phase": word(generation_pb2.LoadPhase, progress.phase),
            "done": progress.done,
            "total": progress.total if progress.HasField("total") else None,
            "detail": progress.detail,
            "eta_seconds": progress.eta.ToNanoseconds() / 1e9 if progress.HasField("eta") else None,
        }
    }
