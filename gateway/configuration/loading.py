"""Settings from all sources, checked against their keys' types, to a configuration."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Generic, TypeVar, get_args, get_origin

from pydantic import TypeAdapter, ValidationError

from gateway.configuration.keys import PREFIX, Key, bare_type, children_of, choices_of, keys_of
from gateway.configuration.problems import InvalidConfiguration
from gateway.configuration.sources import (
    DEFAULT,
    Layer,
    Setting,
    read_assignments,
    read_environment,
    read_file,
)

FILE_VARIABLE: Final = f"{PREFIX}_CONFIG"
"""Names the file, unless an option does."""

_Config = TypeVar("_Config")
_Read_co = TypeVar("_Read_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Loaded(Generic[_Read_co]):
    """A configuration and where each of its values came from."""

    config: _Read_co
    settings: dict[str, Setting]
    """Key's path -> its value in effect, checked, and the source of it; every key is there."""


def load(
    root: type[_Config],
    *,
    file: Path | None = None,
    environment: Mapping[str, str] = os.environ,
    options: Layer | None = None,
    assignments: tuple[str, ...] = (),
) -> Loaded[_Config]:
    """Makes a configuration: options win over the environment, that over the file, that over the defaults.

    Args:
        root: The dataclass of the whole; every field has a default.
        file: A TOML file; ``None`` for the one that ``DIPLEX_CONFIG`` names, if it does.
        environment: Variables by name.
        options: What options of the command line say, by key.
        assignments: ``KEY=VALUE`` for any key, as options too.

    Raises:
        InvalidConfiguration: Something is wrong; names each key at fault, its source, and what is right.
    """
    keys = keys_of(root)
    if file is None and environment.get(FILE_VARIABLE):
        file = Path(environment[FILE_VARIABLE])
    layers: list[Layer] = [
        {path: Setting(key.default, DEFAULT) for path, key in keys.items()},
        read_file(file, keys) if file else {},
        read_environment(environment, keys),
        options or {},
        read_assignments(assignments, keys),
    ]
    given = {path: setting for layer in layers for path, setting in layer.items()}
    problems: list[str] = []
    settings = {path: _checked(keys[path], setting, problems) for path, setting in given.items()}
    if problems:
        raise InvalidConfiguration(problems)
    config = _built(root, "", settings, problems)
    if config is None:
        raise InvalidConfiguration(problems)
    return Loaded(config, settings)


def _checked(key: Key, setting: Setting, problems: list[str]) -> Setting:
    """The setting with its value as the key's type has it; what is wrong with it goes into ``problems``."""
    if setting.source == DEFAULT:
        return setting
    try:
        value = _from_text(key, setting.value) if isinstance(setting.value, str) else setting.value
        return Setting(TypeAdapter(key.type).validate_python(value), setting.source)
    except ValidationError as error:
        texts = [it["msg"].removeprefix("Input ").removeprefix("Value error, ") for it in error.errors()]
        places = [".".join(map(str, it["loc"])) for it in error.errors()]
        told = "; ".join(
            f"{place}: {text}" if place else text for place, text in zip(places, texts, strict=True)
        )
    except ValueError as error:
        told = str(error)
    shown = "" if key.secret else f" (it is {setting.value!r})"
    problems.append(f"{setting.source}: {key.path}: {told}{shown}")
    return setting


def _from_text(key: Key, text: str) -> object:
    """What a text means for a type that isn't written as one text."""
    bare = bare_type(key.type)
    if get_origin(bare) is tuple and get_args(bare)[0] in {str, int, float}:
        return tuple(dict.fromkeys(re.findall(r"[^\s,]+", text)))
    if get_origin(bare) in {tuple, dict, list, Mapping}:
        return json.loads(text)
    return next((choice for choice in choices_of(bare) if choice.casefold() == text.casefold()), text)


def _built(kind: type[_Config], prefix: str, settings: Layer, problems: list[str]) -> _Config | None:
    values: dict[str, Any] = {}
    for name, _, section in children_of(kind):
        path = f"{prefix}{name}"
        values[name] = _built(section, f"{path}.", settings, problems) if section else settings[path].value
    if problems:
        return None
    try:
        return kind(**values)
    except ValueError as error:
        sources = {
            setting.source
            for path, setting in settings.items()
            if path.startswith(prefix) and setting.source != DEFAULT
        }
        place = prefix.rstrip(".") or "top level"
        problems.append(f"{', '.join(sorted(sources)) or DEFAULT}: {place}: {error}")
        return None
