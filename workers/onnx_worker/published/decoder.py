"""A published decoder: one run over rows of tokens behind keys and values that the caller keeps."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from diplex.errors import UnsupportedModel
from workers.onnx_worker.session import bind_input, bind_output

IDS: Final = "input_ids"
EMBEDS: Final = "inputs_embeds"
PER_LAYER: Final = "per_layer_inputs"
_MASK: Final = "attention_mask"
_POSITIONS: Final = "position_ids"
_CACHED: Final = "use_cache_branch"
_KEPT: Final = "num_logits_to_keep"
_KNOWN: Final = frozenset({IDS, EMBEDS, PER_LAYER, _MASK, _POSITIONS, _CACHED, _KEPT})
_PAST: Final = re.compile(r"past_key_values\.(\d+)\.(key|value)")
_LOGITS: Final = "logits"

_TYPES: Final[Mapping[str, type[np.generic]]] = {
    "tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(int64)": np.int64,
    "tensor(int32)": np.int32, "tensor(bool)": np.bool_,
}  # fmt: skip
_AXES: Final = 4
"""Of keys and values: rows, heads, places, elements."""
_FLOATS: Final = (np.float32, np.float16)


def element_type(value: onnxruntime.NodeArg) -> np.dtype[Any]:
    """The type of a graph's input or output.

    Raises:
        UnsupportedModel: It is none that published graphs have.
    """
    try:
        return np.dtype(_TYPES[value.type])
    except KeyError:
        raise UnsupportedModel(f"{value.name} is a {value.type}, which no published graph takes") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheShape:
    """What the graph says about keys and values."""

    layers: int
    """Those that have keys and values of their own; fewer than the model's where layers share them."""
    heads: int | None
    """``None`` if the graph leaves it open."""
    head_dim: int | None
    dtype: np.dtype[Any]


@dataclass(frozen=True, slots=True)
class Batch:
    """What one run takes: ``tokens`` tokens a row behind ``past`` places a row."""

    inputs: Mapping[str, NDArray[Any]]
    """``input_ids`` int64 ``[batch, tokens]``, or ``inputs_embeds`` ``[batch, tokens, hidden]`` and what
    comes with them."""
    past: Mapping[str, NDArray[Any]]
    """``{"0.key": [batch, heads, past, head_dim], …}``."""
    mask: NDArray[np.int64]
    """``[batch, past + tokens]``: 1 where a place holds a token of its row."""
    positions: NDArray[np.int64]
    """``[batch, tokens]``, from 0."""


