"""An answer of ``/v1/responses``, whole."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from diplex.v1 import generation_pb2 as pb
from gateway.http.facts import chat_logprobs, extension, finish_reason
from gateway.http.responses_request import ResponsesRequest

Plain = dict[str, Any]


def whole(response: pb.GenerateResponse, request: ResponsesRequest) -> Plain:
    """A ``response``."""
    [choice] = response.choices
    name = response.accepted.request_id
    output: list[Plain] = []
    if choice.text or not choice.tool_calls:
        output.append(message(name, choice.text, choice.logprobs))
    output += [function_call(name, index, call) for index, call in enumerate(choice.tool_calls)]
    body = empty(response.accepted, request)
    return ended(body, output, choice.finish_reason, response.accepted, response.receipt)


def empty(accepted: pb.Accepted, request: ResponsesRequest) -> Plain:
    """A ``response`` that has just begun."""
    choice, text = request.tool_choice, request.text
    return {
        "id": f"resp_{accepted.request_id}",
        "object": "response",
        "created_at": int(time.time()),
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "instructions": request.instructions,
        "max_output_tokens": request.max_output_tokens,
        "metadata": request.metadata or {},
        "model": accepted.model,
        "output": [],
        "parallel_tool_calls": request.parallel_tool_calls is not False,
        "previous_response_id": None,
        "store": False,
        "temperature": request.temperature,
        "text": text.model_dump(by_alias=True, exclude_none=True) if text else {"format": {"type": "text"}},
        "tool_choice": (choice.model_dump() if choice.name else choice.type) if choice else "auto",
        "tools": [tool.model_dump() for tool in request.tools or ()],
        "top_p": request.top_p,
        "truncation": request.truncation or "disabled",
        "usage": None,
        "user": request.user,
    }


def ended(
    body: Plain,
    output: list[Plain],
    reason: pb.FinishReason.ValueType,
    accepted: pb.Accepted,
    receipt: pb.Receipt,
) -> Plain:
    """The same when it has ended.

    Args:
        body: From :func:`empty`.
        output: Its items.
        reason: Why it ended.
        accepted: What was said when the request was admitted.
        receipt: What was said at the end.
    """
    cut = finish_reason(reason) == "length"
    used = receipt.usage
    return body | {
        "status": "incomplete" if cut else "completed",
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "output": output,
        "usage": {
            "input_tokens": used.prompt_tokens,
            "input_tokens_details": {"cached_tokens": used.cached_prompt_tokens},
            "output_tokens": used.completion_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": used.prompt_tokens + used.completion_tokens,
        },
        "diplex": extension(accepted, receipt, [reason]),
    }


def message(
    name: str, text: str, logprobs: Iterable[pb.TokenLogprob] = (), status: str = "completed"
) -> Plain:
    """An item with text.

    Args:
        name: Id of the request.
        text: What it says.
        logprobs: Of its tokens.
        status: Whether it is whole.
    """
    content = [text_part(text, logprobs)] if status == "completed" else []
    return {"id": f"msg_{name}", "type": "message", "status": status, "role": "assistant", "content": content}


def text_part(text: str, logprobs: Iterable[pb.TokenLogprob] = ()) -> Plain:
    """The text within an item."""
    told = chat_logprobs(logprobs)["content"]
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": told}


def function_call(name: str, index: int, call: pb.ToolCall, status: str = "completed") -> Plain:
    """An item with a call.

    Args:
        name: Id of the request.
        index: Counts the calls.
        call: The call.
        status: Whether it is whole.
    """
    return {
        "id": f"fc_{name}_{index}",
        "type": "function_call",
        "status": status,
        "call_id": call.id,
        "name": call.name,
        "arguments": call.arguments,
    }
