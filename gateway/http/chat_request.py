"""What ``/v1/chat/completions`` takes."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import Field

from diplex.errors import InvalidRequest
from diplex.v1 import generation_pb2 as pb
from gateway.http.fields import Count, GenerationFields, ImageOptions
from gateway.http.images import Images
from gateway.http.messages import Message, chat_of, split_wanted
from gateway.http.tools import AnyToolChoice, Tool, add_tools

REFUSED: Final = {
    "audio": "no model here speaks",
    "functions": "send `tools`",
    "function_call": "send `tool_choice`",
    "prediction": "leave it out",
    "reasoning_effort": "leave it out",
    "verbosity": "leave it out",
    "web_search_options": "leave it out",
}
"""Fields that OpenAI knows and we don't serve, with what to do instead."""

_TRUNCATIONS: Final = {
    "refuse": pb.TRUNCATION_POLICY_REFUSE,
    "drop_oldest_turns": pb.TRUNCATION_POLICY_DROP_OLDEST_TURNS,
}


class ChatRequest(GenerationFields):
    """A chat to go on with."""

    messages: list[Message]
    max_completion_tokens: Count | None = Field(None, description="Not set: as many as the context holds.")
    max_tokens: Count | None = Field(None, description="The older name of `max_completion_tokens`.")
    logprobs: bool | None = Field(None, description="Log probabilities of the tokens.")
    top_logprobs: Count | None = Field(None, description="Those of the most probable ones too, up to 20.")
    tools: list[Tool] | None = Field(None, description="Functions that the model may call.")
    tool_choice: AnyToolChoice = Field(None, description="`none`, `auto`, `required`, or a function.")
    parallel_tool_calls: bool | None = Field(None, description="`false`: one call an answer.")
    modalities: list[Literal["text"]] | None = Field(None, description="Only `text`.")

    constrained_tool_calls: bool | None = Field(
        None, description="Hold a model that knows no tools to a call's form; with `required` or a function."
    )
    image_options: ImageOptions | None = Field(None, description="`split`, `longest_edge`.")
    truncation: Literal["refuse", "drop_oldest_turns"] | None = Field(
        None, description="What becomes of a chat that is longer than the context."
    )

    async def to_proto(self, images: Images) -> pb.GenerateRequest:
        """The request as the core takes it.

        Args:
            images: Gives the bytes of images.

        Raises:
            InvalidRequest: The fields contradict each other, or an image can't be had.
        """
        request = self.to_request()
        request.chat.CopyFrom(await chat_of(self.messages, images))
        if (most := self._most_tokens()) is not None:
            request.stopping.max_tokens = most
        if self.truncation:
            request.truncation = _TRUNCATIONS[self.truncation]
        self._add_logprobs(request.output)
        self._add_image_options(request)
        add_tools(
            request,
            self.tools,
            self.tool_choice,
            parallel=self.parallel_tool_calls,
            constrained=self.constrained_tool_calls,
        )
        return request

    def _most_tokens(self) -> int | None:
        if None not in (self.max_tokens, self.max_completion_tokens):
            raise InvalidRequest.of_field("max_tokens", "means the same as max_completion_tokens; send one")
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens

    def _add_logprobs(self, output: pb.OutputOptions) -> None:
        if self.logprobs:
            output.logprobs = True
            output.top_logprobs = self.top_logprobs or 0
        elif self.top_logprobs is not None:
            raise InvalidRequest.of_field("top_logprobs", "stands only beside `logprobs: true`")

    def _add_image_options(self, request: pb.GenerateRequest) -> None:
        split = split_wanted(self.messages)
        options = self.image_options
        if options is None and split is None:
            return
        if options is not None and options.split is not None:
            split = options.split
        request.image_options.CopyFrom(
            pb.ImageOptions(split=split, longest_edge=options.longest_edge if options else None)
        )
