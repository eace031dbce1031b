"""The clients of a Diplex gateway, and what they take and give. Needs gRPC and protobuf only."""

from __future__ import annotations

from diplex.client.asynchronous import AsyncClient
from diplex.client.connection import ADDRESS_VARIABLE, DEFAULT_ADDRESS
from diplex.client.images import Image, ImageLike
from diplex.client.inputs import (
    Backend,
    Content,
    Conversation,
    GenerateOptions,
    Input,
    Message,
    MessageLike,
    Precision,
    RawPrompt,
    Role,
    TokenIds,
    Tool,
    ToolCall,
)
from diplex.client.models import (
    Candidate,
    Certificate,
    Deployment,
    Health,
    LoadPhase,
    LoadProgress,
    Model,
    ModelList,
    ModelState,
)
from diplex.client.replies import (
    Accepted,
    BatchResult,
    Choice,
    Delta,
    FinishReason,
    Generation,
    Receipt,
    Timings,
    TokenCount,
    TokenLogprob,
    ToolCallDelta,
    Usage,
)
from diplex.client.streams import AsyncStream, Stream
from diplex.client.synchronous import Client
from diplex.client.wire import MAX_MESSAGE_BYTES
from diplex.tls import Tls

__all__ = [
    "ADDRESS_VARIABLE",
    "DEFAULT_ADDRESS",
    "MAX_MESSAGE_BYTES",
    "Accepted",
    "AsyncClient",
    "AsyncStream",
    "Backend",
    "BatchResult",
    "Candidate",
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
    "ImageLike",
    "Input",
    "LoadPhase",
    "LoadProgress",
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
    "Tls",
    "TokenCount",
    "TokenIds",
    "TokenLogprob",
    "Tool",
    "ToolCall",
    "ToolCallDelta",
    "Usage",
]
