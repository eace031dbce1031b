"""How the eyes' matrices are held and multiplied."""

from __future__ import annotations

from enum import Enum
from typing import Final, Protocol

import numpy as np

from workers.onnx_worker.convert.eyes.rotation import RotatedTower
from workers.onnx_worker.convert.eyes.tower import Floats, Tower
from workers.onnx_worker.convert.nodes import Nodes

_LIMIT: Final = 127
"""Largest magnitude of a rounded value."""
_CENTRE: Final = 128
"""What stands for zero in activations: VNNI multiplies unsigned by signed bytes."""
_NORMALISED_PEAK: Final = 4.5
"""Largest magnitude behind a norm, in standard deviations; values beyond are cut."""
_ATTENDED_PEAK: Final = 7.0
"""Largest magnitude in an attention's output, in root mean squares of its row; values beyond are cut."""
_SMALLEST_SPREAD: Final = 1e-20
"""Added to the mean square of a row, which may be zeros."""

_ACTIVE_ZERO: Final = 32
_ACTIVE_STEPS: Final = 255 - _ACTIVE_ZERO
"""Steps below zero, and from zero to a row's peak, behind a GELU: it is never below -0.17."""
_SMALLEST_ACTIVE_PEAK: Final = 0.1701 * _ACTIVE_STEPS / _ACTIVE_ZERO
"""Of a row's peak: with a smaller one, the steps below zero would not reach as far as the GELU does."""


class Reads(Enum):
    """What a matrix reads."""

    PIXELS = "pixels"
    NORM = "norm"
    ATTENTION = "attention"
    ACTIVATION = "activation"


class EyesPrecision(Protocol):
    """Adds the nodes that involve a matrix."""

    @property
    def tower(self) -> Tower:
        """The weights that are built from."""

    def linear(self, nodes: Nodes, name: str, states: str, reads: Reads) -> str:
        """Multiply float32 ``[…, inputs]`` by the transposed matrix of that name and add its bias.

        Returns:
            The name of the result, ``[…, outputs]``.
        """

    def norm(self, nodes: Nodes, name: str, states: str, epsilon: float) -> str:
        """Normalise rows by mean and variance, with the weight and bias of that name."""


class EyesFloat32:
    """Plain float32; an :class:`EyesPrecision`."""

    def __init__(self, tower: Tower) -> None:
        self.tower = tower

    def linear(
        self,
        nodes: Nodes,
        name: str,
        states: str,
        reads: Reads,  # noqa: ARG002  # a protocol's
    ) -> str:
        """See :class:`EyesPrecision`."""
        return _float_linear(nodes, self.tower, name, states)

    def norm(self, nodes: Nodes, name: str, states: str, epsilon: float) -> str:
        """See :class:`EyesPrecision`."""
        weight = nodes.weights.add(f"{name}.weight", self.tower.weight(name))
        bias = nodes.weights.add(f"{name}.bias", self.tower.bias(name))
        return nodes.add("LayerNormalization", name, [states, weight, bias], axis=-1, epsilon=epsilon)