class Decoder:
    """A session of a published decoder.

    Args:
        session: Of ``decoder_model_merged*.onnx`` or the like.

    Raises:
        UnsupportedModel: It takes or gives what isn't known here.
    """

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        self._session = session
        self._inputs = {value.name: value for value in session.get_inputs()}
        self._logits = self._checked_outputs()
        self._buffers: tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]] = ({}, {})
        self.cache = self._cache_shape()
        """Of its keys and values."""
        self._check_inputs()

    @property
    def embeds(self) -> bool:
        """Whether it takes embeddings instead of token ids."""
        return EMBEDS in self._inputs

    @property
    def masked(self) -> bool:
        """Whether it can be told which places hold a row's tokens; without, all do."""
        return _MASK in self._inputs

    @property
    def vocabulary(self) -> int | None:
        """Width of the logits; ``None`` if the graph leaves it open."""
        width = self._logits.shape[-1]
        return width if isinstance(width, int) else None

    @property
    def keeps_last(self) -> bool:
        """Whether it can leave out logits that nobody wants."""
        return _KEPT in self._inputs

    def inputs(self) -> frozenset[str]:
        """Names of what goes in beside keys and values."""
        return frozenset(self._inputs) & _KNOWN

    def run(
        self, batch: Batch, wanted: int, vocabulary: int
    ) -> tuple[NDArray[np.float32], dict[str, NDArray[Any]]]:
        """Runs over a batch.

        Args:
            batch: The batch.
            wanted: Last tokens of each row that logits are wanted of.
            vocabulary: Width of the logits.

        Returns:
            Float32 ``[batch, wanted, vocabulary]``; and keys and values, ``past + tokens`` places a row.
            These stay until the run after the next, so they can be the next one's past.
        """
        rows, tokens = batch.positions.shape
        given = min(max(wanted, 1), tokens) if self.keeps_last else tokens
        feeds = self._feeds(batch, given)
        binding = self._session.io_binding()
        for name, array in feeds.items():
            bind_input(binding, name, array)
        logits = np.empty((rows, given, vocabulary), element_type(self._logits))
        bind_output(binding, _LOGITS, logits)
        present = self._present(batch, tokens)
        for name, array in present.items():
            bind_output(binding, f"present.{name}", array)
        self._session.run_with_iobinding(binding)
        return logits[:, given - wanted :].astype(np.float32, copy=False), present

    def trim(self) -> None:
        """Gives the buffers of the latest runs back."""
        self._buffers = ({}, {})

    def _feeds(self, batch: Batch, kept: int) -> dict[str, NDArray[Any]]:
        past = next(iter(batch.past.values())).shape[2]
        offered: dict[str, NDArray[Any]] = {
            **batch.inputs,
            _MASK: batch.mask,
            _POSITIONS: batch.positions,
            _CACHED: np.full(1, past > 0),
            _KEPT: np.full(tuple(1 for _ in self._rank(_KEPT)), kept, np.int64),
        }
        feeds = {name: offered[name] for name in self.inputs()}
        feeds |= {f"past_key_values.{name}": array for name, array in batch.past.items()}
        return {
            name: np.ascontiguousarray(array, element_type(self._inputs[name]))
            for name, array in feeds.items()
        }

    def _rank(self, name: str) -> list[Any]:
        return list(self._inputs[name].shape) if name in self._inputs else []

    def _present(self, batch: Batch, tokens: int) -> dict[str, NDArray[Any]]:
        """Where keys and values go: into the one of two sets of buffers that isn't this run's past."""
        self._buffers = self._buffers[::-1]
        buffers, present = self._buffers[0], {}
        for name, past in batch.past.items():
            rows, heads, length, width = past.shape
            shape = (rows, heads, length + tokens, width)
            size = int(np.prod(shape))
            if name not in buffers or buffers[name].size < size:
                room = size + rows * heads * width * _ROOM
                buffers[name] = np.empty(room, self.cache.dtype)
            present[name] = buffers[name][:size].reshape(shape)
        return present

    def _checked_outputs(self) -> onnxruntime.NodeArg:
        outputs = {value.name: value for value in self._session.get_outputs()}
        wanted = {f"present.{name.removeprefix('past_key_values.')}" for name in self._inputs if _past(name)}
        if lacking := {_LOGITS, *wanted} - outputs.keys():
            raise UnsupportedModel(f"the decoder gives no {min(lacking)}, as published decoders do")
        return outputs[_LOGITS]

    def _cache_shape(self) -> CacheShape:
        past = [self._inputs[name] for name in self._inputs if _past(name)]
        if not past:
            raise UnsupportedModel(
                "the decoder takes no past_key_values: it would compute every token again for each new one; "
                "use an export with a cache (decoder_model_merged)"
            )
        past = [each for each in past if len(each.shape) == _AXES]
        shapes = {(each.shape[1], each.shape[3], element_type(each)) for each in past}
        if len(shapes) != 1:
            raise UnsupportedModel("the decoder's layers have keys and values of different shapes")
        heads, head_dim, dtype = shapes.pop()
        if dtype.type not in _FLOATS:
            raise UnsupportedModel(f"the decoder's keys and values are {dtype}, which isn't supported")
        return CacheShape(layers=len(past) // 2, heads=_size(heads), head_dim=_size(head_dim), dtype=dtype)

    def _check_inputs(self) -> None:
        unknown = [name for name in self._inputs if name not in _KNOWN and not _past(name)]
        if unknown:
            raise UnsupportedModel(
                f"the decoder takes {', '.join(sorted(unknown))}, which isn't known; known are "
                f"{', '.join(sorted(_KNOWN))} and past_key_values.N.key and .value"
            )
        if (IDS in self._inputs) == (EMBEDS in self._inputs):
            raise UnsupportedModel(f"the decoder should take either {IDS} or {EMBEDS}")
        if len(self._rank(_POSITIONS)) not in {0, 2}:
            raise UnsupportedModel(
                f"{_POSITIONS} of the decoder aren't one number a token, which isn't supported"
            )


_ROOM: Final = 64
"""Further tokens that a new buffer has room for."""


def _past(name: str) -> bool:
    return _PAST.fullmatch(name) is not None


def _size(value: object) -> int | None:
    return value if isinstance(value, int) else None
