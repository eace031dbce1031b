"""ONNX Runtime: the session of a prepared graph, and runs whose inputs and outputs are bound once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from diplex.errors import UnsupportedModel
from workers.onnx_worker.processor import has_vnni
from workers.onnx_worker.seen import Seen
from workers.runtime.cores import usable_cores

_CPU: Final = "cpu"
_SPIN_MICROSECONDS: Final = 40
"""How long an idle thread of ONNX Runtime spins before it sleeps. Its own default, about a millisecond, costs
whoever else needs a core more than it gains: see docs/decisions/0006-short-spinning.md."""
_ERRORS_ONLY: Final = 3


def open_session(model: Path, *, threads: int, packed: bool = True) -> onnxruntime.InferenceSession:
    """Opens a prepared graph on the CPU.

    Args:
        model: The ``.onnx`` file; its weights lie beside it.
        threads: Threads that compute; 0 for one a usable core.
        packed: Whether weights are copied and laid out for the processor, which small runs gain from. If not,
            the file is mapped and takes memory only as far as it is used.

    Raises:
        UnsupportedModel: ONNX Runtime can't open it.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or usable_cores()
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.spin_duration_us", str(_SPIN_MICROSECONDS))
    if not has_vnni():
        # Sums of unsigned times signed bytes could overflow their 16 bits; this is exact, and slower.
        options.add_session_config_entry("session.x64quantprecision", "1")
    if not packed:
        options.add_session_config_entry("session.disable_prepacking", "1")
    options.log_severity_level = _ERRORS_ONLY
    try:
        return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions share no base but this one
        raise UnsupportedModel(
            f"ONNX Runtime {onnxruntime.__version__} can't open {model}: {error}; prepare the model again"
        ) from error


class BoundRun:
    """One shape of run over some slots. Fill the arrays in place, then call.

    Args:
        session: A prepared graph.
        cache: Views of the slots, ``{"0.key": float32 [batch, kv_heads, max_length, head_dim], …}``; bound as
            past and as present, so that the graph appends in place.
        shape: ``(batch, tokens)``.
        logits: Where the logits go, float32 ``[logit_rows, vocabulary]``: one row for each position wanted.
        seen: Image features in the place of embeddings; only for a model that sees, and always for that.
    """

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        cache: Mapping[str, NDArray[np.float32]],
        shape: tuple[int, int],
        logits: NDArray[np.float32],
        seen: Seen | None = None,
    ) -> None:
        self.input_ids = np.zeros(shape, np.int64)
        """int64 ``[batch, tokens]``."""
        self.query_seqlens = np.full(*shape, np.int32)
        """int32 ``[batch]``: tokens that each row takes in; what stands behind them is padding."""
        self.seqlens_k = np.zeros(shape[0], np.int32)
        """int32 ``[batch]``: tokens that each row holds after the run, less one."""
        self.logit_rows = np.zeros(len(logits), np.int64)
        """int64 ``[logit_rows]``: wanted positions in the flattened ``batch * tokens``; see :meth:`want`."""
        self._total_sequence_length = np.zeros((), np.int32)
        self._logits = logits
        self._cache = cache
        self._seen = seen
        self._session = session
        self._binding = session.io_binding()
        self._bind()

    def __call__(
        self, *, total_length: int, options: onnxruntime.RunOptions | None = None
    ) -> NDArray[np.float32]:
        """Runs the graph.

        Args:
            total_length: Tokens that the longest row holds after the run.
            options: Of ONNX Runtime, for this run.

        Returns:
            The logits given, filled.
        """
        self._total_sequence_length[...] = total_length
        self._session.run_with_iobinding(self._binding, options)
        return self._logits

    def want(self, places: Sequence[int], logits: NDArray[np.float32]) -> None:
        """Wants another number of logits than before.

        Args:
            places: Positions in the flattened ``batch * tokens``.
            logits: Where they go, float32 ``[len(places), vocabulary]``.
        """
        self.logit_rows, self._logits = np.array(places, np.int64), logits
        bind_input(self._binding, "logit_rows", self.logit_rows)
        bind_output(self._binding, "logits", self._logits)

    def _bind(self) -> None:
        inputs: dict[str, NDArray[Any]] = {
            "input_ids": self.input_ids,
            "query_seqlens": self.query_seqlens,
            "seqlens_k": self.seqlens_k,
            "total_sequence_length": self._total_sequence_length,
            "logit_rows": self.logit_rows,
        }
        if self._seen is not None:
            inputs |= {"features": self._seen.features, "feature_places": self._seen.places}
        for name, array in inputs.items():
            bind_input(self._binding, name, array)
        bind_output(self._binding, "logits", self._logits)
        for name, rows in self._cache.items():
            bind_input(self._binding, f"past_key_values.{name}", rows)
            bind_output(self._binding, f"present.{name}", rows)


def bind_input(binding: onnxruntime.IOBinding, name: str, array: NDArray[Any]) -> None:
    """Lets a run read an array, which the caller keeps alive."""
    binding.bind_input(name, _CPU, 0, array.dtype, array.shape, array.ctypes.data)


def bind_output(binding: onnxruntime.IOBinding, name: str, array: NDArray[Any]) -> None:
    """Lets a run write to an array, which the caller keeps alive."""
    binding.bind_output(name, _CPU, 0, array.dtype, array.shape, array.ctypes.data)
