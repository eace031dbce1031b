"""The complement of a schema, as far as it can be lowered."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from workers.runtime.structured.schema.document import check_identity
from workers.runtime.structured.schema.keywords import TYPES, Draft, Schema, assertions
from workers.runtime.structured.schema.patterns import anything_but
from workers.runtime.structured.schema.refusals import Path, SchemaUnsupported

if TYPE_CHECKING:
    from workers.runtime.structured.schema.lowering import Lowering

_OPPOSITES: Final = {
    "minimum": ("number", "exclusiveMaximum", 0),
    "maximum": ("number", "exclusiveMinimum", 0),
    "exclusiveMinimum": ("number", "maximum", 0),
    "exclusiveMaximum": ("number", "minimum", 0),
    "minLength": ("string", "maxLength", -1),
    "maxLength": ("string", "minLength", 1),
    "minItems": ("array", "maxItems", -1),
    "maxItems": ("array", "minItems", 1),
    "minProperties": ("object", "maxProperties", -1),
    "maxProperties": ("object", "minProperties", 1),
}
"""Keyword -> type, keyword and step of its complement."""


class Negation:
    """Schemas of what other schemas don't describe.

    A schema is all of its keywords, so its complement is any of their complements. Those of some keywords
    can't be had, and are left out: what remains describes fewer values, and none that are wrong.
    """

    def __init__(self, lowering: Lowering) -> None:
        self._lowering = lowering
        self._within: list[Path] = []  # targets of the references that are being followed

    def negate(self, node: Schema, path: Path) -> Schema:
        """A lowered schema of values that ``node`` doesn't describe.

        Raises:
            SchemaUnsupported: There are such values, but they can't be described.
        """
        self._lowering.count(path)
        if isinstance(node, bool):
            return not node
        check_identity(node, path)
        said = assertions(node, path, self._lowering.document.draft)
        options: list[Schema] = []
        missing: SchemaUnsupported | None = None
        for name, value in said.items():
            try:
                options += self._without(name, value, said, (*path, name))
            except SchemaUnsupported as error:
                missing = error
        options = [option for option in options if option is not False]
        if not options and missing:
            raise missing
        self._lowering.partial |= missing is not None or _mentions_integer(said)
        if True in options:
            return True
        return {"anyOf": options} if len(options) > 1 else options[0] if options else False

    def _without(  # noqa: C901, PLR0911, PLR0912  a case a keyword
        self, name: str, value: Any, said: dict[str, Any], path: Path
    ) -> list[Schema]:
        """The complement of one keyword, as alternatives."""
        if name in _OPPOSITES:
            return [self._opposite(name, value, said, path)]
        match name:
            case "type":
                return [_other_types(value)]
            case "const" | "enum":
                return self._other_values([value] if name == "const" else value, path)
            case "required":
                return [{"type": "object", "properties": {key: False}} for key in value]
            case "properties":
                return [
                    {
                        "type": "object",
                        "required": [key],
                        "properties": {key: self.negate(node, (*path, key))},
                    }
                    for key, node in value.items()
                ]
            case "items" if not isinstance(value, list) and "prefixItems" not in said:
                first = self.negate(value, path)
                return [first and {"type": "array", "prefixItems": [first], "minItems": 1}]
            case "contains" if "minContains" not in said and "maxContains" not in said:
                return [{"type": "array", "items": self.negate(value, path)}]
            case "not":
                return [self._lowering.lower(value, path)]
            case "allOf":
                return [self.negate(node, (*path, i)) for i, node in enumerate(value)]
            case "anyOf":
                others = [self.negate(node, (*path, i)) for i, node in enumerate(value)]
                return [False if False in others else {"allOf": others}]
            case "oneOf":
                # More than one may be satisfied too, which is left out.
                others = [self.negate(node, (*path, i)) for i, node in enumerate(value)]
                self._lowering.partial |= len(value) > 1
                return [False if False in others else {"allOf": others}]
            case "$ref":
                return [self._reference(value, path)]
            case "if":
                return self._other_branches(said, path[:-1])
            case "additionalItems" | "then" | "else" | "minContains" | "maxContains":
                return []  # Says nothing alone, or is left out with what it belongs to.
            case "uniqueItems" | "propertyNames" | "additionalProperties" if value in (False, True) and (
                value is (name != "uniqueItems")
            ):
                return []  # Everything satisfies it.
        raise SchemaUnsupported(path, f"the opposite of {name} can't be enforced")

    def _other_branches(self, said: dict[str, Any], path: Path) -> list[Schema]:
        """The condition holds and ``then`` doesn't, or it doesn't hold and neither does ``else``."""
        options: list[Schema] = []
        if "then" in said:
            first = self._lowering.lower(said["if"], (*path, "if"))
            options.append({"allOf": [first, self.negate(said["then"], (*path, "then"))]})
        if "else" in said:
            first = self.negate(said["if"], (*path, "if"))
            options.append({"allOf": [first, self.negate(said["else"], (*path, "else"))]})
        return options

    def _opposite(self, name: str, value: Any, said: dict[str, Any], path: Path) -> Schema:
        kind, opposite, step = _OPPOSITES[name]
        if isinstance(value, bool) or (
            self._lowering.document.draft is Draft.V4 and said.get(f"exclusive{name.capitalize()}")
        ):
            raise SchemaUnsupported(path, f"the opposite of {name} can't be enforced in draft 4")
        if step == -1 and value < 1:
            return False
        return self._lowering.lower({"type": kind, opposite: value + step}, path)

    def _reference(self, reference: str, path: Path) -> Schema:
        target, node = self._lowering.document.resolve(reference, path)
        if target in self._within:
            raise SchemaUnsupported(path, "the opposite of a schema that refers to itself can't be enforced")
        self._within.append(target)
        try:
            return self.negate(node, target)
        finally:
            self._within.pop()

    def _other_values(self, values: list[Any], path: Path) -> list[Schema]:
        """Values other than these: of another type, or within the type where that can be said."""
        options: list[Schema] = []
        touched: set[str] = set()
        booleans = {value for value in values if isinstance(value, bool)}
        numbers = sorted({v for v in values if isinstance(v, int | float) and not isinstance(v, bool)})
        texts = [value for value in values if isinstance(value, str)]
        if booleans:
            touched.add("boolean")
            options += [{"const": value} for value in (False, True) if value not in booleans]
        if numbers:
            touched.add("number")
            bounds = [None, *numbers, None]
            for low, high in pairwise(bounds):
                gap = {"exclusiveMinimum": low, "exclusiveMaximum": high}
                gap = {name: bound for name, bound in gap.items() if bound is not None}
                options.append(self._lowering.lower({"type": "number", **gap}, path))
        if texts:
            touched.add("string")
            options.append({"type": "string", "pattern": f"^{anything_but(texts)}$"})
        for value in values:
            if value is None:
                touched.add("null")
            elif isinstance(value, list):
                touched.add("array")
            elif isinstance(value, dict):
                touched.add("object")
        rest = _rest(touched)
        return [*options, {"type": rest}] if rest else options


def _other_types(named: str | list[str]) -> Schema:
    given = {named} if isinstance(named, str) else set(named)
    # What is no integer may be a number, but which numbers those are can't be said.
    return {"type": others} if (others := _rest(given)) else False


def _rest(given: set[str]) -> list[str]:
    return [
        name for name in TYPES if name not in given and (name, "integer") != ("number", *given & {"integer"})
    ]


def _mentions_integer(said: dict[str, Any]) -> bool:
    return "integer" in str(said.get("type", ""))
