"""Which files of a published folder belong to its model, and why a folder can't be used."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from diplex.errors import UnsupportedModel

SETTINGS: Final = frozenset({
    "added_tokens.json", "chat_template.jinja", "chat_template.json", "config.json", "generation_config.json",
    "merges.txt", "preprocessor_config.json", "processor_config.json", "special_tokens_map.json",
    "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json",
})  # fmt: skip
"""Names of the files that aren't weights."""
_WEIGHTS: Final = re.compile(r"model(-\d+-of-\d+)?\.safetensors")
_INDEX: Final = "model.safetensors.index.json"
_GRAPHS: Final = re.compile(r"(onnx/)?[^/]+\.(onnx|onnx_data|onnx\.data|onnx_data_\d+)")
_PICKLES: Final = re.compile(r"[^/]+\.(bin|pt|pth|ckpt|pkl)")


def select(paths: Iterable[str], kind: str, name: str) -> tuple[str, ...]:
    """The paths that a model consists of, sorted.

    Args:
        paths: All files of a folder, with forward slashes.
        kind: ``safetensors`` or ``onnx``.
        name: The folder's, for messages.

    Raises:
        UnsupportedModel: It holds no such model; says what it holds instead.
    """
    present = sorted(paths)
    pattern = _GRAPHS if kind == "onnx" else _WEIGHTS
    weights = [path for path in present if pattern.fullmatch(path)]
    if not weights:
        raise UnsupportedModel(f"{name} can't be used: {_lack(present, kind)}")
    if "config.json" not in present:
        raise UnsupportedModel(f"{name} can't be used: it has no config.json, which says what model it is")
    index = [_INDEX] if kind == "safetensors" and _INDEX in present else []
    return tuple(sorted({*weights, *index, *(path for path in present if path in SETTINGS)}))


def _lack(present: list[str], kind: str) -> str:
    if kind == "onnx":
        return "it holds no ONNX graphs, neither at its top nor in a folder onnx/"
    if "adapter_config.json" in present:
        return (
            "it is an adapter of another model; merge the two (`merge_and_unload` in peft) and use the result"
        )
    if any(path.endswith(".gguf") for path in present):
        return "it holds GGUF files and no model.safetensors; name one of those files"
    if pickles := [path for path in present if _PICKLES.fullmatch(path)]:
        return (
            f"its weights are pickles ({', '.join(pickles[:3])}), which run code of their author when they "
            "are opened; only safetensors are read. Look for a revision or a copy that has them, or save the "
            "model again with transformers where you trust it"
        )
    return "it holds no model.safetensors"
