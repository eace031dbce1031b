"""What stands before the engine's thread: encoding of inputs in a small pool, and the one inbox.

A request passes three places. The reader thread announces it (``Arrived``), a pool thread renders its chat
template and encodes it, and the engine thread admits it (``Encoded``). Announcing first is what lets a
cancellation that overtakes the encoding still find its request.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue

from diplex.errors import (
    ContextLengthExceeded,
    DiplexError,
    FieldViolation,
    InternalError,
    InvalidRequest,
    UnsupportedFeature,
)
from workers.runtime.artefact import ModelDescription
from workers.runtime.engine.messages import Cancel, Count, Counted, FromEngine, Refused, Submit, ToEngine
from workers.runtime.generation import Chat, Generation, ModelInput, Prompt, TokenIds
from workers.runtime.text.template import ChatTemplate
from workers.runtime.text.tokenizer import Tokenizer

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
    arrived_at: float
    """When it reached this process, in seconds of the monotonic clock."""


@dataclass(frozen=True, slots=True)
class Unencodable:
    """A request was refused before it reached the scheduler."""

    id: int
    error: DiplexError


@dataclass(frozen=True, slots=True)
class Closed:
    """The supervisor is gone."""


InboxItem = Arrived | Encoded | Unencodable | Cancel | Closed


class ModelText:
    """A model's chat template and tokenizer: from a request's input to token ids."""

    def __init__(self, tokenizer: Tokenizer, description: ModelDescription) -> None:
        self.tokenizer = tokenizer
        self.description = description
        self._template = (
            ChatTemplate(
                description.chat_template,
                bos_token=description.bos_token or "",
                eos_token=description.eos_token or "",
            )
            if description.chat_template
            else None
        )

    def encode(self, model_input: ModelInput) -> tuple[int, ...]:
        """Token ids of an input, exactly as the model will get them.

        Raises:
            InvalidRequest: The template refuses the messages, or an id isn't in the vocabulary.
            UnsupportedFeature: Messages for a model without a chat template.
        """
        match model_input:
            case Chat(messages):
                if self._template is None:
                    raise UnsupportedFeature.of_field(
                        "chat", "the model has no chat template; send `prompt` instead"
                    )
                trusted = self.tokenizer.control.break_in_all(messages)
                return tuple(self.tokenizer.encode(self._template.render(trusted)))
            case Prompt(text):
                return (*self.description.begin, *self.tokenizer.encode(text))
            case TokenIds(ids):
                self._check_vocabulary(ids)
                return ids

    def _check_vocabulary(self, ids: tuple[int, ...]) -> None:
        size = self.description.vocab_size
        for position, token in enumerate(ids):
            if not 0 <= token < size:
                raise InvalidRequest.of_field(
                    f"tokens.ids[{position}]", f"{token} is not in the vocabulary of {size} tokens"
                )


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
            ids = self._text.encode(submit.generation.input)
            check_length(len(ids), submit.generation.stopping.max_tokens, self._max_length)
        except Exception as error:  # noqa: BLE001  # whatever it is, the caller must hear of it
            self.inbox.put(Unencodable(submit.id, _explained(error)))
            return
        self.inbox.put(Encoded(submit.id, submit.generation, ids, arrived_at))

    def _count(self, count: Count) -> None:
        try:
            self._send(Counted(count.id, self._text.encode(count.input)))
        except Exception as error:  # noqa: BLE001  # whatever it is, the caller must hear of it
            self._send(Refused(count.id, _explained(error)))


def check_length(prompt_tokens: int, max_tokens: int | None, max_length: int) -> None:
    """Refuses what can't fit before any work is done.

    Raises:
        InvalidRequest: The prompt comes to no tokens.
        ContextLengthExceeded: The prompt leaves no room, or not as much as ``max_tokens``.
    """
    if prompt_tokens == 0:
        raise InvalidRequest("the input comes to no tokens at all")
    wanted = prompt_tokens + (max_tokens if max_tokens is not None else 1)
    if wanted <= max_length:
        return
    metadata = {"prompt_tokens": str(prompt_tokens), "context_length": str(max_length)}
    if prompt_tokens >= max_length:
        text = f"the prompt has {prompt_tokens} tokens and the model's context holds {max_length}"
        violation = FieldViolation("input", f"shorten it by {prompt_tokens - max_length + 1} tokens or more")
    else:
        room = max_length - prompt_tokens
        text = f"{prompt_tokens} prompt tokens and max_tokens {max_tokens} exceed the context of {max_length}"
        violation = FieldViolation("stopping.max_tokens", f"at most {room} here; or leave it unset")
    raise ContextLengthExceeded(text, violations=[violation], metadata=metadata)


def _explained(error: Exception) -> DiplexError:
    if isinstance(error, DiplexError):
        return error
    return InternalError(f"the input could not be encoded: {type(error).__name__}: {error}")
