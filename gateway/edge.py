"""The gRPC face of the gateway: methods for ``diplex.rpc``, with no logic of their own."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from diplex.rpc import Call
from diplex.v1 import generation_pb2, models_pb2
from gateway.inference import Inference


class GenerationEdge:
    """``diplex.v1.GenerationService``."""

    def __init__(self, inference: Inference) -> None:
        self._inference = inference

    async def generate(
        self, request: generation_pb2.GenerateRequest, call: Call
    ) -> generation_pb2.GenerateResponse:
        """Everything at once."""
        return await self._inference.generate_whole(
            request, request_id=call.request_id, timeout=call.timeout, client=call.client
        )

    def generate_stream(self, request: generation_pb2.GenerateRequest, call: Call) -> AsyncGenerator[bytes]:
        """As it is generated."""
        return self._inference.generate(
            request, request_id=call.request_id, timeout=call.timeout, client=call.client
        )

    async def count_tokens(
        self, request: generation_pb2.CountTokensRequest, call: Call
    ) -> generation_pb2.CountTokensResponse:
        """The number of tokens of an input."""
        return await self._inference.count_tokens(request, request_id=call.request_id, timeout=call.timeout)


class ModelEdge:
    """``diplex.v1.ModelService``."""

    def __init__(self, inference: Inference) -> None:
        self._inference = inference

    async def list_models(self, _: models_pb2.ListModelsRequest, __: Call) -> models_pb2.ListModelsResponse:
        """All models."""
        return self._inference.list_models()

    async def get_model(self, request: models_pb2.GetModelRequest, _: Call) -> models_pb2.GetModelResponse:
        """One model."""
        return self._inference.get_model(request)
