"""The clients of a Diplex gateway, and what they take and give. Needs gRPC and protobuf only."""

from __future__ import annotations

from diplex.client.asynchronous import AsyncClient
from diplex.client.inputs import (
    Backend,
    Content,
    Conversation,
    GenerateOptions,
    Image,
    Input,
    Message,
    MessageLike,
    Precision,
    RawPrompt,
    Role,
    TokenIds,
)
from diplex.client.replies import (
    Accepted,
    Certificate,
    Choice,
    Delta,
    Deployment,
    FinishReason,
    Generation,
    Health,
    Model,
    ModelList,
    ModelState,
    Receipt,
    Timings,
    TokenCount,
    TokenLogprob,
    Usage,
)
from diplex.client.streams import AsyncStream, Stream
from diplex.client.synchronous import Client
from diplex.client.wire import ADDRESS_VARIABLE, DEFAULT_ADDRESS, MAX_MESSAGE_BYTES

__all__ = [
    "ADDRESS_VARIABLE",
    "DEFAULT_ADDRESS",
    "MAX_MESSAGE_BYTES",
    "Accepted",
    "AsyncClient",
    "AsyncStream",
    "Backend",
    "Certificate",
    "Choice",
    "Client",
    "Content",
    "Conversation",
    "Delta",
    "Deployment",
    "FinishReason",
    "GenerateOptions",
    "Generation",
    "Health",
    "Image",
    "Input",
    "Message",
    "MessageLike",
    "Model",
    "ModelList",
    "ModelState",
    "Precision",
    "RawPrompt",
    "Receipt",
    "Role",
    "Stream",
    "Timings",
    "TokenCount",
    "TokenIds",
    "TokenLogprob",
    "Usage",
]
