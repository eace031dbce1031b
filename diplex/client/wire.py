"""How a client reaches a gateway: address, channel options, the RPCs' names, sizes and metadata."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from google.protobuf.message import Message
from google.protobuf.wrappers_pb2 import Int32Value, StringValue

from diplex import errors
from diplex.caller import CLIENT_KEY, LONGEST_CLIENT, is_client_name
from diplex.client.replies import Health
from diplex.client.tracing import trace_headers
from diplex.request_id import REQUEST_ID_KEY
from diplex.v1 import generation_pb2 as pb
from diplex.v1 import models_pb2 as models_pb

Reply = TypeVar("Reply", bound=Message)

DEFAULT_ADDRESS: Final = "127.0.0.1:50051"
"""Where ``diplex up`` listens."""

ADDRESS_VARIABLE: Final = "DIPLEX_ADDRESS"
"""Environment variable that names the gateway when the caller doesn't."""

CLIENT_VARIABLE: Final = "DIPLEX_CLIENT"
"""Environment variable that names the client when the caller doesn't."""

MAX_MESSAGE_BYTES: Final = 32 * 1024 * 1024
"""Default limit on a request's size, the same as the servers'."""

_LONGEST_RECONNECT_MS: Final = 2_000
"""A restarted gateway is found again after this at most; gRPC's own default is two minutes."""


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


def resolve_address(address: str | None) -> str:
    """The gateway's address: the argument, else ``$DIPLEX_ADDRESS``, else the default."""
    return address or os.environ.get(ADDRESS_VARIABLE) or DEFAULT_ADDRESS


def resolve_client_id(client_id: str | None) -> str:
    """The name that a client gives itself: the argument, else ``$DIPLEX_CLIENT``, else none.

    Raises:
        InvalidRequest: It is too long, or not of printable ASCII characters.
    """
    name = client_id or os.environ.get(CLIENT_VARIABLE) or ""
    if name and not is_client_name(name):
        raise errors.InvalidRequest.of_field(
            "client_id", f"must be 1 to {LONGEST_CLIENT} printable ASCII characters"
        )
    return name


def channel_options(address: str) -> list[tuple[str, int]]:
    """Options of a channel to ``address``."""
    options = [
        ("grpc.max_send_message_length", -1),  # serialized() checks, and says it better
        ("grpc.max_receive_message_length", -1),
        ("grpc.min_reconnect_backoff_ms", 100),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", _LONGEST_RECONNECT_MS),
        # A gateway that vanished without a word is noticed while a call waits for it.
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.http2.max_pings_without_data", 0),
    ]
    if address.startswith(("127.", "localhost:", "[::1]")):
        # gRPC honours $http_proxy, and no proxy reaches this machine's own loopback.
        options.append(("grpc.enable_http_proxy", 0))
    return options


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


def metadata(request_id: str | None, client_id: str) -> tuple[tuple[str, str], ...]:
    """A call's metadata."""
    given = ((REQUEST_ID_KEY, request_id or ""), (CLIENT_KEY, client_id))
    return (*((key, value) for key, value in given if value), *trace_headers())
