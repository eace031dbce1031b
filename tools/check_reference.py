"""Checks the numpy reference of ``workers/runtime/fidelity`` against transformers, over the fixed text.

Not part of the tests, since it needs torch, which nothing but the PyTorch worker may install. Run it from the
repository's root in an environment of its own, whenever ``reference.py`` changes::

    python3.11 -m venv /tmp/check
    /tmp/check/bin/pip install torch==2.13.0 transformers gguf accelerate sentencepiece
    PYTHONPATH=. /tmp/check/bin/python tools/check_reference.py path/to/model.gguf

It ends with status 1 if the two differ by more than rounding in float32 explains. transformers reads the same
GGUF file, dequantises it and runs it in float32 with eager attention.

Figures seen for SmolLM2-135M-Instruct Q4_1 (sha256 b179c952…8110db53) with torch 2.13.0 on the CPU and
transformers 5.23.0: 2,333 tokens, largest logit difference 4.6e-4 (of logits up to 44.8), KL 5.8e-11 nats,
perplexity 14.984635 against 14.984637, top-1 agreement 1. For Gemma-3-270M Q4_K_M (sha256
a5fd3b62…087a6818) with transformers 5.24.0: 2,277 tokens, 9.2e-3 (of 61.4), KL 1.7e-10 nats, 15.083332
against 15.083328, 1.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from workers.runtime.fidelity.certificate import compare
from workers.runtime.fidelity.reference import Reference
from workers.runtime.fidelity.text import fixed_text

Floats = npt.NDArray[np.float32]

CHUNK = 256
"""Rows of logits compared at once."""
LARGEST_DIFFERENCE = 3e-4
"""Most that any two logits may differ by, as a part of the largest logit."""
LARGEST_KL = 1e-7
"""Mean KL(transformers || reference) allowed, in nats."""


def main() -> int:
    """Compare, print the figures, and return 0 if they are within the limits above."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("gguf", type=Path, help="a model as a GGUF file")
    path = parser.parse_args().gguf
    text = fixed_text()
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    token_ids = beginning(path) + tokenizer(text.content, add_special_tokens=False)["input_ids"]
    expected = transformers_logits(path, token_ids)
    largest = [0.0]
    found = watched(Reference(path).logits(token_ids, chunk=CHUNK), expected, largest)
    chunks = (expected[start : start + CHUNK] for start in range(0, len(expected), CHUNK))
    certificate = compare(chunks, found, token_ids, text_sha256=text.sha256)
    print(f"tokens                      {certificate.tokens}")
    print(f"largest logit difference    {largest[0]:.2e}  (largest logit {np.abs(expected).max():.1f})")
    print(f"KL(transformers||reference) {certificate.kl:.2e} nats")
    print(f"perplexity                  {certificate.reference_perplexity:.6f}  {certificate.perplexity:.6f}")
    print(f"top-1 agreement             {certificate.top1_agreement:.4f}")
    return int(largest[0] > LARGEST_DIFFERENCE * np.abs(expected).max() or certificate.kl > LARGEST_KL)


def beginning(path: Path) -> list[int]:
    """Return the tokens that the file wants before a text."""
    fields = gguf.GGUFReader(path).fields
    wanted = fields.get("tokenizer.ggml.add_bos_token")
    if wanted is None or not wanted.contents():
        return []
    return [int(fields["tokenizer.ggml.bos_token_id"].contents())]


def transformers_logits(path: Path, token_ids: list[int]) -> Floats:
    """Return float32 ``[tokens, vocabulary]``: the logits of transformers after every token."""
    model = AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32, attn_implementation="eager"
    )
    with torch.inference_mode():
        return model(torch.tensor([token_ids])).logits[0].float().numpy()


def watched(chunks: Iterator[Floats], expected: Floats, largest: list[float]) -> Iterator[Floats]:
    """Pass ``chunks`` on, and keep the largest difference to ``expected`` in ``largest[0]``."""
    done = 0
    for chunk in chunks:
        difference = np.abs(chunk - expected[done : done + len(chunk)]).max()
        largest[0] = max(largest[0], float(difference))
        done += len(chunk)
        yield chunk


if __name__ == "__main__":
    sys.exit(main())
