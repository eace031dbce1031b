"""A GGUF file as the reference reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
from gguf.quants import dequantize

from diplex.errors import UnsupportedModel
from workers.runtime.fidelity.traits import TRAITS


class GgufOrigin:
    """An :class:`~workers.runtime.fidelity.origin.Origin`.

    Args:
        path: The file.

    Raises:
        UnsupportedModel: It can't be read, or holds a model of a kind that the reference doesn't know.
    """

    def __init__(self, path: Path) -> None:
        try:
            reader = gguf.GGUFReader(path)
        except (ValueError, KeyError, IndexError) as error:
            message = f"{path.name} is no GGUF file that can be read: {error}"
            raise UnsupportedModel(message) from error
        self._tensors = {tensor.name: tensor for tensor in reader.tensors}
        self._settings = reader.fields
        self._architecture = str(self._settings["general.architecture"].contents())
        scaling = self._setting("rope.scaling.type", "none")
        if self._architecture not in TRAITS or scaling not in {"none", "linear", "longrope"}:
            message = f"{path.name} is no model that this reference knows"
            raise UnsupportedModel(message)
        self.traits = TRAITS[self._architecture]
        self.heads = int(self._setting("attention.head_count"))
        self.kv_heads = int(self._setting("attention.head_count_kv", self.heads))
        self.hidden = int(self._setting("embedding_length"))
        self.width = int(self._setting("attention.key_length", self.hidden // self.heads))
        self.layers = int(self._setting("block_count"))
        self.epsilon = float(self._setting("attention.layer_norm_rms_epsilon"))
        wide = self.layers == self.traits.layers_of_wide_scale
        self.divisor = float(np.sqrt(self.hidden / self.heads if wide else self.width))

    def has(self, name: str) -> bool:
        """See :class:`~workers.runtime.fidelity.origin.Origin`."""
        return name in self._tensors

    def floats(self, name: str, rows: Any = slice(None)) -> npt.NDArray[Any]:
        """See :class:`~workers.runtime.fidelity.origin.Origin`."""
        tensor = self._tensors[name]
        values: npt.NDArray[Any] = dequantize(tensor.data[rows], tensor.tensor_type)
        return values

    def window(self, layer: int) -> int | None:
        """See :class:`~workers.runtime.fidelity.origin.Origin`."""
        window = int(self._setting("attention.sliding_window", 0))
        period = int(self._setting("attention.sliding_window_pattern", self.traits.period))
        return window or None if period == 0 or layer % period < period - 1 else None

    def turning(self, *, local: bool) -> tuple[npt.NDArray[np.float64], float]:
        """See :class:`~workers.runtime.fidelity.origin.Origin`."""
        base, stretch = float(self._setting("rope.freq_base", 10000.0)), 1.0
        if self._setting("rope.scaling.type", "none") == "linear":
            stretch = float(self._setting("rope.scaling.factor"))
        if local and self.traits.local_base is not None:
            base, stretch = float(self._setting("rope.freq_base_swa", self.traits.local_base)), 1.0
        speeds = base ** (-np.arange(self.width // 2, dtype=np.float64) * 2 / self.width) / stretch
        for name in ("rope_freqs.weight", "rope_factors_short.weight"):
            if self.has(name):
                speeds /= self.floats(name)
        return speeds, float(self._setting("rope.scaling.attn_factor", 1.0))

    def _setting(self, key: str, default: Any = None) -> Any:
        field = self._settings.get(f"{self._architecture}.{key}")
        if field is None and default is None:
            message = f"the GGUF file lacks {self._architecture}.{key}"
            raise UnsupportedModel(message)
        return default if field is None else field.contents()
