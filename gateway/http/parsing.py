"""From the bytes of a body to a checked request object, or to an error that names the fields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails, from_json

from diplex.errors import FieldViolation, InvalidRequest, MalformedMessage, UnsupportedFeature

_MOST_TOLD: Final = 8

Body = TypeVar("Body", bound="Fields")


class Fields(BaseModel):
    """A JSON object whose fields are all known. What is ``null`` counts as not there."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)


def parse(kind: type[Body], body: bytes, refused: Mapping[str, str]) -> Body:
    """A request's body as an object.

    Args:
        kind: Class of the object.
        body: What the client sent.
        refused: Fields that OpenAI knows and we don't serve, with what to do instead.

    Raises:
        MalformedMessage: It is no JSON object.
        InvalidRequest: Fields are missing, unknown, or of the wrong type.
        UnsupportedFeature: Fields are known, and not served here.
    """
    try:
        data = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise MalformedMessage(f"the body is no JSON: {error}") from error
    if not isinstance(data, dict):
        raise MalformedMessage("the body is no JSON object")
    data = {name: value for name, value in data.items() if value is not None}
    unserved = [
        FieldViolation(name, f"isn't served here: {refused[name]}") for name in data if name in refused
    ]
    if unserved:
        raise UnsupportedFeature(_told(unserved), violations=unserved)
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        faults = [_violation(each) for each in error.errors(include_url=False, include_input=False)]
        raise InvalidRequest(_told(faults), violations=faults) from error


def _told(faults: list[FieldViolation]) -> str:
    more = f"; and {len(faults) - _MOST_TOLD} more" if len(faults) > _MOST_TOLD else ""
    return "; ".join(f"{fault.field}: {fault.description}" for fault in faults[:_MOST_TOLD]) + more


def _violation(details: ErrorDetails) -> FieldViolation:
    if details["type"] == "extra_forbidden":
        return FieldViolation(_path(details["loc"]), "unknown; nothing that a request says is ignored here")
    text = details["msg"].removeprefix("Value error, ")
    return FieldViolation(_path(details["loc"]), text[:1].lower() + text[1:])


def _path(place: tuple[Any, ...]) -> str:
    path = ""
    for step in filter(lambda step: step != "", place):
        path += f"[{step}]" if isinstance(step, int) else f".{step}" if path else str(step)
    return path[:200]
