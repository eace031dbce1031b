"""The protocol reference: Markdown of services, messages and enums, with their comments in ``protos/``."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Final

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    ServiceDescriptorProto,
)

ROOT: Final = Path(__file__).parents[1]

# Numbers of fields in descriptor.proto, of which the paths of source locations are made.
_MESSAGES, _ENUMS, _SERVICES = 4, 5, 6  # of FileDescriptorProto
_MEMBERS = (
    2  # fields of a DescriptorProto, methods of a ServiceDescriptorProto, values of an EnumDescriptorProto
)

_PACKAGE: Final = ".diplex.v1."

Path_ = tuple[int, ...]


@cache
def descriptors() -> FileDescriptorSet:
    """Descriptors of ``protos/`` with their comments, as buf makes them.

    Raises:
        subprocess.CalledProcessError: They don't compile; standard error says why.
    """
    buf = Path(sys.executable).with_name("buf")
    image = subprocess.run(  # noqa: S603 - the buf of this environment
        [buf, "build", "--as-file-descriptor-set", "--output", "-"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        check=True,
    )
    return FileDescriptorSet.FromString(image.stdout)


def reference(name: str) -> str:
    """Markdown of one file, as ``diplex/v1/models.proto``.

    Raises:
        KeyError: There is no such file.
    """
    return "\n".join(_File({file.name: file for file in descriptors().file}[name]).lines())


class _File:
    def __init__(self, file: FileDescriptorProto) -> None:
        self._file = file
        places = file.source_code_info.location
        self._comments: Mapping[Path_, str] = {
            tuple(place.path): _joined(place.leading_comments) for place in places if place.leading_comments
        }

    def lines(self) -> Iterator[str]:
        for index, service in enumerate(self._file.service):
            yield from self._service((_SERVICES, index), service)
        for index, message in enumerate(self._file.message_type):
            yield from self._message((_MESSAGES, index), message)
        for index, enum in enumerate(self._file.enum_type):
            yield from self._enum((_ENUMS, index), enum)

    def _service(self, path: Path_, service: ServiceDescriptorProto) -> Iterator[str]:
        yield from self._heading(path, f"{self._file.package}.{service.name}")
        yield from ["| RPC | takes | returns | |", "|---|---|---|---|"]
        for index, method in enumerate(service.method):
            returns = ("stream of " if method.server_streaming else "") + _named(method.output_type)
            meaning = self._cell((*path, _MEMBERS, index))
            yield f"| `{method.name}` | {_named(method.input_type)} | {returns} | {meaning} |"
        yield ""

    def _message(self, path: Path_, message: DescriptorProto) -> Iterator[str]:
        yield from self._heading(path, message.name)
        if not message.field:
            yield from ["No fields.", ""]
            return
        yield from ["| field | type | number | |", "|---|---|---|---|"]
        entries = {entry.name: entry for entry in message.nested_type if entry.options.map_entry}
        for index, field in enumerate(message.field):
            kind = _kind(field, entries.get(field.type_name.rpartition(".")[2]))
            meaning = self._cell((*path, _MEMBERS, index))
            if field.HasField("oneof_index") and not field.proto3_optional:
                group = f"One of `{message.oneof_decl[field.oneof_index].name}`."
                meaning = f"{group} {meaning}".rstrip()
            yield f"| `{field.name}` | {kind} | {field.number} | {meaning} |"
        yield ""

    def _enum(self, path: Path_, enum: EnumDescriptorProto) -> Iterator[str]:
        yield from self._heading(path, enum.name)
        yield from ["| value | number | |", "|---|---|---|"]
        for index, value in enumerate(enum.value):
            yield f"| `{value.name}` | {value.number} | {self._cell((*path, _MEMBERS, index))} |"
        yield ""

    def _heading(self, path: Path_, name: str) -> Iterator[str]:
        yield from [f"### {name}", ""]
        if comment := self._comments.get(path):
            yield from [comment, ""]

    def _cell(self, path: Path_) -> str:
        return self._comments.get(path, "").replace("|", r"\|")


def _kind(field: FieldDescriptorProto, entry: DescriptorProto | None) -> str:
    if entry is not None:
        key, value = entry.field
        return f"map of {_single(key)} to {_single(value)}"
    if field.label == FieldDescriptorProto.LABEL_REPEATED:
        return f"repeated {_single(field)}"
    return f"optional {_single(field)}" if field.proto3_optional else _single(field)


def _single(field: FieldDescriptorProto) -> str:
    if field.type_name:
        return _named(field.type_name)
    return f"`{FieldDescriptorProto.Type.Name(field.type).removeprefix('TYPE_').lower()}`"


def _named(full: str) -> str:
    """A type's name, with a link to it if it is of this page."""
    if not full.startswith(_PACKAGE):
        return f"`{full.removeprefix('.')}`"
    name = full.removeprefix(_PACKAGE)
    return f"[{name}](#{name.lower()})"


def _joined(comment: str) -> str:
    return " ".join(comment.split()).replace("<", "&lt;")
