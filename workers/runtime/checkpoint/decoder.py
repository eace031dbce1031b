"""The decoders of text that ``config.json`` can describe: their sizes, and what sets the families apart.

What a family computes is fixed by its ``model_type``, since that names one class of transformers; so settings
that such a class doesn't read are of no consequence, and those that it reads are here, or refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from diplex.errors import UnsupportedModel
from workers.runtime.checkpoint.rotary import DEFAULT_BASE, RotaryEmbedding, read_rotary
from workers.runtime.checkpoint.settings import Settings

_SLIDING: Final = "sliding_attention"
_FULL: Final = "full_attention"


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderFamily:
    """What a ``model_type`` says beside the settings. The defaults are Llama's."""

    epsilon: float = 1e-6
    """Of norms, if the settings don't say."""
    tied: bool = False
    """Whether the embedding is the head, if the settings don't say."""
    gelu: bool = False
    """Whether the gate goes through GELU in its tanh form, and not through SiLU."""
    norm_offset: float = 0.0
    """Added to the weights of norms."""
    embedding_scaled: bool = False
    """Whether embeddings are multiplied by the root of their width."""
    local_base: float | None = None
    """Theta in layers with a window, if it is one of its own and the settings don't say."""
    base: float = DEFAULT_BASE
    """Theta of the others, if the settings don't say."""
    period: int = 0
    """With a window: each period's last layer sees everything, if the settings don't say; 0: none does."""


FAMILIES: Final[Mapping[str, DecoderFamily]] = {
    "llama": DecoderFamily(),
    "mistral": DecoderFamily(),
    "qwen2": DecoderFamily(),
    "qwen3": DecoderFamily(),
    "phi3": DecoderFamily(epsilon=1e-5),
    "gemma": DecoderFamily(tied=True, gelu=True, norm_offset=1.0, embedding_scaled=True),
    "gemma3_text": DecoderFamily(
        tied=True, gelu=True, norm_offset=1.0, embedding_scaled=True, local_base=10000.0, base=1e6, period=6
    ),
}
"""``model_type`` -> family."""

SUPPORTED: Final = f"supported are checkpoints of text models of the types {', '.join(FAMILIES)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoder:
    """One model."""

    model_type: str
    family: DecoderFamily
    layers: int
    hidden: int
    """Width of the residual stream."""
    feed_forward: int
    heads: int
    kv_heads: int
    head_dim: int
    context: int
    """Most tokens in one sequence."""
    epsilon: float
    tied: bool
    rotary: RotaryEmbedding
    """Of layers that see everything."""
    local_rotary: RotaryEmbedding
    """Of layers with a window."""
    windows: tuple[int | None, ...]
    """One a layer: the tokens that a token sees, itself among them; ``None`` for all."""
    attention_scale: float | None
    """What products of queries and keys are multiplied by; ``None`` for ``1 / sqrt(head_dim)``."""


def read_decoder(config: Settings) -> Decoder:
    """The model that ``config.json`` describes.

    Raises:
        UnsupportedModel: It is of another type, or has a setting that changes what is computed.
    """
    kind = config.require("model_type", str)
    if kind not in FAMILIES:
        raise UnsupportedModel(
            f"{config.name} has model_type {kind!r}, which can't be converted; {SUPPORTED}"
        )
    family = FAMILIES[kind]
    _refuse_variants(config, kind)
    hidden, heads = _count(config, "hidden_size"), _count(config, "num_attention_heads")
    head_dim = config.get("head_dim", int) or hidden // heads
    context = _count(config, "max_position_embeddings")
    rotary = read_rotary(config, head_dim, kind=_FULL, base=family.base)
    layers = _count(config, "num_hidden_layers")
    stated = config.get("tie_word_embeddings", bool)
    return Decoder(
        model_type=kind,
        family=family,
        layers=layers,
        hidden=hidden,
        feed_forward=_count(config, "intermediate_size"),
        heads=heads,
        kv_heads=_count(config, "num_key_value_heads", heads),
        head_dim=head_dim,
        context=min(context, rotary.context or context),
        epsilon=config.get("rms_norm_eps", float) or family.epsilon,
        tied=family.tied if stated is None else stated,
        rotary=rotary,
        local_rotary=_local_rotary(config, head_dim, family, rotary),
        windows=_windows(config, kind, layers, context),
        attention_scale=_scale(config, head_dim),
    )


def _local_rotary(
    config: Settings, head_dim: int, family: DecoderFamily, rotary: RotaryEmbedding
) -> RotaryEmbedding:
    if family.local_base is None:
        return rotary
    if _SLIDING in config.section("rope_parameters").keys:
        return read_rotary(config, head_dim, kind=_SLIDING, base=family.local_base)
    return RotaryEmbedding(config.get("rope_local_base_freq", float) or family.local_base)


def _windows(config: Settings, kind: str, layers: int, context: int) -> tuple[int | None, ...]:
    window = config.get("sliding_window", int)
    everywhere = (None,) * layers
    if kind in {"llama", "gemma"} or window is None or window >= context:
        return everywhere
    if kind.startswith("qwen"):
        if config.get("use_sliding_window", bool):
            raise UnsupportedModel(f"{config.name}: use_sliding_window can't be converted")
        return everywhere
    period = config.get("sliding_window_pattern", int) or FAMILIES[kind].period
    kinds = config.get("layer_types", list) or [
        _FULL if period and (layer + 1) % period == 0 else _SLIDING for layer in range(layers)
    ]
    if len(kinds) != layers or not set(kinds) <= {_FULL, _SLIDING}:
        raise UnsupportedModel(f"{config.name}: layer_types should name {_FULL} or {_SLIDING} for each layer")
    return tuple(window if each == _SLIDING else None for each in kinds)


def _scale(config: Settings, head_dim: int) -> float | None:
    scalar = config.get("query_pre_attn_scalar", float)
    return None if scalar is None or scalar == head_dim else scalar**-0.5


def _refuse_variants(config: Settings, kind: str) -> None:
    activation = config.get("hidden_activation", str) or config.get("hidden_act", str)
    known = {"gelu_pytorch_tanh", "gelu_new"} if FAMILIES[kind].gelu else {"silu", "swish"}
    if kind == "gemma":  # whose first releases mean the tanh form by it
        known.add("gelu")
    wrong = [
        (activation not in {None, *known}, f"the activation {activation!r}"),
        (config.get("attention_bias", bool), "attention_bias"),
        (config.get("mlp_bias", bool), "mlp_bias"),
        (config.get("use_bidirectional_attention", bool), "use_bidirectional_attention"),
        ("attn_logit_softcapping" in config.keys, "attn_logit_softcapping"),
        ("final_logit_softcapping" in config.keys, "final_logit_softcapping"),
        ("quantization_config" in config.keys, "quantised weights (quantization_config)"),
    ]
    if found := [what for is_wrong, what in wrong if is_wrong]:
        raise UnsupportedModel(
            f"{config.name} asks for {', '.join(found)}, which can't be converted; {SUPPORTED}"
        )


def _count(config: Settings, key: str, default: int | None = None) -> int:
    value = config.get(key, int)
    value = config.require(key, int) if value is None and default is None else value
    count = default if value is None else value
    if count is None or count < 1:
        raise UnsupportedModel(f"{config.name}: {key} should be positive, not {count}")
    return count
