"""The JSON files of a checkpoint: typed access to their values."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from diplex.errors import UnsupportedModel

Value = TypeVar("Value")


class Settings:
    """One JSON object.

    Args:
        values: Its content.
        name: What messages call it, as ``config.json``.
    """

    def __init__(self, values: Mapping[str, Any], name: str) -> None:
        self._values = values
        self.name = name

    @classmethod
    def read(cls, path: Path) -> Settings:
        """Read a file; an absent one has no values.

        Raises:
            UnsupportedModel: It holds no JSON object.
            OSError: It can't be read.
        """
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            values = {}
        except (ValueError, RecursionError) as error:
            raise UnsupportedModel(f"{path.name} is no JSON: {error}") from error
        if not isinstance(values, dict):
            raise UnsupportedModel(f"{path.name} should hold a JSON object, not {type(values).__name__}")
        return cls(values, path.name)

    @property
    def keys(self) -> Sequence[str]:
        """Keys whose value is not null."""
        return [key for key, value in self._values.items() if value is not None]

    def raw(self, key: str) -> Any:
        """The value under ``key``, of whatever type; ``None`` if it is absent."""
        return self._values.get(key)

    def get(self, key: str, kind: type[Value]) -> Value | None:
        """The value under ``key``; ``None`` if it is absent or null.

        Args:
            key: As ``hidden_size``.
            kind: ``str``, ``int``, ``float``, ``bool``, ``list`` or ``dict``. An integer is taken as a float.

        Raises:
            UnsupportedModel: The value has another type.
        """
        value: Any = self._values.get(key)
        if value is None:
            return None
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            message = f"{self.name}: {key} should be of type {kind.__name__}, not {type(value).__name__}"
            raise UnsupportedModel(message)
        return value

    def require(self, key: str, kind: type[Value]) -> Value:
        """The value under ``key`` like :meth:`get`, which must be there."""
        value = self.get(key, kind)
        if value is None:
            raise UnsupportedModel(f"{self.name} lacks {key}, which a model must have")
        return value

    def section(self, key: str) -> Settings:
        """The object under ``key``; one without values if it is absent."""
        return Settings(self.get(key, dict) or {}, f"{self.name}: {key}")

    def numbers(self, key: str) -> tuple[int, ...]:
        """Whole numbers under ``key``, where one may stand for a list of one; none if it is absent."""
        value: Any = self._values.get(key)
        numbers = [] if value is None else value if isinstance(value, list) else [value]
        if not all(type(number) is int for number in numbers):
            raise UnsupportedModel(f"{self.name}: {key} should be a whole number or a list of them")
        return tuple(numbers)
