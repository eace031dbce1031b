"""The keywords of JSON Schema: what they take, and in which drafts they mean something."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

from workers.runtime.structured.schema.refusals import Path, SchemaInvalid, SchemaUnsupported

Schema = dict[str, Any] | bool


class Draft(IntEnum):
    """Drafts of JSON Schema."""

    V4 = 4
    V6 = 6
    V7 = 7
    V2019 = 2019
    V2020 = 2020


DRAFTS: Final = {
    "http://json-schema.org/draft-04/schema": Draft.V4,
    "http://json-schema.org/draft-06/schema": Draft.V6,
    "http://json-schema.org/draft-07/schema": Draft.V7,
    "https://json-schema.org/draft/2019-09/schema": Draft.V2019,
    "https://json-schema.org/draft/2020-12/schema": Draft.V2020,
}
"""``$schema`` without its fragment -> draft."""

TYPES: Final = ("null", "boolean", "number", "string", "array", "object")
"""The types, of which ``integer`` is a part of ``number``."""


def _is_schema(value: object) -> bool:
    return isinstance(value, dict | bool)


def _is_schemas(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_schema, value))


def _is_schema_map(value: object) -> bool:
    return isinstance(value, dict) and all(map(_is_schema, value.values()))


def _is_strings(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _is_string_map(value: object) -> bool:
    return isinstance(value, dict) and all(map(_is_strings, value.values()))


def _is_dependencies(value: object) -> bool:
    return isinstance(value, dict) and all(_is_schema(item) or _is_strings(item) for item in value.values())


def _is_count(value: object) -> bool:
    return _is_number(value) and float(value) == int(value) >= 0  # type: ignore[arg-type, call-overload]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_bound(value: object) -> bool:
    return isinstance(value, int | float)


def _is_positive(value: object) -> bool:
    return _is_number(value) and value > 0  # type: ignore[operator]


def _is_type(value: object) -> bool:
    names = value if isinstance(value, list) and value else [value]
    return all(name == "integer" or name in TYPES for name in names)


def _is_items(value: object) -> bool:
    return _is_schema(value) or _is_schemas(value)


def _is_string(value: object) -> bool:
    return isinstance(value, str)


def _is_list(value: object) -> bool:
    return isinstance(value, list)


def _is_bool(value: object) -> bool:
    return isinstance(value, bool)


def _is_anything(_: object) -> bool:
    return True


@dataclass(frozen=True)
class Keyword:
    """What is known of a keyword."""

    valid: Callable[[object], bool]
    """Whether a value may stand behind it."""
    expected: str
    """What may, in words."""
    since: Draft = Draft.V4
    until: Draft = Draft.V2020


_SCHEMA = (_is_schema, "a schema")
_SCHEMAS = (_is_schemas, "a list of schemas, not empty")
_MAP = (_is_schema_map, "an object of schemas")
_COUNT = (_is_count, "an integer, 0 or more")
_NUMBER = (_is_number, "a number")
_STRING = (_is_string, "a string")

KEYWORDS: Final = {
    "type": Keyword(_is_type, "one of the seven types, or a list of them"),
    "const": Keyword(_is_anything, "anything", Draft.V6),
    "enum": Keyword(_is_list, "a list"),
    "allOf": Keyword(*_SCHEMAS),
    "anyOf": Keyword(*_SCHEMAS),
    "oneOf": Keyword(*_SCHEMAS),
    "not": Keyword(*_SCHEMA),
    "if": Keyword(*_SCHEMA, Draft.V7),
    "then": Keyword(*_SCHEMA, Draft.V7),
    "else": Keyword(*_SCHEMA, Draft.V7),
    "$ref": Keyword(*_STRING),
    "$dynamicRef": Keyword(*_STRING, Draft.V2020),
    "$recursiveRef": Keyword(*_STRING, Draft.V2019, Draft.V2019),
    "minimum": Keyword(*_NUMBER),
    "maximum": Keyword(*_NUMBER),
    "exclusiveMinimum": Keyword(_is_bound, "a number"),
    "exclusiveMaximum": Keyword(_is_bound, "a number"),
    "multipleOf": Keyword(_is_positive, "a number over 0"),
    "minLength": Keyword(*_COUNT),
    "maxLength": Keyword(*_COUNT),
    "pattern": Keyword(*_STRING),
    "format": Keyword(*_STRING),
    "items": Keyword(_is_items, "a schema, or before 2020-12 a list of schemas"),
    "additionalItems": Keyword(*_SCHEMA, until=Draft.V2019),
    "prefixItems": Keyword(*_SCHEMAS, Draft.V2020),
    "unevaluatedItems": Keyword(*_SCHEMA, Draft.V2019),
    "minItems": Keyword(*_COUNT),
    "maxItems": Keyword(*_COUNT),
    "uniqueItems": Keyword(_is_bool, "a boolean"),
    "contains": Keyword(*_SCHEMA, Draft.V6),
    "minContains": Keyword(*_COUNT, Draft.V2019),
    "maxContains": Keyword(*_COUNT, Draft.V2019),
    "properties": Keyword(*_MAP),
    "patternProperties": Keyword(*_MAP),
    "additionalProperties": Keyword(*_SCHEMA),
    "unevaluatedProperties": Keyword(*_SCHEMA, Draft.V2019),
    "propertyNames": Keyword(*_SCHEMA, Draft.V6),
    "required": Keyword(_is_strings, "a list of strings"),
    "minProperties": Keyword(*_COUNT),
    "maxProperties": Keyword(*_COUNT),
    "dependencies": Keyword(_is_dependencies, "an object of schemas and lists of names", until=Draft.V7),
    "dependentRequired": Keyword(_is_string_map, "an object of lists of names", Draft.V2019),
    "dependentSchemas": Keyword(*_MAP, Draft.V2019),
}
"""The keywords that say which values are valid. All others are notes, as the specification has it."""


def assertions(node: dict[str, Any], path: Path, draft: Draft) -> dict[str, Any]:
    """The keywords of a schema that say something, in their order, each with a value that it may have.

    Raises:
        SchemaInvalid: A keyword has a value that it can't have.
        SchemaUnsupported: A keyword belongs to other drafts only, and would be passed over.
    """
    said = {name: value for name, value in node.items() if name in KEYWORDS}
    if draft <= Draft.V7 and "$ref" in said:
        said = {"$ref": said["$ref"]}  # Up to draft 7, what stands beside it doesn't count.
    for name, value in said.items():
        keyword = KEYWORDS[name]
        if not keyword.since <= draft <= keyword.until:
            raise SchemaUnsupported(
                (*path, name), f"{name} is no keyword of draft {draft.value}, so it would not be enforced"
            )
        if not keyword.valid(value) or (name == "items" and draft is Draft.V2020 and isinstance(value, list)):
            raise SchemaInvalid((*path, name), f"{name} must be {keyword.expected}")
        if draft > Draft.V4 and name.startswith("exclusive") and isinstance(value, bool):
            raise SchemaInvalid((*path, name), f"{name} must be {keyword.expected}")
    return said
