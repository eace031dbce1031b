"""A checkpoint in a folder, as a whole."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Final

from diplex.errors import UnsupportedModel
from workers.runtime.checkpoint.generation import GenerationSettings
from workers.runtime.checkpoint.settings import Settings
from workers.runtime.checkpoint.template import read_template
from workers.runtime.checkpoint.tensors import TensorFolder
from workers.runtime.checkpoint.tokens import PlainTokenizer, TokenSettings, read_tokenizer

_OPEN_ENDED: Final = ("kosmos-2",)
"""Models whose processors leave out what their tokenizers would put behind a text."""


class CheckpointFolder:
    """The parts of a published model, each read when it is first asked for.

    All of them raise :class:`UnsupportedModel` for what can't be read, and ``OSError``.

    Args:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def config(self) -> Settings:
        """``config.json``."""
        return Settings.read(self.path / "config.json")

    @cached_property
    def generation(self) -> GenerationSettings:
        """``generation_config.json``."""
        return GenerationSettings.of(Settings.read(self.path / "generation_config.json"), self.config)

    @cached_property
    def tokens(self) -> TokenSettings:
        """The special tokens."""
        return TokenSettings.of(self._tokenizer_config)

    @cached_property
    def tokenizer(self) -> PlainTokenizer:
        """``tokenizer.json``, without what it adds by itself."""
        return read_tokenizer(self.path, open_ended=self.model_type in _OPEN_ENDED)

    @cached_property
    def chat_template(self) -> str | None:
        """The Jinja template; ``None`` for a model that was not trained to chat."""
        return read_template(self.path, self._tokenizer_config)

    @cached_property
    def tensors(self) -> TensorFolder:
        """The weights."""
        return TensorFolder(self.path)

    @property
    def model_type(self) -> str:
        """The family, as ``llama``."""
        return self.config.require("model_type", str)

    @property
    def begin(self) -> int | None:
        """The begin-of-sequence token; ``None`` if the model has none."""
        named = self._named(self.tokens.bos_token)
        return self.generation.bos_token_id if named is None else named

    @property
    def adds_begin(self) -> bool:
        """Whether a plain prompt must start with :attr:`begin`.

        Raises:
            UnsupportedModel: The tokenizer puts other tokens before a text.
        """
        stated, begins = self.tokens.add_bos, self.tokenizer.begins
        if stated is None and begins not in {(), (self.begin,)}:
            raise UnsupportedModel(
                f"the tokenizer of {self.path.name} puts other tokens before a text than its first one"
            )
        return self.begin is not None and (bool(begins) if stated is None else stated)

    @property
    def ends(self) -> tuple[int, ...]:
        """Tokens that end an answer, the tokenizer's own end-of-sequence token first; may be empty."""
        named = self._named(self.tokens.eos_token)
        own = () if named is None else (named,)
        return tuple(dict.fromkeys((*own, *self.generation.eos_token_ids)))

    def refuse_foreign_code(self, known: str) -> None:
        """Refuse a model that would need code from its publisher, where such code is never run.

        Args:
            known: What can be used, for the message.

        Raises:
            UnsupportedModel: Its settings name such code.
        """
        if "auto_map" in self.config.keys:
            raise UnsupportedModel(
                f"{self.path.name} ({self.model_type}) needs its publisher's code (auto_map in config.json), "
                f"which is not run here; {known}"
            )

    @cached_property
    def _tokenizer_config(self) -> Settings:
        return Settings.read(self.path / "tokenizer_config.json")

    def _named(self, token: str | None) -> int | None:
        return None if token is None else self.tokenizer.backend.token_to_id(token)
