"""A user's schema, lowered: :func:`lower`."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Final

from workers.runtime.structured.schema import arrays, objects, strings
from workers.runtime.structured.schema.document import Document, check_identity
from workers.runtime.structured.schema.keywords import Schema, assertions
from workers.runtime.structured.schema.negation import Negation
from workers.runtime.structured.schema.refusals import Path, SchemaUnsupported

MAX_NODES: Final = 4000
"""Most schemas that a schema may come to, those counted again that are written out several times."""
MAX_NUMBER: Final = 2**53
"""Numbers beyond this are not exact in the arithmetic of the library, nor in that of most readers of JSON."""
_MARGIN: Final = 1e-9
"""How far inside an exclusive bound numbers stay, so that rounding to a double doesn't put them onto it."""

_FINEST: Final = 1024
"""Parts of 1 in which multiples are counted."""


@dataclass(frozen=True)
class Lowered:
    """A schema that the library enforces as it stands."""

    schema: Schema
    parts: list[tuple[Path, Schema]]
    """The schemas that it consists of, with their places in the user's; what is inside comes first."""
    definitions: dict[str, Schema] = field(default_factory=dict)
    """``$defs`` of ``schema``."""
    partial: bool = False
    """Whether values may satisfy the user's schema that this can't describe."""


def lower(text: str) -> Lowered:
    """Lower a schema.

    Args:
        text: JSON text of it.

    Raises:
        SchemaInvalid: It breaks the rules of its draft.
        SchemaUnsupported: Outputs can't be held to it, or it is over a limit.
    """
    document = Document(text)
    lowering = Lowering(document)
    schema = lowering.lower(document.root, ())
    lowering.finish()
    whole: Schema = schema
    if lowering.definitions and isinstance(schema, dict):
        whole = {**schema, "$defs": lowering.definitions}
    return Lowered(whole, lowering.parts, lowering.definitions, lowering.partial)


class Lowering:
    """The lowering of one document. Parts of it are in the modules of the types and in that of negation."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.partial = False
        """See :class:`Lowered`."""
        self.parts: list[tuple[Path, Schema]] = []
        self.definitions: dict[str, Schema] = {}
        self._names: dict[Path, str] = {}  # path of a reference's target -> name of its definition
        self._waiting: list[tuple[Path, Schema]] = []
        self._nodes = 0
        self._negation = Negation(self)

    def finish(self) -> None:
        """Lower what references lead to."""
        while self._waiting:
            path, node = self._waiting.pop()
            self.definitions[self._names[path]] = self.lower(node, path)

    def count(self, path: Path) -> None:
        """Count a schema.

        Raises:
            SchemaUnsupported: There are more than :data:`MAX_NODES`.
        """
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise SchemaUnsupported(path, f"the schema comes to more than {MAX_NODES} parts")

    def negate(self, node: Schema, path: Path) -> Schema:
        """A schema of values that ``node`` doesn't describe."""
        return self._negation.negate(node, path)

    def lower(self, node: Schema, path: Path) -> Schema:
        """A schema of values that ``node`` describes, of keywords that the library enforces."""
        self.count(path)
        if isinstance(node, bool):
            return node
        check_identity(node, path)
        said = assertions(node, path, self.document.draft)
        own: dict[str, Any] = {"type": said["type"]} if "type" in said else {}
        own |= numbers(said, path)
        further: list[Schema] = []
        for group in (strings.lower, objects.lower, arrays.lower):
            plain, parts = group(self, said, path)
            own |= plain
            further += parts
        further += self._applicators(said, path)
        schema = _joined(own, further)
        self.parts.append((path, schema))
        return schema

    def _applicators(  # noqa: C901  a case a keyword
        self, said: dict[str, Any], path: Path
    ) -> list[Schema]:
        parts: list[Schema] = []
        for name, value in said.items():
            here = (*path, name)
            match name:
                case "const":
                    parts.append(_constant(value, here))
                case "enum":
                    parts.append({"anyOf": [_constant(item, here) for item in value]} if value else False)
                case "$ref":
                    parts.append(self._reference(value, here))
                case "allOf":
                    parts += [self.lower(item, (*here, i)) for i, item in enumerate(value)]
                case "anyOf":
                    parts.append({"anyOf": [self.lower(item, (*here, i)) for i, item in enumerate(value)]})
                case "oneOf":
                    parts.append(self._one_of(value, here))
                case "not":
                    parts.append(self.negate(value, here))
                case "if":
                    parts.append(self._conditional(said, path))
                case "$dynamicRef" | "$recursiveRef":
                    raise SchemaUnsupported(here, f"{name} isn't supported, $ref is")
        return parts

    def _one_of(self, options: list[Schema], path: Path) -> Schema:
        """The library takes ``oneOf`` if it sees that options don't overlap; else they are held apart."""
        lowered = [self.lower(option, (*path, i)) for i, option in enumerate(options)]
        if len(lowered) == 1 or _apart(lowered):
            return {"anyOf": lowered}
        try:
            others = [self.negate(option, (*path, i)) for i, option in enumerate(options)]
        except SchemaUnsupported:
            return {"oneOf": lowered}
        return {
            "anyOf": [
                _joined({}, [option, *others[:i], *others[i + 1 :]]) for i, option in enumerate(lowered)
            ]
        }

    def _conditional(self, said: dict[str, Any], path: Path) -> Schema:
        if "then" not in said and "else" not in said:
            return True
        first = self.lower(said["if"], (*path, "if"))
        otherwise = self.negate(said["if"], (*path, "if"))
        return {
            "anyOf": [
                _joined({}, [first, self.lower(said.get("then", True), (*path, "then"))]),
                _joined({}, [otherwise, self.lower(said.get("else", True), (*path, "else"))]),
            ]
        }

    def _reference(self, reference: str, path: Path) -> Schema:
        target, node = self.document.resolve(reference, path)
        name = self._names.get(target)
        if name is None:
            name = self._names[target] = f"d{len(self._names)}"
            self._waiting.append((target, node))
        return {"$ref": f"#/$defs/{name}"}


