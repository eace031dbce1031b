"""What the settings of a published folder say, wherever exporters put it."""

from __future__ import annotations

from typing import Final

from workers.runtime.checkpoint import SEEING, CheckpointFolder, Settings

_TEXT_SECTIONS: Final = ("text_config", "llm_config")
"""Where settings of the language model stand in those of a model with eyes."""
_CONTEXTS: Final = ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length")
_DEFAULT_CONTEXT: Final = 2048
"""Of a model that doesn't say how many tokens it takes."""


def text_settings(config: Settings) -> Settings:
    """Settings of the language model."""
    section = next((key for key in _TEXT_SECTIONS if key in config.keys), None)
    return config if section is None else config.section(section)


def context_length(config: Settings) -> int:
    """Tokens that a sequence can have."""
    text = text_settings(config)
    return next(filter(None, (text.get(key, int) for key in _CONTEXTS)), _DEFAULT_CONTEXT)


def sees(checkpoint: CheckpointFolder) -> bool:
    """Whether it is known how a picture becomes the model's pixels."""
    return checkpoint.model_type in SEEING
