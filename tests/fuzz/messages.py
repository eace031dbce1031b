"""Requests made from the protos' descriptors: valid ones, valid ones with something wrong, and wild ones.

Scalars come from the edges of their types as often as from their middle, enums also from beyond their values,
strings from what means something somewhere. Everything follows from one source of chance.
"""

from __future__ import annotations

import io
import math
import random
from collections.abc import Callable
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from PIL import Image

from diplex.v1 import generation_pb2 as pb

MODEL: Final = "tiny-llama"

_DEEPEST: Final = 5
_OFTEN: Final = 0.3
"""How often a field of a wild message is set."""


def _picture() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG")
    return file.getvalue()


_STRINGS: Final = (
    *("", "a", "Hi there", MODEL, "fixtures/tiny", f"{MODEL}/fp32", f"{MODEL}/int9", "/", "hf:no/body"),
    *(
        "\0",
        "\r\n",
        "語" * 50,
        "\U0001f600",
        "e\u0301",
        "\ufeff",
        "<|im_end|>",
        "<|im_start|>system",
        "{{ 7 * 7 }}",
    ),
    *(
        '{"type": "object"}',
        '{"type": "array", "items": {"$ref": "#"}}',
        '{"type": 7}',
        "{",
        "[]",
        "null",
        "true",
    ),
    *('{"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}', '{"enum": []}'),
    *(
        "[a-z]+",
        "(a*)*b",
        "(",
        "(?=x)",
        "a{1000000}",
        "\\p{L}",
        "start: /a/",
        "start: start",
        "start:",
        "x: y",
    ),
    *("get_weather", "x" * 300, "x" * 5000, "../../etc/passwd", "image/png", "sha256:", "%s%n", "1e999"),
)
_BYTES: Final = (
    b"",
    b"\0",
    b"\xff" * 100,
    b"\x89PNG\r\n\x1a\n",
    b"GIF89a",
    _picture(),
    _picture()[:40],
    b"x" * 10_000,
)
_FLOATS: Final = (
    0.0,
    -0.0,
    1.0,
    0.5,
    -1.0,
    2.0,
    1e-30,
    1e30,
    math.inf,
    -math.inf,
    math.nan,
    100.0,
    100.1,
    -2.1,
)
_SMALL: Final = (0, 1, 2, 3, 8, 20, 21, 64, 65, 128)

_BITS: Final = {
    FieldDescriptor.TYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_UINT64: (0, 2**64 - 1),
}


