"""An answer to a chat: the events of a generation as OpenAI's JSON, whole or in chunks."""

from __future__ import annotations

import time
from typing import Any, Final

from diplex.v1 import generation_pb2 as pb
from gateway.http.chunks import Chunks
from gateway.http.facts import chat_logprobs, encode, extension, finish_reason, stop_match, usage

PREFIX: Final = "chatcmpl-"


def whole(response: pb.GenerateResponse) -> dict[str, Any]:
    """A ``chat.completion``."""
    accepted, receipt = response.accepted, response.receipt
    body = {
        "id": PREFIX + receipt.request_id,
        "object": "chat.completion",
        "created": int(time.time()),
        "model": receipt.model,
        "choices": [_choice(choice) for choice in response.choices],
        "usage": usage(receipt),
        "diplex": extension(accepted, receipt, [choice.finish_reason for choice in response.choices]),
    }
    if accepted.prompt_token_ids:
        body["prompt_token_ids"] = list(accepted.prompt_token_ids)
    return body


def _choice(choice: pb.Choice) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": choice.text, "refusal": None}
    if choice.tool_calls:
        message["content"] = choice.text or None
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in choice.tool_calls
        ]
    body = {
        "index": choice.index,
        "message": message,
        "logprobs": chat_logprobs(choice.logprobs) if choice.logprobs else None,
        "finish_reason": finish_reason(choice.finish_reason),
        "stop_reason": stop_match(choice.stop_match),
    }
    if choice.token_ids:
        body["token_ids"] = list(choice.token_ids)
    return body


class ChatChunks(Chunks):
    """A stream of ``chat.completion.chunk``."""

    prefix = PREFIX
    kind = "chat.completion.chunk"

    def _first(self, choice: int) -> str:
        return f'{{"index":{choice},"delta":{{"role":"assistant","content":""}},"finish_reason":null}}'

    def _delta(self, delta: pb.Delta) -> str:
        told = ""
        if delta.text:
            told = f'"content":{encode(delta.text)}'
        if delta.tool_calls:
            told += f'{"," if told else ""}"tool_calls":{encode([_call(call) for call in delta.tool_calls])}'
        beside = ""
        if delta.logprobs:
            beside = f',"logprobs":{encode(chat_logprobs(delta.logprobs))}'
        if delta.token_ids:
            beside += f',"token_ids":{list(delta.token_ids)}'
        if not told and not beside:
            return ""
        return f'{{"index":{delta.choice},"delta":{{{told}}}{beside},"finish_reason":null}}'

    def _finished(self, finished: pb.ChoiceFinished) -> str:
        reason = finish_reason(finished.reason)
        stop = encode(stop_match(finished.stop_match))
        return f'{{"index":{finished.choice},"delta":{{}},"finish_reason":"{reason}","stop_reason":{stop}}}'


def _call(call: pb.ToolCallDelta) -> dict[str, Any]:
    function: dict[str, str] = {"arguments": call.arguments}
    if not call.name:
        return {"index": call.index, "function": function}
    function["name"] = call.name
    return {"index": call.index, "id": call.id, "type": "function", "function": function}
