"""``/v1/models``."""

from __future__ import annotations

from typing import Any

from diplex.v1 import generation_pb2, models_pb2
from gateway.caller import Caller
from gateway.http.endpoint import Request
from gateway.http.facts import encode, word
from gateway.http.reply import Reply
from gateway.inference import Inference


class ModelList:
    """Tells of models.

    Args:
        inference: Knows them.
    """

    def __init__(self, inference: Inference) -> None:
        self._inference = inference

    async def all(self, _: Request, caller: Caller, reply: Reply) -> None:
        """``GET /v1/models``."""
        known = self._inference.list_models(caller)
        body = {"object": "list", "data": [_model(model, known.default_model) for model in known.models]}
        await reply.whole(encode(body).encode())

    async def one(self, request: Request, caller: Caller, reply: Reply) -> None:
        """``GET /v1/models/{name}``."""
        wanted = models_pb2.GetModelRequest(model=request.path["name"])
        model = self._inference.get_model(wanted, caller).model
        await reply.whole(encode(_model(model)).encode())


def _model(model: models_pb2.Model, default: str = "") -> dict[str, Any]:
    """A model as OpenAI's clients know them, and under ``diplex`` what there is to know."""
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
    slots = deployment.slots
    return {
        "worker": deployment.worker,
        "backend": word(generation_pb2.Backend, deployment.backend),
        "precision": word(generation_pb2.Precision, deployment.precision),
        "state": word(models_pb2.ModelState, deployment.state),
        "slots": {"total": slots.total, "busy": slots.busy, "queued": slots.queued},
        "loaded_bytes": deployment.loaded_bytes,
    }
