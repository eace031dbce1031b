"""What a Llama GGUF file says, worked out again in plain numpy floats.

This is the yardstick for converted models, so it shares no code with any converter: it reads the file itself,
keeps query and key rows in the file's own order (rotating neighbouring elements instead of halves of a head),
and spells every formula out. It is checked against transformers by ``tools/check_reference.py``.

Formulas: Touvron et al., "LLaMA", 2023, https://arxiv.org/abs/2302.13971 (the architecture); Zhang and
Sennrich, "Root Mean Square Layer Normalization", 2019, https://arxiv.org/abs/1910.07467; Su et al.,
"RoFormer", 2021, https://arxiv.org/abs/2104.09864; Shazeer, "GLU Variants Improve Transformer", 2020,
https://arxiv.org/abs/2002.05202.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import gguf
import numpy as np
import numpy.typing as npt
from gguf.quants import dequantize

from diplex.errors import UnsupportedModel

Floats = npt.NDArray[Any]

CHUNK: Final = 256
"""Positions handled at once: rows of attention scores, and rows of logits unless told otherwise."""


class LlamaReference:
    """One Llama model, evaluated over a whole sequence, layer after layer.

    A layer's weights are dequantised when it is their turn and dropped afterwards, so memory is one layer in
    float32, the embedding, and a few buffers as long as the sequence.

    Args:
        path: The GGUF file.
        dtype: Of all arithmetic, ``np.float32`` or ``np.float64``.
        observe: Called with the name of every matrix and its inputs, ``[tokens, columns]``, which must be
            left as they are.

    Raises:
        UnsupportedModel: It can't be read, holds no Llama model, or one with scaled rotary embedding.
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
        try:
            reader = gguf.GGUFReader(path)
        except (ValueError, KeyError, IndexError) as error:
            message = f"{path.name} is no GGUF file that can be read: {error}"
            raise UnsupportedModel(message) from error
        self._tensors = {tensor.name: tensor for tensor in reader.tensors}
        self._settings = {
            key: field for key, field in reader.fields.items() if key.startswith(("general.", "llama."))
        }
        scaling = self._setting("rope.scaling.type", "none")
        if self._settings["general.architecture"].contents() != "llama" or scaling != "none":
            message = f"{path.name} is no Llama model that this reference knows"
            raise UnsupportedModel(message)
        self._heads = int(self._setting("attention.head_count"))
        self._kv_heads = int(self._setting("attention.head_count_kv", self._heads))
        self._width = int(
            self._setting("attention.key_length", int(self._setting("embedding_length")) // self._heads)
        )
        self._epsilon = dtype(self._setting("attention.layer_norm_rms_epsilon"))

    def logits(self, token_ids: Sequence[int], *, chunk: int = CHUNK) -> Iterator[Floats]:
        """Yield the logits after every token, in order: ``[up to chunk, vocabulary]`` at a time.

        Args:
            token_ids: The sequence, at least one token; position 0 is its first.
            chunk: Most rows in one array.
        """
        for last in self.layers(token_ids):  # noqa: B007  # all but the last are stations on the way
            pass
        states = last
        head = self._weight("output" if "output.weight" in self._tensors else "token_embd")
        for start in range(0, len(states), chunk):
            yield states[start : start + chunk] @ head.T

    def layers(self, token_ids: Sequence[int]) -> Iterator[Floats]:
        """Yield the residual stream behind each layer, then what the head reads: each ``[tokens, hidden]``.

        Args:
            token_ids: As for :meth:`logits`.
        """
        states: Floats = self._weight("token_embd")[np.asarray(token_ids)]
        turns = self._turns(len(token_ids))
        for layer in range(int(self._setting("block_count"))):
            states = states + self._attention(layer, self._norm(states, f"blk.{layer}.attn_norm"), turns)
            states += self._feed_forward(layer, self._norm(states, f"blk.{layer}.ffn_norm"))
            yield states
        states = self._norm(states, "output_norm")
        self._tell(states, "output")
        yield states

    def _attention(self, layer: int, states: Floats, turns: npt.NDArray[Any]) -> Floats:
        """Causal grouped-query attention: ``softmax(q k^T / sqrt(width)) v``, mixed by the output matrix."""
        self._tell(states, *(f"blk.{layer}.attn_{part}" for part in "qkv"))
        queries, keys, values = (
            (states @ self._weight(f"blk.{layer}.attn_{part}").T).reshape(len(states), -1, self._width)
            for part in "qkv"
        )
        queries, keys = _rotate(queries, turns), _rotate(keys, turns)
        mixed = np.empty_like(queries)
        for head in range(self._heads):
            shared = head * self._kv_heads // self._heads
            for start in range(0, len(states), CHUNK):
                seen = slice(0, start + CHUNK)  # no position here looks further than the end of its chunk
                scores = queries[start : start + CHUNK, head] @ keys[seen, shared].T
                scores /= np.sqrt(self._dtype(self._width))
                mixed[start : start + CHUNK, head] = _causal_softmax(scores, start) @ values[seen, shared]
        mixed = mixed.reshape(len(states), -1)
        self._tell(mixed, f"blk.{layer}.attn_output")
        return mixed @ self._weight(f"blk.{layer}.attn_output").T

    def _feed_forward(self, layer: int, states: Floats) -> Floats:
        """SwiGLU: ``(silu(x G^T) * x U^T) D^T`` with ``silu(x) = x / (1 + exp(-x))``."""
        self._tell(states, f"blk.{layer}.ffn_gate", f"blk.{layer}.ffn_up")
        gate: Floats = states @ self._weight(f"blk.{layer}.ffn_gate").T
        with np.errstate(over="ignore"):  # exp of a large number is infinite, and x / infinity the 0 wanted
            gate /= 1 + np.exp(-gate)
        gate *= states @ self._weight(f"blk.{layer}.ffn_up").T
        self._tell(gate, f"blk.{layer}.ffn_down")
        return gate @ self._weight(f"blk.{layer}.ffn_down").T

    def _norm(self, states: Floats, name: str) -> Floats:
        """RMSNorm: ``x / sqrt(mean(x^2) + epsilon) * weight``."""
        square = np.square(states).mean(axis=1, keepdims=True)
        normed: Floats = states / np.sqrt(square + self._epsilon)
        return normed * self._weight(name)

    def _tell(self, inputs: Floats, *names: str) -> None:
        if self._observe is not None:
            for name in names:
                self._observe(f"{name}.weight", inputs)

    def _turns(self, length: int) -> npt.NDArray[Any]:
        """Return the unit complex number by which pair i turns at position p: ``[length, width / 2]``."""
        base = float(self._setting("rope.freq_base", 10000.0))
        speeds = base ** (-np.arange(self._width // 2, dtype=np.float64) * 2 / self._width)
        if "rope_freqs.weight" in self._tensors:
            speeds /= self._weight("rope_freqs")
        turns = np.exp(1j * np.arange(length)[:, None] * speeds)
        rounded: npt.NDArray[Any] = turns.astype(np.result_type(self._dtype, np.complex64))
        return rounded

    def _weight(self, name: str) -> Floats:
        tensor = self._tensors[f"{name}.weight"]
        return np.asarray(dequantize(tensor.data, tensor.tensor_type), dtype=self._dtype)

    def _setting(self, key: str, default: Any = None) -> Any:
        field = self._settings.get(f"llama.{key}")
        if field is None and default is None:
            message = f"the GGUF file lacks llama.{key}"
            raise UnsupportedModel(message)
        return default if field is None else field.contents()


def _causal_softmax(scores: Floats, start: int) -> Floats:
    """Normalise ``scores[i, j]`` of query ``start + i`` over the keys j up to it, in place."""
    queries, keys = np.arange(len(scores))[:, None] + start, np.arange(scores.shape[1])
    scores[queries < keys] = -np.inf
    scores -= scores.max(axis=1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=1, keepdims=True)
    return scores


def _rotate(heads: Floats, turns: npt.NDArray[Any]) -> Floats:
    """Turn each pair of neighbouring elements as a complex number. ``heads``: ``[length, heads, width]``."""
    pairs = np.ascontiguousarray(heads).view(turns.dtype)
    turned: Floats = (pairs * turns[:, None, :]).view(heads.dtype)
    return turned
