"""OpenVINO GenAI's continuous batching behind the driver loop. Runs in that library's own environment."""

from __future__ import annotations

import numpy as np
import openvino as ov
import openvino_genai as genai

from benchmarks.servers.driver_loop import main

_KV_BYTES_PER_TOKEN = 30 * 2 * 3 * (64 + 4 + 4)
"""Of SmolLM2-135M with 8-bit keys and values, scale and zero point beside each head: its default on a CPU."""
_SPARE = 1.25
_GIB = 1 << 30


class ContinuousBatching:
    """The pipeline's own ``step``.

    Args:
        config: ``gguf``, ``threads``, ``clients``, ``max_length``.
    """

    gather_seconds = 0.0

    def __init__(self, config: dict) -> None:
        scheduler = genai.SchedulerConfig()
        tokens = config["clients"] * config["max_length"] * _SPARE
        scheduler.cache_size = max(1, round(tokens * _KV_BYTES_PER_TOKEN / _GIB + 0.5))
        scheduler.max_num_seqs = max(config["clients"], 16)
        scheduler.enable_prefix_caching = True
        options = {"INFERENCE_NUM_THREADS": config["threads"]}
        self._pipeline = genai.ContinuousBatchingPipeline(config["gguf"], scheduler, "CPU", options, {}, {})
        self._handles = {}  # request id -> what its tokens are read from

    @property
    def busy(self) -> bool:
        """See :class:`~benchmarks.servers.driver_loop.Pipeline`."""
        return self._pipeline.has_non_finished_requests()

    def submit(self, request_id: int, prompt: list[int], tokens: int) -> None:
        """See :class:`~benchmarks.servers.driver_loop.Pipeline`."""
        config = genai.GenerationConfig(
            max_new_tokens=tokens, ignore_eos=True, do_sample=False, apply_chat_template=False
        )
        ids = ov.Tensor(np.array([prompt], np.int64))
        self._handles[request_id] = self._pipeline.add_request(request_id, ids, config)

    def cancel(self, request_id: int) -> None:
        """See :class:`~benchmarks.servers.driver_loop.Pipeline`."""
        if handle := self._handles.pop(request_id, None):
            handle.cancel()

    def step(self) -> list[tuple[int, int]]:
        """See :class:`~benchmarks.servers.driver_loop.Pipeline`."""
        self._pipeline.step()
        found = []
        for request_id, handle in list(self._handles.items()):
            while handle.can_read():
                found += [(request_id, len(output.generated_ids)) for output in handle.read().values()]
            if handle.get_status() != genai.GenerationStatus.RUNNING:
                del self._handles[request_id]
        return found


if __name__ == "__main__":
    main(ContinuousBatching)
