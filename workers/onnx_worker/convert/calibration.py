"""What every matrix of a model reads: its inputs while the model goes over a fixed text.

The text is not the one that certificates are made over, so that a certificate says how well the rounding
holds for text that it has not seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from workers.runtime.fidelity.reference import Reference

Doubles = npt.NDArray[Any]

_MOST_TOKENS: Final = 1024


def calibration_tokens(tokenizer: Tokenizer, begin: Sequence[int], context: int) -> list[int]:
    """Return the ids of the calibration text, within ``context``; ``begin`` stands before it."""
    text = files(__package__).joinpath("calibration.txt").read_text(encoding="utf-8")
    ids = [*begin, *tokenizer.encode(text, add_special_tokens=False).ids]
    return ids[: min(_MOST_TOKENS, context)]


class Calibration:
    """Inputs of the matrices of one model, of one layer at a time, computed when asked for.

    Args:
        path: The GGUF file, or the folder of safetensors.
        token_ids: What it goes over.
    """

    def __init__(self, path: Path, token_ids: Sequence[int]) -> None:
        self._inputs: dict[str, Doubles] = {}  # matrix of the latest layer -> what it reads
        self._layers = self._walk(path, token_ids)

    def inputs(self, name: str) -> Doubles:
        """Return what matrix ``name`` reads, float64 ``[tokens, columns]``.

        Matrices are asked for layer after layer, in the model's order: an earlier layer's inputs are gone.
        """
        while name not in self._inputs:
            self._inputs.clear()
            if next(self._layers, None) is None:
                raise KeyError(name)
        return self._inputs[name]

    def _walk(self, path: Path, token_ids: Sequence[int]) -> Iterator[Doubles]:
        reference = Reference(path, dtype=np.float64, observe=self._inputs.__setitem__)
        yield from reference.layers(token_ids)
