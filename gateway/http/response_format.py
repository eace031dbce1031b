"""What an output is held to: from OpenAI's JSON to the protos."""

from __future__ import annotations

import json
from typing import Any, Final, Literal

from pydantic import Field, model_validator

from diplex.v1 import generation_pb2 as pb
from gateway.http.parsing import Fields

_OBJECT: Final = '{"type":"object"}'


class JsonSchema(Fields):
    """A schema for the output."""

    name: str | None = None
    description: str | None = None
    schema_: dict[str, Any] | None = Field(None, alias="schema")
    strict: bool | None = Field(None, description="Changes nothing: the output always follows the schema.")


class ResponseFormat(Fields):
    """What the output is held to."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    @model_validator(mode="after")
    def _schema_if_named(self) -> ResponseFormat:
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise ValueError("`json_schema` has the schema if the type is `json_schema`, and only then")
        return self

    def to_format(self) -> pb.ResponseFormat | None:
        """As the core takes it; ``None`` for text."""
        match self.type:
            case "json_object":
                return pb.ResponseFormat(json_schema=_OBJECT)
            case "json_schema" if self.json_schema and self.json_schema.schema_ is not None:
                return pb.ResponseFormat(json_schema=json.dumps(self.json_schema.schema_, ensure_ascii=False))
            case "json_schema":
                return pb.ResponseFormat(json=pb.JsonFormat())
        return None