class EyesInt8:
    """8-bit weights times 8-bit activations, in integer arithmetic; an :class:`EyesPrecision`.

    As :mod:`workers.onnx_worker.convert.int8_rows`, one scale an output and one a row. Weights are rounded to
    the nearest step. The patches' matrix stays in float32: it takes a hundredth of the time, and reads
    pixels.
    """

    def __init__(self, tower: RotatedTower) -> None:
        self.tower: Tower = tower
        self._rounded: dict[str, str] = {}  # states -> their rounded rows

    def linear(self, nodes: Nodes, name: str, states: str, reads: Reads) -> str:
        """See :class:`EyesPrecision`."""
        match reads:
            case Reads.PIXELS:
                return _float_linear(nodes, self.tower, name, states)
            case Reads.NORM:
                step = nodes.constant("normalised.step", _NORMALISED_PEAK / _LIMIT)
                return self._multiply(nodes, name, self._rows(nodes, states, step), step, biased=True)
            case Reads.ATTENTION:
                return self._scaled_by_spread(nodes, name, states)
            case Reads.ACTIVATION:
                return self._scaled_by_peak(nodes, name, states)

    def norm(self, nodes: Nodes, name: str, states: str, epsilon: float) -> str:
        """See :class:`EyesPrecision`. A rotated stream has no mean, and no weights of its own."""
        weight = nodes.weights.add(f"{name}.weight", self.tower.weight(name))
        return nodes.add("SimplifiedLayerNormalization", name, [states, weight], axis=-1, epsilon=epsilon)

    def _scaled_by_spread(self, nodes: Nodes, name: str, states: str) -> str:
        unit, inverse_spread = f"{states}.unit", f"{states}.inverse_spread"
        ones = nodes.constant("attended.ones", np.ones(self.tower.weight(name).shape[1]))
        nodes.add_many(
            "SimplifiedLayerNormalization", [unit, inverse_spread], [states, ones],
            axis=-1, epsilon=_SMALLEST_SPREAD,
        )  # fmt: skip
        step = nodes.constant("attended.step", _ATTENDED_PEAK / _LIMIT)
        product = self._multiply(nodes, name, self._rows(nodes, unit, step), step)
        scaled = nodes.add("Div", f"{name}.scaled", [product, inverse_spread])
        return nodes.add("Add", name, [scaled, self._bias(nodes, name)])

    def _scaled_by_peak(self, nodes: Nodes, name: str, states: str) -> str:
        axis = nodes.constant("peak.axis", [-1], np.int64)
        highest = nodes.add("ReduceMax", f"{states}.highest", [states, axis], keepdims=1)
        peaks = nodes.add(
            "Max", f"{states}.peaks", [highest, nodes.constant("peak.smallest", _SMALLEST_ACTIVE_PEAK)]
        )
        unit = nodes.add("Div", f"{states}.unit", [states, peaks])
        step, zero = nodes.constant("peak.step", 1 / _ACTIVE_STEPS), _zero(nodes, _ACTIVE_ZERO)
        rows = nodes.add("QuantizeLinear", f"{unit}.rows", [unit, step, zero])
        product = self._multiply(nodes, name, rows, step, zero=zero)
        scaled = nodes.add("Mul", f"{name}.scaled", [product, peaks])
        return nodes.add("Add", name, [scaled, self._bias(nodes, name)])

    def _rows(self, nodes: Nodes, states: str, step: str) -> str:
        if states not in self._rounded:  # queries, keys and values read the same
            self._rounded = {
                states: nodes.add("QuantizeLinear", f"{states}.rows", [states, step, _zero(nodes, _CENTRE)])
            }
        return self._rounded[states]

    def _multiply(
        self, nodes: Nodes, name: str, rows: str, step: str, *, zero: str = "", biased: bool = False
    ) -> str:
        matrix = self.tower.weight(name)
        scales = np.abs(matrix).max(axis=1) / np.float32(_LIMIT)
        scales[scales == 0] = 1  # an output of zeros
        values = np.rint(matrix / scales[:, None]).astype(np.int8)
        stored = nodes.weights.add(f"{name}.values", values.T), nodes.weights.add(f"{name}.scales", scales)
        inputs = [rows, stored[0], step, stored[1], zero or _zero(nodes, _CENTRE)]
        if biased:
            return nodes.add("MatMulIntegerToFloat", name, [*inputs, "", self._bias(nodes, name)])
        return nodes.add("MatMulIntegerToFloat", f"{name}.unscaled", inputs)

    def _bias(self, nodes: Nodes, name: str) -> str:
        return nodes.weights.add(f"{name}.bias", self.tower.bias(name))


def _float_linear(nodes: Nodes, tower: Tower, name: str, states: str) -> str:
    columns: Floats = tower.weight(name).T
    product = nodes.add("MatMul", f"{name}.product", [states, nodes.weights.add(f"{name}.weight", columns)])
    return nodes.add("Add", name, [product, nodes.weights.add(f"{name}.bias", tower.bias(name))])


def _zero(nodes: Nodes, value: int) -> str:
    """What stands for zero in rounded rows."""
    return nodes.constant(f"row.zero.{value}", value, np.uint8)
