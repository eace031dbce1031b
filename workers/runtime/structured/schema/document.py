"""The text of a schema, read within limits."""

from __future__ import annotations

import json
from typing import Any, Final, NoReturn
from urllib.parse import unquote

from workers.runtime.structured.schema.keywords import DRAFTS, Draft, Schema
from workers.runtime.structured.schema.refusals import Path, SchemaInvalid, SchemaUnsupported

MAX_BYTES: Final = 256 * 1024
"""Most bytes of a schema's text."""
MAX_DEPTH: Final = 64
"""Most levels of a schema's text."""


class Document:
    """A schema as it was sent.

    Args:
        text: JSON text.

    Raises:
        SchemaInvalid: No JSON, or no schema.
        SchemaUnsupported: Too large or too deep, or of a draft that isn't known.
    """

    def __init__(self, text: str) -> None:
        if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
            raise SchemaUnsupported((), f"the schema is longer than {MAX_BYTES} bytes")
        try:
            root = json.loads(text, parse_constant=_refuse_constant)
        except RecursionError:
            raise SchemaUnsupported((), f"the schema is deeper than {MAX_DEPTH} levels") from None
        except ValueError as error:
            raise SchemaInvalid((), f"the schema is not JSON: {error}") from error
        if not isinstance(root, dict | bool):
            raise SchemaInvalid((), "a schema must be an object or a boolean")
        if _depth(root) > MAX_DEPTH:
            raise SchemaUnsupported((), f"the schema is deeper than {MAX_DEPTH} levels")
        self.root: Final[Schema] = root
        self.draft: Final = _draft(root)

    def resolve(self, reference: str, path: Path) -> tuple[Path, Schema]:
        """What a reference within the document leads to.

        Args:
            reference: Value of ``$ref``.
            path: Where that stands, for errors.

        Returns:
            Path and schema.

        Raises:
            SchemaInvalid: It leads nowhere, or to what is no schema.
            SchemaUnsupported: It leads out of the document.
        """
        own, _, fragment = reference.partition("#")
        if own and own.rstrip("#") != self._identity():
            raise SchemaUnsupported(path, f"{reference!r} leads out of the schema, and nothing is fetched")
        fragment = unquote(fragment)
        if fragment and not fragment.startswith("/"):
            target = _anchored(self.root, fragment, ())
            if target is None:
                raise SchemaInvalid(path, f"nothing has the anchor {fragment!r}")
            return target
        steps: Path = ()
        node: Any = self.root
        for step in fragment.split("/")[1:]:
            key = step.replace("~1", "/").replace("~0", "~")
            try:
                steps += (int(key) if isinstance(node, list) else key,)
                node = node[steps[-1]]
            except (KeyError, IndexError, ValueError, TypeError):
                raise SchemaInvalid(path, f"{reference!r} leads to nothing") from None
            if isinstance(node, dict) and _has_identity(node):
                raise SchemaUnsupported((*steps, "$id"), "an $id within a schema isn't followed")
        if not isinstance(node, dict | bool):
            raise SchemaInvalid(path, f"{reference!r} leads to what is no schema")
        return steps, node

    def _identity(self) -> str | None:
        identity = self.root.get("$id", self.root.get("id")) if isinstance(self.root, dict) else None
        return identity.rstrip("#") if isinstance(identity, str) else None


def check_identity(node: dict[str, Any], path: Path) -> None:
    """Refuse a schema within the document that has a base of its own: references mean other things under it.

    Raises:
        SchemaUnsupported: It has one.
    """
    if path and _has_identity(node):
        raise SchemaUnsupported((*path, "$id"), "an $id within a schema isn't followed")


def _has_identity(node: dict[str, Any]) -> bool:
    return any(isinstance(i := node.get(name), str) and not i.startswith("#") for name in ("$id", "id"))


def _anchored(node: object, name: str, path: Path) -> tuple[Path, dict[str, Any]] | None:
    if isinstance(node, dict):
        if node.get("$anchor") == name or f"#{name}" in (node.get("$id"), node.get("id")):
            return path, node
        members = list(node.items())
    elif isinstance(node, list):
        members = list(enumerate(node))
    else:
        return None
    found = (_anchored(value, name, (*path, key)) for key, value in members if key not in ("const", "enum"))
    return next((target for target in found if target), None)


def _draft(root: Schema) -> Draft:
    named = root.get("$schema") if isinstance(root, dict) else None
    if named is None:
        return Draft.V2020
    if not isinstance(named, str):
        raise SchemaInvalid(("$schema",), "$schema must be a string")
    draft = DRAFTS.get(
        named.rstrip("#").replace("https://json-schema.org/draft-", "http://json-schema.org/draft-")
    )
    if draft is None:
        raise SchemaUnsupported(("$schema",), f"the dialect {named!r} isn't known")
    return draft


def _depth(root: object) -> int:
    level = [root]
    depth = 0
    while level:
        depth += 1
        level = [
            child
            for node in level
            if isinstance(node, dict | list)
            for child in (node.values() if isinstance(node, dict) else node)
        ]
    return depth


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")
