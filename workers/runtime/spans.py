"""An engine's part in a trace: its queue, prefill and decode, made of the times that it measured.

The engine itself knows nothing of traces; its times are of the monotonic clock, which both processes share.
"""

from __future__ import annotations

from collections.abc import Sequence

from diplex import tracing
from diplex.v1 import generation_pb2 as public
from workers.runtime.generation import Finish


def add_engine(finishes: Sequence[Finish], receipt: public.Receipt) -> None:
    """Adds the three spans of a generation that has ended to the current one; none if nothing was left to do.

    Args:
        finishes: How its choices ended; the spans are those of the receipt, which takes the first to begin.
        receipt: Of the generation.
    """
    if not finishes:
        return
    usage, timings = receipt.usage, receipt.timings
    model = {"gen_ai.request.model": receipt.model}
    arrived = tracing.wall_clock(min(finish.timings.arrived for finish in finishes))
    began = tracing.add("queue", arrived, timings.queue_ms / 1000, model)
    computed = usage.prompt_tokens - usage.cached_prompt_tokens
    first = tracing.add(
        "prefill",
        began,
        timings.prefill_ms / 1000,
        {**model, "gen_ai.usage.input_tokens": usage.prompt_tokens, "diplex.computed_tokens": computed},
    )
    tracing.add(
        "decode",
        first,
        timings.decode_ms / 1000,
        {
            **model,
            "gen_ai.usage.output_tokens": usage.completion_tokens,
            "diplex.speculated_tokens": usage.speculated_tokens,
        },
    )
