"""How weights are held and multiplied: the one place where an int8 graph and an fp32 graph differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

import numpy as np

from diplex.errors import UnsupportedModel
from workers.onnx_worker.convert import blocks
from workers.onnx_worker.convert.matrix import Matrix
from workers.onnx_worker.convert.nodes import Nodes

HEAD: Final = "lm_head"
EMBEDDING: Final = "token_embedding"
_LOOKUP_SCALES: Final = f"{EMBEDDING}.lookup_scales"


class Precision(Protocol):
    """Adds the nodes that involve a weight matrix; every method returns the name of its result."""

    def linear(self, nodes: Nodes, name: str, states: str, parts: Sequence[Matrix]) -> str:
        """Multiply float32 ``[…, columns]`` by the transposed ``parts``: ``[…, rows of all parts]``."""
        ...

    def embed(self, nodes: Nodes, ids: str, table: Matrix) -> str:
        """Look up int64 ``[batch, sequence]`` in ``table``: float32 ``[batch, sequence, columns]``."""
        ...

    def head(self, nodes: Nodes, states: str, separate: Matrix | None) -> str:
        """Multiply float32 ``[rows, columns]`` by ``separate``, the embedding if ``None``: ``logits``."""
        ...


class Int8:
    """8-bit blocks, activations quantised on the fly to 8 bits too (``accuracy_level=4``)."""

    def __init__(self) -> None:
        self._sizes: dict[str, tuple[int, int]] = {}  # name of a stored matrix -> rows and columns

    def linear(self, nodes: Nodes, name: str, states: str, parts: Sequence[Matrix]) -> str:
        """See :class:`Precision`."""
        self._store(nodes, name, parts)
        return self._multiply(nodes, name, states, output=name)

    def embed(self, nodes: Nodes, ids: str, table: Matrix) -> str:
        """See :class:`Precision`. The bytes are those that the head multiplies by, if both are tied."""
        packed = table.blocks()
        values = nodes.weights.add(f"{EMBEDDING}.values", packed.values)
        scales = nodes.weights.add(_LOOKUP_SCALES, packed.scales[:, :, None])
        found = nodes.add(
            "GatherBlockQuantized", f"{EMBEDDING}.blocks", [values, ids, scales],
            gather_axis=0, quantize_axis=2, block_size=blocks.BLOCK, bits=8,
        )  # fmt: skip
        flat = nodes.weights.add(f"{EMBEDDING}.shape", np.array([0, 0, table.shape[1]], dtype=np.int64))
        return nodes.add("Reshape", EMBEDDING, [found, flat])

    def head(self, nodes: Nodes, states: str, separate: Matrix | None) -> str:
        """See :class:`Precision`."""
        if separate is not None:
            self._store(nodes, HEAD, [separate])
            return self._multiply(nodes, HEAD, states, output="logits")
        # The product wants the scales with an axis less; the values serve both operators as they are.
        rows, count, _ = nodes.weights.shape(_LOOKUP_SCALES)
        nodes.weights.alias(f"{EMBEDDING}.scales", _LOOKUP_SCALES, (rows, count))
        self._sizes[EMBEDDING] = (rows, count * blocks.BLOCK)
        return self._multiply(nodes, EMBEDDING, states, output="logits")

    def _store(self, nodes: Nodes, name: str, parts: Sequence[Matrix]) -> None:
        packed = blocks.stack([part.blocks() for part in parts])
        nodes.weights.add(f"{name}.values", packed.values)
        nodes.weights.add(f"{name}.scales", packed.scales)
        self._sizes[name] = (len(packed.values), packed.values.shape[1] * blocks.BLOCK)

    def _multiply(self, nodes: Nodes, name: str, states: str, *, output: str) -> str:
        rows, columns = self._sizes[name]
        return nodes.add(
            "MatMulNBits", output, [states, f"{name}.values", f"{name}.scales"],
            K=columns, N=rows, bits=8, block_size=blocks.BLOCK, accuracy_level=4,
        )  # fmt: skip


class Float32:
    """Plain float32, four times the bytes: for comparing engines exactly."""

    def linear(self, nodes: Nodes, name: str, states: str, parts: Sequence[Matrix]) -> str:
        """See :class:`Precision`."""
        columns = np.concatenate([part.floats() for part in parts]).T
        return nodes.add("MatMul", name, [states, nodes.weights.add(f"{name}.weight", columns)])

    def embed(self, nodes: Nodes, ids: str, table: Matrix) -> str:
        """See :class:`Precision`."""
        return nodes.add(
            "Gather", EMBEDDING, [nodes.weights.add(f"{EMBEDDING}.weight", table.floats()), ids], axis=0
        )

    def head(self, nodes: Nodes, states: str, separate: Matrix | None) -> str:
        """See :class:`Precision`. ``Gemm`` transposes as it multiplies, so the embedding serves as it is."""
        name = EMBEDDING if separate is None else HEAD
        if separate is not None:
            nodes.weights.add(f"{name}.weight", separate.floats())
        return nodes.add("Gemm", "logits", [states, f"{name}.weight"], transB=1)


PRECISIONS: Final[dict[str, type[Int8 | Float32]]] = {"int8": Int8, "fp32": Float32}


def find_precision(name: str) -> Precision:
    """Return the precision called ``name``.

    Raises:
        UnsupportedModel: There is none of that name.
    """
    if name not in PRECISIONS:
        message = f"precision {name!r} is unknown; supported are {', '.join(PRECISIONS)}"
        raise UnsupportedModel(message)
    return PRECISIONS[name]()
