"""8-bit weights times 8-bit activations, in integer arithmetic.

Weights have one scale an output (:mod:`~workers.onnx_worker.convert.columns`), activations one a row. A
product is exact in 32-bit integers, so a row's result doesn't depend on the rows beside it, and ONNX
Runtime's ``MatMulIntegerToFloat`` does it with the dot products of AVX-512 VNNI: in batches and for prompts
it takes little more than half the time of 8-bit blocks. See docs/decisions/0010-integer-rows.md.

One scale a row is enough because the model is rotated (:mod:`~workers.onnx_worker.convert.rotation`). How it
is found depends on what the matrix reads:

========================  ==============================================================
output of a norm          a constant: its values are spread like a normal distribution's
output of the attention   from the row's root mean square
product of gate and up    from the row's peak, once its neighbours are mixed
========================  ==============================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from workers.onnx_worker.convert import blocks
from workers.onnx_worker.convert.calibration import Calibration
from workers.onnx_worker.convert.columns import Rounding
from workers.onnx_worker.convert.matrix import Matrix
from workers.onnx_worker.convert.nodes import Nodes
from workers.onnx_worker.convert.precision import EMBEDDING, HEAD, LOGITS
from workers.onnx_worker.convert.rotation import RotatedModel
from workers.onnx_worker.convert.shape import ModelShape
from workers.onnx_worker.convert.tensors import Tensors

_STEPS: Final = 127
"""Steps from zero to the largest magnitude."""
_NORMALISED_PEAK: Final = 4.5
"""Largest magnitude behind a norm, in standard deviations; one value in 150,000 lies beyond and is cut."""
_ATTENDED_PEAK: Final = 7.0
"""Largest magnitude in an attention's output, in root mean squares of its row; values beyond are cut."""
_SMALLEST_PEAK: Final = 1e-20
"""Peak of a row of zeros."""
_CENTRE: Final = 128
"""What stands for zero: VNNI multiplies unsigned by signed bytes."""


class Int8Rows:
    """See the module; a :class:`~workers.onnx_worker.convert.precision.Precision`."""

    def __init__(self) -> None:
        self._rows: dict[str, str] = {}  # states behind a norm -> their rounded rows
        self._roundings: dict[str, Rounding] = {}  # latest rows -> how to round what reads them

    @property
    def turn(self) -> npt.NDArray[Any]:
        """See :class:`~workers.onnx_worker.convert.precision.Precision`."""
        return self._model.turn

    def source(
        self, checkpoint: Tensors, shape: ModelShape, calibration: Calibration
    ) -> tuple[Tensors, ModelShape]:
        """Return the rotated model, whose head is always a matrix of its own."""
        self._model = RotatedModel(checkpoint, shape, calibration)
        return self._model, replace(shape, tied=False)

    def linear(self, nodes: Nodes, name: str, states: str, parts: Sequence[Matrix]) -> str:
        """See :class:`~workers.onnx_worker.convert.precision.Precision`."""
        match parts[0].name.split("."):
            case [_, _, "attn_output", _]:
                return self._scaled_by_spread(nodes, name, states, parts)
            case [_, _, "ffn_down", _]:
                return self._scaled_by_peak(nodes, name, states, parts)
        return self._normalised(nodes, name, states, parts)

    def embed(self, nodes: Nodes, ids: str, table: Matrix) -> str:
        """Look up in 8-bit blocks; see :class:`~workers.onnx_worker.convert.precision.Precision`."""
        return blocks.look_up(nodes, EMBEDDING, ids, blocks.store_table(nodes, EMBEDDING, table))

    def head(self, nodes: Nodes, states: str, separate: Matrix | None) -> str:
        """See :class:`~workers.onnx_worker.convert.precision.Precision`."""
        if separate is None:
            raise ValueError("a rotated model's head is not its embedding")
        return self._normalised(nodes, HEAD, states, [separate], output=LOGITS)

    def _normalised(
        self, nodes: Nodes, name: str, states: str, parts: Sequence[Matrix], *, output: str | None = None
    ) -> str:
        step = nodes.constant("normalised.step", _NORMALISED_PEAK / _STEPS)
        if states not in self._rows:  # gate and up read the same
            self._rows[states] = _rounded(nodes, states, step)
        return self._multiply(nodes, name, self._rows[states], step, parts, output=output or name)

    def _scaled_by_spread(self, nodes: Nodes, name: str, states: str, parts: Sequence[Matrix]) -> str:
        unit, inverse_spread = f"{states}.unit", f"{states}.inverse_spread"
        ones = nodes.constant("attended.ones", np.ones(parts[0].shape[1]))
        nodes.add_many(
            "SimplifiedLayerNormalization", [unit, inverse_spread], [states, ones],
            axis=-1, epsilon=_SMALLEST_PEAK,
        )  # fmt: skip
        step = nodes.constant("attended.step", _ATTENDED_PEAK / _STEPS)
        rows = _rounded(nodes, unit, step)
        product = self._multiply(nodes, name, rows, step, parts, output=f"{name}.unscaled")
        return nodes.add("Div", name, [product, inverse_spread])

    def _scaled_by_peak(self, nodes: Nodes, name: str, states: str, parts: Sequence[Matrix]) -> str:
        mixed = self._mixed(nodes, states, parts[0].shape[1])
        axis = nodes.constant("peak.axis", [-1], np.int64)
        magnitudes = nodes.add("Abs", f"{states}.magnitudes", [mixed])
        highest = nodes.add("ReduceMax", f"{states}.highest", [magnitudes, axis], keepdims=1)
        smallest = nodes.constant("peak.smallest", _SMALLEST_PEAK)
        peaks = nodes.add("Max", f"{states}.peaks", [highest, smallest])
        unit = nodes.add("Div", f"{states}.unit", [mixed, peaks])
        step = nodes.constant("peak.step", 1 / _STEPS)
        rows = _rounded(nodes, unit, step)
        product = self._multiply(nodes, name, rows, step, parts, output=f"{name}.unscaled")
        return nodes.add("Mul", name, [product, peaks])

    def _mixed(self, nodes: Nodes, states: str, width: int) -> str:
        """Mix neighbours; ``[batch, sequence, width]`` in and out."""
        mixing = nodes.constant("mixing", self._model.mixing)
        groups = nodes.constant("mixing.groups", [0, -1, len(self._model.mixing)], np.int64)
        whole = nodes.constant("mixing.whole", [0, -1, width], np.int64)
        parted = nodes.add("Reshape", f"{states}.groups", [states, groups])
        turned = nodes.add("MatMul", f"{states}.mixed_groups", [parted, mixing])
        return nodes.add("Reshape", f"{states}.mixed", [turned, whole])

    def _multiply(
        self, nodes: Nodes, name: str, rows: str, step: str, parts: Sequence[Matrix], *, output: str
    ) -> str:
        if rows not in self._roundings:  # gate and up read the same
            self._roundings = {rows: Rounding(self._model.inputs(parts[0].name))}
        packed = self._roundings[rows].quantise(np.concatenate([part.floats() for part in parts]))
        values = nodes.weights.add(f"{name}.values", packed.values)
        scales = nodes.weights.add(f"{name}.scales", packed.scales)
        return nodes.add("MatMulIntegerToFloat", output, [rows, values, step, scales, _centre(nodes)])


def _rounded(nodes: Nodes, states: str, step: str) -> str:
    """Round to whole steps, as unsigned bytes around the centre."""
    return nodes.add("QuantizeLinear", f"{states}.rows", [states, step, _centre(nodes)])


def _centre(nodes: Nodes) -> str:
    return nodes.constant("row.centre", _CENTRE, np.uint8)
