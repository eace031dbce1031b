"""What stands before the engine's thread: encoding of inputs in a small pool, and the one inbox.

A request passes three places. The reader thread announces it (``Arrived``), a pool thread renders its chat
template and encodes it, and the engine thread admits it (``Encoded``). Announcing first is what lets a
cancellation that overtakes the encoding still find its request.
"""

from __future__ import annotations

import json
import threading
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
from workers.runtime.generation import Chat, Generation, ModelInput, Prompt, Stopping, TokenIds
from workers.runtime.structured import Closing, Grammar, GrammarCompiler, JsonFormat, JsonSchema
from workers.runtime.text.template import ChatTemplate
from workers.runtime.text.tokenizer import Tokenizer
from workers.runtime.text.truncation import fitted
from workers.runtime.tools.definitions import ToolUse, as_functions, call_schema, schema_field
from workers.runtime.tools.forms import UNTRAINED, UNTRAINED_LIST, CallForm, form_of

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
    dropped: int = 0
    """Messages of the conversation that had no room."""
    grammar: Grammar | None = None
    """What the output is held to."""
    closing: Closing | None = None
    """What closes the output when little room is left, if it is JSON."""


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
        self._compiling = threading.Lock()
        # Made when the first one asks, since that takes a while.
        self._compiler: GrammarCompiler | None = None
        self._closing: Closing | None = None

    def grammar(self, generation: Generation) -> tuple[Grammar | None, Closing | None]:
        """What a request's output is held to, compiled, and what closes it if it is JSON.

        Raises:
            InvalidRequest: The format is broken.
            UnsupportedFeature: No output can be held to it.
        """
        form = generation.output.format
        if form is None and generation.tools is None:
            return None, None
        with self._compiling:
            if self._compiler is None:
                description = self.description
                self._compiler = GrammarCompiler(
                    self.tokenizer, description.vocab_size, description.eos_token_ids
                )
                self._closing = Closing(
                    self.tokenizer.token_bytes, description.vocab_size, description.eos_token_ids
                )
        if form is not None:
            is_json = isinstance(form, JsonFormat | JsonSchema)
            return self._compiler.compile(form), self._closing if is_json else None
        assert generation.tools is not None  # noqa: S101  # one of the two
        use, tools = generation.tools, generation.tools.tools
        for index, tool in enumerate(tools):  # each by itself too, so that an error names it
            schema = json.dumps(tool.schema(schema_field(index)))
            self._compiler.compile(JsonSchema(schema), schema_field(index))
        schema = call_schema(tools, self.call_form(use), single=use.single)
        return self._compiler.compile(JsonSchema(schema), "tools"), self._closing

    def call_form(self, use: ToolUse) -> CallForm:
        """How calls are written."""
        own = form_of(self.description.chat_template) if use.own_format else None
        return own or (UNTRAINED if use.single else UNTRAINED_LIST)

    def encode(self, model_input: ModelInput) -> tuple[int, ...]:
        """Token ids of an input, exactly as the model will get them.

        Raises:
            InvalidRequest: The template refuses the messages, or an id isn't in the vocabulary.
            UnsupportedFeature: Messages for a model without a chat template.
        """
        match model_input:
            case Chat(messages, tools):
                if self._template is None:
                    raise UnsupportedFeature.of_field(
                        "chat", "the model has no chat template; send `prompt` instead"
                    )
                trusted = self.tokenizer.control.break_in_all(messages)
                functions = self.tokenizer.control.break_in_all(as_functions(tools)) if tools else None
                return tuple(self.tokenizer.encode(self._template.render(trusted, tools=functions)))
            case Prompt(text):
                return (*self.description.begin, *self.tokenizer.encode(text))
            case TokenIds(ids):
                self._check_vocabulary(ids)
                return ids

    def check(self, generation: Generation) -> None:
        """Refuses what the model's vocabulary and template can't have.

        Raises:
            InvalidRequest: A token that is to be biased isn't in the vocabulary.
            UnsupportedFeature: Nobody knows how the model writes calls.
        """
        tools = generation.tools
        if tools and tools.own_format and form_of(self.description.chat_template) is None:
            raise UnsupportedFeature.of_field(
                "tools", "the form in which this model calls tools is unknown; set tool_choice.constrained"
            )
        size = self.description.vocab_size
        for token, _ in generation.sampling.logit_bias:
            if token >= size:
                raise InvalidRequest.of_field(
                    f"sampling.logit_bias[{token}]", f"is not in the vocabulary of {size} tokens"
                )

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
            self._text.check(submit.generation)
            ids, dropped = self._fitting(submit.generation)
            check_length(len(ids), submit.generation.stopping, self._max_length)
            grammar, closing = self._text.grammar(submit.generation)
        except Exception as error:  # noqa: BLE001  # whatever it is, the caller must hear of it
            self.inbox.put(Unencodable(submit.id, _explained(error)))
            return
        self.inbox.put(Encoded(submit.id, submit.generation, ids, arrived_at, dropped, grammar, closing))

    def _fitting(self, generation: Generation) -> tuple[tuple[int, ...], int]:
        """The prompt's token ids, and how many messages were dropped for it to fit, if any may be."""
        given = generation.input
        if not generation.truncate or not isinstance(given, Chat):
            return self._text.encode(given), 0
        room = self._max_length - _least_output(generation.stopping)[1]
        messages, dropped = fitted(
            given.messages, lambda messages: len(self._text.encode(Chat(messages, given.tools))) <= room
        )
        return self._text.encode(Chat(messages, given.tools)), dropped

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
