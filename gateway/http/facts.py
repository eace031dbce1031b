"""What an answer says beside its text: why it ended, what it cost, who gave it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any, Final

from diplex.v1 import generation_pb2 as pb

encode: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
"""JSON text of a value. Of a single text by far the cheapest way."""

_FINISH_REASONS: Final = {
    pb.FINISH_REASON_END_OF_SEQUENCE: "stop",
    pb.FINISH_REASON_STOP: "stop",
    pb.FINISH_REASON_MAX_TOKENS: "length",
    pb.FINISH_REASON_CONTEXT_LENGTH: "length",
    pb.FINISH_REASON_TIME_LIMIT: "length",
    pb.FINISH_REASON_TOOL_CALLS: "tool_calls",
}
_LOWEST_LOGPROB: Final = -9999.0
"""What OpenAI sends where JSON has no number for it."""


def finish_reason(reason: pb.FinishReason.ValueType) -> str:
    """Why a choice ended, in OpenAI's words."""
    return _FINISH_REASONS.get(reason, "stop")


def usage(receipt: pb.Receipt) -> dict[str, Any]:
    """The tokens that a generation came to."""
    used = receipt.usage
    return {
        "prompt_tokens": used.prompt_tokens,
        "completion_tokens": used.completion_tokens,
        "total_tokens": used.prompt_tokens + used.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": used.cached_prompt_tokens},
    }


def extension(accepted: pb.Accepted, receipt: pb.Receipt, reasons: Iterable[int]) -> dict[str, Any]:
    """The receipt, for the field ``diplex``.

    Args:
        accepted: What was said when the request was admitted.
        receipt: What was said at the end.
        reasons: Why each choice ended, by its index.
    """
    used, timings = receipt.usage, receipt.timings
    return {
        "request_id": receipt.request_id,
        "model_digest": receipt.model_digest,
        "backend": word(pb.Backend, receipt.backend),
        "precision": word(pb.Precision, receipt.precision),
        "worker": receipt.worker,
        "attempts": receipt.attempts,
        "seed": receipt.seed,
        "queue_ms": timings.queue_ms,
        "prefill_ms": timings.prefill_ms,
        "decode_ms": timings.decode_ms,
        "speculated_tokens": used.speculated_tokens,
        "image_tokens": used.image_tokens,
        "cached_image_tokens": used.cached_image_tokens,
        "dropped_messages": accepted.dropped_messages,
        "finish_reasons": [word(pb.FinishReason, reason) for reason in reasons],
    }


def stop_match(match: pb.StopMatch) -> str | int | None:
    """Which stop string or token ended a choice."""
    return match.text if match.WhichOneof("match") == "text" else match.token_id or None


def chat_logprobs(tokens: Iterable[pb.TokenLogprob]) -> dict[str, Any]:
    """Log probabilities as chats have them."""
    return {
        "content": [
            {**_chat_logprob(token), "top_logprobs": [_chat_logprob(top) for top in token.top]}
            for token in tokens
        ],
        "refusal": None,
    }


def _chat_logprob(token: pb.TokenLogprob) -> dict[str, Any]:
    return {"token": text_of(token), "logprob": logprob_of(token), "bytes": list(token.token)}


def text_of(token: pb.TokenLogprob) -> str:
    """A token's text; what isn't whole characters is replaced."""
    return token.token.decode(errors="replace")


def logprob_of(token: pb.TokenLogprob) -> float:
    """A token's log probability, as a number that JSON has."""
    return max(token.logprob, _LOWEST_LOGPROB)


def word(enum: Any, number: int) -> str:
    """An enum's value in a word: ``onnx`` for ``BACKEND_ONNX``."""
    prefix = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", enum.DESCRIPTOR.name).upper()
    name: str = enum.DESCRIPTOR.values_by_number[number].name
    return name.removeprefix(f"{prefix}_").lower()
