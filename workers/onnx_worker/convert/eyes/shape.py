"""Sizes and constants of a pair of eyes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from diplex.errors import UnsupportedModel
from workers.runtime.checkpoint import Settings

_ACTIVATION: Final = "gelu_pytorch_tanh"
_SECTION: Final = "vision_config"

_HIDDEN, _FEED_FORWARD, _LAYERS, _HEADS = 1152, 3072, 12, 16
_IMAGE, _PATCH, _CHANNELS, _EPSILON, _SCALE = 224, 32, 3, 1e-6, 2
"""What transformers' ``Idefics3VisionConfig`` takes for what a file leaves out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EyesShape:
    """Of one model."""

    tile: int
    """Pixels along a side of a tile."""
    patch: int
    """Pixels along a side of a patch."""
    channels: int
    hidden: int
    """Width of the tower's residual stream."""
    feed_forward: int
    layers: int
    heads: int
    epsilon: float
    """Added to the variance before a norm divides by its root."""
    scale: int
    """Patches along a side of the squares that become one row of features."""
    features: int
    """Width of a row of features: of the language model's residual stream."""

    @property
    def side(self) -> int:
        """Patches along a side of a tile."""
        return self.tile // self.patch

    @property
    def patches(self) -> int:
        """Patches of a tile."""
        return self.side**2

    @property
    def head_dim(self) -> int:
        """Width of a head."""
        return self.hidden // self.heads

    @property
    def rows(self) -> int:
        """Rows of features that a tile comes to."""
        return (self.side // self.scale) ** 2

    @classmethod
    def of(cls, config: Settings, features: int) -> EyesShape:
        """Read ``config.json`` of an Idefics3 or SmolVLM model.

        Args:
            config: The file.
            features: Width of the language model.

        Raises:
            UnsupportedModel: It describes eyes that can't be converted.
        """
        vision = config.section(_SECTION)
        activation = vision.get("hidden_act", str) or _ACTIVATION
        if activation != _ACTIVATION:
            raise UnsupportedModel(
                f"the eyes' activation {activation!r} isn't supported, only {_ACTIVATION!r}"
            )
        shape = cls(
            tile=vision.get("image_size", int) or _IMAGE,
            patch=vision.get("patch_size", int) or _PATCH,
            channels=vision.get("num_channels", int) or _CHANNELS,
            hidden=vision.get("hidden_size", int) or _HIDDEN,
            feed_forward=vision.get("intermediate_size", int) or _FEED_FORWARD,
            layers=vision.get("num_hidden_layers", int) or _LAYERS,
            heads=vision.get("num_attention_heads", int) or _HEADS,
            epsilon=vision.get("layer_norm_eps", float) or _EPSILON,
            scale=config.get("scale_factor", int) or _SCALE,
            features=features,
        )
        if shape.tile % (shape.patch * shape.scale) or shape.hidden % shape.heads:
            raise UnsupportedModel(
                f"tiles of {shape.tile} pixels, patches of {shape.patch}, {shape.scale} a side together, "
                f"and {shape.heads} heads in {shape.hidden} elements don't divide evenly"
            )
        return shape