def numbers(said: dict[str, Any], path: Path) -> dict[str, Any]:
    """The keywords of numbers, exclusive bounds turned into inclusive ones.

    Raises:
        SchemaUnsupported: A number is too large, or a divisor such that doubles don't agree about its
            multiples.
    """
    own: dict[str, Any] = {}
    for name in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"):
        value = said.get(name)
        if value is not None and abs(value) >= MAX_NUMBER:
            raise SchemaUnsupported((*path, name), f"{value} is not below 2^53, where numbers are exact")
        if name in ("minimum", "maximum") and value is not None:
            own[name] = value
    for name, bound, toward in (("exclusiveMinimum", "minimum", 1), ("exclusiveMaximum", "maximum", -1)):
        value = said.get(name)
        if value is True and bound in own:  # draft 4
            value = own[bound]
        if value is None or isinstance(value, bool):
            continue
        inside = value + toward * max(_MARGIN, 4 * math.ulp(value))
        own[bound] = inside if bound not in own else (max if toward > 0 else min)(own[bound], inside)
    if "multipleOf" in said:
        own["multipleOf"] = _divisor(said["multipleOf"], (*path, "multipleOf"))
    return own


def _divisor(divisor: float, path: Path) -> float:
    """A number that has the same multiples; or only some of them, about which doubles agree.

    Validators divide doubles. Of 0.01, which is none, the multiples that are a sum of powers of two remain:
    those of 0.25. Their quotients are whole if the double next to the divisor is near enough to it.

    Raises:
        SchemaUnsupported: It isn't.
    """
    if divisor * _FINEST == int(divisor * _FINEST):
        return divisor
    exact = Fraction(repr(divisor))
    coarser = Fraction(exact.numerator, math.gcd(exact.denominator, _FINEST))
    if abs(Fraction(divisor) / exact - 1) > Fraction(1, 2**54) or coarser >= MAX_NUMBER:
        reason = "can't be told in binary floating point, so validators would disagree"
        raise SchemaUnsupported(path, f"multiples of {divisor} {reason}")
    return float(coarser)


def _constant(value: Any, path: Path) -> Schema:
    """A value that the library writes as it is.

    Raises:
        SchemaUnsupported: It holds a number or a character that can't be written exactly.
    """
    match value:
        case bool() | None:
            pass
        case int() | float():
            if abs(value) >= MAX_NUMBER:
                raise SchemaUnsupported(path, f"{value} is not below 2^53, where numbers are exact")
        case str():
            strings.check_writable(value, path)
        case list():
            for item in value:
                _constant(item, path)
        case dict():
            for key, item in value.items():
                strings.check_writable(key, path)
                _constant(item, path)
    return {"const": value}


def _joined(own: dict[str, Any], further: list[Schema]) -> Schema:
    """All of several schemas."""
    parts = [part for part in further if part is not True]
    if False in parts:
        return False
    if not parts:
        return own or True
    if len(parts) == 1 and not own:
        return parts[0]
    return {"allOf": [own, *parts] if own else parts}


def _apart(options: list[Schema]) -> bool:
    """Whether no value satisfies two of these, as their types tell."""
    seen: set[str] = set()
    for option in options:
        named = option.get("type") if isinstance(option, dict) else None
        if named is None:
            return False
        types = {"number" if n == "integer" else n for n in ([named] if isinstance(named, str) else named)}
        if types & seen:
            return False
        seen |= types
    return True
