"""The special tokens of a checkpoint, and its tokenizer as prepared artefacts have it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tokenizers

from diplex.errors import UnsupportedModel
from workers.runtime.checkpoint.settings import Settings
from workers.runtime.text.tokenizer import Tokenizer

_PROBE = "a"


@dataclass(frozen=True, slots=True)
class TokenSettings:
    """Special tokens as ``tokenizer_config.json`` names them."""

    bos_token: str | None
    """Its spelling; ``None`` if there is none."""
    eos_token: str | None
    add_bos: bool | None
    """Whether a plain prompt begins with the first of them; ``None`` if only the tokenizer itself says."""

    @classmethod
    def of(cls, settings: Settings) -> TokenSettings:
        """Take them from the file's settings.

        Raises:
            UnsupportedModel: A value has the wrong type.
        """
        return cls(
            bos_token=_spelling(settings, "bos_token"),
            eos_token=_spelling(settings, "eos_token"),
            add_bos=settings.get("add_bos_token", bool),
        )


@dataclass(frozen=True, slots=True)
class PlainTokenizer:
    """A tokenizer that adds no token by itself, and what it would have added."""

    backend: tokenizers.Tokenizer
    begins: tuple[int, ...]
    """Token ids that the original puts before a text."""


def read_tokenizer(folder: Path, *, open_ended: bool = False) -> PlainTokenizer:
    """Read ``tokenizer.json`` and take its post-processor off.

    Args:
        folder: The checkpoint.
        open_ended: Whether what it puts behind a text is left out, as the model's processor does.

    Raises:
        UnsupportedModel: It is missing, can't be read, or puts tokens behind a text.
    """
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise UnsupportedModel(
            f"{folder.name} has no tokenizer.json; transformers writes one: "
            "`AutoTokenizer.from_pretrained(…).save_pretrained(…)`"
        )
    original = Tokenizer.from_file(path)
    plain, whole = original.encode(_PROBE), original.encode(_PROBE, add_special_tokens=True)
    if open_ended:
        whole = whole[: len(whole) - whole[::-1].index(plain[-1])]
    begins = len(whole) - len(plain)
    if begins < 0 or whole[begins:] != plain:
        raise UnsupportedModel(f"{path.name} adds tokens behind a text, which is not supported")
    values: dict[str, Any] = json.loads(original.to_json())
    values["post_processor"] = None
    backend = tokenizers.Tokenizer.from_str(json.dumps(values))
    return PlainTokenizer(backend, tuple(whole[:begins]))


def _spelling(settings: Settings, key: str) -> str | None:
    """A token is written as its text or as an object with a ``content``."""
    if key not in settings.keys:
        return None
    try:
        return settings.require(key, str)
    except UnsupportedModel:
        return settings.section(key).require("content", str)
