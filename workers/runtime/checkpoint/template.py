"""The chat template of a checkpoint, wherever its publisher put it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from diplex.errors import UnsupportedModel
from workers.runtime.checkpoint.settings import Settings

_DEFAULT: Final = "default"
_KEY: Final = "chat_template"


def read_template(folder: Path, tokenizer_config: Settings) -> str | None:
    """The template for conversations: of several the one called ``default``; ``None`` if there is none.

    Looked for as transformers does: ``chat_template.jinja``, ``chat_template.json``, then
    ``tokenizer_config.json``.

    Raises:
        UnsupportedModel: A file holds something else in its place.
        OSError: A file can't be read.
    """
    alone = folder / "chat_template.jinja"
    if alone.is_file():
        return alone.read_text(encoding="utf-8")
    for settings in (Settings.read(folder / "chat_template.json"), tokenizer_config):
        if _KEY in settings.keys:
            return _chosen(settings)
    return None


def _chosen(settings: Settings) -> str:
    try:
        return settings.require(_KEY, str)
    except UnsupportedModel:
        named = settings.require(_KEY, list)
    try:
        templates = {template["name"]: template["template"] for template in named}
        chosen = templates.get(_DEFAULT) or next(iter(templates.values()))
    except (TypeError, KeyError, StopIteration):
        chosen = None
    if not isinstance(chosen, str):
        raise UnsupportedModel(f"{settings.name}: {_KEY} is neither a template nor a list of named ones")
    return chosen
