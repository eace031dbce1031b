"""Checks the numpy reference against transformers on folders of safetensors, for every family of tiny models.

Not part of the default tests, since it needs torch: ``make test-slow`` makes an environment for it, or see
``tools/check_reference.py``. Run it from the repository's root whenever ``workers/runtime/checkpoint`` or
``workers/runtime/fidelity`` change::

    PYTHONPATH=. /tmp/check/bin/python tools/check_checkpoints.py

It ends with status 1 if a family's logits differ by more than rounding in float32 explains, or if a greedy
choice or a text's tokens do. transformers reads the folders by itself: settings, rotary scaling, windows and
tied heads are as it understands them.

Figures seen with torch 2.13.0 on the CPU and transformers 5.24.0: largest difference 5.7e-6 (gemma) to
8.1e-5 (phi3-long) of logits up to 36, every greedy choice the same.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.fixtures.tiny_checkpoint import FAMILIES, write_checkpoint
from workers.runtime.checkpoint import CheckpointFolder
from workers.runtime.fidelity.reference import Reference

TOKENS = np.random.default_rng(3).integers(3, 294, 90).tolist()
TEXT = "The user asks 12 things, é and 🙂."
LARGEST_DIFFERENCE = 1e-3
"""Most that any two logits may differ by; logits are of the order of 10."""


def main() -> int:
    """Compare, print the figures, and return 0 if they are within the limit above."""
    failed = []
    with tempfile.TemporaryDirectory() as folder:
        for family in FAMILIES:
            path = write_checkpoint(Path(folder) / family, family)
            model = AutoModelForCausalLM.from_pretrained(
                path, dtype=torch.float32, attn_implementation="eager"
            )
            with torch.inference_mode():
                expected = model(torch.tensor([TOKENS])).logits[0].numpy()
            found = np.concatenate(list(Reference(path).logits(TOKENS)))
            largest = float(np.abs(found - expected).max())
            agreed = float((found.argmax(axis=1) == expected.argmax(axis=1)).mean())
            print(
                f"{family:12} largest difference {largest:.1e} of {np.abs(expected).max():.1f}, "
                f"top-1 {agreed}"
            )
            if largest > LARGEST_DIFFERENCE or agreed < 1 or not same_tokens(path):
                failed.append(family)
    print(f"differ: {', '.join(failed)}" if failed else "all agree")
    return int(bool(failed))


def same_tokens(path: Path) -> bool:
    """Whether a text has the same tokens, as transformers and as we read the folder."""
    ours = CheckpointFolder(path).tokenizer.backend.encode(TEXT, add_special_tokens=False).ids
    return bool(AutoTokenizer.from_pretrained(path).encode(TEXT, add_special_tokens=False) == ours)


if __name__ == "__main__":
    sys.exit(main())
