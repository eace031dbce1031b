"""Arrays, lowered."""

from __future__ import annotations

import json
from itertools import combinations
from typing import TYPE_CHECKING, Any, Final

from workers.runtime.structured.schema.keywords import Draft, Schema
from workers.runtime.structured.schema.objects import IN_PLACE
from workers.runtime.structured.schema.refusals import Path, SchemaUnsupported

if TYPE_CHECKING:
    from workers.runtime.structured.schema.lowering import Lowering

MAX_ITEMS: Final = 1000
"""Most items that a schema may ask for or bound."""
MAX_DISTINCT: Final = 7
"""Most values of which the items of a ``uniqueItems`` may be any set, since their sets are written out."""
MAX_CONTAINED: Final = 16
"""Most that ``minContains`` may be."""


def lower(lowering: Lowering, said: dict[str, Any], path: Path) -> tuple[dict[str, Any], list[Schema]]:
    """Keywords of arrays, and schemas for what doesn't go beside them.

    Raises:
        SchemaUnsupported: What can't be enforced, as that items differ which aren't few.
    """
    prefix, others = _items(lowering, said, path)
    own: dict[str, Any] = {}
    for name in ("minItems", "maxItems"):
        if name in said:
            if said[name] > MAX_ITEMS:
                raise SchemaUnsupported((*path, name), f"arrays of more than {MAX_ITEMS} items")
            own[name] = int(said[name])
    further: list[Schema] = []
    if "contains" in said:
        further, rest = _contains(lowering, said, path, len(prefix))
        others = others if rest is True else {"allOf": [others, rest]}
    if prefix:
        own["prefixItems"] = prefix
    if others is not True:
        own["items"] = others
    if said.get("uniqueItems"):
        further += _unique(said, own, path)
    return own, further


def _items(lowering: Lowering, said: dict[str, Any], path: Path) -> tuple[list[Schema], Schema]:
    """Schemas of the first items and of all others."""
    if isinstance(said.get("items"), list):
        first, others = "items", "additionalItems"
    elif lowering.document.draft is Draft.V2020:
        first, others = "prefixItems", "items"
    else:
        first, others = "", "items"
    if others not in said and "unevaluatedItems" in said:
        others = "unevaluatedItems"
        if IN_PLACE & said.keys() or "contains" in said:
            raise SchemaUnsupported(
                (*path, others), "unevaluatedItems beside schemas of the same value can't be enforced"
            )
    prefix = [lowering.lower(node, (*path, first, i)) for i, node in enumerate(said.get(first, ()))]
    return prefix, lowering.lower(said.get(others, True), (*path, others))


def _contains(
    lowering: Lowering, said: dict[str, Any], path: Path, prefix: int
) -> tuple[list[Schema], Schema]:
    """Schemas that put the items that ``contains`` asks for at first places; what all items must be."""
    least, most = int(said.get("minContains", 1)), said.get("maxContains")
    wanted = lowering.lower(said["contains"], (*path, "contains"))
    if least > MAX_CONTAINED:
        raise SchemaUnsupported((*path, "minContains"), f"more than {MAX_CONTAINED}")
    if most is not None:
        if most < least:
            return [_NO_ARRAY], True
        if prefix:
            raise SchemaUnsupported((*path, "maxContains"), "maxContains beside items of their own schemas")
        unwanted = lowering.negate(said["contains"], (*path, "contains"))
        if not least:
            return [], unwanted
        return [{"prefixItems": [wanted] * least, "items": unwanted, "minItems": least}], True
    if not least:
        return [], True
    starts = range(prefix + 1) if least == 1 else (0, prefix)
    options: list[Schema] = [
        {"prefixItems": [True] * start + [wanted] * least, "minItems": start + least} for start in starts
    ]
    return [{"anyOf": options} if len(options) > 1 else options[0]], True


_NO_ARRAY: Final = {"type": ["null", "boolean", "number", "string", "object"]}


def _unique(said: dict[str, Any], own: dict[str, Any], path: Path) -> list[Schema]:
    """Items that differ: at most one, values of a short list in its order, or of parts of a longer one."""
    least, most = own.get("minItems", 0), own.get("maxItems")
    if most is not None and most <= 1:
        return []
    values = None if own.get("prefixItems") else _values(said.get("items"))
    if values is None:
        raise SchemaUnsupported(
            (*path, "uniqueItems"),
            f"uniqueItems can be enforced only where the items are of at most {MAX_ITEMS} known values",
        )
    most = len(values) if most is None else min(most, len(values))
    if len(values) > MAX_DISTINCT:
        return [{"anyOf": [_NO_ARRAY, _dealt(values, least, min(max(least, MAX_DISTINCT), most))]}]
    sizes = range(least, most + 1)
    options: list[Schema] = [
        {"prefixItems": [{"const": value} for value in chosen], "items": False, "minItems": size}
        for size in sizes
        for chosen in combinations(values, size)
    ]
    return [{"anyOf": [_NO_ARRAY, *options]}]


def _dealt(values: list[Any], least: int, most: int) -> Schema:
    """Arrays of different values, which are dealt out to the places beforehand."""
    places = [{"enum": values[place::most]} for place in range(most)]
    return {"type": "array", "prefixItems": places, "items": False, "minItems": least, "maxItems": most}


def _values(node: object) -> list[Any] | None:
    """The values that a schema lists, each once; ``None`` if it doesn't list them."""
    values: list[Any] | None
    match node:
        case {"$ref": _}:
            values = None
        case {"enum": list(values)}:
            pass
        case {"const": value}:
            values = [value]
        case {"type": "null"}:
            values = [None]
        case {"type": "boolean"}:
            values = [False, True]
        case {"type": "integer", "minimum": int(low), "maximum": int(high)} if high - low < MAX_ITEMS:
            values = [*range(low, high + 1)]
        case _:
            values = None
    if values is None or len(values) > MAX_ITEMS:
        return None
    return list({json.dumps(_comparable(value), sort_keys=True): value for value in values}.values())


def _comparable(value: Any) -> Any:
    """Equal text for what JSON Schema calls equal: 1 and 1.0, but not true."""
    match value:
        case bool():
            return value
        case int():
            return float(value)
        case list():
            return [_comparable(item) for item in value]
        case dict():
            return {key: _comparable(item) for key, item in value.items()}
    return value
