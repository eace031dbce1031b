"""Objects, lowered."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import combinations
from typing import TYPE_CHECKING, Any, Final

from workers.runtime.structured.schema.keywords import Schema, assertions
from workers.runtime.structured.schema.patterns import literal
from workers.runtime.structured.schema.refusals import Path, SchemaUnsupported
from workers.runtime.structured.schema.strings import check_writable, translated

if TYPE_CHECKING:
    from workers.runtime.structured.schema.lowering import Lowering

MAX_PROPERTIES: Final = 1000
"""Most properties that a schema may ask for or bound."""
MAX_OPTIONAL: Final = 6
"""Most optional properties beside ``minProperties`` or ``maxProperties``: their sets are written out."""
IN_PLACE: Final = frozenset(
    {"allOf", "anyOf", "oneOf", "not", "if", "$ref", "dependentSchemas", "dependencies"}
)
"""Keywords whose schemas look at the same value, and whose findings ``unevaluated…`` would need."""
_NOTHING: Final = "(?!)"
NO_OBJECT: Final = {"type": ["null", "boolean", "number", "string", "array"]}


def lower(lowering: Lowering, said: dict[str, Any], path: Path) -> tuple[dict[str, Any], list[Schema]]:
    """Keywords of objects, and schemas for what doesn't go beside them.

    Raises:
        SchemaUnsupported: What can't be enforced; keys other than those named in ``properties`` aren't told
            apart.
    """
    closed = _properties(lowering, said, path)
    if "propertyNames" in said:
        _restrict_names(lowering, closed, said["propertyNames"], (*path, "propertyNames"))
    further = _dependencies(lowering, said, path)
    counted = [name for name in ("minProperties", "maxProperties") if name in said]
    if counted:
        options = _by_count(lowering, closed, said, (*path, counted[0]))
        if len(options) != 1:
            return {}, [{"anyOf": options} if options else NO_OBJECT, *further]
        closed = options[0]
    return closed, further


def _properties(lowering: Lowering, said: dict[str, Any], path: Path) -> dict[str, Any]:
    closed: dict[str, Any] = {}
    if "properties" in said:
        for name in said["properties"]:
            check_writable(name, (*path, "properties"))
        closed["properties"] = {
            name: lowering.lower(node, (*path, "properties", name))
            for name, node in said["properties"].items()
        }
    if "patternProperties" in said:
        closed["patternProperties"] = {
            translated(pattern, (*path, "patternProperties")): lowering.lower(
                node, (*path, "patternProperties", pattern)
            )
            for pattern, node in said["patternProperties"].items()
        }
    others = "additionalProperties"
    if others not in said and "unevaluatedProperties" in said:
        others = "unevaluatedProperties"
        if IN_PLACE & said.keys():
            raise SchemaUnsupported(
                (*path, others), "unevaluatedProperties beside schemas of the same value can't be enforced"
            )
    if others in said:
        closed["additionalProperties"] = lowering.lower(said[others], (*path, others))
    if said.get("required"):
        for name in said["required"]:
            check_writable(name, (*path, "required"))
        closed["required"] = said["required"]
    return closed


def _restrict_names(lowering: Lowering, closed: dict[str, Any], names: Schema, path: Path) -> None:
    """Lower ``propertyNames`` to ``properties``, ``patternProperties`` and ``additionalProperties``."""
    if names is True or names == {}:
        return
    properties = closed.setdefault("properties", {})
    if names == {"minLength": 1}:  # as if it were written down that the empty name may not be
        properties[""] = False
        return
    others = closed.get("additionalProperties", True)
    allowed = _allowed_names(lowering, names, path)
    for name in {**properties, **dict.fromkeys(closed.get("required", ()))}:
        if not re.search(allowed[1], name):
            properties[name] = False
        else:
            properties.setdefault(name, others)
    if others is False and not closed.get("patternProperties"):
        return
    if closed.get("patternProperties"):
        raise SchemaUnsupported(path, "propertyNames beside patternProperties can't be enforced")
    closed["additionalProperties"] = False
    if allowed[0] is not None:
        closed["patternProperties"] = {allowed[0]: others}


def _allowed_names(lowering: Lowering, names: Schema, path: Path) -> tuple[str | None, str]:
    """Pattern of the names in the library's dialect, ``None`` for no name at all, and the same for Python."""
    if isinstance(names, bool):
        return (None, _NOTHING) if not names else (r"^[\s\S]*$", "")
    lowering.lower(names, path)  # for its errors
    said = assertions(names, path, lowering.document.draft)
    types = said.pop("type", "string")
    if "string" not in ([types] if isinstance(types, str) else types):
        return None, _NOTHING
    match said:
        case {"pattern": str(pattern), **further} if not further:
            return translated(pattern, path), pattern
        case {"enum": list(values), **further} if not further:
            return _listed(values)
        case {"const": value, **further} if not further:
            return _listed([value])
        case _ if said.keys() <= {"minLength", "maxLength"}:
            most = int(said["maxLength"]) if "maxLength" in said else ""
            bounds = f"{{{int(said.get('minLength', 0))},{most}}}"
            return rf"^[\s\S]{bounds}$", rf"^[\s\S]{bounds}\Z"
    raise SchemaUnsupported(path, "propertyNames can be enforced for pattern, enum, const or lengths alone")


