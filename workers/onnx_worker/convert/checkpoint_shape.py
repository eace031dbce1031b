"""From ``config.json`` to the shape of a model."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from diplex.errors import UnsupportedModel
from workers.onnx_worker.convert.checkpoint_tensors import DIVISORS, LOCAL_DIVISORS, stored_shapes
from workers.onnx_worker.convert.family import FAMILIES, Activation, Family
from workers.onnx_worker.convert.shape import ModelShape, Rotary, Window
from workers.runtime.checkpoint import CheckpointFolder
from workers.runtime.checkpoint.decoder import SUPPORTED, Decoder
from workers.runtime.checkpoint.rotary import RotaryEmbedding

_LISTED: Final = 4  # names of unknown tensors that a message holds at most
_LEFT_BY_OLD_VERSIONS: Final = ".rotary_emb.inv_freq"
"""Tensors that transformers once stored, and never read."""

_LLAMA: Final = replace(FAMILIES["llama"], pairs_adjacent=False)
_FAMILIES: Final[dict[str, Family]] = {
    "llama": _LLAMA,
    "mistral": replace(_LLAMA, name="mistral"),
    "qwen2": FAMILIES["qwen2"],
    "qwen3": FAMILIES["qwen3"],
    "phi3": FAMILIES["phi3"],
    "gemma": Family(name="gemma", embedding_scaled=True, activation=Activation.GELU),
    "gemma3_text": FAMILIES["gemma3"],
}
"""``model_type`` -> the switches of the graph."""


def read_shape(decoder: Decoder, folder: CheckpointFolder) -> ModelShape:
    """The shape of a model, every tensor of the folder checked against it.

    Raises:
        UnsupportedModel: Sizes contradict each other, or there are tensors that the graph would leave out.
    """
    rotary = _rotary(decoder.rotary, DIVISORS)
    shape = ModelShape(
        family=_FAMILIES[decoder.model_type],
        layers=decoder.layers,
        hidden=decoder.hidden,
        feed_forward=decoder.feed_forward,
        heads=decoder.heads,
        kv_heads=decoder.kv_heads,
        head_dim=decoder.head_dim,
        vocab=folder.tensors.shape("model.embed_tokens.weight")[0],
        context=decoder.context,
        rms_epsilon=decoder.epsilon,
        rotary=rotary,
        window=_window(decoder, rotary),
        attention_scale=decoder.attention_scale,
        tied=decoder.tied,
    )
    if shape.head_dim % 2 or shape.heads % shape.kv_heads:
        sizes = f"{shape.heads} heads of {shape.head_dim} over {shape.kv_heads} key heads"
        raise UnsupportedModel(f"{folder.path.name} can't be converted: {sizes}; {SUPPORTED}")
    _check_tensors(folder, decoder, shape)
    return shape


def _rotary(embedding: RotaryEmbedding, name: str) -> Rotary:
    factors = name if embedding.divisors is not None else None
    return Rotary(base=embedding.base, factors=factors, magnitude=embedding.magnitude)


def _window(decoder: Decoder, rotary: Rotary) -> Window | None:
    sizes = {window for window in decoder.windows if window is not None}
    if not sizes:
        return None
    local = rotary
    if decoder.local_rotary != decoder.rotary:
        local = _rotary(decoder.local_rotary, LOCAL_DIVISORS)
    full = [layer for layer, window in enumerate(decoder.windows) if window is None]
    window = Window(tokens=sizes.pop(), period=full[0] + 1 if full else 0, rotary=local)
    if full != [layer for layer in range(decoder.layers) if full and (layer + 1) % window.period == 0]:
        raise UnsupportedModel(
            "layer_types can't be converted: full attention should come at regular intervals"
        )
    return window


def _check_tensors(folder: CheckpointFolder, decoder: Decoder, shape: ModelShape) -> None:
    expected = stored_shapes(decoder, shape)
    present = {name for name in folder.tensors.names if not name.endswith(_LEFT_BY_OLD_VERSIONS)}
    if decoder.tied:  # some files hold the embedding twice
        present -= {"lm_head.weight"}
    if unknown := sorted(present - set(expected)):
        listed = ", ".join(unknown[:_LISTED]) + (", …" if len(unknown) > _LISTED else "")
        raise UnsupportedModel(
            f"{folder.path.name} has tensors that can't be converted: {listed}; {SUPPORTED}"
        )
    for name, wanted in expected.items():
        if folder.tensors.shape(name) != wanted:
            found = folder.tensors.shape(name)
            raise UnsupportedModel(f"tensor {name} has shape {found}, {folder.config.name} says {wanted}")
