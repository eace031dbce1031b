"""onnxruntime-genai's ``Generator`` behind the driver loop. Runs in that library's own environment.

Its engine for continuous batching needs an attention operator that its CPU build doesn't have, and the static
engine takes four requests at a time, so what is measured is the faster thing: all requests that wait, of one
length, make a batch, which nobody joins before it ends.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import onnxruntime_genai as og

from benchmarks.servers.driver_loop import main


@dataclass
class _Request:
    request_id: int
    prompt: list[int]
    tokens: int


class StaticBatches:
    """One ``Generator`` a batch.

    Args:
        config: ``folder``, ``threads``, ``clients``, ``max_length``.
    """

    gather_seconds = 0.002

    def __init__(self, config: dict) -> None:
        model = og.Config(config["folder"])
        session = {"intra_op_num_threads": config["threads"]}
        model.overlay(json.dumps({"model": {"decoder": {"session_options": session}}}))
        self._model = og.Model(model)
        self._most = config["clients"]
        self._waiting: list[_Request] = []
        self._batch: list[_Request] = []
        self._generator: og.Generator | None = None

    @property
    def busy(self) -> bool:
        """See :class:`~benchmarks.servers.driver_loop.Pipeline`."""
        return bool(self._waiting or self._batch)

    def submit(self, request_id: int, prompt: list[int], tokens: int) -> None:
        """See :class:`~benchmarks.servers.driver_loop.Pipeline`."""
        self._waiting.append(_Request(request_id, prompt, tokens))

    def cancel(self, request_id: int) -> None:
        """Forgets the request; a batch goes on as long as somebody waits for it."""
        self._waiting = [each for each in self._waiting if each.request_id != request_id]
        self._batch = [each for each in self._batch if each.request_id != request_id]

    def step(self) -> list[tuple[int, int]]:
        """See :class:`~benchmarks.servers.driver_loop.Pipeline`."""
        if not self._batch:
            self._begin()
        self._generator.generate_next_token()
        found = [(each.request_id, 1) for each in self._batch]
        if self._generator.is_done():
            self._batch = []
        return found

    def _begin(self) -> None:
        first = self._waiting[0]
        length, tokens = len(first.prompt), first.tokens
        alike = [each for each in self._waiting if (len(each.prompt), each.tokens) == (length, tokens)]
        self._batch = alike[: self._most]
        self._waiting = [each for each in self._waiting if each not in self._batch]
        params = og.GeneratorParams(self._model)
        whole = length + tokens
        params.set_search_options(
            batch_size=len(self._batch), max_length=whole, min_length=whole, do_sample=False
        )
        self._generator = None  # gives the memory of the last batch back
        self._generator = og.Generator(self._model, params)
        self._generator.append_tokens(np.array([each.prompt for each in self._batch], np.int32))


if __name__ == "__main__":
    main(StaticBatches)
