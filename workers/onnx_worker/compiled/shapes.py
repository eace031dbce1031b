"""What the compiled functions work on: tuples of arrays, and how the weights of a layer lie in one."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

LANES: Final = 16
"""Numbers of 32 bits in a vector of 512."""
WIDTH: Final = 2 * LANES
"""Outputs of a product that are computed together."""
SEGMENT: Final = 256
"""Tokens of a sequence that are attended to together; a sequence is cut at multiples of it."""
TOGETHER: Final = -1
"""In the place of a segment: rows that attend to all segments, together."""
MATRICES: Final = 4
"""Of a layer."""


class Sizes(NamedTuple):
    """A model's sizes."""

    layers: int
    hidden: int
    feed_forward: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    """Rounded up to whole :data:`WIDTH`: as wide are logits."""
    mixed: int
    """Neighbours of the product of gate and up that are mixed."""


class Constants(NamedTuple):
    """A model's constants, float32."""

    epsilon: np.float32
    """Of its norms."""
    attention_scale: np.float32
    """What the products of queries and keys are multiplied by."""
    normalised_step: np.float32
    """One step of a rounded row behind a norm."""
    attended_step: np.float32
    """One step of an attention's output, in root mean squares of its row."""
    peak_step: np.float32
    """One step of the product of gate and up, in peaks of its row."""
    normed_heads: bool
    """Whether each head's query and key is normalised."""


class Weights(NamedTuple):
    """A model's weights, of L layers."""

    values: NDArray[np.int8]
    """All matrices as blocks ``[outputs / 16, inputs / 4, 16, 4]``: of each layer qkv, attention output, gate
    and up, and down, and the head as the last. Of gate and up, blocks take turns."""
    addresses: NDArray[np.int64]
    """``[MATRICES * L + 1]``: where each begins."""
    inputs: NDArray[np.int64]
    """``[MATRICES * L + 1]``: of each."""
    firsts: NDArray[np.int64]
    """``[MATRICES * L + 1]``: where the outputs of each begin among all."""
    scales: NDArray[np.float32]
    """``[all outputs]``."""
    starts: NDArray[np.int32]
    """``[all outputs]``: what sums begin with, since rows are unsigned around 128."""
    biases: NDArray[np.float32]
    """``[L, qkv]``, zeros for a model that has none."""
    zeros: NDArray[np.float32]
    """``[32]``."""
    norms: NDArray[np.float32]
    """``[2 L + 1, hidden]``: before attention and feed-forward of each layer, and before the head."""
    head_norms: NDArray[np.float32]
    """``[L, 2, head_dim]``: of queries and keys; ones for a model that has none."""
    mixing: NDArray[np.float32]
    """``[mixed, mixed]``."""
    cosines: NDArray[np.float32]
    """``[2, context, head_dim / 2]``: of layers without and with a window."""
    sines: NDArray[np.float32]
    """Like ``cosines``."""
    windows: NDArray[np.int64]
    """``[L]``: tokens that a token sees, itself among them; 0 for all."""
    local: NDArray[np.int64]
    """``[L]``: which rotary table a layer uses."""
    embedding: NDArray[np.uint8]
    """``[vocabulary, hidden / 32, 32]``, offset by 128."""
    embedding_scales: NDArray[np.float32]
    """``[vocabulary, hidden / 32]``."""
    caches: NDArray[np.int64]
    """``[L, 2]``: addresses of keys and values, float32 ``[slots, kv_heads, length, head_dim]``."""
    length: int
    """Tokens that a slot has room for."""


class Rows(NamedTuple):
    """A step's rows: R tokens, each in a slot at a position, and where the results go."""

    tokens: NDArray[np.int64]
    slots: NDArray[np.int64]
    positions: NDArray[np.int64]
    """Tokens that each row's slot holds before it."""
    pieces: NDArray[np.int64]
    """``[pieces, 3]``: first row, number of rows, segment. One row with each segment of what its slot holds;
    or several rows, tokens one behind the other, and :data:`TOGETHER`."""
    parts: NDArray[np.int64]
    """``[R]``: segments of each row that are attended to one by one."""
    features: NDArray[np.float32]
    """``[features, hidden]``: what stands in the place of embeddings of negative tokens; -1 is the first."""
    wanted: NDArray[np.int64]
    """``[W]``: the rows that logits are wanted for."""
    logits: NDArray[np.float32]
    """``[W, vocabulary]``, of which those behind the model's own vocabulary stand for nothing."""


class Scratch(NamedTuple):
    """Working memory for R rows, S segments and T threads."""

    residual: NDArray[np.float32]
    """``[R, hidden]``."""
    rounded: NDArray[np.uint8]
    """``[R, widest input]``: what the next product multiplies."""
    factors: NDArray[np.float32]
    """``[R]``: what one step of ``rounded`` stands for."""
    qkv: NDArray[np.float32]
    """``[R, queries + keys + values]``; turned by their positions in place."""
    attended: NDArray[np.float32]
    """``[R, heads, S, head_dim]``, not yet divided by the sums."""
    peaks: NDArray[np.float32]
    """``[R, heads, S]``: the largest score of a segment."""
    sums: NDArray[np.float32]
    """``[R, heads, S]``: of the weights."""
    gated: NDArray[np.float32]
    """``[R, feed_forward]``, mixed."""
    both: NDArray[np.float32]
    """``[T, R, 32]``: 16 outputs of gate and the same of up."""
    parts: NDArray[np.float32]
    """``[T, R, mixed]``: products of gate and up, before they are mixed."""
    scores: NDArray[np.float32]
    """``[T, 4, SEGMENT + 4]``."""
    queries: NDArray[np.float32]
    """``[T, Q, head_dim]``: queries that are computed together."""
    turned: NDArray[np.float32]
    """``[T, head_dim, SEGMENT]``: keys as columns."""
    weights: NDArray[np.float32]
    """``[T, Q, SEGMENT]``: their scores and weights."""
    parts_attended: NDArray[np.float32]
    """``[T, Q, head_dim]``: what they attend to in a segment."""
    parts_weighed: NDArray[np.float32]
    """``[T, 2, Q]``: its largest scores and the sums of its weights."""


def layer_matrices(sizes: Sizes) -> tuple[tuple[int, int], ...]:
    """Outputs and inputs of qkv, attention output, gate and up, and down."""
    queries = sizes.heads * sizes.head_dim
    keys = sizes.kv_heads * sizes.head_dim
    return (
        (queries + 2 * keys, sizes.hidden),
        (sizes.hidden, queries),
        (2 * sizes.feed_forward, sizes.hidden),
        (sizes.hidden, sizes.feed_forward),
    )
