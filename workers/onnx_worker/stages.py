"""A prepared graph in stages: a long run that pauses behind every few layers.

The stages map the weights of the file, without a copy of their own laid out for the processor, but for those
whose name asks for it. So they cost no memory until they are used, and a run through all of them takes longer
than one through the whole graph by about what one token takes; twice as long with weights in blocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from workers.onnx_worker.seen import Gather, Seen
from workers.onnx_worker.session import bind_input, bind_output, open_session
from workers.runtime.artefact import PACKED_STAGE, STAGE_FILES
from workers.runtime.engine.plan import Chunk


class Stages:
    """The sessions of a model's stages.

    Args:
        folder: The prepared artefact.
        hidden_size: Width of the residual stream.
        vocab_size: Width of the logits.
        threads: Threads that compute; 0 for one a usable core.
    """

    def __init__(self, folder: Path, *, hidden_size: int, vocab_size: int, threads: int) -> None:
        self._files = sorted(folder.glob(STAGE_FILES))
        self._hidden_size = hidden_size
        self._vocab_size = vocab_size
        self._threads = threads
        self._stages = self._opened()

    def __len__(self) -> int:
        return len(self._files)

    def begin(
        self, chunk: Chunk, cache: Mapping[str, NDArray[np.float32]], gather: Gather | None = None
    ) -> StagedRun:
        """A run over a piece of a prompt that has not got through any stage yet.

        Args:
            chunk: The piece.
            cache: Views of its slot, as :class:`~workers.onnx_worker.session.BoundRun` takes them.
            gather: Of image features, for a model that sees.
        """
        run = StagedRun(self._stages, chunk, cache, self._hidden_size, self._vocab_size)
        if gather is not None:
            run.see(gather)
        return run

    def trim(self) -> None:
        """Gives back all that runs have left behind."""
        self._stages = []
        self._stages = self._opened()

    def _opened(self) -> list[_Stage]:
        return [
            _Stage(open_session(file, threads=self._threads, packed=file.name.endswith(PACKED_STAGE)))
            for file in self._files
        ]


class _Stage:
    """A session and the names that it knows."""

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        self.session = session
        self.inputs = [each.name for each in session.get_inputs()]
        self.outputs = [each.name for each in session.get_outputs()]


class StagedRun:
    """A piece of a prompt on its way through the stages; made by :meth:`Stages.begin`."""

    def __init__(
        self,
        stages: list[_Stage],
        chunk: Chunk,
        cache: Mapping[str, NDArray[np.float32]],
        hidden_size: int,
        vocab_size: int,
    ) -> None:
        tokens = len(chunk.tokens)
        end = chunk.start + tokens
        self.done = 0
        """Stages that the piece has got through."""
        self._logits = np.empty((int(chunk.last), vocab_size), np.float32)
        self._states = np.empty((len(stages), 2, 1, tokens, hidden_size), np.float32)
        self._arrays: dict[str, NDArray[Any]] = {
            "input_ids": np.array([chunk.tokens], np.int64),
            "query_seqlens": np.array([tokens], np.int32),
            "seqlens_k": np.array([end - 1], np.int32),
            "total_sequence_length": np.array(end, np.int32),
            "logit_rows": np.full(int(chunk.last), tokens - 1, np.int64),
            "logits": self._logits,
        }
        for name, rows in cache.items():
            self._arrays[f"past_key_values.{name}"] = self._arrays[f"present.{name}"] = rows
        self._stages = stages

    def see(self, gather: Gather) -> None:
        """Puts image features in the place of negative token ids; before the first stage."""
        seen = Seen.taken_from(self._arrays["input_ids"], gather)
        self._arrays |= {"features": seen.features, "feature_places": seen.places}

    def advance(self, count: int) -> NDArray[np.float32]:
        """Goes through the next ``count`` stages.

        Returns:
            Float32 ``[1, vocabulary]`` once the last chunk of a prompt is through all of them, else no row.
        """
        for number in range(self.done, self.done + count):
            self._run(number)
        self.done += count
        return self._logits if self.done == len(self._stages) else self._logits[:0]

    def _run(self, number: int) -> None:
        stage = self._stages[number]
        binding = stage.session.io_binding()
        for name in stage.inputs:
            bind_input(binding, name, self._arrays[name])
        between = iter(self._states[number])
        for name in stage.outputs:
            if name not in self._arrays:
                self._arrays[name] = next(between)
            bind_output(binding, name, self._arrays[name])
        stage.session.run_with_iobinding(binding)
