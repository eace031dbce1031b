"""Where settings come from: a TOML file, the environment, options. Read here, checked in ``loading``."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.configuration.keys import PREFIX, Key
from gateway.configuration.problems import InvalidConfiguration, unknown

DEFAULT: Final = "default"
"""Source of what nothing sets."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A value that a key is given, not yet checked."""

    value: object
    source: str
    """For people: the file, the variable or the option."""


Layer = Mapping[str, Setting]
"""Key's path -> setting."""


def read_file(path: Path, keys: Mapping[str, Key]) -> Layer:
    """The settings of a TOML file, whose tables are the sections.

    Raises:
        InvalidConfiguration: It can't be read, is no TOML, or has keys that don't exist.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidConfiguration([f"{path}: can't be read: {error}"]) from error
    except tomllib.TOMLDecodeError as error:
        raise InvalidConfiguration([f"{path}: is not valid TOML: {error}"]) from error
    sections = {section for key in keys.values() for section in _ancestors(key.section)}
    found = dict(_flat(tables, "", sections))
    problems = [
        f"{path}: {name}: is a section, and needs a table"
        if name in sections
        else f"{path}: {unknown('key', name, keys)}"
        for name in found
        if name not in keys
    ]
    if problems:
        raise InvalidConfiguration(problems)
    return {name: Setting(value, str(path)) for name, value in found.items()}


def read_environment(environment: Mapping[str, str], keys: Mapping[str, Key]) -> Layer:
    """The settings among the variables of an environment; empty ones count as unset.

    Names that begin as a section's keys do and are none are errors. Others that Diplex doesn't know here are
    left alone: a worker's or a client's may stand in the same environment.

    Raises:
        InvalidConfiguration: There are such names.
    """
    by_variable = {key.variable: path for path, key in keys.items()}
    prefixes = tuple(
        sorted({f"{PREFIX}_{key.section.replace('.', '_').upper()}_" for key in keys.values() if key.section})
    )
    problems = [
        unknown("variable", name, by_variable)
        for name in environment
        if name.startswith(prefixes) and name not in by_variable
    ]
    if problems:
        raise InvalidConfiguration(problems)
    return {
        path: Setting(environment[variable], variable)
        for variable, path in by_variable.items()
        if environment.get(variable)
    }


def read_assignments(assignments: tuple[str, ...], keys: Mapping[str, Key]) -> Layer:
    """The settings of ``--set key=value`` options.

    Raises:
        InvalidConfiguration: One has no value, or names a key that doesn't exist.
    """
    found: dict[str, Setting] = {}
    problems = []
    for assignment in assignments:
        path, is_one, value = assignment.partition("=")
        if not is_one:
            problems.append(f"--set {assignment}: needs KEY=VALUE")
        elif path.strip() not in keys:
            problems.append(f"--set {assignment}: {unknown('key', path.strip(), keys)}")
        else:
            found[path.strip()] = Setting(value.strip(), f"--set {path.strip()}")
    if problems:
        raise InvalidConfiguration(problems)
    return found


def _flat(table: Mapping[str, object], prefix: str, sections: set[str]) -> Iterator[tuple[str, object]]:
    for name, value in table.items():
        path = f"{prefix}{name}"
        if path in sections and isinstance(value, dict):
            yield from _flat(value, f"{path}.", sections)
        else:
            yield path, value


def _ancestors(section: str) -> Iterator[str]:
    while section:
        yield section
        section = section.rpartition(".")[0]
