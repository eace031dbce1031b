"""Choosing the next token of every row of a batch."""

from workers.runtime.sampling.bias import Banned, LogitBias
from workers.runtime.sampling.logprobs import Distribution, TokenLogprob, distributions
from workers.runtime.sampling.params import SamplingParams
from workers.runtime.sampling.penalties import TokenCounts
from workers.runtime.sampling.randomness import fresh_seed, uniforms
from workers.runtime.sampling.sampler import Sampler, SamplingRow

__all__ = [
    "Banned",
    "Distribution",
    "LogitBias",
    "Sampler",
    "SamplingParams",
    "SamplingRow",
    "TokenCounts",
    "TokenLogprob",
    "distributions",
    "fresh_seed",
    "uniforms",
]
