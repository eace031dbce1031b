"""Who calls, and what that caller has a right to. No transport, no files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Final

from diplex.errors import PermissionDenied


class Method(StrEnum):
    """Kinds of calls that a right is needed for."""

    GENERATE = "generate"
    """Generate, count tokens, plan, and look at models."""
    OPERATE = "operate"
    """Load and unload models."""


@dataclass(frozen=True, slots=True)
class Rate:
    """So many in so many seconds: as many at once after a pause, and then at an even pace."""

    amount: int
    seconds: float

    def __str__(self) -> str:
        return f"{self.amount} {_PERIODS.get(self.seconds, f'in {self.seconds:g} s')}"


_PERIODS: Final = {1.0: "a second", 60.0: "a minute", 3600.0: "an hour", 86400.0: "a day"}


@dataclass(frozen=True, slots=True)
class Quota:
    """How much a caller may use; empty for as much as there is."""

    requests: tuple[Rate, ...] = ()
    tokens: tuple[Rate, ...] = ()
    """Of prompts and answers together."""
    concurrent: int | None = None
    """Generations under way at the same time."""

    def __bool__(self) -> bool:
        return bool(self.requests or self.tokens or self.concurrent is not None)


@dataclass(frozen=True, slots=True)
class Rights:
    """What a caller may do."""

    models: Sequence[str] = ("*",)
    """Patterns of models' names, as ``SmolLM2-*``; upper and lower case are alike."""
    methods: frozenset[Method] = frozenset({Method.GENERATE})
    quota: Quota = Quota()

    def covers(self, model: str) -> bool:
        """Whether the caller may use a model, by its canonical name."""
        return any(fnmatchcase(model.casefold(), pattern.casefold()) for pattern in self.models)


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller whose identity was proved, or anybody where nobody is asked."""

    name: str
    """Tells callers apart, for fairness and quotas; empty for anybody."""
    kind: str
    """How it was proved: ``key``, ``token``, ``certificate``; ``anybody`` if it wasn't asked."""
    rights: Rights = field(default_factory=Rights)

    @property
    def subject(self) -> str:
        """Whose limits they are."""
        return f"{self.kind}:{self.name}"

    def require(self, method: Method, model: str) -> None:
        """Makes sure that the caller may do something with a model, which goes by its canonical name.

        Raises:
            PermissionDenied: Not this caller.
        """
        if method not in self.rights.methods:
            raise PermissionDenied(
                f"{self.name} has no right to {method}", metadata={"right": method, "principal": self.name}
            )
        self.require_model(model)

    def require_model(self, model: str) -> None:
        """Makes sure that the caller may do with a model what it may do at all.

        Raises:
            PermissionDenied: Not this caller.
        """
        if not self.rights.covers(model):
            raise PermissionDenied(
                f"{self.name} has no right to the model {model}",
                metadata={"model": model, "principal": self.name},
            )


ANYBODY: Final = Principal("", "anybody", Rights(methods=frozenset(Method)))
"""Who calls a gateway that asks nobody."""
