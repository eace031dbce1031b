"""The weights of the eyes, as the graph builder wants them: those of the checkpoint, or equivalent ones."""

from __future__ import annotations

from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from workers.onnx_worker.convert.eyes.shape import EyesShape
from workers.runtime.checkpoint import TensorFolder

Floats = npt.NDArray[np.float32]

_TOWER: Final = "model.vision_model"
_LAYER_TENSORS: Final = {
    "norm1": "layer_norm1", "norm2": "layer_norm2", "q": "self_attn.q_proj", "k": "self_attn.k_proj",
    "v": "self_attn.v_proj", "out": "self_attn.out_proj", "up": "mlp.fc1", "down": "mlp.fc2",
}  # fmt: skip
_TENSORS: Final = {
    "patch": f"{_TOWER}.embeddings.patch_embedding",
    "positions": f"{_TOWER}.embeddings.position_embedding",
    "norm": f"{_TOWER}.post_layernorm",
    "connector": "model.connector.modality_projection.proj",
}


class Tower(Protocol):
    """Weights by name.

    ``patch``, ``layers.N.{q,k,v,out,up,down}`` and ``connector`` are matrices ``[outputs, inputs]`` with a
    bias ``[outputs]``; a patch's pixels are channel by channel, row by row. ``positions`` is what is added to
    each patch, ``[patches, hidden]``. ``layers.N.{norm1,norm2}`` and ``norm`` have a weight and a bias
    ``[hidden]``.
    """

    def weight(self, name: str) -> Floats:
        """The matrix or the weight of a norm."""

    def bias(self, name: str) -> Floats:
        """The bias; zeros where there is none."""

    def positions(self) -> Floats:
        """What is added to each patch."""


class CheckpointTower:
    """The weights of a checkpoint; a :class:`Tower`.

    Args:
        tensors: The checkpoint's.
        shape: The eyes' sizes.
    """

    def __init__(self, tensors: TensorFolder, shape: EyesShape) -> None:
        self._tensors = tensors
        self._shape = shape

    def weight(self, name: str) -> Floats:
        """See :class:`Tower`."""
        values = self._tensors.floats(f"{_stored(name)}.weight")
        return values.reshape(len(values), -1) if name == "patch" else values

    def bias(self, name: str) -> Floats:
        """See :class:`Tower`."""
        stored = f"{_stored(name)}.bias"
        if stored in self._tensors.names:
            return self._tensors.floats(stored)
        return np.zeros(len(self.weight(name)), np.float32)

    def positions(self) -> Floats:
        """See :class:`Tower`."""
        rows = self._tensors.floats(f"{_TENSORS['positions']}.weight")
        return rows[position_ids(self._shape.side)]


def position_ids(side: int) -> npt.NDArray[np.intp]:
    """Which position each patch of a whole tile has: ``[side * side]``, row by row.

    A patch's place is a float32 between 0 and 1 that is looked up among boundaries, so that where they aren't
    exact a patch can get its neighbour's position; what was trained with that is run with it. As
    transformers' ``Idefics3VisionEmbeddings``.
    """
    boundaries = np.arange(1 / side, 1.0, 1 / side).astype(np.float32)
    places = np.arange(side, dtype=np.float32) * np.float32(1 / side)
    buckets = np.searchsorted(boundaries, np.minimum(places, np.float32(1 - 1e-6)), side="right")
    ids: npt.NDArray[np.intp] = (buckets[:, None] * side + buckets[None, :]).reshape(-1)
    return ids


def tensor_shapes(shape: EyesShape) -> dict[str, tuple[int, ...]]:
    """Name in a checkpoint -> shape, of every tensor that the eyes consist of."""
    hidden, inner = shape.hidden, shape.feed_forward
    kernel = (hidden, shape.channels, shape.patch, shape.patch)
    shapes: dict[str, tuple[int, ...]] = {
        **_both("patch", kernel),
        f"{_TENSORS['positions']}.weight": (shape.patches, hidden),
        **_both("norm", (hidden,)),
        f"{_TENSORS['connector']}.weight": (shape.features, hidden * shape.scale**2),
    }
    for layer in range(shape.layers):
        sizes = dict.fromkeys(("q", "k", "v", "out"), (hidden, hidden))
        sizes |= {"up": (inner, hidden), "down": (hidden, inner)}
        for part in _LAYER_TENSORS:
            shapes |= _both(f"layers.{layer}.{part}", sizes.get(part, (hidden,)))
    return shapes


def _both(name: str, weight: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    return {f"{_stored(name)}.weight": weight, f"{_stored(name)}.bias": weight[:1]}


def _stored(name: str) -> str:
    match name.split("."):
        case ["layers", layer, part]:
            return f"{_TOWER}.encoder.layers.{layer}.{_LAYER_TENSORS[part]}"
    return _TENSORS[name]
