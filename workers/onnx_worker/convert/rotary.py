"""Rotary position embedding: its tables, and the order of rows it expects in query and key matrices.

Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding", 2021,
https://arxiv.org/abs/2104.09864.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from workers.onnx_worker.convert.shape import Rotary

Floats = npt.NDArray[np.float32]


def tables(context: int, head_dim: int, how: Rotary, factors: Floats | None) -> tuple[Floats, Floats]:
    """Return cosines and sines, each float32 ``[context, head_dim / 2]``.

    Args:
        context: Positions in the tables.
        head_dim: Width of a head, even.
        how: Pair i turns by ``base ** (-2 i / head_dim) / stretch`` a position.
        factors: What each pair's frequency is also divided by, ``[head_dim / 2]`` (``rope_freqs.weight``:
            Llama 3.1's scaling, worked out when the file was made; LongRoPE's factors).
    """
    frequencies = how.base ** (-np.arange(0, head_dim, 2, dtype=np.float64) / head_dim)
    if factors is not None:
        frequencies /= factors
    angles = np.outer(np.arange(context, dtype=np.float64), frequencies / how.stretch)
    cosines, sines = (how.magnitude * part(angles) for part in (np.cos, np.sin))
    return cosines.astype(np.float32), sines.astype(np.float32)


def half_split_order(heads: int, head_dim: int) -> npt.NDArray[np.intp]:
    """Return a GGUF query or key matrix's rows in the order for rotation by halves: ``[heads * head_dim]``.

    GGUF files of the Llama family keep the two elements of a rotated pair next to each other (0 1, 2 3, …);
    the graph rotates element i of a head with element i + head_dim / 2. So all first elements go before all
    second ones.
    """
    rows = np.arange(heads * head_dim).reshape(heads, head_dim // 2, 2)
    return rows.swapaxes(1, 2).reshape(-1)
