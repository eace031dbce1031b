"""The fields that chats and completions have in common, and what they come to in the protos."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator

from diplex.errors import FieldViolation, InvalidRequest
from diplex.v1 import generation_pb2 as pb
from gateway.http.parsing import Fields
from gateway.http.response_format import ResponseFormat

_MOST_UINT32: Final = 2**32 - 1
Count = Annotated[int, Field(ge=0, le=_MOST_UINT32)]

BackendName = Literal["auto", "onnx", "torch", "pytorch"]
PrecisionName = Literal["fp32", "bf16", "fp16", "int8", "int4", "q4", "q4_mixed", "q4f16"]

BACKENDS: Final = {
    "auto": pb.BACKEND_UNSPECIFIED,
    "onnx": pb.BACKEND_ONNX,
    "torch": pb.BACKEND_TORCH,
    "pytorch": pb.BACKEND_TORCH,
}
PRECISIONS: Final = {
    name.removeprefix("PRECISION_").lower(): number
    for name, number in pb.Precision.items()
    if number != pb.PRECISION_UNSPECIFIED
}
_PRIORITIES: Final = {
    "batch": pb.PRIORITY_BATCH,
    "normal": pb.PRIORITY_NORMAL,
    "interactive": pb.PRIORITY_INTERACTIVE,
}


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _biases(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    for name in value:
        if not (isinstance(name, str) and name.isascii() and name.isdigit() and int(name) <= _MOST_UINT32):
            raise ValueError(f"{name[:40]!r} is no token id")
    return {int(name): bias for name, bias in value.items()}


class StreamOptions(Fields):
    """How a stream is told."""

    include_usage: bool | None = Field(None, description="One more chunk at the end, with the usage.")
    include_obfuscation: Literal[False] | None = Field(None, description="Only `false`: nothing is padded.")


class ImageOptions(Fields):
    """Of models that cut images into tiles; others refuse them."""

    split: bool | None = Field(None, description="See an image whole and in tiles.")
    longest_edge: Count | None = Field(None, description="Pixels to which an image is scaled first.")


class GenerationFields(Fields):
    """What both kinds of requests can say."""

    model: str = Field(
        "", description="Name or alias, perhaps with a precision: `NAME/int8`. Empty: the gateway's default."
    )
    stream: bool = Field(default=False, description="Server-sent events as it is generated.")
    stream_options: StreamOptions | None = Field(None, description="Only with `stream`.")

    temperature: float | None = Field(
        None, description="0 is greedy. Not set: the model's own, as of all sampling."
    )
    top_p: float | None = Field(None, description="Sample from the smallest set with this much probability.")
    presence_penalty: float | None = Field(None, description="-2 to 2.")
    frequency_penalty: float | None = Field(None, description="-2 to 2.")
    logit_bias: Annotated[
        dict[int, float] | None, BeforeValidator(_biases, json_schema_input_type=dict[str, float] | None)
    ] = Field(None, description="Token id to a number that is added to its logit.")
    seed: int | None = Field(
        None, ge=-(2**63), le=2**64 - 1, description="Makes sampling repeatable; told in the receipt."
    )
    n: Count | None = Field(None, description="Choices, 1 to 64.")
    stop: Annotated[
        list[str] | None, BeforeValidator(_listed, json_schema_input_type=str | list[str] | None)
    ] = Field(None, description="Ends a choice; up to 16.")
    user: str | None = Field(None, description="The client, for fairness, where no key says who calls.")

    metadata: dict[str, str] | None = Field(None, description="Taken, and not kept.")
    store: Literal[False] | None = Field(None, description="Only `false`: nothing is kept.")
    service_tier: Literal["auto", "default"] | None = Field(
        None, description="Changes nothing; see `priority`."
    )
    safety_identifier: str | None = Field(None, description="Taken, and not kept.")
    prompt_cache_key: str | None = Field(
        None, description="Changes nothing: prompts find their cache by themselves."
    )

    top_k: Count | None = Field(None, description="Sample from the k most probable tokens; 0: from all.")
    min_p: float | None = Field(
        None, description="Sample from tokens at least this much as probable as the first."
    )
    repetition_penalty: float | None = Field(None, description="Over 0; 1 is off.")
    min_tokens: Count | None = Field(None, description="No end before so many.")
    stop_token_ids: list[Count] | None = Field(None, description="Tokens that end a choice.")
    response_format: ResponseFormat | None = Field(
        None, description="`text`, `json_object` or `json_schema`."
    )
    regex: str | None = Field(None, description="A regular expression that the output matches.")
    grammar: str | None = Field(None, description="A grammar in Lark syntax that the output follows.")
    return_token_ids: bool | None = Field(None, description="Token ids of prompt and choices.")
    backend: BackendName | None = Field(None, description="Which backend must serve it.")
    precision: PrecisionName | None = Field(None, description="At which precision.")
    priority: Literal["batch", "normal", "interactive"] | None = Field(
        None, description="Order among those who wait."
    )
    time_limit: float | None = Field(
        None, gt=0, le=86400, description="Seconds after which it ends with what it has, as `length`."
    )

    @field_validator("stream_options")
    @classmethod
    def _only_with_stream(cls, value: StreamOptions | None, info: ValidationInfo) -> StreamOptions | None:
        if value is not None and not info.data.get("stream"):
            raise ValueError("stands only beside `stream: true`")
        return value

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with its usage."""
        return bool(self.stream_options and self.stream_options.include_usage)

    def to_request(self) -> pb.GenerateRequest:
        """The request without its input and tools.

        Raises:
            InvalidRequest: The output is to be held to several things.
        """
        request = pb.GenerateRequest(
            model=self.model,
            backend=BACKENDS[self.backend or "auto"],
            precision=PRECISIONS[self.precision] if self.precision else pb.PRECISION_UNSPECIFIED,
            sampling=self._sampling(),
            stopping=pb.StoppingOptions(
                min_tokens=self.min_tokens, stop=self.stop or (), stop_token_ids=self.stop_token_ids or ()
            ),
            output=pb.OutputOptions(
                n=self.n, token_ids=self.return_token_ids, prompt_token_ids=self.return_token_ids
            ),
            priority=_PRIORITIES.get(self.priority or "", pb.PRIORITY_UNSPECIFIED),
        )
        if self.time_limit is not None:
            request.time_limit.FromNanoseconds(max(1, int(self.time_limit * 1e9)))
        if held_to := self._format():
            request.output.response_format.CopyFrom(held_to)
        return request

    def _format(self) -> pb.ResponseFormat | None:
        formats = {
            "response_format": self.response_format.to_format() if self.response_format else None,
            "regex": None if self.regex is None else pb.ResponseFormat(regex=self.regex),
            "grammar": None if self.grammar is None else pb.ResponseFormat(grammar=self.grammar),
        }
        given = {name: value for name, value in formats.items() if value is not None}
        if len(given) > 1:
            text = "an output can be held to one of response_format, regex and grammar"
            raise InvalidRequest(text, violations=[FieldViolation(name, text) for name in given])
        return next(iter(given.values()), None)

    def _sampling(self) -> pb.SamplingOptions:
        seed = self.seed
        return pb.SamplingOptions(
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            seed=None if seed is None else seed % 2**64,
            logit_bias=self.logit_bias,
        )
