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
from dataclasses import dataclass, field, replace
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
from workers.runtime.generation import (
    Chat,
    Generation,
    ImageTokens,
    ModelInput,
    Prompt,
    Stopping,
    TokenIds,
)
from workers.runtime.structured import Closing, Grammar, GrammarCompiler, JsonFormat, JsonSchema
from workers.runtime.text.template import ChatTemplate
from workers.runtime.text.tokenizer import Tokenizer
from workers.runtime.text.truncation import fitted
from workers.runtime.tools.definitions import as_functions, call_schema, schema_field
from workers.runtime.tools.reading import writes_calls
from workers.runtime.vision import Picture, Viewer
from workers.runtime.vision.prompt import expanded, image_files, in_parts, placed, without_names

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


class ModelText:
    """A model's chat template and tokenizer: from a request's input to token ids.

    Args:
        tokenizer: The model's.
        description: The model.
        viewer: What looks at its pictures; ``None`` for a model, or a backend, without eyes.
    """

    def __init__(
        self, tokenizer: Tokenizer, description: ModelDescription, viewer: Viewer | None = None
    ) -> None:
        self.tokenizer = tokenizer
        self.description = description
        self.viewer = viewer
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
        tools = generation.tools.tools
        for index, tool in enumerate(tools):  # each by itself too, so that an error names it
            schema = json.dumps(tool.schema(schema_field(index)))
            self._compiler.compile(JsonSchema(schema), schema_field(index))
        return self._compiler.compile(JsonSchema(call_schema(tools)), "tools"), self._closing

    def encode(self, model_input: ModelInput) -> tuple[int, ...]:
        """Token ids of an input, exactly as the model will get them.

        The image token stands for each row of a picture's features.

        Raises:
            InvalidRequest: The template refuses the messages, an image can't be read, or an id isn't in the
                vocabulary.
            UnsupportedFeature: Messages for a model without a chat template, or images for one without eyes.
        """
        match model_input:
            case Chat():
                return tuple(self.tokenizer.encode(self._rendered(model_input)))
            case Prompt(text):
                return (*self.description.begin, *self.tokenizer.encode(text))
            case TokenIds(ids):
                self._check_vocabulary(ids)
                return ids

    def pictures(self, model_input: ModelInput) -> tuple[tuple[Picture, ...], ImageTokens]:
        """The pictures of an input that could be encoded, pinned, and how many tokens they come to.

        Raises:
            InvalidRequest: One can't be decoded.
            ResourceExhausted: There is no room for it.
        """
        if self.viewer is None or not isinstance(model_input, Chat):
            return (), ImageTokens()
        pictures = self.viewer.pictures(image_files(model_input.messages), model_input.images)
        cached = sum(len(picture.ids) for picture in pictures if picture.complete)
        return pictures, ImageTokens(sum(len(picture.ids) for picture in pictures), cached)

    def named(self, ids: tuple[int, ...], pictures: tuple[Picture, ...]) -> tuple[int, ...]:
        """Token ids in which the image tokens name the rows of features that they stand for."""
        vision = self.description.vision
        return placed(ids, vision.image_token_id, pictures) if vision and pictures else ids

    def told(self, ids: tuple[int, ...]) -> tuple[int, ...]:
        """Token ids as callers know them: none that names a row of features."""
        vision = self.description.vision
        return without_names(ids, vision.image_token_id) if vision else ids

    def _rendered(self, chat: Chat) -> str:
        """What a conversation comes to in the model's own language."""
        if self._template is None:
            raise UnsupportedFeature.of_field("chat", "the model has no chat template; send `prompt` instead")
        files, vision = image_files(chat.messages), self.description.vision
        if files and (vision is None or self.viewer is None):
            raise UnsupportedFeature.of_field(files[0].path, "the model takes text only, no images")
        control, tools = self.tokenizer.control, chat.tools
        messages = control.break_in_all(in_parts(chat.messages) if vision else chat.messages)
        functions = control.break_in_all(as_functions(tools)) if tools else None
        rendered = self._template.render(messages, tools=functions)
        if vision is None or self.viewer is None:
            return rendered
        return expanded(rendered, vision.image_token, self.viewer.layouts(files, chat.images))

    def check(self, generation: Generation) -> None:
        """Refuses what the model's vocabulary and template can't have.

        Raises:
            InvalidRequest: A token that is to be biased isn't in the vocabulary.
            UnsupportedFeature: Nobody knows how the model writes calls.
        """
        tools = generation.tools
        if tools and tools.own_format and not writes_calls(self.description.chat_template):
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
            given, dropped = self._fitting(submit.generation)
            ids = self._text.encode(given)
            check_length(len(ids), submit.generation.stopping, self._max_length)
            grammar, closing = self._text.grammar(submit.generation)
            pictures, image_tokens = self._text.pictures(given)
        except Exception as error:  # noqa: BLE001  # whatever it is, the caller must hear of it
            self.inbox.put(Unencodable(submit.id, _explained(error)))
            return
        ids = self._text.named(ids, pictures)
        self.inbox.put(
            Encoded(
                submit.id,
                submit.generation,
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
