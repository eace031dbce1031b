"""What of a generation has gone to the client: all that another worker needs to go on behind it."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from diplex.v1 import generation_pb2 as pb
from diplex.worker.v1 import worker_pb2
from gateway.fleet.facts import Backend, Precision


@dataclass(slots=True)
class RelayedChoice:
    """One choice, as far as the client has it."""

    token_ids: list[int] = field(default_factory=list)
    characters: int = 0
    finished: bool = False
    completion_tokens: int = 0
    """Of one that has finished: those that it took."""


@dataclass(frozen=True, slots=True)
class Served:
    """What serves a generation: whoever goes on with it has to be the same."""

    model: str
    """Canonical name."""
    backend: Backend | None
    precision: Precision | None


@dataclass(slots=True)
class Relayed:
    """A generation, as far as the client has it. Grows with every event that goes there."""

    seed: int
    """Of its random numbers, which every worker draws the same."""
    sequence: int = 0
    """Number of the last event; 0 while the client has none but progress."""
    attempts: int = 0
    """Workers that were tried."""
    admitted_at: float | None = None
    """When the client was told that it is admitted, in seconds of ``time.time``."""
    worker: str = ""
    """Address of the one that was asked last."""
    served: Served | None = None
    """Known once a worker has admitted it."""
    choices: dict[int, RelayedChoice] = field(default_factory=dict)  # index -> choice
    complete: bool = False
    """Whether the client has the receipt."""

    def take(self, response: worker_pb2.GenerateResponse, now: float) -> bool:
        """Notes what a worker sends; whether it is to go to the client, who gets ``accepted`` once.

        Args:
            response: The worker's next.
            now: Seconds of ``time.time``.
        """
        kind = response.kind
        if kind == worker_pb2.EVENT_KIND_PROGRESS:
            return not self.sequence
        if kind == worker_pb2.EVENT_KIND_DELTA:
            choice = self._choice(response.choice)
            choice.token_ids.extend(response.token_ids)
            choice.characters += response.characters
        elif kind == worker_pb2.EVENT_KIND_FINISHED:
            choice = self._choice(response.choice)
            choice.token_ids.extend(response.token_ids)
            choice.finished, choice.completion_tokens = True, response.completion_tokens
        elif kind == worker_pb2.EVENT_KIND_ACCEPTED:
            if self.sequence:
                return False
            self.admitted_at = now
        else:
            self.complete = True
        self.sequence += 1
        return True

    def become(self, other: Relayed) -> None:
        """Takes the place of another one, which has gone to the client instead."""
        for name in self.__slots__:
            setattr(self, name, getattr(other, name))

    def prior(self) -> list[worker_pb2.PriorChoice]:
        """The same for a worker that is to go on."""
        return [
            worker_pb2.PriorChoice(
                choice=index,
                token_ids=choice.token_ids,
                characters=choice.characters,
                finished=choice.finished,
                completion_tokens=choice.completion_tokens,
            )
            for index, choice in self.choices.items()
        ]

    def _choice(self, index: int) -> RelayedChoice:
        choice = self.choices.get(index)
        if choice is None:
            choice = self.choices[index] = RelayedChoice()
        return choice


def seed_of(request: pb.GenerateRequest) -> int:
    """The seed that a request names, else a fresh one of 53 bits, which survives JSON."""
    return request.sampling.seed if request.sampling.HasField("seed") else secrets.randbits(53)
