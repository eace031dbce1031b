"""A model's chat template and tokenizer: from a request's input to token ids, and rules for its output."""

from __future__ import annotations

import json
import threading

from diplex.errors import InvalidRequest, UnsupportedFeature
from workers.runtime.artefact import ModelDescription
from workers.runtime.generation import Chat, Generation, ImageTokens, ModelInput, Prompt, TokenIds
from workers.runtime.structured import Closing, Grammar, GrammarCompiler, JsonFormat, JsonSchema
from workers.runtime.text.template import ChatTemplate
from workers.runtime.text.tokenizer import Tokenizer
from workers.runtime.tools.definitions import ToolUse, as_functions, call_schema, schema_field
from workers.runtime.tools.forms import UNTRAINED, UNTRAINED_LIST, CallForm, form_of
from workers.runtime.vision import Picture, Viewer
from workers.runtime.vision.prompt import expanded, image_files, in_parts, placed, without_names


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
        return placed(ids, vision.image_token_id, pictures, vision.marks) if vision and pictures else ids

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
        return expanded(rendered, vision.mark, self.viewer.layouts(files, chat.images))

    def check(self, generation: Generation) -> None:
        """Refuses what the model's vocabulary and template can't have.

        Raises:
            InvalidRequest: A token that is to be biased, or to be gone on from, isn't in the vocabulary.
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

        for prior in generation.prior:
            self._check_vocabulary(prior.token_ids, "prior.token_ids")

    def _check_vocabulary(self, ids: tuple[int, ...], field: str = "tokens.ids") -> None:
        size = self.description.vocab_size
        for position, token in enumerate(ids):
            if not 0 <= token < size:
                raise InvalidRequest.of_field(
                    f"{field}[{position}]", f"{token} is not in the vocabulary of {size} tokens"
                )
