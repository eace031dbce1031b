"""Choosing the next token of every row of a batch."""

from workers.runtime.sampling.params import SamplingParams
from workers.runtime.sampling.penalties import TokenCounts
from workers.runtime.sampling.randomness import fresh_seed, uniforms
from workers.runtime.sampling.sampler import Sampler, SamplingRow

__all__ = ["Sampler", "SamplingParams", "SamplingRow", "TokenCounts", "fresh_seed", "uniforms"]
