"""The keys that a tree of dataclasses defines, each with its type, default and description."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from typing import Annotated, Any, Final, Literal, get_args, get_origin, get_type_hints

PREFIX: Final = "DIPLEX"
"""First word of every variable in the environment."""

_SECRET_ENDINGS: Final = ("secret", "password", "token")


@dataclass(frozen=True, slots=True)
class Key:
    """One thing that can be configured."""

    path: str
    """As in a file, its sections before it: ``routing.policy``."""
    type: Any
    """As annotated, with constraints."""
    default: object
    description: str
    """Plain sentences, from the text under the field."""
    variable: str
    """Its name in the environment."""
    secret: bool
    """Its value is never printed: its field's metadata says so, or its name ends as secrets' names do."""

    @property
    def section(self) -> str:
        """Path of the section that holds it; empty at the top."""
        return self.path.rpartition(".")[0]

    @property
    def name(self) -> str:
        """The key within its section."""
        return self.path.rpartition(".")[2]


@dataclass(frozen=True, slots=True)
class Section:
    """Keys that belong together."""

    path: str
    description: str


def keys_of(root: type) -> dict[str, Key]:
    """All keys of a dataclass and its sections, by path, in the order in which they are written."""
    return {key.path: key for key in _keys(root, "")}


def sections_of(root: type) -> dict[str, Section]:
    """All sections by path, the nameless one of the top first."""
    return {section.path: section for section in _sections(root, "")}


def variable_of(path: str) -> str:
    """The variable that stands for a key, unless the key names another: ``DIPLEX_ROUTING_POLICY``."""
    return f"{PREFIX}_{path.replace('.', '_').upper()}"


def children_of(kind: type) -> Iterator[tuple[str, Any, Any]]:
    """A dataclass's fields: name, type, and that type again if it is a section's, else ``None``."""
    types = get_type_hints(kind, include_extras=True)
    for field in fields(kind):
        annotated = types[field.name]
        yield field.name, annotated, annotated if is_dataclass(annotated) else None


def bare_type(annotated: Any) -> Any:
    """A type without its constraints."""
    return get_args(annotated)[0] if get_origin(annotated) is Annotated else annotated


def choices_of(annotated: Any) -> tuple[str, ...]:
    """The values that a type allows, if it lists them."""
    bare = bare_type(annotated)
    if get_origin(bare) is Literal:
        return tuple(map(str, get_args(bare)))
    if isinstance(bare, type) and issubclass(bare, Enum):
        return tuple(str(member.value) for member in bare)
    return ()


def _keys(kind: type, prefix: str) -> Iterator[Key]:
    defaults, texts = kind(), _descriptions(kind)
    metadata = {field.name: field.metadata for field in fields(kind)}
    for name, annotated, section in children_of(kind):
        path = f"{prefix}{name}"
        if section:
            yield from _keys(section, f"{path}.")
            continue
        yield Key(
            path=path,
            type=annotated,
            default=getattr(defaults, name),
            description=texts.get(name, ""),
            variable=metadata[name].get("variable", variable_of(path)),
            secret=metadata[name].get("secret", name.endswith(_SECRET_ENDINGS)),
        )


def _sections(kind: type, prefix: str) -> Iterator[Section]:
    yield Section(prefix.rstrip("."), _plain((kind.__doc__ or "").partition("\n\n")[0]))
    for name, _, section in children_of(kind):
        if section:
            yield from _sections(section, f"{prefix}{name}.")


def _descriptions(kind: type) -> dict[str, str]:
    """The string literals under a class's fields, by the fields' names."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(tree, ast.ClassDef)  # noqa: S101  # what the source of a class is
    found: dict[str, str] = {}
    for field, text in zip(tree.body, tree.body[1:], strict=False):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(text, ast.Expr)
            and isinstance(text.value, ast.Constant)
        ):
            found[field.target.id] = _plain(str(text.value.value))
    return found


def _plain(text: str) -> str:
    return " ".join(text.replace("``", "`").split())