def _listed(values: list[Any]) -> tuple[str | None, str]:
    texts = [value for value in values if isinstance(value, str)]
    if not texts:
        return None, _NOTHING
    return f"^(?:{'|'.join(map(literal, texts))})$", rf"^(?:{'|'.join(map(re.escape, texts))})\Z"


def _dependencies(lowering: Lowering, said: dict[str, Any], path: Path) -> list[Schema]:
    """A name is absent, or what depends on it holds."""
    parts: list[Schema] = []
    for keyword in ("dependencies", "dependentRequired", "dependentSchemas"):
        for name, dependent in said.get(keyword, {}).items():
            here = (*path, keyword, name)
            check_writable(name, here)
            if isinstance(dependent, list):
                holds: Schema = {"required": dependent} if dependent else True
            else:
                holds = lowering.lower(dependent, here)
            if holds is not True:
                parts.append({"anyOf": [{"properties": {name: False}}, holds]})
    return parts


def _by_count(
    lowering: Lowering, closed: dict[str, Any], said: dict[str, Any], path: Path
) -> list[dict[str, Any]]:
    """The alternatives that ``minProperties`` and ``maxProperties`` leave, a set of optional properties each.

    A key that isn't named may come twice and count as one, so only one such key can be asked for. Where more
    are, the others are given names.
    """
    least, most = int(said.get("minProperties", 0)), said.get("maxProperties")
    if max(least, most or 0) > MAX_PROPERTIES:
        raise SchemaUnsupported(path, f"more than {MAX_PROPERTIES} properties")
    required = dict.fromkeys(closed.get("required", ()))
    if least <= len(required) and most is None:
        return [closed]
    properties = closed.get("properties", {})
    optional = [name for name, node in properties.items() if name not in required and node is not False]
    if len(optional) > MAX_OPTIONAL:
        raise SchemaUnsupported(path, f"{path[-1]} beside more than {MAX_OPTIONAL} optional properties")
    open_to_others = closed.get("additionalProperties", True) is not False or bool(
        closed.get("patternProperties")
    )
    options = []
    missed = False
    for size in range(len(optional), -1, -1):
        for chosen in combinations(optional, size):
            present = [*required, *chosen]
            more = least - len(present)
            if (most is not None and len(present) > most) or (more > 0 and not open_to_others):
                continue
            if more > 1:
                missed = True
                continue
            absent = dict.fromkeys(name for name in optional if name not in chosen)
            option = {**closed, "properties": properties | dict.fromkeys(absent, False), "required": present}
            option |= {"minProperties": least} if more > 0 else {}
            options.append(option | ({"maxProperties": int(most)} if most is not None else {}))
    if missed and not options:
        most_named = least - len(required) - 1
        for count in sorted({most_named - len(optional), most_named}):
            options += _by_count(lowering, _with_names(lowering, closed, said, count, path), said, path)
    return options


def _with_names(
    lowering: Lowering, closed: dict[str, Any], said: dict[str, Any], count: int, path: Path
) -> dict[str, Any]:
    """The same with so many more properties that are required, with names that were none's.

    Raises:
        SchemaUnsupported: No names are found that all rules allow.
    """
    properties = dict(closed.get("properties", {}))
    added: list[str] = []
    for name in _spare_names(said.get("propertyNames", True)):
        if len(added) == count:
            break
        node = _schema_of(lowering, said, name, path[:-1])
        if name not in properties and node is not False:
            properties[name] = node
            added.append(name)
    if len(added) < count:
        reason = "keys that aren't named in properties can't be counted, and no names were found for them"
        raise SchemaUnsupported(path, reason)
    lowering.partial = True
    return {**closed, "properties": properties, "required": [*closed.get("required", ()), *added]}


def _schema_of(lowering: Lowering, said: dict[str, Any], name: str, path: Path) -> Schema:
    """What a property must be that ``properties`` doesn't name; ``False`` if that can't be told."""
    rules = said.get("patternProperties", {})
    found = {pattern: _occurs(pattern, name) for pattern in rules}
    if None in found.values():
        return False
    nodes = [
        lowering.lower(rules[pattern], (*path, "patternProperties", pattern))
        for pattern, occurs in found.items()
        if occurs
    ]
    if nodes:
        return False if False in nodes else {"allOf": nodes}
    others = "additionalProperties" if "additionalProperties" in said else "unevaluatedProperties"
    return lowering.lower(said.get(others, True), (*path, others))


def _occurs(pattern: str, name: str) -> bool | None:
    """Whether a pattern matches a name; ``None`` if Python can't tell."""
    try:
        return re.search(pattern, name) is not None
    except re.error:
        return None


def _spare_names(rule: Schema) -> Iterator[str]:
    """Plain names that a ``propertyNames`` allows, as far as that can be told."""
    if not isinstance(rule, dict):
        yield from _SPARE if rule else ()
    elif rule.keys() <= {"type", "enum", "pattern", "minLength", "maxLength"}:
        for name in rule.get("enum", _SPARE):
            if (
                isinstance(name, str)
                and rule.get("type", "string") == "string"
                and rule.get("minLength", 0) <= len(name) <= rule.get("maxLength", len(name))
                and _occurs(rule.get("pattern", ""), name)
            ):
                yield name


_SPARE: Final = tuple(
    f"{stem}{number}" for stem in ("key", "item-", "", "x-", "KEY", "k", "a") for number in range(1, 10)
)
"""Names for keys that have to be there and whose names nothing says."""
