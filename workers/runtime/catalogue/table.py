"""A TOML table that is read key by key, with errors that say where they are."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from diplex.errors import InvalidCatalogue

T = TypeVar("T")

NAME: Final = r"[A-Za-z0-9][A-Za-z0-9._-]*"
"""Names become folders in the store, so they hold nothing that a file system could take amiss."""


class Table:
    """One table of a catalogue file.

    Each reading method takes its key out; :meth:`close` complains about what is left, so that a misspelt key
    is never silently a default. ``None`` stands for an absent key in all of them but the ``require_`` ones.

    Args:
        file: The catalogue file, for messages.
        where: The path of the table in it, as ``model "x": onnx.artefact``; empty for the whole file.
        values: What the file holds there.
    """

    def __init__(self, file: Path, where: str, values: Mapping[str, Any]) -> None:
        self.file = file
        self.where = where
        self._values = dict(values)
        self._known: list[str] = []  # keys that were asked for

    def error(self, key: str, problem: str) -> InvalidCatalogue:
        """The error of one key, or with an empty key of the whole table; names file, entry and key."""
        path = self._path(key)
        return InvalidCatalogue(
            f"{self.file}: {path}: {problem}", metadata={"file": str(self.file), "key": path}
        )

    def keys(self) -> Sequence[str]:
        """The keys not read yet."""
        return tuple(self._values)

    def text(self, key: str, pattern: str = r".+", meaning: str = "a string that isn't empty") -> str | None:
        """A string that matches ``pattern`` as a whole."""
        value = self._take(key)
        if value is None:
            return None
        if not isinstance(value, str) or not re.fullmatch(pattern, value, re.DOTALL):
            raise self.error(key, f"must be {meaning}, is {value!r}")
        return value

    def require_text(self, key: str, pattern: str = r".+", meaning: str = "a string that isn't empty") -> str:
        """A string that must be there."""
        return self._require(key, self.text(key, pattern, meaning))

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of strings; empty if the key is absent."""
        values = self._take(key)
        if values is None:
            return ()
        if not isinstance(values, list) or not all(isinstance(value, str) and value for value in values):
            raise self.error(key, f"must be a list of strings that aren't empty, is {values!r}")
        return tuple(values)

    def flag(self, key: str) -> bool:
        """A boolean; false if the key is absent."""
        value = self._take(key)
        if value is not None and not isinstance(value, bool):
            raise self.error(key, f"must be true or false, is {value!r}")
        return bool(value)

    def integer(self, key: str, least: int = 1) -> int | None:
        """A whole number that is at least ``least``."""
        value = self._take(key)
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise self.error(key, f"must be a whole number of at least {least}, is {value!r}")
        return value

    def require_integer(self, key: str, least: int = 1) -> int:
        """A whole number that must be there."""
        return self._require(key, self.integer(key, least))

    def number(self, key: str, valid: Callable[[float], bool], meaning: str) -> float | None:
        """A finite number for which ``valid`` holds."""
        value = self._take(key)
        if value is None:
            return None
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise self.error(key, f"must be {meaning}, is {value!r}")
        if not math.isfinite(value) or not valid(value):
            raise self.error(key, f"must be {meaning}, is {value!r}")
        return float(value)

    def require_number(self, key: str, valid: Callable[[float], bool], meaning: str) -> float:
        """A number that must be there."""
        return self._require(key, self.number(key, valid, meaning))

    def table(self, key: str) -> Table | None:
        """The table below ``key``."""
        value = self._take(key)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self.error(key, f"must be a table, is {value!r}")
        return Table(self.file, self._path(key), value)

    def require_table(self, key: str) -> Table:
        """A table that must be there."""
        return self._require(key, self.table(key))

    def tables(self, key: str) -> tuple[Table, ...]:
        """A list of tables with at least one element."""
        values = self._require(key, self._take(key))
        if not isinstance(values, list) or not values or not all(isinstance(value, dict) for value in values):
            raise self.error(key, "must be a list of tables that isn't empty")
        return tuple(
            Table(self.file, self._path(f"{key}[{number}]"), value) for number, value in enumerate(values)
        )

    def close(self) -> None:
        """Say that everything has been read.

        Raises:
            InvalidCatalogue: A key is left that nobody asked for.
        """
        for key in self._values:
            near = difflib.get_close_matches(key, self._known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(sorted(self._known))}"
            raise self.error(key, f"is not known here; {hint}")

    def _take(self, key: str) -> Any:
        self._known.append(key)
        return self._values.pop(key, None)

    def _require(self, key: str, value: T | None) -> T:
        if value is None:
            raise self.error(key, "is missing")
        return value

    def _path(self, key: str) -> str:
        if not self.where or not key:
            return key or self.where
        return f"{self.where} {key}" if self.where.endswith(":") else f"{self.where}.{key}"
