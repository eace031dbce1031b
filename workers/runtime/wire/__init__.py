"""Between the wire's messages and the worker's own terms, both ways; nothing behind this knows protobuf."""

from workers.runtime.wire.enums import BACKENDS
from workers.runtime.wire.events import Told, accepted, load_progress, receipt
from workers.runtime.wire.requests import generation, model_input, profile
from workers.runtime.wire.states import model_state, unserved

__all__ = [
    "BACKENDS",
    "Told",
    "accepted",
    "generation",
    "load_progress",
    "model_input",
    "model_state",
    "profile",
    "receipt",
    "unserved",
]
