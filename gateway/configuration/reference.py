"""A configuration for people: what there is to set, an example file, and what is in effect and why."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import Final

from gateway.configuration.keys import Key, choices_of, keys_of, sections_of
from gateway.configuration.loading import Loaded

_WIDTH: Final = 100
_MASK: Final = "***"


def example(root: type) -> str:
    """A TOML file with every key at its default, commented out and explained."""
    lines = [
        "# Every key of the gateway at its default. Options win over the environment, the environment over",
        "# this file. The name behind each key is its variable's.",
    ]
    for path, section in sections_of(root).items():
        keys = [key for key in keys_of(root).values() if key.section == path]
        if path and keys:
            lines += ["", *_comment(section.description), f"[{path}]"]
        for key in keys:
            lines += [
                "",
                *_comment(_explained(key)),
                f"# {key.name} = {_toml(key.default)}  # {key.variable}",
            ]
    return "\n".join(lines) + "\n"


def effective(loaded: Loaded[object]) -> str:
    """What is in effect, as TOML, with the source of each value; secrets are masked."""
    root = type(loaded.config)
    lines: list[str] = []
    for path in sections_of(root):
        rows = [_row(key, loaded) for key in keys_of(root).values() if key.section == path]
        if path and rows:
            lines += ["", f"[{path}]"]
        width = max((len(text) for text, _ in rows), default=0)
        lines += [f"{text:{width}}  # {source}" for text, source in rows]
    return "\n".join(lines) + "\n"


def table(root: type) -> str:
    """A Markdown table of all keys."""
    rows = ["| key | variable | default | meaning |", "|---|---|---|---|"]
    for key in keys_of(root).values():
        default = "unset" if key.default is None else f"`{_toml(key.default)}`"
        rows.append(f"| `{key.path}` | `{key.variable}` | {default} | {_cell(_explained(key))} |")
    return "\n".join(rows) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _row(key: Key, loaded: Loaded[object]) -> tuple[str, str]:
    setting = loaded.settings[key.path]
    if setting.value is None:
        return f"# {key.name} is unset", setting.source
    masked = key.secret and setting.value
    return f"{key.name} = {_toml(_MASK if masked else setting.value)}", setting.source


def _explained(key: Key) -> str:
    allowed = choices_of(key.type)
    return f"{key.description} One of: {', '.join(allowed)}." if allowed else key.description


def _comment(text: str) -> Iterable[str]:
    return (f"# {line}" for line in textwrap.wrap(text, _WIDTH))


def _toml(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case str() | PurePath():
            return json.dumps(str(value), ensure_ascii=False)
        case Mapping():
            return (
                f"{{ {', '.join(f'{json.dumps(str(name))} = {_toml(it)}' for name, it in value.items())} }}"
            )
        case tuple() | list() | frozenset():
            return f"[{', '.join(map(_toml, value))}]"
        case _:
            return str(value)
