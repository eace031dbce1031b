"""What goes between a client and a gateway: the RPCs' names, their messages' bytes and sizes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from google.protobuf.message import Message
from google.protobuf.wrappers_pb2 import Int32Value, StringValue

from diplex import errors
from diplex.client.models import Health
from diplex.v1 import generation_pb2 as pb
from diplex.v1 import models_pb2 as models_pb

Reply = TypeVar("Reply", bound=Message)

MAX_MESSAGE_BYTES: Final = 32 * 1024 * 1024
"""Default limit on a request's size, the same as the servers'."""


@dataclass(frozen=True, slots=True)
class Method(Generic[Reply]):
    """One RPC: its path, and what makes its reply of bytes. Requests are given to gRPC as bytes."""

    path: str
    parse: Callable[[bytes], Reply]


GENERATE: Final = Method("/diplex.v1.GenerationService/Generate", pb.GenerateResponse.FromString)
STREAM: Final = Method("/diplex.v1.GenerationService/GenerateStream", pb.GenerateStreamResponse.FromString)
PLAN: Final = Method("/diplex.v1.GenerationService/Plan", pb.PlanResponse.FromString)
BATCH: Final = Method("/diplex.v1.GenerationService/GenerateBatch", pb.GenerateBatchResponse.FromString)
COUNT: Final = Method("/diplex.v1.GenerationService/CountTokens", pb.CountTokensResponse.FromString)
LIST_MODELS: Final = Method("/diplex.v1.ModelService/ListModels", models_pb.ListModelsResponse.FromString)
GET_MODEL: Final = Method("/diplex.v1.ModelService/GetModel", models_pb.GetModelResponse.FromString)
LOAD_MODEL: Final = Method("/diplex.v1.ModelService/LoadModel", models_pb.LoadModelResponse.FromString)
UNLOAD_MODEL: Final = Method("/diplex.v1.ModelService/UnloadModel", models_pb.UnloadModelResponse.FromString)

# grpc.health.v1 without a package of its own: HealthCheckRequest {string service = 1} has the bytes of a
# StringValue, HealthCheckResponse {enum status = 1} those of an Int32Value
# (https://github.com/grpc/grpc/blob/master/doc/health-checking.md).
HEALTH_CHECK: Final = Method("/grpc.health.v1.Health/Check", Int32Value.FromString)
HEALTH_WATCH: Final = Method("/grpc.health.v1.Health/Watch", Int32Value.FromString)

_HEALTH: Final = (Health.UNKNOWN, Health.SERVING, Health.NOT_SERVING, Health.SERVICE_UNKNOWN)


def health_request(service: str) -> StringValue:
    """Asks for a service's health; an empty name for the server's as a whole."""
    return StringValue(value=service)


def health(reply: Int32Value) -> Health:
    """The health that a reply tells; ``UNKNOWN`` for a number that is not in the protocol."""
    return _HEALTH[reply.value] if 0 <= reply.value < len(_HEALTH) else Health.UNKNOWN


def as_it_is(data: bytes) -> bytes:
    """The request serializer of every call: :func:`serialized` has made the bytes already."""
    return data


def serialized(request: Message, *, limit: int) -> bytes:
    """A request's bytes.

    Raises:
        MessageTooLarge: They are more than ``limit``.
    """
    data = request.SerializeToString()
    if len(data) > limit:
        raise errors.MessageTooLarge(
            f"the request has {len(data)} bytes and the limit is {limit} (max_message_bytes of the client)",
            metadata={"bytes": str(len(data)), "limit": str(limit)},
        )
    return data
