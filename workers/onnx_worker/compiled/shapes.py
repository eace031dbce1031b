"""What the compiled functions work on: tuples of numbers and of arrays, each with its number of axes."""

from __future__ import annotations

from typing import Annotated, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

LANES: Final = 16
"""Numbers of 32 bits in a vector of 512."""
VECTOR_BYTES: Final = 64
WIDTH: Final = 2 * LANES
"""Outputs of a product that are computed together."""
SEGMENT: Final = 256
"""Tokens of a sequence that are attended to together; a sequence is cut at multiples of it."""
STRIP: Final = 128
"""Tokens that neighbours attend to together: keys and values of so many stay in the near caches meanwhile."""
TOGETHER: Final = -1
"""In the place of a segment: rows that attend to all segments, together."""
MATRICES: Final = 4
"""Of a layer."""
DOT_ROWS: Final = 4
"""Queries whose products with keys are computed together, at most."""
DOT_COLUMNS: Final = 4
"""Keys of those."""
PHASES_A_LAYER: Final = 10
"""Between the embedding and the head."""
COUNTER_BYTES: Final = 64
"""Bytes of a counter, which has a cache line of its own."""


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

    values: Annotated[NDArray[np.int8], 1]
    """All matrices as blocks ``[outputs / 16, inputs / 4, 16, 4]``: of each layer qkv, attention output, gate
    and up, and down, and the head as the last. Of gate and up, blocks take turns."""
    addresses: Annotated[NDArray[np.int64], 1]
    """``[MATRICES * L + 1]``: where each begins."""
    inputs: Annotated[NDArray[np.int64], 1]
    """``[MATRICES * L + 1]``: of each."""
    firsts: Annotated[NDArray[np.int64], 1]
    """``[MATRICES * L + 1]``: where the outputs of each begin among all."""
    scales: Annotated[NDArray[np.float32], 1]
    """``[all outputs]``."""
    starts: Annotated[NDArray[np.int32], 1]
    """``[all outputs]``: what sums begin with, since rows are unsigned around 128."""
    biases: Annotated[NDArray[np.float32], 2]
    """``[L, qkv]``, zeros for a model that has none."""
    zeros: Annotated[NDArray[np.float32], 1]
    """``[32]``."""
    norms: Annotated[NDArray[np.float32], 2]
    """``[2 L + 1, hidden]``: before attention and feed-forward of each layer, and before the head."""
    head_norms: Annotated[NDArray[np.float32], 3]
    """``[L, 2, head_dim]``: of queries and keys; ones for a model that has none."""
    mixing: Annotated[NDArray[np.float32], 2]
    """``[mixed, mixed]``."""
    cosines: Annotated[NDArray[np.float32], 3]
    """``[2, context, head_dim / 2]``: of layers without and with a window."""
    sines: Annotated[NDArray[np.float32], 3]
    """Like ``cosines``."""
    windows: Annotated[NDArray[np.int64], 1]
    """``[L]``: tokens that a token sees, itself among them; 0 for all."""
    local: Annotated[NDArray[np.int64], 1]
    """``[L]``: which rotary table a layer uses."""
    embedding: Annotated[NDArray[np.uint8], 3]
    """``[vocabulary, hidden / 32, 32]``, offset by 128."""
    embedding_scales: Annotated[NDArray[np.float32], 2]
    """``[vocabulary, hidden / 32]``."""
    caches: Annotated[NDArray[np.int64], 2]
    """``[L, 2]``: addresses of keys and values, float32 ``[slots, kv_heads, length, head_dim]``."""
    length: int
    """Tokens that a slot has room for."""


class Rows(NamedTuple):
    """A step's rows: R tokens, each in a slot at a position, and where the results go."""

    tokens: Annotated[NDArray[np.int64], 1]
    slots: Annotated[NDArray[np.int64], 1]
    positions: Annotated[NDArray[np.int64], 1]
    """Tokens that each row's slot holds before it."""
    pieces: Annotated[NDArray[np.int64], 2]
    """``[pieces, 3]``: first row, number of rows, segment. One row with each segment of what its slot holds;
    or several rows, tokens one behind the other, and :data:`TOGETHER`."""
    parts: Annotated[NDArray[np.int64], 1]
    """``[R + 1]``: where the parts of each row's attention begin among all, and how many there are: a part
    for each segment, or one for all that are attended to together."""
    features: Annotated[NDArray[np.float32], 2]
    """``[features, hidden]``: what stands in the place of embeddings of negative tokens; -1 is the first."""
    wanted: Annotated[NDArray[np.int64], 1]
    """``[W]``: the rows that logits are wanted for."""
    logits: Annotated[NDArray[np.float32], 2]
    """``[W, vocabulary]``, of which those behind the model's own vocabulary stand for nothing."""


class Scratch(NamedTuple):
    """Working memory for R rows, P parts of their attention and T threads."""

    residual: Annotated[NDArray[np.float32], 2]
    """``[R, hidden]``."""
    rounded: Annotated[NDArray[np.uint8], 2]
    """``[R, widest input]``: what the next product multiplies."""
    factors: Annotated[NDArray[np.float32], 1]
    """``[R]``: what one step of ``rounded`` stands for."""
    qkv: Annotated[NDArray[np.float32], 2]
    """``[R, queries + keys + values]``; turned by their positions in place."""
    attended: Annotated[NDArray[np.float32], 3]
    """``[P, heads, head_dim]``, not yet divided by the sums."""
    peaks: Annotated[NDArray[np.float32], 2]
    """``[P, heads]``: the largest score of a part."""
    sums: Annotated[NDArray[np.float32], 2]
    """``[P, heads]``: of the weights."""
    gated: Annotated[NDArray[np.float32], 2]
    """``[R, feed_forward]``, mixed."""
    both: Annotated[NDArray[np.float32], 3]
    """``[T, R, 32]``: 16 outputs of gate and the same of up."""
    parts: Annotated[NDArray[np.float32], 3]
    """``[T, R, mixed]``: products of gate and up, before they are mixed."""
    scores: Annotated[NDArray[np.float32], 3]
    """``[T, 4, SEGMENT + 4]``."""
    queries: Annotated[NDArray[np.float32], 3]
    """``[T, Q, head_dim]``: queries that are computed together."""
    turned: Annotated[NDArray[np.float32], 3]
    """``[T, head_dim, STRIP + 16]``: keys as columns. Rows are no power of two apart, so that all of a cache
    is used."""
    weights: Annotated[NDArray[np.float32], 3]
    """``[T, Q, STRIP]``: their scores and weights."""
    parts_attended: Annotated[NDArray[np.float32], 3]
    """``[T, Q, head_dim]``: what they attend to in a segment."""
    parts_weighed: Annotated[NDArray[np.float32], 3]
    """``[T, 2, Q]``: its largest scores and the sums of its weights."""


ENTRY: Final = "diplex_run"
"""Name of the one function that is called from outside."""
ARGUMENTS: Final = (
    int, int, Sizes, Constants, Weights, Rows, Scratch, Annotated[NDArray[np.uint8], 1], int, int,
)  # fmt: skip
"""What a step takes: see ``run`` of :mod:`workers.onnx_worker.compiled.functions.step`."""


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


def phases(layers: int) -> int:
    """Phases of a step: see :mod:`workers.onnx_worker.compiled.functions.step`."""
    return PHASES_A_LAYER * layers + 3
