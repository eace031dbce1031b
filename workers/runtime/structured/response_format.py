"""What a caller may hold an output to: the value types of ``ResponseFormat`` in ``generation.proto``."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class JsonFormat:
    """Any JSON value."""


@dataclass(frozen=True, slots=True)
class JsonSchema:
    """JSON that a schema describes."""

    text: str
    """JSON text of the schema: an object or a boolean, drafts 4 to 2020-12."""


@dataclass(frozen=True, slots=True)
class Regex:
    """Text that a regular expression matches as a whole."""

    pattern: str
    """In the syntax of Rust's ``regex``: no look-around, no back-references."""


@dataclass(frozen=True, slots=True)
class LarkGrammar:
    """Text of a context-free grammar."""

    text: str
    """Lark syntax; the rule ``start`` is the whole output."""


ResponseFormat = JsonFormat | JsonSchema | Regex | LarkGrammar
"""Hashable and picklable; equal formats share a compiled grammar."""
