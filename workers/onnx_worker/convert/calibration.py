"""What every matrix of a model reads: its inputs while the model goes over a fixed text.

The text is not the one that certificates are made over, so that a certificate says how well the rounding
holds for text that it has not seen.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from workers.runtime.fidelity.reference import LlamaReference

Doubles = npt.NDArray[Any]

_MOST_TOKENS: Final = 1024


class Calibration:
    """Inputs of the matrices of one Llama model, of one layer at a time.

    Args:
        path: The GGUF file.
        tokenizer: The model's.
        context: Tokens that the model can take at most.
    """

    def __init__(self, path: Path, tokenizer: Tokenizer, context: int) -> None:
        text = files(__package__).joinpath("calibration.txt").read_text(encoding="utf-8")
        token_ids = tokenizer.encode(text, add_special_tokens=False).ids[: min(_MOST_TOKENS, context)]
        self._inputs: dict[str, Doubles] = {}  # matrix of the latest layer -> what it reads
        reference = LlamaReference(path, dtype=np.float64, observe=self._inputs.__setitem__)
        self._layers = reference.layers(token_ids)

    def inputs(self, name: str) -> Doubles:
        """Return what matrix ``name`` reads, float64 ``[tokens, columns]``.

        Matrices are asked for layer after layer, in the model's order: an earlier layer's inputs are gone.
        """
        while name not in self._inputs:
            self._inputs.clear()
            if next(self._layers, None) is None:
                raise KeyError(name)
        return self._inputs[name]
