"""Checkpoints as model hubs publish them: a folder with settings, a tokenizer and safetensors. numpy only."""

from workers.runtime.checkpoint.folder import CheckpointFolder
from workers.runtime.checkpoint.generation import GenerationSettings
from workers.runtime.checkpoint.language import SEEING, language_part
from workers.runtime.checkpoint.settings import Settings
from workers.runtime.checkpoint.tensors import TensorFolder
from workers.runtime.checkpoint.tokens import TokenSettings

__all__ = [
    "SEEING",
    "CheckpointFolder",
    "GenerationSettings",
    "Settings",
    "TensorFolder",
    "TokenSettings",
    "language_part",
]
