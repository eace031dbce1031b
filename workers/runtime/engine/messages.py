"""What crosses the pipe between a supervisor and its engine process.

Both ends are the same installation and the pipe is private to them, so messages are pickled. What goes with
every step is a named tuple, which takes a third of a dataclass's time to pack and unpack.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from diplex.errors import DiplexError
from workers.runtime.generation import Finish, Generation, ImageTokens, ModelInput
from workers.runtime.tools.reading import ToolCallPiece

DEFAULT_PREFILL_CHUNK: Final = 512
DEFAULT_SHARED_PREFILL_CHUNK: Final = 512
DEFAULT_MAX_STALL: Final = 0.45
DEFAULT_PREFIX_CACHE_MIB: Final = 512
DEFAULT_CACHE_IDLE_SECONDS: Final = 60.0
DEFAULT_IMAGE_CACHE_MIB: Final = 256

_LENGTH: Final = struct.Struct("!I")


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """How an engine process is to run its model."""

    folder: Path
    """The prepared artefact."""
    slots: int = 16
    """Sequences that can be decoded at the same time."""
    max_length: int | None = None
    """Tokens a slot can hold, prompt and output; ``None`` for the model's own context length."""
    max_queue: int = 256
    """Requests that may wait for a slot before more are refused."""
    threads: int = 0
    """Threads that compute; 0 for one a usable core."""
    device: str = "auto"
    """What computes: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``, of those that the backend knows."""
    prefill_chunk: int = DEFAULT_PREFILL_CHUNK
    """Longest piece of a prompt, in tokens, when nothing else is being decoded."""
    shared_prefill_chunk: int = DEFAULT_SHARED_PREFILL_CHUNK
    """Longest piece of a prompt, in tokens, while sequences are being decoded, however fast they are."""
    max_stall: float = DEFAULT_MAX_STALL
    """By how much prompts may lengthen a step of running streams, in lengths of the step without them."""
    kv_mib: int = 0
    """MiB that keys and values of all slots may take; 0 for most of what the machine has available."""
    cache_slots: int | None = None
    """Slots beside ``slots``, for cached tokens only; ``None`` for as many as ``slots``."""
    prefix_cache_mib: int = DEFAULT_PREFIX_CACHE_MIB
    """MiB of cached tokens of sequences that have ended; 0 for no prefix cache."""
    cache_idle_seconds: float = DEFAULT_CACHE_IDLE_SECONDS
    """Seconds without a request after which the prefix cache and the features of pictures are given back."""
    image_cache_mib: int = DEFAULT_IMAGE_CACHE_MIB
    """MiB of features of pictures that are kept, those that are needed included; of models that take
    pictures."""
    chat_template: str | None = None
    """For a model that has no chat template of its own: one, in Jinja."""
    code_allowed: bool = False
    """Whether code of the model's publisher may run."""
    messages_per_second: float = 0.0
    """About how many messages all streams together come to when many run: see
    :class:`~workers.runtime.engine.beat.Beat`. 0: a message a step, always."""
    speculation: bool = True
    """Whether a lone sequence's next tokens are guessed from its past, when that pays."""

    @property
    def rows(self) -> int:
        """Slots of the KV cache, those that only cache included."""
        if self.prefix_cache_mib == 0:
            return self.slots
        return self.slots + (self.slots if self.cache_slots is None else self.cache_slots)


# ------------------------------------------------------------------------------- supervisor to engine


@dataclass(frozen=True, slots=True)
class Submit:
    """Generate; the replies carry ``id``."""

    id: int
    generation: Generation


@dataclass(frozen=True, slots=True)
class Cancel:
    """Nobody waits for ``id`` any longer. Unknown and finished ids are ignored."""

    id: int


@dataclass(frozen=True, slots=True)
class Count:
    """Encode an input and say what it comes to."""

    id: int
    input: ModelInput


ToEngine = EngineConfig | Submit | Cancel | Count

# ------------------------------------------------------------------------------- engine to supervisor


@dataclass(frozen=True, slots=True)
class Ready:
    """The model is loaded and warm. The first message of an engine that starts."""

    slots: int
    max_length: int
    kv_tokens: int = 0
    """Tokens that all slots may hold together."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The model could not be loaded; the process ends."""

    error: DiplexError


@dataclass(frozen=True, slots=True)
class Admitted:
    """The request's prompt fits and it has a place in the queue."""

    id: int
    prompt_ids: tuple[int, ...]
    """The image token stands for each row of a picture's features."""
    text: str = ""
    """The prompt's, if it is to be told."""
    dropped: int = 0
    """Messages of the conversation that had no room."""
    image_tokens: ImageTokens = field(default_factory=ImageTokens)
    """Those of the prompt."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The request can't be served."""

    id: int
    error: DiplexError


@dataclass(frozen=True, slots=True)
class Counted:
    """What an input comes to."""

    id: int
    ids: tuple[int, ...]


class Logprob(NamedTuple):
    """The log probability of one token at one position."""

    token_id: int
    token: bytes
    """What it stands for."""
    logprob: float
    top: tuple[Logprob, ...] = ()
    """The likeliest tokens at the position, best first."""


Choice = tuple[int, int]
"""Id of a request, and which of its choices."""


class Piece(NamedTuple):
    """What one step added to one choice of a request."""

    id: int
    text: str
    """Whole characters, without anything that could become a stop string."""
    token_ids: tuple[int, ...]
    finish: Finish | None = None
    choice: int = 0
    logprobs: tuple[Logprob, ...] = ()
    """Of the token ids, if they are wanted."""
    calls: tuple[ToolCallPiece, ...] = ()
    """What was added to the call of a tool."""

    @property
    def of(self) -> Choice:
        """Whose it is."""
        return self.id, self.choice


class Load(NamedTuple):
    """How busy an engine is."""

    busy: int
    """Slots in use."""
    queued: int
    """Requests that wait for a slot."""
    prefill_rate: float
    """Prompt tokens a second of prefill, over recent steps; 0 before the first."""
    decode_rate: float
    """Tokens a second of decode over all slots, over recent steps; 0 before the first."""


class Stepped(NamedTuple):
    """All that one step produced, for every sequence in it."""

    pieces: tuple[Piece, ...]
    load: Load


def joined(pieces: Sequence[Piece]) -> Piece:
    """One piece in the place of several of the same choice, the last of which may end it."""
    if len(pieces) == 1:
        return pieces[0]
    last = pieces[-1]
    return Piece(
        last.id,
        "".join(piece.text for piece in pieces),
        tuple(token for piece in pieces for token in piece.token_ids),
        last.finish,
        last.choice,
        tuple(logprob for piece in pieces for logprob in piece.logprobs),
        tuple(call for piece in pieces for call in piece.calls),
    )


FromEngine = Ready | Failed | Admitted | Refused | Counted | Stepped


def pack(message: ToEngine | FromEngine) -> bytes:
    """A message as a frame: four bytes of length, then the pickle."""
    body = pickle.dumps(message, protocol=5)
    return _LENGTH.pack(len(body)) + body


HEADER_BYTES: Final = _LENGTH.size
"""Bytes of a frame's header."""


def body_length(header: bytes) -> int:
    """Bytes that follow a frame's header."""
    length: int = _LENGTH.unpack(header)[0]
    return length


def unpack(body: bytes | memoryview) -> ToEngine | FromEngine:
    """The message of a frame's body."""
    message: ToEngine | FromEngine = pickle.loads(body)  # noqa: S301  # a private pipe to our own process
    return message
