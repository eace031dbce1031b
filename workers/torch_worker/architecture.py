"""Which class of transformers stands for a checkpoint."""

from __future__ import annotations

from typing import Any

from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    PretrainedConfig,
)

from diplex.errors import UnsupportedModel


def model_class(config: PretrainedConfig) -> Any:
    """The automatic class that builds the model: with eyes if the checkpoint has them.

    Raises:
        UnsupportedModel: It isn't a model that goes on with a text.
    """
    if type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        return AutoModelForImageTextToText
    if type(config) in MODEL_FOR_CAUSAL_LM_MAPPING:
        return AutoModelForCausalLM
    raise UnsupportedModel(
        f"{config.model_type} is no architecture that generates text in this version of transformers"
    )


def attention_by_part(config: PretrainedConfig, text: str) -> str | dict[str, str]:
    """Which attention each part of a model is built with: the decoder's own, elsewhere the library's.

    Args:
        config: The model's.
        text: Name of the decoder's attention.
    """
    if config.get_text_config(decoder=True) is config:
        return text
    parts = {name: "sdpa" for name in config.sub_configs if getattr(config, name, None) is not None}
    return {"": "sdpa", **parts, "text_config": text}
