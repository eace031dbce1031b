"""The eyes of an Idefics3 checkpoint in plain numpy: the reference for what a backend makes of them.

Reads the checkpoint by itself and shares nothing with converters. After Zhai et al., "Sigmoid Loss for
Language Image Pre-Training", 2023, https://arxiv.org/abs/2303.15343 (the tower), and Laurençon et al.,
"Building and better understanding vision-language models", 2024, https://arxiv.org/abs/2408.12637 (the
connector).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from workers.runtime.checkpoint import CheckpointFolder

Array = npt.NDArray[Any]

_TOWER: Final = "model.vision_model"


class EyesReference:
    """Computes features of tiles.

    Args:
        folder: The checkpoint.
        dtype: What is computed in.

    Raises:
        UnsupportedModel: The checkpoint can't be read.
    """

    def __init__(self, folder: Path, dtype: npt.DTypeLike = np.float32) -> None:
        checkpoint = CheckpointFolder(folder)
        vision = checkpoint.config.section("vision_config")
        self._tensors = checkpoint.tensors
        self._dtype = dtype
        self._patch = vision.require("patch_size", int)
        self._heads = vision.require("num_attention_heads", int)
        self._layers = vision.get("num_hidden_layers", int) or 12
        self._epsilon = vision.get("layer_norm_eps", float) or 1e-6
        self._scale = checkpoint.config.require("scale_factor", int)

    def features(self, pixels: npt.NDArray[np.float32]) -> Array:
        """What a tile comes to: ``[rows, hidden]``.

        Args:
            pixels: The tile, ``[channels, side, side]``, normalised.
        """
        states = self._embedded(pixels.astype(self._dtype))
        for layer in range(self._layers):
            prefix = f"{_TOWER}.encoder.layers.{layer}"
            states = states + self._attention(prefix, self._norm(f"{prefix}.layer_norm1", states))
            inner = self._linear(f"{prefix}.mlp.fc1", self._norm(f"{prefix}.layer_norm2", states))
            states = states + self._linear(f"{prefix}.mlp.fc2", _gelu(inner))
        return self._connected(self._norm(f"{_TOWER}.post_layernorm", states))

    def _embedded(self, pixels: Array) -> Array:
        """Patches, row by row, and their positions."""
        channels, height, width = pixels.shape
        rows, columns, size = height // self._patch, width // self._patch, self._patch
        cut = pixels.reshape(channels, rows, size, columns, size).transpose(1, 3, 0, 2, 4)
        kernel = self._tensor(f"{_TOWER}.embeddings.patch_embedding.weight")
        patches = cut.reshape(rows * columns, -1) @ kernel.reshape(len(kernel), -1).T
        patches = patches + self._tensor(f"{_TOWER}.embeddings.patch_embedding.bias")
        positions = self._tensor(f"{_TOWER}.embeddings.position_embedding.weight")
        places = _bucketed(rows)[:, None] * rows + _bucketed(columns)
        embedded: Array = patches + positions[places.reshape(-1)]
        return embedded

    def _attention(self, prefix: str, states: Array) -> Array:
        heads = [
            self._linear(f"{prefix}.self_attn.{part}_proj", states)
            .reshape(len(states), self._heads, -1)
            .swapaxes(0, 1)
            for part in "qkv"
        ]
        queries, keys, values = heads
        scores = queries @ keys.swapaxes(1, 2) / np.sqrt(queries.shape[-1])
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        attended = (weights / weights.sum(axis=-1, keepdims=True)) @ values
        return self._linear(f"{prefix}.self_attn.out_proj", attended.swapaxes(0, 1).reshape(states.shape))

    def _connected(self, states: Array) -> Array:
        """Squares of neighbours become one row."""
        side, width = int(len(states) ** 0.5) // self._scale, states.shape[1]
        squares = states.reshape(side, self._scale, side, self._scale, width).swapaxes(1, 2)
        projection = self._tensor("model.connector.modality_projection.proj.weight")
        features: Array = squares.reshape(side * side, -1) @ projection.T
        return features

    def _norm(self, name: str, states: Array) -> Array:
        centred = states - states.mean(axis=-1, keepdims=True)
        deviation = np.sqrt(np.square(centred).mean(axis=-1, keepdims=True) + self._epsilon)
        normed: Array = centred / deviation * self._tensor(f"{name}.weight") + self._tensor(f"{name}.bias")
        return normed

    def _linear(self, name: str, states: Array) -> Array:
        product: Array = states @ self._tensor(f"{name}.weight").T + self._tensor(f"{name}.bias")
        return product

    def _tensor(self, name: str) -> Array:
        return self._tensors.floats(name).astype(self._dtype)


def _bucketed(patches: int) -> Array:
    """Positions of patches along a side, by the float32 arithmetic that models were trained with."""
    boundaries = np.arange(1 / patches, 1.0, 1 / patches).astype(np.float32)
    places = np.arange(patches, dtype=np.float32) * np.float32(1 / patches)
    positions: Array = np.digitize(np.minimum(places, np.float32(1 - 1e-6)), boundaries)
    return positions


def _gelu(values: Array) -> Array:
    """GELU in its tanh form, Hendrycks and Gimpel, 2016, https://arxiv.org/abs/1606.08415."""
    inner = np.sqrt(2 / np.pi) * (values + 0.044715 * values**3)
    active: Array = values * (1 + np.tanh(inner)) / 2
    return active
