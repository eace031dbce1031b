"""Diplex: one gRPC door to an ONNX Runtime worker and a PyTorch worker; this package is contract and SDK.

``from diplex import AsyncClient, Client`` is the way in. The names below are loaded on first use, so that
``import diplex`` alone costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from diplex.client import (
        Accepted,
        AsyncClient,
        AsyncStream,
        Backend,
        BatchResult,
        Candidate,
        Choice,
        Client,
        Delta,
        FinishReason,
        Generation,
        Health,
        Image,
        Message,
        Model,
        ModelList,
        Precision,
        RawPrompt,
        Receipt,
        Role,
        Stream,
        TokenCount,
        TokenIds,
    )
    from diplex.errors import DiplexError

__all__ = [
    "Accepted",
    "AsyncClient",
    "AsyncStream",
    "Backend",
    "BatchResult",
    "Candidate",
    "Choice",
    "Client",
    "Delta",
    "DiplexError",
    "FinishReason",
    "Generation",
    "Health",
    "Image",
    "Message",
    "Model",
    "ModelList",
    "Precision",
    "RawPrompt",
    "Receipt",
    "Role",
    "Stream",
    "TokenCount",
    "TokenIds",
]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(
        import_module("diplex.errors" if name == "DiplexError" else "diplex.client"), name
    )
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
