"""What a GGUF file or a folder of safetensors says, worked out again in plain numpy floats.

This is the yardstick for converted models, so it shares no code with any converter: it keeps query and key
rows in the source's own order (rotating neighbouring elements of heads in Llama's GGUF files), and spells
every formula out. What a layer consists of is seen by the tensors that it has; what can't be seen by them,
:mod:`workers.runtime.fidelity.traits` says. ``tools/check_reference.py`` checks it against transformers.

Formulas: Touvron et al., "LLaMA", 2023, https://arxiv.org/abs/2302.13971 (the architecture); Zhang and
Sennrich, "Root Mean Square Layer Normalization", 2019, https://arxiv.org/abs/1910.07467; Su et al.,
"RoFormer", 2021, https://arxiv.org/abs/2104.09864; Shazeer, "GLU Variants Improve Transformer", 2020,
https://arxiv.org/abs/2002.05202; Gemma Team, "Gemma 3", 2025, https://arxiv.org/abs/2503.19786 (norms around
each part, layers with a window); Ding et al., "LongRoPE", 2024, https://arxiv.org/abs/2402.13753.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from workers.runtime.fidelity.folder_origin import FolderOrigin
from workers.runtime.fidelity.origin import Origin
from workers.runtime.fidelity.traits import Gate, Pairs

Floats = npt.NDArray[Any]

CHUNK: Final = 256
"""Positions handled at once: rows of attention scores, and rows of logits unless told otherwise."""


class Reference:
    """One model, evaluated over a whole sequence, layer after layer.

    A layer's weights are dequantised when it is their turn and dropped afterwards, so memory is one layer in
    float32, the embedding, and a few buffers as long as the sequence.

    Args:
        path: The GGUF file, or the folder.
        dtype: Of all arithmetic, ``np.float32`` or ``np.float64``.
        observe: Called with the name of every matrix and its inputs, ``[tokens, columns]``, which must be
            left as they are.

    Raises:
        UnsupportedModel: It can't be read, or holds a model of a kind that this reference doesn't know.
    """

    def __init__(
        self,
        path: Path,
        *,
        dtype: type[np.floating[Any]] = np.float32,
        observe: Callable[[str, Floats], None] | None = None,
    ) -> None:
        self._dtype = dtype
        self._observe = observe
        self._origin = _opened(path)
        self._epsilon = dtype(self._origin.epsilon)

    def logits(self, token_ids: Sequence[int], *, chunk: int = CHUNK) -> Iterator[Floats]:
        """Yield the logits after every token, in order: ``[up to chunk, vocabulary]`` at a time.

        Args:
            token_ids: The sequence, at least one token; position 0 is its first.
            chunk: Most rows in one array.
        """
        for last in self.layers(token_ids):  # noqa: B007  # all but the last are stations on the way
            pass
        states = last
        head = self._weight("output" if self._origin.has("output.weight") else "token_embd")
        for start in range(0, len(states), chunk):
            yield states[start : start + chunk] @ head.T

    def layers(self, token_ids: Sequence[int]) -> Iterator[Floats]:
        """Yield the residual stream behind each layer, then what the head reads: each ``[tokens, hidden]``.

        Args:
            token_ids: As for :meth:`logits`.
        """
        states: Floats = self._weight("token_embd", np.asarray(token_ids))
        if self._origin.traits.scaled_embedding:
            states = states * np.sqrt(self._dtype(self._origin.hidden))
        for layer in range(self._origin.layers):
            mixed = self._attention(layer, self._norm(states, f"blk.{layer}.attn_norm"))
            states = states + self._norm_if_any(mixed, f"blk.{layer}.post_attention_norm")
            forwarded = self._feed_forward(layer, self._norm(states, f"blk.{layer}.ffn_norm"))
            states += self._norm_if_any(forwarded, f"blk.{layer}.post_ffw_norm")
            yield states
        states = self._norm(states, "output_norm")
        self._tell(states, "output")
        yield states

    def _attention(self, layer: int, states: Floats) -> Floats:
        """Causal grouped-query attention: ``softmax(q k^T / sqrt(width)) v``, mixed by the output matrix."""
        self._tell(states, *(f"blk.{layer}.attn_{part}" for part in "qkv"))
        queries, keys, values = (
            part.reshape(len(states), -1, self._origin.width) for part in self._projections(layer, states)
        )
        queries = self._norm_if_any(queries, f"blk.{layer}.attn_q_norm")
        keys = self._norm_if_any(keys, f"blk.{layer}.attn_k_norm")
        window = self._origin.window(layer)
        turns = self._turns(len(states), local=window is not None)
        queries, keys = (_rotate(heads, turns, self._origin.traits.pairs) for heads in (queries, keys))
        mixed = np.empty_like(queries)
        for head in range(self._origin.heads):
            shared = head * self._origin.kv_heads // self._origin.heads
            for start in range(0, len(states), CHUNK):
                seen = slice(0, start + CHUNK)  # no position here looks further than the end of its chunk
                scores = queries[start : start + CHUNK, head] @ keys[seen, shared].T
                scores /= self._dtype(self._origin.divisor)
                weights = _causal_softmax(scores, start, window or len(states))
                mixed[start : start + CHUNK, head] = weights @ values[seen, shared]
        joined: Floats = mixed.reshape(len(states), -1)
        self._tell(joined, f"blk.{layer}.attn_output")
        return joined @ self._weight(f"blk.{layer}.attn_output").T

    def _projections(self, layer: int, states: Floats) -> list[Floats]:
        """Queries, keys and values: ``x W^T + b``, from three matrices or from one."""
        if self._origin.has(f"blk.{layer}.attn_qkv.weight"):
            width = self._origin.width
            queries, keys = self._origin.heads * width, self._origin.kv_heads * width
            together = states @ self._weight(f"blk.{layer}.attn_qkv").T
            return list(np.split(together, [queries, queries + keys], axis=1))
        names = [f"blk.{layer}.attn_{part}" for part in "qkv"]
        products = [states @ self._weight(name).T for name in names]
        if self._origin.has(f"{names[0]}.bias"):
            biases = [self._values(f"{name}.bias") for name in names]
            return [product + bias for product, bias in zip(products, biases, strict=True)]
        return products

    def _feed_forward(self, layer: int, states: Floats) -> Floats:
        """``(f(x G^T) * x U^T) D^T`` with ``f`` as :class:`Gate` says."""
        self._tell(states, f"blk.{layer}.ffn_gate", f"blk.{layer}.ffn_up")
        up: Floats = states @ self._weight(f"blk.{layer}.ffn_up").T
        if self._origin.has(f"blk.{layer}.ffn_gate.weight"):
            gate = states @ self._weight(f"blk.{layer}.ffn_gate").T
        else:  # one matrix holds both, gate first
            gate, up = np.split(up, 2, axis=1)
        gate = _activated(gate, self._origin.traits.gate) * up
        self._tell(gate, f"blk.{layer}.ffn_down")
        return gate @ self._weight(f"blk.{layer}.ffn_down").T

    def _norm_if_any(self, states: Floats, name: str) -> Floats:
        return self._norm(states, name) if self._origin.has(f"{name}.weight") else states

    def _norm(self, states: Floats, name: str) -> Floats:
        """RMSNorm: ``x / sqrt(mean(x^2) + epsilon) * weight``."""
        square = np.square(states).mean(axis=-1, keepdims=True)
        normed: Floats = states / np.sqrt(square + self._epsilon)
        return normed * self._weight(name)

    def _tell(self, inputs: Floats, *names: str) -> None:
        if self._observe is not None:
            for name in names:
                self._observe(f"{name}.weight", inputs)

    def _turns(self, length: int, *, local: bool) -> npt.NDArray[Any]:
        """Return the complex number by which pair i turns at position p: ``[length, width / 2]``."""
        speeds, magnitude = self._origin.turning(local=local)
        turns = np.exp(1j * np.arange(length)[:, None] * speeds) * magnitude
        rounded: npt.NDArray[Any] = turns.astype(np.result_type(self._dtype, np.complex64))
        return rounded

    def _weight(self, name: str, rows: Any = slice(None)) -> Floats:
        return self._values(f"{name}.weight", rows)

    def _values(self, name: str, rows: Any = slice(None)) -> Floats:
        return np.asarray(self._origin.floats(name, rows), dtype=self._dtype)


def _opened(path: Path) -> Origin:
    if path.is_dir():
        return FolderOrigin(path)
    # Imported here, so that a worker without GGUF needs no gguf.
    from workers.runtime.fidelity.gguf_origin import GgufOrigin  # noqa: PLC0415

    return GgufOrigin(path)


def _activated(gate: Floats, how: Gate) -> Floats:
    match how:
        case Gate.SILU:
            with np.errstate(
                over="ignore"
            ):  # exp of a large number is infinite, and x / infinity the 0 wanted
                silu: Floats = gate / (1 + np.exp(-gate))
            return silu
        case Gate.GELU:
            inner = np.sqrt(gate.dtype.type(2 / np.pi)) * (gate + gate.dtype.type(0.044715) * gate**3)
            gelu: Floats = gate.dtype.type(0.5) * gate * (1 + np.tanh(inner))
            return gelu


def _causal_softmax(scores: Floats, start: int, window: int) -> Floats:
    """Normalise ``scores[i, j]`` of query ``start + i`` over the last ``window`` keys up to it, in place."""
    queries, keys = np.arange(len(scores))[:, None] + start, np.arange(scores.shape[1])
    scores[(queries < keys) | (keys <= queries - window)] = -np.inf
    scores -= scores.max(axis=1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=1, keepdims=True)
    return scores


def _rotate(heads: Floats, turns: npt.NDArray[Any], pairs: Pairs) -> Floats:
    """Turn each pair of a head's elements as a complex number. ``heads``: ``[length, heads, width]``."""
    if pairs is Pairs.NEIGHBOURS:
        neighbours = np.ascontiguousarray(heads).view(turns.dtype)
        turned: Floats = (neighbours * turns[:, None, :]).view(heads.dtype)
        return turned
    first, second = np.split(heads, 2, axis=-1)
    apart = (first + turns.dtype.type(1j) * second) * turns[:, None, :]
    return np.concatenate([apart.real, apart.imag], axis=-1)
