"""What ``/v1/completions`` takes."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Discriminator, Field, Tag

from diplex.errors import InvalidRequest
from diplex.v1 import generation_pb2 as pb
from gateway.http.fields import Count, GenerationFields

REFUSED: Final = {"suffix": "leave it out", "best_of": "send `n`, or take the best of several yourself"}
"""Fields that OpenAI knows and we don't serve, with what to do instead."""

_DEFAULT_MAX_TOKENS: Final = 16
"""As OpenAI documents; a model without turns has no end of its own."""

_IDS: Final = ""
"""Tag of prompts of token ids, which stands in no error's path."""
Prompt = Annotated[
    Annotated[str, Tag("text")] | Annotated[list[Count], Tag(_IDS)],
    Discriminator(lambda value: "text" if isinstance(value, str) else _IDS),
]


def _prompts(value: Any) -> Any:
    """All the forms as a list of texts and of lists of token ids."""
    match value:
        case str():
            return [value]
        case [int(), *_]:
            return [value]
    return value


class CompletionRequest(GenerationFields):
    """A text to go on with."""

    prompt: Annotated[
        list[Prompt],
        BeforeValidator(_prompts, json_schema_input_type=str | list[str] | list[int] | list[list[int]]),
    ] = Field(description="Text, token ids, or a list of either; nothing is put around it.")
    max_tokens: Count = Field(_DEFAULT_MAX_TOKENS, description="Most tokens of a choice.")
    logprobs: Count | None = Field(
        None, description="Log probabilities of the tokens and of so many others, up to 20."
    )
    echo: bool | None = Field(None, description="Put the prompt in front of every choice.")

    def to_protos(self) -> list[pb.GenerateRequest]:
        """The requests, one a prompt, as the core takes them.

        Raises:
            InvalidRequest: The fields contradict each other.
        """
        if not self.prompt:
            raise InvalidRequest.of_field("prompt", "is empty")
        return [self._of(prompt) for prompt in self.prompt]

    def _of(self, prompt: str | list[int]) -> pb.GenerateRequest:
        request = self.to_request()
        if isinstance(prompt, str):
            request.prompt = prompt
        else:
            request.tokens.ids.extend(prompt)
        request.stopping.max_tokens = self.max_tokens
        if self.logprobs is not None:
            request.output.logprobs = True
            request.output.top_logprobs = self.logprobs
        if self.echo:
            request.output.echo = True
        return request
