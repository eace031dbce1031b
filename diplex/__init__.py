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
    from diplex.model_manager import BackendType, ModelManager, get_model_manager

__all__ = [
    "Accepted",
    "AsyncClient",
    "AsyncStream",
    "Backend",
    "BackendType",
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
    "ModelManager",
    "Precision",
    "RawPrompt",
    "Receipt",
    "Role",
    "Stream",
    "TokenCount",
    "TokenIds",
    "get_model_manager",
]

_ELSEWHERE = {
    "BackendType": "diplex.model_manager",
    "DiplexError": "diplex.errors",
    "ModelManager": "diplex.model_manager",
    "get_model_manager": "diplex.model_manager",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(_ELSEWHERE.get(name, "diplex.client")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
