"""The gRPC face of the gateway: methods for ``diplex.rpc``, with no logic of their own."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from diplex.rpc import Call
from diplex.v1 import generation_pb2, models_pb2
from gateway import batch
from gateway.caller import Caller
from gateway.inference import Inference
from gateway.models import Models


class GenerationEdge:
    """``diplex.v1.GenerationService``."""

    def __init__(self, inference: Inference) -> None:
        self._inference = inference

    async def generate(
        self, request: generation_pb2.GenerateRequest, call: Call
    ) -> generation_pb2.GenerateResponse:
        """Everything at once."""
        return await self._inference.generate_whole(request, Caller.of(call))

    def generate_stream(self, request: generation_pb2.GenerateRequest, call: Call) -> AsyncGenerator[bytes]:
        """As it is generated."""
        return self._inference.generate(request, Caller.of(call))

    async def plan(self, request: generation_pb2.GenerateRequest, call: Call) -> generation_pb2.PlanResponse:
        """Who would serve it, and why the others would not."""
        return self._inference.plan(request, Caller.of(call))

    def generate_batch(
        self, request: generation_pb2.GenerateBatchRequest, call: Call
    ) -> AsyncGenerator[generation_pb2.GenerateBatchResponse]:
        """Many at once, each as it finishes."""
        return batch.generate(self._inference, request, Caller.of(call))

    async def count_tokens(
        self, request: generation_pb2.CountTokensRequest, call: Call
    ) -> generation_pb2.CountTokensResponse:
        """The number of tokens of an input."""
        return await self._inference.count_tokens(request, Caller.of(call))


class ModelEdge:
    """``diplex.v1.ModelService``."""

    def __init__(self, inference: Inference, models: Models) -> None:
        self._inference = inference
        self._models = models

    async def list_models(self, _: models_pb2.ListModelsRequest, call: Call) -> models_pb2.ListModelsResponse:
        """All models."""
        return self._inference.list_models(Caller.of(call))

    async def get_model(self, request: models_pb2.GetModelRequest, call: Call) -> models_pb2.GetModelResponse:
        """One model."""
        return self._inference.get_model(request, Caller.of(call))

    def load_model(
        self, request: models_pb2.LoadModelRequest, call: Call
    ) -> AsyncGenerator[models_pb2.LoadModelResponse]:
        """Loads a model, with progress."""
        return self._models.load(request, Caller.of(call))

    async def unload_model(
        self, request: models_pb2.UnloadModelRequest, call: Call
    ) -> models_pb2.UnloadModelResponse:
        """Unloads a model."""
        return await self._models.unload(request, Caller.of(call))
