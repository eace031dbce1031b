"""What a caller gets back: immutable, typed, without protobuf."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from diplex.client.inputs import Backend, Precision, ToolCall
from diplex.errors import DiplexError


class FinishReason(StrEnum):
    """Why a choice ended."""

    UNSPECIFIED = "unspecified"
    """Not told, or told by a newer server in a way that this version does not know."""
    END_OF_SEQUENCE = "end_of_sequence"
    """The model ended its turn."""
    STOP = "stop"
    """A stop string or stop token matched."""
    MAX_TOKENS = "max_tokens"
    """``max_tokens`` was reached."""
    CONTEXT_LENGTH = "context_length"
    """The model's context is full."""
    TIME_LIMIT = "time_limit"
    """The request's time limit was reached."""
    TOOL_CALLS = "tool_calls"
    """The model called one or more tools."""


class TokenLogprob(NamedTuple):
    """The log probability of one token at one position."""

    token_id: int
    token: bytes
    """The token's bytes, which need not be whole characters."""
    logprob: float
    """Natural logarithm."""
    top: tuple[TokenLogprob, ...] = ()
    """The most probable tokens at the position, best first, if asked for."""


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """A piece of a call of a tool, as it was generated."""

    index: int
    """Which of the choice's calls."""
    id: str
    """In the first delta of a call."""
    name: str
    """In the first delta of a call."""
    arguments: str
    """A piece of the arguments' JSON text."""


class Delta(NamedTuple):
    """A piece of a choice, as it was generated."""

    text: str
    """Whole characters only. May be empty."""
    choice: int = 0
    """Index of the choice that the piece belongs to."""
    tokens: int = 0
    """Generated tokens that the piece stands for."""
    token_ids: tuple[int, ...] = ()
    """Their ids, if asked for."""
    logprobs: tuple[TokenLogprob, ...] = ()
    """Their log probabilities, if asked for."""
    tool_calls: tuple[ToolCallDelta, ...] = ()
    """What was added to calls of tools."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """What will serve, or served, a request."""

    request_id: str
    """Names the request in logs on every hop."""
    model: str
    """Canonical name."""
    backend: Backend
    precision: Precision
    worker: str
    prompt_tokens: int
    prompt_token_ids: tuple[int, ...] = ()
    """If asked for."""
    dropped_messages: int = 0
    """Messages that had no room, with ``truncate``."""
    image_tokens: int = 0
    """Of the prompt tokens, those that stand for pictures."""
    cached_image_tokens: int = 0
    """Of the image tokens, those of pictures that the worker had seen before."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One whole continuation."""

    index: int
    text: str
    finish_reason: FinishReason
    stop_match: str | int | None = None
    """The stop string or the id of the stop token that ended it."""
    token_ids: tuple[int, ...] = ()
    """If asked for."""
    logprobs: tuple[TokenLogprob, ...] = ()
    """If asked for."""
    tool_calls: tuple[ToolCall, ...] = ()
    """Calls of tools that the choice made."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that a request took."""

    prompt_tokens: int
    cached_prompt_tokens: int
    """Of the prompt tokens, those whose keys and values were still held."""
    completion_tokens: int
    """Over all choices."""
    speculated_tokens: int
    """Of the completion tokens, those that speculation had guessed."""
    image_tokens: int = 0
    """Of the prompt tokens, those that stand for pictures."""
    cached_image_tokens: int = 0
    """Of the image tokens, those of pictures that the worker had seen before."""


@dataclass(frozen=True, slots=True)
class Timings:
    """Milliseconds, as the engine measured them."""

    queue_ms: float
    """From arrival in the worker to the first step that worked on the request."""
    prefill_ms: float
    """From there to the first token."""
    decode_ms: float
    """From the first token to the last."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What was done, by whom, and what it cost."""

    request_id: str
    model: str
    model_digest: str
    """``sha256:…`` of the prepared artefact."""
    backend: Backend
    precision: Precision
    worker: str
    attempts: int
    """Workers tried, the last one included."""
    usage: Usage
    timings: Timings
    seed: int
    """The seed that was used, whether given or chosen."""


@dataclass(frozen=True, slots=True)
class Generation:
    """Everything that a request came to."""

    choices: tuple[Choice, ...]
    """At least one, by index."""
    accepted: Accepted
    receipt: Receipt

    @property
    def text(self) -> str:
        """Text of the first choice."""
        return self.choices[0].text

    @property
    def token_ids(self) -> tuple[int, ...]:
        """Token ids of the first choice, if asked for."""
        return self.choices[0].token_ids

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """Calls of tools that the first choice made."""
        return self.choices[0].tool_calls

    @property
    def finish_reason(self) -> FinishReason:
        """Why the first choice ended."""
        return self.choices[0].finish_reason


@dataclass(frozen=True, slots=True)
class TokenCount:
    """What an input comes to."""

    tokens: int
    context_length: int
    """Tokens that the model's context holds."""
    token_ids: tuple[int, ...] = ()
    """If asked for."""
    image_tokens: int = 0
    """Of the tokens, those that stand for pictures."""


class BatchResult(NamedTuple):
    """What became of one request of a batch."""

    request: int
    """Its index, from 0."""
    result: Generation | DiplexError
    """Its answer, or why there is none."""
