"""What stands before the engine's thread: encoding of inputs in a small pool, and the one inbox.

A request passes three places. The reader thread announces it (``Arrived``), a pool thread renders its chat
template and encodes it, and the engine thread admits it (``Encoded``). Announcing first is what lets a
cancellation that overtakes the encoding still find its request.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from queue import SimpleQueue

from diplex.errors import ContextLengthExceeded, DiplexError, FieldViolation, InternalError, InvalidRequest
from workers.runtime.engine.messages import Cancel, Count, Counted, FromEngine, Refused, Submit, ToEngine
from workers.runtime.engine.model_text import ModelText
from workers.runtime.generation import Chat, Generation, ImageTokens, ModelInput, Stopping, TokenIds
from workers.runtime.structured import Closing, Grammar
from workers.runtime.text.truncation import fitted
from workers.runtime.vision import Picture

_POOL_THREADS = 2


@dataclass(frozen=True, slots=True)
class Arrived:
    """A request is being encoded."""

    id: int


@dataclass(frozen=True, slots=True)
class Encoded:
    """A request is ready for the scheduler."""

    id: int
    generation: Generation
    prompt_ids: tuple[int, ...]
    """Negative ones name rows of features of ``pictures``."""
    arrived_at: float
    """When it reached this process, in seconds of the monotonic clock."""
    dropped: int = 0
    """Messages of the conversation that had no room."""
    grammar: Grammar | None = None
    """What the output is held to."""
    closing: Closing | None = None
    """What closes the output when little room is left, if it is JSON."""
    pictures: tuple[Picture, ...] = ()
    """Those of the prompt in their order, pinned until somebody unpins them."""
    image_tokens: ImageTokens = field(default_factory=ImageTokens)
    """Those of the prompt."""


@dataclass(frozen=True, slots=True)
class Unencodable:
    """A request was refused before it reached the scheduler."""

    id: int
    error: DiplexError


@dataclass(frozen=True, slots=True)
class Closed:
    """The supervisor is gone."""


InboxItem = Arrived | Encoded | Unencodable | Cancel | Closed


class Intake:
    """Takes the supervisor's messages and feeds the engine's inbox."""

    def __init__(
        self,
        text: ModelText,
        *,
        max_length: int,
        inbox: SimpleQueue[InboxItem],
        send: Callable[[FromEngine], None],
    ) -> None:
        self.inbox = inbox
        self._text = text
        self._max_length = max_length
        self._send = send
        self._pool = ThreadPoolExecutor(_POOL_THREADS, thread_name_prefix="encode")

    def take(self, message: ToEngine | FromEngine) -> None:
        """Handles one message; called by the reader thread only."""
        match message:
            case Submit(request_id):
                self.inbox.put(Arrived(request_id))
                self._pool.submit(self._encode, message, time.monotonic())
            case Cancel():
                self.inbox.put(message)
            case Count():
                self._pool.submit(self._count, message)

    def _encode(self, submit: Submit, arrived_at: float) -> None:
        try:
            self._text.check(submit.generation)
            given, dropped = self._fitting(submit.generation)
            ids = self._text.encode(given)
            check_length(len(ids), submit.generation.stopping, self._max_length)
            grammar, closing = self._text.grammar(submit.generation)
            pictures, image_tokens = self._text.pictures(given)
        except Exception as error:  # noqa: BLE001  # whatever it is, the caller must hear of it
            self.inbox.put(Unencodable(submit.id, _explained(error)))
            return
        generation = submit.generation
        if pictures:  # whose files, which may be large, are done with
            ids = self._text.named(ids, pictures)
            generation = replace(generation, input=TokenIds(ids))
        self.inbox.put(
            Encoded(
                submit.id,
                generation,
                ids,
                arrived_at,
                dropped,
                grammar,
                closing,
                pictures,
                image_tokens,
            )
        )

    def _fitting(self, generation: Generation) -> tuple[ModelInput, int]:
        """The input, and how many messages were dropped for it to fit, if any may be."""
        given = generation.input
        if not generation.truncate or not isinstance(given, Chat):
            return given, 0
        room = self._max_length - _least_output(generation.stopping)[1]
        messages, dropped = fitted(
            given.messages, lambda messages: len(self._text.encode(replace(given, messages=messages))) <= room
        )
        return replace(given, messages=messages), dropped

    def _count(self, count: Count) -> None:
        try:
            self._send(Counted(count.id, self._text.encode(count.input)))
        except Exception as error:  # noqa: BLE001  # whatever it is, the caller must hear of it
            self._send(Refused(count.id, _explained(error)))


def check_length(prompt_tokens: int, stopping: Stopping, max_length: int) -> None:
    """Refuses what can't fit before any work is done.

    Raises:
        InvalidRequest: The prompt comes to no tokens.
        ContextLengthExceeded: The prompt leaves no room, or not as much as ``max_tokens`` or ``min_tokens``.
    """
    if prompt_tokens == 0:
        raise InvalidRequest("the input comes to no tokens at all")
    name, most = _least_output(stopping)
    if prompt_tokens + most <= max_length:
        return
    metadata = {"prompt_tokens": str(prompt_tokens), "context_length": str(max_length)}
    if prompt_tokens >= max_length:
        text = f"the prompt has {prompt_tokens} tokens and the model's context holds {max_length}"
        violation = FieldViolation("input", f"shorten it by {prompt_tokens - max_length + 1} tokens or more")
    else:
        room = max_length - prompt_tokens
        text = f"{prompt_tokens} prompt tokens and {name} {most} exceed the context of {max_length}"
        violation = FieldViolation(f"stopping.{name}", f"at most {room} here; or leave it unset")
    raise ContextLengthExceeded(text, violations=[violation], metadata=metadata)


def _least_output(stopping: Stopping) -> tuple[str, int]:
    """The field that says how many tokens of output there must be room for, and how many."""
    if stopping.max_tokens is not None:
        return "max_tokens", stopping.max_tokens
    return "min_tokens", max(stopping.min_tokens, 1)


def _explained(error: Exception) -> DiplexError:
    if isinstance(error, DiplexError):
        return error
    return InternalError(f"the input could not be encoded: {type(error).__name__}: {error}")
