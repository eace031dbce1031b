"""Milliseconds that sampling takes a step, by batch size and parameters.

Run as ``python -m benchmarks.sampling``.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import replace

import numpy as np

from workers.runtime.sampling import (
    LogitBias,
    Sampler,
    SamplingParams,
    SamplingRow,
    TokenCounts,
    distributions,
)

CASES = {
    "greedy": SamplingParams(temperature=0),
    "temperature": SamplingParams(temperature=0.8),
    "top_k 50": SamplingParams(temperature=0.8, top_k=50),
    "top_k 50, top_p 0.9": SamplingParams(temperature=0.8, top_k=50, top_p=0.9),
    "top_p 0.9": SamplingParams(temperature=0.8, top_p=0.9),
    "top_p 0.99, flat": SamplingParams(temperature=20, top_p=0.99),
    "min_p 0.05": SamplingParams(temperature=0.8, min_p=0.05),
    "top_k, top_p, penalties": SamplingParams(
        temperature=0.8,
        top_k=50,
        top_p=0.9,
        repetition_penalty=1.1,
        presence_penalty=0.5,
        frequency_penalty=0.5,
    ),
    "greedy, penalties": SamplingParams(temperature=0, repetition_penalty=1.1),
    "greedy, 100 biases": SamplingParams(temperature=0, logit_bias=tuple((7 * i, 1.0) for i in range(100))),
}
LOGPROBS = {"greedy, logprobs": 0, "greedy, 20 top_logprobs": 20}


def measure(
    params: SamplingParams, rows: int, vocab: int, steps: int, top: int | None = None
) -> tuple[float, float]:
    """Median and fastest milliseconds of a step, on logits shaped roughly like a language model's."""
    generator = np.random.default_rng(1)
    logits = np.float32(2.5) * generator.standard_normal((rows, vocab), dtype=np.float32)
    logits[:, :200] += np.linspace(9, 0, 200, dtype=np.float32)
    prompt = generator.integers(0, vocab, 1000)
    counts = TokenCounts(prompt, vocab)
    bias = LogitBias(dict(params.logit_bias)) if params.logit_bias else None
    batch = [SamplingRow(replace(params, seed=i), position=0, tokens=counts, bias=bias) for i in range(rows)]
    wanted = {} if top is None else dict.fromkeys(range(rows), top)
    sampler, times = Sampler(), []
    for _ in range(steps):
        scratch = logits.copy()
        start = time.perf_counter()
        told = distributions(scratch, wanted, ())
        tokens = sampler.sample(scratch, batch)
        for row, distribution in told.items():
            distribution.of(int(tokens[row]))
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times), min(times)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vocab", type=int, default=49152)
    parser.add_argument("--steps", type=int, default=100)
    arguments = parser.parse_args()
    sizes = (1, 8, 32)
    print(f"median (fastest) ms a step, vocabulary {arguments.vocab}")
    print(f"{'':26}" + "".join(f"{f'{rows} rows':>18}" for rows in sizes))
    greedy = SamplingParams(temperature=0)
    cases = {name: (params, None) for name, params in CASES.items()}
    for name, (params, top) in (cases | {name: (greedy, top) for name, top in LOGPROBS.items()}).items():
        cells = (measure(params, rows, arguments.vocab, arguments.steps, top) for rows in sizes)
        print(f"{name:26}" + "".join(f"{median:9.3f} ({fastest:.3f})" for median, fastest in cells))


if __name__ == "__main__":
    main()
