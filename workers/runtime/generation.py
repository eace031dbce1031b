"""A generation in the worker's own terms: what is asked for, and how it ended. No protobuf, no tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, IntEnum

from workers.runtime.sampling import SamplingParams
from workers.runtime.structured.response_format import ResponseFormat
from workers.runtime.tools.definitions import Tool, ToolUse
from workers.runtime.vision.options import ImageOptions


class Priority(IntEnum):
    """Order among waiting requests; the larger goes first."""

    BATCH = 1
    NORMAL = 2
    INTERACTIVE = 3


class FinishReason(Enum):
    """Why a choice ended."""

    END_OF_SEQUENCE = "end_of_sequence"
    STOP = "stop"
    MAX_TOKENS = "max_tokens"
    CONTEXT_LENGTH = "context_length"
    TIME_LIMIT = "time_limit"
    TOOL_CALLS = "tool_calls"


@dataclass(frozen=True, slots=True)
class Chat:
    """A conversation, to be put through the model's chat template."""

    messages: Sequence[Mapping[str, object]]
    """As a chat template expects them: ``role``, ``content``, and ``tool_calls`` where there were some.

    A content with pictures is a list of parts: ``{"type": "text", "text": …}`` and ``{"type": "image",
    "image": ImageFile}``.
    """
    tools: tuple[Tool, ...] = ()
    """Those that the template tells the model of."""
    images: ImageOptions = field(default_factory=ImageOptions)
    """How its pictures are to be seen."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """Text that the model gets as it is, behind its begin-of-sequence token if it has one."""

    text: str


@dataclass(frozen=True, slots=True)
class TokenIds:
    """Tokens that the model gets as they are."""

    ids: tuple[int, ...]


ModelInput = Chat | Prompt | TokenIds


@dataclass(frozen=True, slots=True)
class Stopping:
    """What ends a choice besides the model's own end-of-sequence tokens."""

    max_tokens: int | None = None
    """Most tokens to generate; ``None`` for as many as the context holds."""
    min_tokens: int = 0
    """Tokens before which nothing ends the text: no end-of-sequence or stop token is chosen, and a stop
    string counts only if it begins behind them."""
    stop: tuple[str, ...] = ()
    """Strings that end the text; not part of it."""
    stop_token_ids: tuple[int, ...] = ()
    """Tokens that end the text; not part of it."""
    seconds: float | None = None
    """After which the text ends with what it has, from when the engine got the request."""


@dataclass(frozen=True, slots=True)
class Output:
    """What is given back."""

    choices: int = 1
    """Continuations of the input, each with random numbers of its own."""
    logprobs: int | None = None
    """Of how many likeliest tokens to tell the log probabilities beside each token's own; ``None`` for no
    log probabilities."""
    echo: bool = False
    """Whether the input's text is told too."""
    format: ResponseFormat | None = None
    """What the text is held to."""
    whole: bool = False
    """Whether nobody reads along: all pieces of a choice come as one, at the end."""


@dataclass(frozen=True, slots=True)
class Prior:
    """What the caller has already of one choice, from another worker."""

    choice: int
    token_ids: tuple[int, ...] = ()
    characters: int = 0
    """Of its text, an echoed input included."""
    finished: bool = False
    """Nothing more is generated for it."""
    completion_tokens: int = 0
    """Tokens that it took, the one that ended it included; of one that has ended."""


@dataclass(frozen=True, slots=True)
class Generation:
    """One request as the engine gets it."""

    input: ModelInput
    sampling: SamplingParams
    stopping: Stopping = field(default_factory=Stopping)
    priority: Priority = Priority.NORMAL
    client: str = ""
    """Who it is for; clients get even shares of the work."""
    deadline: float | None = None
    """When it has to be done, in seconds of CLOCK_MONOTONIC; ``None`` for no limit."""
    output: Output = field(default_factory=Output)
    truncate: bool = False
    """Whether the oldest turns of a conversation that is too long may be dropped."""
    tools: ToolUse | None = None
    """What may be called; ``None`` for nothing."""
    prior: tuple[Prior, ...] = ()
    """What the generation goes on from, of choices that were begun elsewhere."""

    @property
    def unfinished(self) -> tuple[int, ...]:
        """The choices that are still to be brought to their end."""
        ended = {prior.choice for prior in self.prior if prior.finished}
        return tuple(choice for choice in range(self.output.choices) if choice not in ended)


@dataclass(frozen=True, slots=True)
class ImageTokens:
    """Tokens of a prompt that stand for rows of its pictures' features."""

    all: int = 0
    cached: int = 0
    """Those of pictures that had been encoded before."""


@dataclass(frozen=True, slots=True)
class Timings:
    """Where the time of a generation went, in seconds."""

    queue: float
    """From arrival in the engine process to the first step that worked on it."""
    prefill: float
    """From there to the first token."""
    decode: float
    """From the first token to the last."""
    arrived: float = 0.0
    """When it arrived in the engine process, on the monotonic clock."""

    @property
    def until_first(self) -> float:
        """From arrival to the first token."""
        return self.queue + self.prefill

    @property
    def until_last(self) -> float:
        """From arrival to the last token."""
        return self.until_first + self.decode


@dataclass(frozen=True, slots=True)
class Finish:
    """How a choice ended and what it took."""

    reason: FinishReason
    stop_match: str | int | None
    """The stop string, or the stop or end-of-sequence token, that ended it."""
    prompt_tokens: int
    completion_tokens: int
    """Tokens generated, the one that ended the choice included."""
    timings: Timings
    cached_tokens: int = 0
    """Of the prompt's tokens, those that the prefix cache held."""
    speculated_tokens: int = 0
    """Of the completion tokens, those that speculation had guessed."""
    image_tokens: ImageTokens = field(default_factory=ImageTokens)
    """Of the prompt's tokens, those that stand for pictures."""
