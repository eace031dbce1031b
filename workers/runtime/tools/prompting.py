"""How a model that was not trained with tools is told of them, and of calls that were made."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from workers.runtime.tools.definitions import ToolUse, as_functions

_INTRODUCTION = (
    "You can call functions. To call one, answer with nothing but a JSON object of the form "
    '{"name": "the function\'s name", "arguments": {…}}.'
)
_SEVERAL = " To call several, answer with a JSON array of such objects."

Messages = Sequence[Mapping[str, object]]


def introduced(messages: Messages, use: ToolUse) -> Messages:
    """A conversation whose system message tells of tools.

    Raises:
        InvalidRequest: A tool's schema is no JSON object.
    """
    functions = [json.dumps(each["function"], ensure_ascii=False) for each in as_functions(use.tools)]
    text = _INTRODUCTION + ("" if use.single else _SEVERAL)
    text = "\n".join([f"{text} The functions are:", *functions])
    if messages and messages[0]["role"] == "system":
        first = {**messages[0], "content": _with_text(messages[0]["content"], f"\n\n{text}")}
        return [first, *messages[1:]]
    return [{"role": "system", "content": text}, *messages]


def written_out(message: Mapping[str, object]) -> Mapping[str, object]:
    """A message whose calls of tools are part of its text, as :func:`introduced` asks for them."""
    calls = message.get("tool_calls")
    if not isinstance(calls, Sequence) or not calls:
        return message
    functions = [call["function"] for call in calls]
    content, written = message["content"], json.dumps(functions if len(functions) > 1 else functions[0])
    return {"role": message["role"], "content": _with_text(content, f"\n{written}" if content else written)}


def _with_text(content: object, text: str) -> object:
    """A content, be it text or a list of parts, with a text behind it."""
    if isinstance(content, list):
        return [*content, {"type": "text", "text": text}]
    return f"{content or ''}{text}"