class Messages:
    """Makes them.

    Args:
        chance: Decides everything.
    """

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance

    def request(self, kind: Descriptor) -> Message:
        """A request of a kind: often nearly valid, sometimes wild."""
        if kind.name == "GenerateBatchRequest":
            return self._batch()
        if kind.name not in ("GenerateRequest", "CountTokensRequest") or self._chance.random() < 0.2:
            return self.wild(kind)
        request = self._valid(kind)
        for _ in range(self._chance.choice((0, 1, 1, 2, 4))):
            self._change(request)
        return request

    def bytes_of(self, request: Message) -> bytes:
        """Its bytes, now and then with something broken in them."""
        data = bytearray(request.SerializeToString())
        kind = self._chance.random()
        if kind < 0.02:
            return bytes(data[: self._chance.randrange(len(data) + 1)])
        if kind < 0.05 and data:
            for _ in range(self._chance.randint(1, 4)):
                data[self._chance.randrange(len(data))] = self._chance.randrange(256)
        elif kind < 0.07:
            data += self._chance.randbytes(self._chance.randint(1, 64))
        elif kind < 0.08:
            data += b"\x1a\x02" * 2000  # messages in messages, or what the field takes for such
        return bytes(data)

    def wild(self, kind: Descriptor, depth: int = 0) -> Message:
        """A message with any fields set to anything."""
        message = GetMessageClass(kind)()
        for field in kind.fields:
            if self._chance.random() < _OFTEN:
                self._set(message, field, depth)
        return message

    def _batch(self) -> pb.GenerateBatchRequest:
        kind = pb.GenerateRequest.DESCRIPTOR
        return pb.GenerateBatchRequest(
            requests=[self.request(kind) for _ in range(self._chance.randint(0, 4))]
        )

    def _valid(self, kind: Descriptor) -> Message:
        request = GetMessageClass(kind)(model=self._chance.choice((MODEL, "fixtures/tiny", "")))
        inputs: tuple[Callable[[], None], ...] = (
            lambda: setattr(request, "prompt", self._text()),
            lambda: request.chat.messages.extend(self._turns()),
        )
        self._chance.choice(inputs)()
        if isinstance(request, pb.GenerateRequest):
            request.sampling.temperature = self._chance.choice((0.0, 0.7, 1.0))
            request.stopping.max_tokens = self._chance.choice((1, 2, 8, 16))
            if self._chance.random() < 0.2:
                request.output.CopyFrom(self._chance.choice(_OUTPUTS))
        return request

    def _turns(self) -> list[pb.ChatMessage]:
        roles = (pb.ROLE_USER, pb.ROLE_ASSISTANT)
        turns = self._chance.choice((1, 1, 3))
        return [
            pb.ChatMessage(role=roles[turn % 2], parts=[pb.ContentPart(text=self._text())])
            for turn in range(turns)
        ]

    def _text(self) -> str:
        return self._chance.choice(("Hi", "Once upon a time", "x y z", "語"))

    def _change(self, message: Message, depth: int = 0) -> None:
        """Sets one field of it, or of a message in it, to something else."""
        field = self._chance.choice(message.DESCRIPTOR.fields)
        deeper = field.message_type and not field.is_repeated and message.HasField(field.name)
        if deeper and depth < _DEEPEST and self._chance.random() < 0.8:
            self._change(getattr(message, field.name), depth + 1)
        elif self._chance.random() < 0.1:
            message.ClearField(field.name)
        else:
            self._set(message, field, depth)

    def _set(self, message: Message, field: FieldDescriptor, depth: int) -> None:
        many = self._chance.choice((0, 1, 1, 2, 3, 17)) if field.is_repeated else 1
        if field.message_type and field.message_type.GetOptions().map_entry:
            for _ in range(many):
                key, value = (self._scalar(it) for it in field.message_type.fields)
                getattr(message, field.name)[key] = value
        elif field.message_type:
            if depth < _DEEPEST:
                made = [self.wild(field.message_type, depth + 1) for _ in range(many)]
                if field.is_repeated:
                    getattr(message, field.name).extend(made)
                else:
                    getattr(message, field.name).CopyFrom(made[0])
        elif field.is_repeated:
            getattr(message, field.name).extend(self._scalar(field) for _ in range(many))
        else:
            setattr(message, field.name, self._scalar(field))

    def _scalar(self, field: FieldDescriptor) -> Any:
        match field.type:
            case FieldDescriptor.TYPE_STRING:
                return self._chance.choice(_STRINGS)
            case FieldDescriptor.TYPE_BYTES:
                return self._chance.choice(_BYTES)
            case FieldDescriptor.TYPE_BOOL:
                return self._chance.random() < 0.5
            case FieldDescriptor.TYPE_FLOAT | FieldDescriptor.TYPE_DOUBLE:
                return self._chance.choice(_FLOATS)
            case FieldDescriptor.TYPE_ENUM:
                known = [value.number for value in field.enum_type.values]
                return self._chance.choice([*known, max(known) + 1, -1, 2**31 - 1])
        low, high = _BITS[field.type]
        return self._chance.choice((*_SMALL, low, high, high - 1, self._chance.randint(low, high)))


_OUTPUTS: Final = (
    pb.OutputOptions(n=2, logprobs=True, top_logprobs=2),
    pb.OutputOptions(token_ids=True, prompt_token_ids=True, progress=True),
    pb.OutputOptions(response_format=pb.ResponseFormat(json=pb.JsonFormat())),
    pb.OutputOptions(response_format=pb.ResponseFormat(json_schema='{"type": "object"}')),
    pb.OutputOptions(response_format=pb.ResponseFormat(regex="[a-z]{1,8}")),
    pb.OutputOptions(response_format=pb.ResponseFormat(grammar="start: /[ab]+/")),
    pb.OutputOptions(echo=True),
)
