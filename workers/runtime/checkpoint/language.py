"""The language model of a checkpoint that also sees, as if it had been published alone."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Final

from workers.runtime.checkpoint.folder import CheckpointFolder
from workers.runtime.checkpoint.settings import Settings
from workers.runtime.checkpoint.tensors import TensorFolder

SEEING: Final = frozenset({"idefics3", "smolvlm"})
"""``model_type`` of checkpoints whose language model is a part, beside eyes."""

_SECTION: Final = "text_config"
_TIED: Final = "tie_word_embeddings"
_WHOLE: Final = frozenset({"architectures", "model_type", "vision_config", _SECTION})
"""Settings that are about the whole."""
_PREFIX: Final = "model.text_model."
_HEAD: Final = "lm_head.weight"


def language_part(folder: CheckpointFolder) -> CheckpointFolder:
    """The language model of a checkpoint: the checkpoint itself, if it is nothing else."""
    return LanguagePart(folder) if folder.model_type in SEEING else folder


class LanguagePart(CheckpointFolder):
    """Settings and tensors of the language model; tokenizer and template are those of the whole.

    Args:
        whole: The checkpoint.
    """

    def __init__(self, whole: CheckpointFolder) -> None:
        super().__init__(whole.path)
        self._whole = whole

    @cached_property
    def config(self) -> Settings:
        """The section of the language model; what it leaves out is as the whole has it."""
        whole, part = self._whole.config, self._whole.config.section(_SECTION)
        outer: dict[str, Any] = {key: whole.raw(key) for key in whole.keys if key not in _WHOLE}
        inner: dict[str, Any] = {key: part.raw(key) for key in part.keys}
        tied = {_TIED: outer[_TIED]} if _TIED in outer else {}
        return Settings({**outer, **inner, **tied}, part.name)

    @cached_property
    def tensors(self) -> TensorFolder:
        """The language model's tensors under the names that they have without eyes."""
        whole = self._whole.tensors
        names = {
            f"model.{name.removeprefix(_PREFIX)}": name for name in whole.names if name.startswith(_PREFIX)
        }
        if _HEAD in whole.names:
            names[_HEAD] = _HEAD
        return whole.renamed(names)
