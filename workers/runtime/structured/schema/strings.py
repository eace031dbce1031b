"""Strings, lowered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from workers.runtime.structured.schema import look_ahead, patterns
from workers.runtime.structured.schema.keywords import Schema
from workers.runtime.structured.schema.refusals import Path, SchemaInvalid, SchemaUnsupported
from workers.runtime.structured.schema.string_formats import STRING_FORMATS

if TYPE_CHECKING:
    from workers.runtime.structured.schema.lowering import Lowering

MAX_LENGTH: Final = 100_000
"""Longest string, in code points, that a schema may ask for or bound."""
_WRITTEN_SHORT: Final = "\b\f\n\r\t"


def lower(_: Lowering, said: dict[str, Any], path: Path) -> tuple[dict[str, Any], list[Schema]]:
    """Keywords of strings, and a schema for what doesn't go beside them.

    Raises:
        SchemaInvalid: A pattern is broken.
        SchemaUnsupported: A pattern or format that can't be enforced.
    """
    own: dict[str, Any] = {}
    further: list[Schema] = []
    for name in ("minLength", "maxLength"):
        if name in said:
            length = int(said[name])
            if length > MAX_LENGTH:
                if name == "maxLength":
                    continue  # No output is that long.
                raise SchemaUnsupported((*path, name), f"strings of more than {MAX_LENGTH} characters")
            own[name] = length
    if "pattern" in said:
        ahead, pattern = _split(said["pattern"], (*path, "pattern"))
        own["pattern"] = translated(pattern, (*path, "pattern"))
        further += [{"pattern": part} for part in ahead]
    if "format" in said:
        name = said["format"]
        if name not in STRING_FORMATS:
            known = ", ".join(STRING_FORMATS)
            raise SchemaUnsupported(
                (*path, "format"), f"the format {name!r} isn't enforced; those are: {known}"
            )
        further.append({"pattern": f"^(?:{STRING_FORMATS[name]})$"})
    return own, further


def _split(pattern: str, path: Path) -> tuple[list[str], str]:
    try:
        return look_ahead.split(pattern)
    except patterns.Unenforceable as error:
        raise SchemaUnsupported(path, f"the pattern {pattern!r}: {error}") from error
    except ValueError as error:
        raise SchemaInvalid(path, f"the pattern {pattern!r}: {error}") from error


def translated(pattern: str, path: Path) -> str:
    """A pattern in the library's dialect.

    Raises:
        SchemaInvalid: It is broken.
        SchemaUnsupported: It needs what can't be enforced.
    """
    try:
        return patterns.translate(pattern)
    except patterns.Unenforceable as error:
        raise SchemaUnsupported(path, f"the pattern {pattern!r}: {error}") from error
    except ValueError as error:
        raise SchemaInvalid(path, f"the pattern {pattern!r}: {error}") from error


def check_writable(text: str, path: Path) -> None:
    r"""Refuse a text that outputs can't hold: they have no ``\u`` escapes, so that a name has one spelling.

    Raises:
        SchemaInvalid: It holds half a surrogate pair, which is no text.
        SchemaUnsupported: It holds another character that would need such an escape.
    """
    for c in text:
        if ord(c) in patterns.SURROGATES:
            raise SchemaInvalid(path, f"{text!r} holds half a surrogate pair")
        if (c < " " and c not in _WRITTEN_SHORT) or c == "\x7f":
            raise SchemaUnsupported(path, f"{text!r} holds the control character U+{ord(c):04X}")
