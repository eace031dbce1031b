"""What a request says about how its tokens are chosen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from diplex.errors import FieldViolation, InvalidRequest

GREEDY_BELOW = 1e-5
"""Temperatures under this are 0: the quotient logit / temperature would leave float32."""

# The ranges of protos/diplex/v1/generation.proto; NaN is in none of them.
_CLOSED = {
    "temperature": (0, 100),
    "top_k": (0, 2**32 - 1),
    "min_p": (0, 1),
    "presence_penalty": (-2, 2),
    "frequency_penalty": (-2, 2),
}
_POSITIVE = {"top_p": 1, "repetition_penalty": 10}
_MOST_BIAS = 100


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """Parameters of one request, with every default filled in. Those here leave a distribution as it is.

    Raises:
        InvalidRequest: Values are out of range; names every such field.
    """

    temperature: float = 1.0
    """Divides the logits; 0 to 100. At 0 the likeliest token is taken; filters and seed have no effect."""
    top_k: int = 0
    """Keep this many of the likeliest tokens; 0 or more, where 0 keeps all."""
    top_p: float = 1.0
    """Keep the likeliest tokens until their probabilities add up to this; over 0, up to 1 (all)."""
    min_p: float = 0.0
    """Keep tokens at least this probable relative to the likeliest; 0 to 1, where 0 keeps all."""
    repetition_penalty: float = 1.0
    """Divides positive, multiplies negative logits of tokens in prompt or output; over 0, up to 10."""
    presence_penalty: float = 0.0
    """Subtracted from the logits of tokens in the output; -2 to 2."""
    frequency_penalty: float = 0.0
    """Subtracted from a token's logit for each time it is in the output; -2 to 2."""
    logit_bias: tuple[tuple[int, float], ...] = ()
    """Token ids and what is added to their logits, -100 to 100 each."""
    seed: int = 0
    """Key of the random numbers, any integer, taken modulo 2**64. Unset ones come from ``fresh_seed``."""

    def __post_init__(self) -> None:
        violations = [FieldViolation(f"sampling.{name}", wanted) for name, wanted in self._out_of_range()]
        if violations:
            listed = "; ".join(f"{found.field}: {found.description}" for found in violations)
            raise InvalidRequest(listed, violations=violations)

    def _out_of_range(self) -> Iterator[tuple[str, str]]:
        for name, (low, high) in _CLOSED.items():
            if not low <= getattr(self, name) <= high:
                yield name, f"must be from {low} to {high}"
        for token_id, bias in self.logit_bias:
            if not -_MOST_BIAS <= bias <= _MOST_BIAS:
                yield f"logit_bias[{token_id}]", f"must be from {-_MOST_BIAS} to {_MOST_BIAS}"
        for name, high in _POSITIVE.items():
            if not 0 < getattr(self, name) <= high:
                yield name, f"must be more than 0 and at most {high}"

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token is always taken."""
        return self.temperature < GREEDY_BELOW

    @property
    def penalises(self) -> bool:
        """Whether logits depend on the tokens so far, so that a row needs its ``TokenCounts``."""
        neutral = (1.0, 0.0, 0.0)
        return (self.repetition_penalty, self.presence_penalty, self.frequency_penalty) != neutral
