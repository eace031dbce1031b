"""An answer to a completion: the events of a generation as OpenAI's JSON, whole or in chunks."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any, Final

from diplex.v1 import generation_pb2 as pb
from gateway.http.chunks import Chunks
from gateway.http.facts import encode, extension, finish_reason, logprob_of, stop_match, text_of, usage

PREFIX: Final = "cmpl-"


def whole(responses: Sequence[pb.GenerateResponse]) -> dict[str, Any]:
    """A ``text_completion``.

    Args:
        responses: One a prompt, with equally many choices each.
    """
    first = responses[0]
    receipts = [response.receipt for response in responses]
    reasons = [[choice.finish_reason for choice in response.choices] for response in responses]
    extensions = [
        extension(response.accepted, response.receipt, its)
        for response, its in zip(responses, reasons, strict=True)
    ]
    body = {
        "id": PREFIX + first.accepted.request_id,
        "object": "text_completion",
        "created": int(time.time()),
        "model": first.receipt.model,
        "choices": [
            _choice(choice, place * len(response.choices))
            for place, response in enumerate(responses)
            for choice in response.choices
        ],
        "usage": _sum(map(usage, receipts)),
        "diplex": extensions[0] if len(extensions) == 1 else extensions,
    }
    if first.accepted.prompt_token_ids:
        ids = [list(response.accepted.prompt_token_ids) for response in responses]
        body["prompt_token_ids"] = ids[0] if len(ids) == 1 else ids
    return body


def _choice(choice: pb.Choice, before: int) -> dict[str, Any]:
    body = {
        "index": before + choice.index,
        "text": choice.text,
        "logprobs": _logprobs(choice.logprobs) if choice.logprobs else None,
        "finish_reason": finish_reason(choice.finish_reason),
        "stop_reason": stop_match(choice.stop_match),
    }
    if choice.token_ids:
        body["token_ids"] = list(choice.token_ids)
    return body


def _logprobs(tokens: Iterable[pb.TokenLogprob], offset: int = 0) -> dict[str, Any]:
    """Log probabilities as completions have them.

    Args:
        tokens: Of a choice, or of a piece of it.
        offset: Characters of the choice before them.
    """
    told: dict[str, list[Any]] = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
    for token in tokens:
        text = text_of(token)
        told["tokens"].append(text)
        told["token_logprobs"].append(logprob_of(token))
        told["top_logprobs"].append({text_of(top): logprob_of(top) for top in token.top} or None)
        told["text_offset"].append(offset)
        offset += len(text)
    return told


def _sum(usages: Iterable[dict[str, Any]]) -> dict[str, Any]:
    total: dict[str, Any] = {}
    for each in usages:
        for name, value in each.items():
            total[name] = (
                _sum([total.get(name, {}), value]) if isinstance(value, dict) else total.get(name, 0) + value
            )
    return total


class CompletionChunks(Chunks):
    """A stream of ``text_completion``."""

    prefix = PREFIX
    kind = "text_completion"

    def __init__(self, choices: int, *, include_usage: bool) -> None:
        super().__init__(choices, include_usage=include_usage)
        self._offsets = [0] * choices  # choice -> characters of its tokens so far

    def _first(self, choice: int) -> str:  # noqa: ARG002  # nothing is said before the text
        return ""

    def _delta(self, delta: pb.Delta) -> str:
        if not (delta.text or delta.logprobs or delta.token_ids):
            return ""
        beside = ""
        if delta.logprobs:
            logprobs = _logprobs(delta.logprobs, self._offsets[delta.choice])
            self._offsets[delta.choice] += sum(map(len, logprobs["tokens"]))
            beside = f',"logprobs":{encode(logprobs)}'
        if delta.token_ids:
            beside += f',"token_ids":{list(delta.token_ids)}'
        return f'{{"index":{delta.choice},"text":{encode(delta.text)}{beside},"finish_reason":null}}'

    def _finished(self, finished: pb.ChoiceFinished) -> str:
        reason = finish_reason(finished.reason)
        stop = encode(stop_match(finished.stop_match))
        return f'{{"index":{finished.choice},"text":"","finish_reason":"{reason}","stop_reason":{stop}}}'
