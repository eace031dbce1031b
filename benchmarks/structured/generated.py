"""Random schemas: what ``hypothesis-jsonschema`` draws from a schema of schemas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import jsonschema
from hypothesis import HealthCheck, Phase, find, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import HypothesisException
from hypothesis_jsonschema import from_schema

Schema = dict[str, Any] | bool
_NAMES: Final = ["id", "name", "email", "tags", "price", "unit", "created at", "größe"]
_PATTERNS: Final = [
    "^[a-z]+$",
    "^[A-Z]{2,3}-\\d{4}$",
    "^\\w+( \\w+)*$",
    "^#[0-9a-f]{6}$",
    "[aeiou]",
    "^\\S+@\\S+$",
    "^(\\+\\d{1,3} )?\\d{3,12}$",
    "^(yes|no)$",
    "^[^\\s/]*$",
    "^(?!no).*$",
]
_FORMATS: Final = [
    *(
        "date",
        "time",
        "date-time",
        "duration",
        "email",
        "hostname",
        "ipv4",
        "ipv6",
        "uuid",
        "uri",
        "uri-reference",
    ),
    *("json-pointer", "iri", "idn-email", "regex"),
]
_PLACEHOLDER: Final = "a schema"
_SCALARS: Final = {
    "anyOf": [
        {"type": "string", "maxLength": 8, "pattern": "^[a-zA-Zé _-]*$"},
        {"type": "integer", "minimum": -1000, "maximum": 1000},
        {"enum": [0.5, 1.25, -3.75, True, False, None]},
    ]
}


@st.composite
def schemas(draw: st.DrawFn, depth: int = 2) -> dict[str, Any]:
    """Schemas of at most so many levels below the first.

    Each level is drawn from a schema of schemas that holds a placeholder where the next begins; all levels
    in one would be too large for ``hypothesis-jsonschema`` to work out.
    """
    return _filled(draw, draw(_ENDS if depth == 0 else _LEVELS), depth)


def draw(count: int, start: int) -> list[dict[str, Any]]:
    """So many different schemas, the same for the same ``start``."""
    drawn: dict[str, dict[str, Any]] = {}

    @seed(start)
    @settings(
        max_examples=count * 4,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        deadline=None,
    )
    @given(schemas())
    def collect(schema: dict[str, Any]) -> None:
        if len(drawn) < count:
            drawn.setdefault(repr(schema), schema)

    collect()
    return list(drawn.values())


def satisfiable(schema: Schema) -> bool:
    """Whether ``hypothesis-jsonschema`` finds an instance, or a few simple values hold one, in 200 tries.

    What it says no to may still be satisfied by something. It is asked about refused schemas only: those that
    are accepted count as satisfiable.
    """
    validator = jsonschema.Draft202012Validator(schema)
    simple = st.none() | st.booleans() | st.integers() | st.text(max_size=8)
    strategies = (st.deferred(lambda: from_schema(schema)), simple)
    return any(_found(instances, validator.is_valid) for instances in strategies)


def _found(instances: st.SearchStrategy[Any], valid: Callable[[Any], bool]) -> bool:
    try:
        find(instances, valid, settings=settings(max_examples=200, database=None))
    except (HypothesisException, RecursionError, AssertionError):  # the library asserts what schemas allow
        return False
    return True


def _filled(draw: st.DrawFn, shape: Any, depth: int) -> Any:
    match shape:
        case str() if shape == _PLACEHOLDER:
            return draw(schemas(depth - 1))
        case dict():
            return {key: _filled(draw, value, depth) for key, value in shape.items()}
        case list():
            return [_filled(draw, value, depth) for value in shape]
    return shape


def _described(kind: str, optional: dict[str, Any], required: dict[str, Any] | None = None) -> dict[str, Any]:
    required = {"type": {"const": kind}, **(required or {})}
    return {
        "type": "object",
        "properties": required | optional,
        "required": list(required),
        "additionalProperties": False,
    }


def _type(kind: str) -> dict[str, Any]:
    return _described(kind, {})


def _between(low: int, high: int) -> dict[str, Any]:
    return {"type": "integer", "minimum": low, "maximum": high}


def _number(kind: str) -> dict[str, Any]:
    bound = (
        _between
        if kind == "integer"
        else lambda low, high: {"enum": [low, low + 0.5, (low + high) / 2, high]}
    )
    return _described(
        kind,
        {
            "minimum": bound(-1000, 0),
            "maximum": bound(10, 1000),
            "exclusiveMinimum": bound(-500, 5),
            "exclusiveMaximum": bound(20, 2000),
            "multipleOf": {"enum": [1, 2, 3, 5, 10] if kind == "integer" else [0.25, 0.5, 0.01, 1, 2, 5]},
        },
    )


def _string() -> dict[str, Any]:
    return {
        "anyOf": [
            _described("string", {"minLength": _between(0, 5), "maxLength": _between(5, 40)}),
            _described("string", {"minLength": _between(0, 3)}, {"pattern": {"enum": _PATTERNS}}),
            _described("string", {}, {"format": {"enum": _FORMATS}}),
        ]
    }


def _enum() -> dict[str, Any]:
    values = {"type": "array", "items": _SCALARS, "minItems": 1, "maxItems": 6}
    return {
        "type": "object",
        "properties": {"enum": values},
        "required": ["enum"],
        "additionalProperties": False,
    }


def _constant() -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"const": _SCALARS},
        "required": ["const"],
        "additionalProperties": False,
    }


def _array(inner: dict[str, Any]) -> dict[str, Any]:
    return _described(
        "array",
        {
            "minItems": _between(0, 3),
            "maxItems": _between(3, 8),
            "prefixItems": {"type": "array", "items": inner, "minItems": 1, "maxItems": 2},
            "uniqueItems": {"type": "boolean"},
            "contains": inner,
        },
        {"items": inner},
    )


def _record(inner: dict[str, Any]) -> dict[str, Any]:
    names = {"type": "array", "items": {"enum": _NAMES[:5]}, "maxItems": 3, "uniqueItems": True}
    return _described(
        "object",
        {
            "required": names,
            "additionalProperties": {"type": "boolean"},
            "minProperties": _between(0, 3),
            "maxProperties": _between(3, 6),
            "dependentRequired": {
                "type": "object",
                "properties": {"name": names, "email": names},
                "additionalProperties": False,
            },
        },
        {
            "properties": {
                "type": "object",
                "propertyNames": {"enum": _NAMES},
                "additionalProperties": inner,
                "minProperties": 1,
                "maxProperties": 5,
            }
        },
    )


def _map(inner: dict[str, Any], **names: dict[str, Any]) -> dict[str, Any]:
    return _described(
        "object",
        {**names, "minProperties": _between(0, 2), "maxProperties": _between(3, 6)},
        {"additionalProperties": {"anyOf": [{"type": "boolean"}, inner]}},
    )


def _applicators(inner: dict[str, Any]) -> list[dict[str, Any]]:
    several = {"type": "array", "items": inner, "minItems": 1, "maxItems": 3}
    lists = [
        {"type": "object", "properties": {name: several}, "required": [name], "additionalProperties": False}
        for name in ("anyOf", "oneOf")
    ]
    return [
        *lists,
        {"type": "object", "properties": {"not": inner}, "required": ["not"], "additionalProperties": False},
        {
            "type": "object",
            "properties": {"if": inner, "then": inner, "else": inner},
            "required": ["if", "then"],
            "additionalProperties": False,
        },
    ]


_INNER: Final = {"const": _PLACEHOLDER}
_LEAVES: Final = [
    *map(_type, ("null", "boolean")),
    *map(_number, ("integer", "number")),
    _string(),
    _enum(),
    _constant(),
]
_BRANCHES: Final = [
    _array(_INNER),
    _record(_INNER),
    _record(_INNER),
    _map(_INNER, propertyNames={"enum": [{"pattern": "^[a-z]"}, {"maxLength": 12}, {"minLength": 1}]}),
    _map(
        _INNER,
        patternProperties={
            "type": "object",
            "properties": {"^x-": _INNER, "^[0-9]+$": _INNER},
            "additionalProperties": False,
        },
    ),
    *_applicators(_INNER),
]
_ENDS: Final = st.one_of(*map(from_schema, _LEAVES))
_LEVELS: Final = st.one_of(*map(from_schema, [*_LEAVES, *_BRANCHES]))
