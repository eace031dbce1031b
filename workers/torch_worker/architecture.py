"""Which class of transformers stands for a checkpoint."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import nn
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.utils.generic import ModelOutput

from diplex.errors import UnsupportedModel

_LOOK_EVERY_TIME: Final = {"blip-2": "language_model", "kosmos-2": "text_model"}
"""Where the part of them is that doesn't."""
_FROM_PADDING: Final = ("kosmos-2",)
"""Their positions are counted from behind the padding token's id."""
_ADD_FEATURES: Final = ("qwen3_vl",)
"""Their decoders add features of pictures behind some layers."""


def model_class(config: PretrainedConfig) -> Any:
    """The automatic class that builds the model: with eyes if the checkpoint has them.

    Raises:
        UnsupportedModel: It isn't a model that goes on with a text.
    """
    if type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        return AutoModelForImageTextToText
    if type(config) in MODEL_FOR_CAUSAL_LM_MAPPING or is_foreign(config):
        return AutoModelForCausalLM
    raise UnsupportedModel(
        f"{config.model_type} is no architecture that generates text in this version of transformers"
    )


def text_part(model: PreTrainedModel) -> PreTrainedModel | TextPart | ShiftedPositions:
    """What goes on with embeddings: the model; a part of it where it takes no features of pictures."""
    kind = model.config.model_type
    if kind in _ADD_FEATURES:
        return TextPart(model.get_decoder(), model.get_output_embeddings())
    part = getattr(model, _LOOK_EVERY_TIME[kind]) if kind in _LOOK_EVERY_TIME else model
    assert isinstance(part, PreTrainedModel)  # noqa: S101  # it has a head of its own
    return ShiftedPositions(part) if kind in _FROM_PADDING else part


class TextPart(nn.Module):
    """A decoder with its head, which takes what the whole model would take from its eyes alone.

    Args:
        decoder: Of the model.
        head: What makes logits.
    """

    def __init__(self, decoder: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.decoder = decoder
        self.head = head

    def get_decoder(self) -> nn.Module:
        """The part without the head."""
        return self.decoder

    def forward(self, **given: Any) -> CausalLMOutputWithPast:
        """What the decoder takes; gives logits."""
        return CausalLMOutputWithPast(logits=self.head(self.decoder(**given).last_hidden_state))


class ShiftedPositions(nn.Module):
    """A model whose first position isn't 0.

    Args:
        model: Takes positions that are counted from behind its padding token's id.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model
        self._first = model.config.pad_token_id + 1

    def get_decoder(self) -> nn.Module:
        """The part without the head."""
        return self.model.get_decoder()

    def forward(self, position_ids: torch.Tensor, **given: Any) -> ModelOutput:
        """What the model takes, with positions counted from 0."""
        return self.model(position_ids=position_ids + self._first, **given)


def is_foreign(config: PretrainedConfig) -> bool:
    """Whether the model's class is its publisher's, whose code was allowed to run when this was read."""
    own = type(config).__module__.startswith("transformers.")
    return not own and "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {})


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
