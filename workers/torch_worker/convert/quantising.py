"""Quantises while transformers loads: each matrix becomes integers as it is read, and its floats go."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.core_model_loading import ConversionOps
from transformers.quantizers.auto import register_quantization_config, register_quantizer
from transformers.quantizers.base import HfQuantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

from workers.torch_worker.int8 import quantise_rows

METHOD: Final = "diplex_int8"

Rows = tuple[torch.Tensor, torch.Tensor]
"""int8 ``[rows, columns]`` and float32 ``[rows]``."""


class Quantised:
    """The matrices of a checkpoint that is being loaded, by the names that the model has for them."""

    _collector: Quantised | None = None

    def __init__(self) -> None:
        self._rows: dict[str, Rows] = {}

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """Lets a load with :class:`Int8Config` put its matrices here."""
        Quantised._collector = self
        try:
            yield
        finally:
            Quantised._collector = None

    @classmethod
    def put(cls, name: str, rows: Rows) -> None:
        """Takes a matrix of the load that goes on."""
        assert cls._collector is not None  # noqa: S101  # loads with our configuration are all collected
        cls._collector._rows[name] = rows  # noqa: SLF001  # its own class

    def take(self, name: str) -> Rows | None:
        """Hands a matrix out, once."""
        return self._rows.pop(name, None)


@register_quantization_config(METHOD)
class Int8Config(QuantizationConfigMixin):
    """Tells transformers to quantise with :class:`Int8Quantiser`."""

    def __init__(self, **_: Any) -> None:
        self.quant_method: Any = METHOD  # not one of transformers' own


@register_quantizer(METHOD)
class Int8Quantiser(HfQuantizer):
    """Takes the weights of all linear layers out of a load."""

    requires_calibration = False

    def param_needs_quantization(self, model: PreTrainedModel, param_name: str, **__: Any) -> bool:
        """Whether it is a matrix of a linear layer, other than one that is tied to the embedding."""
        parent, _, last = param_name.rpartition(".")
        module = model.get_submodule(parent)
        configs = (model.config, model.config.get_text_config())  # families say it in one or the other
        tied = any(getattr(config, "tie_word_embeddings", False) for config in configs)
        if tied and module is model.get_output_embeddings():
            return False
        return last == "weight" and isinstance(module, nn.Linear)

    def get_quantize_ops(self) -> ConversionOps:
        """What is done to such a matrix."""
        return _TakeRows()

    def is_serializable(self) -> bool:
        """Transformers needs not know how to write it."""
        return False

    @property
    def is_trainable(self) -> bool:
        """It isn't."""
        return False


class _TakeRows(ConversionOps):
    def convert(
        self,
        input_dict: dict[str, Any],
        source_patterns: list[str],
        target_patterns: list[str],
        full_layer_name: str = "",
        missing_keys: set[str] | None = None,
        **_: Any,
    ) -> dict[str, list[torch.Tensor]]:
        del source_patterns, target_patterns  # the layer's own name says all
        [value] = input_dict.values()
        Quantised.put(full_layer_name, quantise_rows(value[0] if isinstance(value, list) else value))
        if missing_keys is not None:
            missing_keys.discard(full_layer_name)
        return {}
