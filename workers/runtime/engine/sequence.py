"""A sequence as the scheduler sees it: one account of tokens, and how far its slot has caught up with it."""

from __future__ import annotations

from dataclasses import dataclass, field

from workers.runtime.engine.prompt_lookup import PromptLookup
from workers.runtime.engine.slots import Slot
from workers.runtime.generation import FinishReason
from workers.runtime.vision.gallery import Picture


@dataclass(slots=True, eq=False)
class Sequence:
    """Prompt and output are one list of ``tokens``; a slot holds the first ``length`` of them.

    All that a scheduler does is to let ``length`` catch up with ``tokens``. With one token missing the
    sequence decodes, with more it is prefilled, whether they are a fresh prompt, what a preempted sequence
    lost, or what another worker has generated.
    """

    id: int
    prompt: tuple[int, ...]
    max_tokens: int | None = None
    end_ids: frozenset[int] = frozenset()
    """The model's own end-of-sequence tokens."""
    stop_ids: frozenset[int] = frozenset()
    """Tokens that the caller wants to stop at."""
    priority: int = 0
    """The larger leaves the queue first."""
    client: str = ""
    """Clients get even shares of the work."""
    due: float = 0.0
    """When it should be done; orders the sequences of a client."""
    prior: tuple[int, ...] = ()
    """Output that there is already."""
    lookup: PromptLookup | None = None
    """Where to find guesses of the next tokens; ``None`` for a sequence that isn't to be speculated on."""
    pictures: tuple[Picture, ...] = ()
    """Those that its tokens show."""
    undivided: bool = False
    """Whether one run must take in all that is missing of a picture."""
    tokens: list[int] = field(init=False)
    """Prompt and output."""
    slot: Slot | None = field(default=None, init=False)
    admitted: int = field(default=0, init=False)
    """Number of its latest admission, from 1; 0 before the first."""
    cached: int = field(default=0, init=False)
    """Tokens that the prefix cache spared, when it was admitted first."""

    def __post_init__(self) -> None:
        self.tokens = [*self.prompt, *self.prior]

    @property
    def length(self) -> int:
        """Tokens whose keys and values the slot holds."""
        return self.slot.length if self.slot else 0

    @property
    def missing(self) -> int:
        """Tokens to be taken in before the next one can be chosen."""
        return len(self.tokens) - self.length

    def whole(self, size: int) -> int:
        """So many of the missing tokens, and what they would leave of a picture that mustn't be divided."""
        end = self.length + size
        while self.undivided and end < len(self.tokens) and max(self.tokens[end - 1 : end + 1]) < 0:
            end += 1
        return end - self.length

    @property
    def decodes(self) -> bool:
        """Whether the next token is a step away. What is still to be seen of a picture is prefilled."""
        ready = self.missing == 1 and self.slot is not None and self.slot.prefix is None
        return ready and self.tokens[-1] >= 0

    @property
    def unseen(self) -> Picture | None:
        """The first of its pictures that isn't all encoded."""
        return next((picture for picture in self.pictures if not picture.complete), None)

    @property
    def cacheable(self) -> int:
        """Tokens of the prompt that a cache may spare: all, if there is output behind them, else but one."""
        return len(self.prompt) - (not self.prior)

    @property
    def generated(self) -> int:
        """Tokens of output."""
        return len(self.tokens) - len(self.prompt)

    def append(self, token: int, max_length: int) -> FinishReason | None:
        """Takes the next token of output; says why the sequence ends with it, if it does."""
        self.tokens.append(token)
        if token in self.end_ids:
            return FinishReason.END_OF_SEQUENCE
        if token in self.stop_ids:
            return FinishReason.STOP
        if self.max_tokens is not None and self.generated >= self.max_tokens:
            return FinishReason.MAX_TOKENS
        if len(self.tokens) >= max_length:
            return FinishReason.CONTEXT_LENGTH
        return None

    def drafts(self, most: int, max_length: int) -> tuple[int, ...]:
        """Guesses of the next tokens: not more than could all become output, one more behind them."""
        if self.lookup is None:
            return ()
        most = min(most, max_length - len(self.tokens) - 1)
        if self.max_tokens is not None:
            most = min(most, self.max_tokens - self.generated - 1)
        return self.lookup.drafts(self.tokens, most) if most > 0 else ()
