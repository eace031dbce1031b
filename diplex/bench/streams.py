"""What a client saw of one stream."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Stream:
    """One client's tokens as they arrived. Times are of ``time.perf_counter``, in seconds."""

    prompt_tokens: int
    sent: float
    times: list[float] = field(default_factory=list)
    """When each message with tokens arrived."""
    counts: list[int] = field(default_factory=list)
    """Tokens in each."""
    begins: list[int] = field(default_factory=list)
    """Of each further request, when the model ended its text early and the client asked again: the number of
    messages before it."""

    @property
    def tokens(self) -> int:
        """Tokens that arrived."""
        return sum(self.counts)
