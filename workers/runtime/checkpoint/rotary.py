"""Rotary position embeddings as ``config.json`` describes them.

Sources of the formulas: linear, https://arxiv.org/abs/2306.15595; Llama 3.1's bands,
https://arxiv.org/abs/2407.21783; YaRN, https://arxiv.org/abs/2309.00071; LongRoPE,
https://arxiv.org/abs/2402.13753; each with the defaults that transformers gives it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from diplex.errors import UnsupportedModel
from workers.runtime.checkpoint.settings import Settings

Doubles = npt.NDArray[np.float64]

DEFAULT_BASE: Final = 10000.0
_KNOWN: Final = "linear, llama3, yarn, longrope"


@dataclass(frozen=True, slots=True)
class RotaryEmbedding:
    """How positions turn queries and keys: pair i by ``base ** (-2 i / head_dim) / divisors[i]`` each."""

    base: float
    """Theta."""
    divisors: tuple[float, ...] | None = None
    """One a pair; ``None`` for ones."""
    magnitude: float = 1.0
    """What turned queries and keys are multiplied by."""
    context: int | None = None
    """Positions up to which this holds; ``None`` for all of the model's."""


def read_rotary(
    config: Settings, head_dim: int, *, kind: str = "", base: float = DEFAULT_BASE
) -> RotaryEmbedding:
    """The embedding of a model, or of its layers of one kind.

    Args:
        config: ``config.json``.
        head_dim: Width of a head.
        kind: As ``full_attention``, where kinds of layers have embeddings of their own.
        base: Theta if the settings name none.

    Raises:
        UnsupportedModel: It is scaled in a way that isn't known.
    """
    settings = _settings(config, kind)
    stated = settings.get("rope_theta", float)
    base = stated if stated is not None else config.get("rope_theta", float) or base
    partial = settings.get("partial_rotary_factor", float) or config.get("partial_rotary_factor", float)
    if partial not in {None, 1.0}:
        raise UnsupportedModel(f"{config.name}: rotary over {partial} of a head can't be converted")
    way = settings.get("rope_type", str) or settings.get("type", str) or "default"
    pairs = np.arange(0, head_dim, 2, dtype=np.float64) / head_dim
    match way:
        case "default":
            return RotaryEmbedding(base)
        case "linear":
            return RotaryEmbedding(base, (settings.require("factor", float),) * len(pairs))
        case "llama3":
            return RotaryEmbedding(base, _bands(settings, _original(config, settings), base**pairs))
        case "yarn":
            return _yarn(config, settings, base, pairs)
        case "longrope" | "su":
            return _long(config, settings, base, len(pairs))
    message = f"scales its rotary embedding by {way!r}, which can't be converted; supported are {_KNOWN}"
    raise UnsupportedModel(f"{config.name} {message}")


def _settings(config: Settings, kind: str) -> Settings:
    """Called ``rope_parameters`` since version 5 of transformers, and ``rope_scaling`` before."""
    settings = config.section("rope_parameters")
    if not settings.keys:
        settings = config.section("rope_scaling")
    return settings.section(kind) if kind and kind in settings.keys else settings


def _original(config: Settings, settings: Settings) -> int:
    """The context that the model had before it was stretched."""
    for place in (settings, config):
        if (found := place.get("original_max_position_embeddings", int)) is not None:
            return found
    return config.require("max_position_embeddings", int)


def _bands(settings: Settings, original: int, periods: Doubles) -> tuple[float, ...]:
    """Long wavelengths are stretched, short ones kept, and those between in between."""
    factor = settings.require("factor", float)
    low, high = settings.require("low_freq_factor", float), settings.require("high_freq_factor", float)
    turns = original / (2 * math.pi * periods)  # how often a pair turns over the original context
    kept = np.clip((turns - low) / (high - low), 0, 1)
    divisors = 1 / (kept + (1 - kept) / factor)
    return tuple(divisors.tolist())


def _yarn(config: Settings, settings: Settings, base: float, pairs: Doubles) -> RotaryEmbedding:
    factor, original = settings.require("factor", float), _original(config, settings)
    width = 2 * len(pairs)

    def pair_that_turns(times: float) -> float:
        return width * math.log(original / (times * 2 * math.pi)) / (2 * math.log(base))

    first = pair_that_turns(settings.get("beta_fast", float) or 32.0)
    last = pair_that_turns(settings.get("beta_slow", float) or 1.0)
    if settings.get("truncate", bool) is not False:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, width - 1)
    ramp = (np.arange(len(pairs)) - first) / (last - first if last != first else 0.001)
    stretched = np.clip(ramp, 0, 1)
    divisors = 1 / (stretched / factor + 1 - stretched)
    return RotaryEmbedding(base, tuple(divisors.tolist()), _yarn_magnitude(settings, factor))


def _yarn_magnitude(settings: Settings, factor: float) -> float:
    def magnitude(scale: float) -> float:
        return 0.1 * scale * math.log(factor) + 1 if factor > 1 else 1.0

    stated = settings.get("attention_factor", float)
    if stated is not None:
        return stated
    scale, whole = settings.get("mscale", float), settings.get("mscale_all_dim", float)
    return magnitude(scale) / magnitude(whole) if scale and whole else magnitude(1.0)


def _long(config: Settings, settings: Settings, base: float, pairs: int) -> RotaryEmbedding:
    """LongRoPE's two sets of divisors can't be mixed in one cache: contexts are the short ones'."""
    original = _original(config, settings)
    factor = settings.get("factor", float)
    if factor is None:
        factor = config.require("max_position_embeddings", int) / original
    magnitude = settings.get("attention_factor", float)
    if magnitude is None:
        magnitude = math.sqrt(1 + math.log(factor) / math.log(original)) if factor > 1 else 1.0
    divisors = settings.require("short_factor", list)
    if len(divisors) != pairs or not all(isinstance(value, int | float) for value in divisors):
        raise UnsupportedModel(f"{settings.name}: short_factor should be {pairs} numbers")
    return RotaryEmbedding(base, tuple(float(value) for value in divisors), magnitude, original)
