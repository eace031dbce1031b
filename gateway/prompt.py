"""What a request weighs, and what its prompt begins with, as far as can be told without a tokenizer."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Iterator
from typing import Final

from diplex.v1 import generation_pb2 as pb
from gateway.fleet.facts import Prefix

_BYTES_A_TOKEN: Final = 4
"""Of English text; of others more, since their characters have more bytes."""
_TOKENS_AN_IMAGE: Final = 64
"""What a small seeing model takes an image in with."""
_UNBOUNDED_TOKENS: Final = 256
"""Taken for the length of a generation that nothing bounds."""
_MOST_TOKENS: Final = 4096
"""What a request may count for at most, a choice: many ask for more than they will use."""
_BLOCK_BYTES: Final = 1024
_BLOCK_TOKENS: Final = 256
_MOST_POINTS: Final = 64
"""Of one prefix. Conversations that are the same so far are seldom told apart later."""


def tokens_of(request: pb.GenerateRequest) -> int:
    """About how many tokens a request comes to, prompt and output of all choices together."""
    bounded = request.stopping.HasField("max_tokens")
    output = min(request.stopping.max_tokens, _MOST_TOKENS) if bounded else _UNBOUNDED_TOKENS
    return prompt_tokens_of(request) + output * (request.output.n or 1)


def prefix_of(request: pb.GenerateRequest) -> Prefix:
    """Names for the beginnings of a request's prompt, under which the worker that held them can be found.

    A beginning counts after each block of text or tokens, and in a chat before each message behind the first
    of the user: what all conversations have in common, a short system message, names none of them.
    """
    seed = hashlib.blake2b(request.model.casefold().encode(), digest_size=8)
    for tool in request.tools:
        seed.update(tool.SerializeToString())
    points: list[bytes] = []
    for boundary, data in _pieces(request):
        seed.update(data)
        if boundary:
            points.append(seed.digest())
        if len(points) == _MOST_POINTS:
            break
    return Prefix(tuple(points), seed.digest())


def prompt_tokens_of(request: pb.GenerateRequest) -> int:
    """About how many tokens its prompt comes to."""
    match request.WhichOneof("input"):
        case "tokens":
            return len(request.tokens.ids)
        case "prompt":
            return len(request.prompt) // _BYTES_A_TOKEN
    parts = [part for message in request.chat.messages for part in message.parts]
    images = sum(part.HasField("image") for part in parts)
    return sum(len(part.text) for part in parts) // _BYTES_A_TOKEN + images * _TOKENS_AN_IMAGE


def _pieces(request: pb.GenerateRequest) -> Iterator[tuple[bool, bytes]]:
    """The prompt in pieces, and of each whether a beginning that counts ends with it."""
    match request.WhichOneof("input"):
        case "tokens":
            yield from _blocks(array("I", request.tokens.ids).tobytes(), _BLOCK_TOKENS * array("I").itemsize)
        case "prompt":
            yield from _blocks(request.prompt.encode(), _BLOCK_BYTES)
        case "chat":
            yield from _of_messages(request.chat.messages)


def _of_messages(messages: Iterable[pb.ChatMessage]) -> Iterator[tuple[bool, bytes]]:
    asked = False
    for message in messages:
        # A user's message before this one makes what lies between them a conversation.
        yield asked, b""
        yield False, b"\0%d" % message.role
        asked = asked or message.role == pb.ROLE_USER
        for part in message.parts:
            yield from _blocks(part.text.encode(), _BLOCK_BYTES)
            yield False, part.image.data
        for call in message.tool_calls:
            yield False, call.SerializeToString()


def _blocks(data: bytes, size: int) -> Iterator[tuple[bool, bytes]]:
    for start in range(0, len(data), size):
        block = data[start : start + size]
        yield len(block) == size, block
