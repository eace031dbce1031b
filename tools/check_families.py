"""Checks the numpy reference against transformers for every family that can be converted, on tiny models.

Not part of the default tests, since it needs torch: ``make test-slow`` makes an environment for it, or see
``tools/check_reference.py``. Run it from the repository's root whenever ``reference.py`` or ``traits.py`` in
``workers/runtime/fidelity`` change::

    PYTHONPATH=. /tmp/check/bin/python tools/check_families.py

It ends with status 1 if a family's logits differ by more than rounding in float32 explains, or if a greedy
choice does. What transformers' reader of GGUF files leaves at a default of its own is said below.

Figures seen with torch 2.13.0 on the CPU and transformers 5.24.0: largest difference 1.5e-5 (gemma3) to
1.4e-4 (phi3-long) of logits up to 38, every greedy choice the same.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import gguf
import numpy as np
import torch
from transformers import AutoModelForCausalLM, MistralConfig, MistralForCausalLM, PreTrainedModel

from tests.fixtures.tiny_family import FAMILIES, WINDOW, write_tiny
from workers.runtime.fidelity.reference import Reference

TOKENS = np.random.default_rng(3).integers(3, 294, 90).tolist()
LARGEST_DIFFERENCE = 1e-3
"""Most that any two logits may differ by; logits are of the order of 10."""


def main() -> int:
    """Compare, print the figures, and return 0 if they are within the limit above."""
    failed = []
    with tempfile.TemporaryDirectory() as folder:
        for family in FAMILIES:
            path = write_tiny(Path(folder) / f"{family}.gguf", family)
            with torch.inference_mode():
                expected = loaded(path, family)(torch.tensor([TOKENS])).logits[0].numpy()
            found = np.concatenate(list(Reference(path).logits(TOKENS)))
            largest = float(np.abs(found - expected).max())
            agreed = float((found.argmax(axis=1) == expected.argmax(axis=1)).mean())
            print(
                f"{family:10} largest difference {largest:.1e} of {np.abs(expected).max():.1f}, "
                f"top-1 {agreed}"
            )
            if largest > LARGEST_DIFFERENCE or agreed < 1:
                failed.append(family)
    print(f"differ: {', '.join(failed)}" if failed else "all agree")
    return int(bool(failed))


def loaded(path: Path, family: str) -> PreTrainedModel:
    """The model as transformers has it, in float32 with eager attention."""
    model = AutoModelForCausalLM.from_pretrained(
        path.parent,
        gguf_file=path.name,
        dtype=torch.float32,
        attn_implementation="eager",
        **untold(path, family),
    )
    if family != "mistral":
        return model
    # Its files say that they are Llama's, which knows no window.
    values = {key: value for key, value in model.config.to_dict().items() if key != "model_type"}
    config = MistralConfig(**values | {"sliding_window": WINDOW})
    config._attn_implementation = "eager"  # noqa: SLF001  # the way that transformers itself sets it
    windowed = MistralForCausalLM(config).eval()
    windowed.load_state_dict(model.state_dict())
    return windowed


def untold(path: Path, family: str) -> dict[str, object]:
    """Settings that transformers doesn't take from a file."""
    match family:
        case "gemma3":
            return {"query_pre_attn_scalar": 32, "hidden_activation": "gelu_pytorch_tanh"}
        case "qwen3":
            return {"head_dim": 32}
        case "phi3":
            return {"pad_token_id": 0, "sliding_window": WINDOW}
        case "phi3-long":
            tensors = {tensor.name: tensor.data.tolist() for tensor in gguf.GGUFReader(path).tensors}
            scaling = {
                "rope_type": "longrope", "rope_theta": 10000.0, "attention_factor": 1.19,
                "short_factor": tensors["rope_factors_short.weight"],
                "long_factor": tensors["rope_factors_long.weight"], "original_max_position_embeddings": 256,
            }  # fmt: skip
            return {
                "pad_token_id": 0, "sliding_window": None, "rope_parameters": scaling,
                "original_max_position_embeddings": 256,
            }  # fmt: skip
    return {}


if __name__ == "__main__":
    sys.exit(main())
