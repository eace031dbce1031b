"""What is measured: each cell is one situation, the same for every server."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.servers.server import Sizing

SHORT, MEDIUM, LONG = 38, 512, 4096
"""Tokens of the prompts."""


@dataclass(frozen=True, slots=True)
class LoadCell:
    """So many clients at once, each with a prompt of its own."""

    clients: int
    prompt_tokens: int
    new_tokens: int

    @property
    def key(self) -> str:
        """Names the cell in files and tables."""
        return f"load-{self.prompt_tokens}x{self.clients}"

    @property
    def sizing(self) -> Sizing:
        """What a server is started for."""
        return Sizing(self.clients, self.prompt_tokens + self.new_tokens + 8)


@dataclass(frozen=True, slots=True)
class FirstTokenCell:
    """Time to first token on an idle server: of a new prompt, and of the same prompt again."""

    prompt_tokens: int
    tries: int
    """Prompts a round; each is sent twice."""

    @property
    def key(self) -> str:
        """Names the cell in files and tables."""
        return f"first-token-{self.prompt_tokens}"

    @property
    def sizing(self) -> Sizing:
        """What a server is started for: room for one conversation."""
        return Sizing(1, self.prompt_tokens + 16)


@dataclass(frozen=True, slots=True)
class ChatCell:
    """Conversations under one system message; each turn is sent when the turn before has been answered."""

    clients: int
    turns: int
    system_tokens: int
    message_tokens: int
    new_tokens: int

    @property
    def key(self) -> str:
        """Names the cell in files and tables."""
        return f"chat-{self.turns}x{self.clients}"

    @property
    def sizing(self) -> Sizing:
        """What a server is started for."""
        turn = 2 * (self.message_tokens + 8)
        return Sizing(self.clients, self.system_tokens + 16 + self.turns * turn + self.new_tokens)


@dataclass(frozen=True, slots=True)
class MixedCell:
    """A long prompt arrives among running streams."""

    streams: int
    prompt_tokens: int
    """Of the running streams."""
    long_tokens: int
    """Of the prompt that arrives."""
    warm_tokens: int
    """What every stream has got when it does."""

    @property
    def key(self) -> str:
        """Names the cell in files and tables."""
        return f"mixed-{self.long_tokens}-among-{self.streams}"

    @property
    def sizing(self) -> Sizing:
        """What a server is started for."""
        return Sizing(self.streams + 1, self.long_tokens + 512)


@dataclass(frozen=True, slots=True)
class NeighbourCell:
    """One stream alone, and beside a process that keeps one core busy."""

    prompt_tokens: int
    new_tokens: int
    most_seconds: float
    """A stream that has come to a crawl is measured by what it gave in this time."""

    @property
    def key(self) -> str:
        """Names the cell in files and tables."""
        return "neighbour"

    @property
    def sizing(self) -> Sizing:
        """What a server is started for."""
        return Sizing(1, self.prompt_tokens + self.new_tokens + 8)


@dataclass(frozen=True, slots=True)
class BurstCell:
    """Resident memory before, at the height of and after many long requests."""

    clients: int
    prompt_tokens: int
    new_tokens: int
    idle_seconds: float
    """How long to wait for memory to come back."""

    @property
    def key(self) -> str:
        """Names the cell in files and tables."""
        return f"burst-{self.prompt_tokens}x{self.clients}"

    @property
    def sizing(self) -> Sizing:
        """What a server is started for."""
        return Sizing(self.clients, self.prompt_tokens + self.new_tokens + 8)


Cell = LoadCell | FirstTokenCell | ChatCell | MixedCell | NeighbourCell | BurstCell


@dataclass(frozen=True, slots=True)
class Task:
    """A cell and how often it is measured."""

    cell: Cell
    rounds: int


QUICK = (
    Task(LoadCell(1, SHORT, 128), 3),
    Task(LoadCell(16, SHORT, 64), 3),
    Task(LoadCell(32, SHORT, 64), 3),
    Task(FirstTokenCell(MEDIUM, 2), 3),
    Task(NeighbourCell(SHORT, 96, 6), 2),
    Task(ChatCell(4, 3, 400, 48, 24), 1),
    Task(MixedCell(8, SHORT, LONG, 16), 1),
)
"""What ``make bench`` measures."""

_CLIENTS = (1, 2, 4, 8, 16, 32, 64)

FULL = (
    *(Task(LoadCell(clients, SHORT, 128), 3) for clients in _CLIENTS),
    Task(FirstTokenCell(SHORT, 5), 3),
    Task(FirstTokenCell(MEDIUM, 3), 3),
    Task(FirstTokenCell(LONG, 1), 3),
    Task(NeighbourCell(SHORT, 192, 10), 3),
    Task(MixedCell(8, SHORT, LONG, 32), 3),
    Task(ChatCell(1, 6, 400, 48, 48), 3),
    Task(ChatCell(8, 4, 400, 48, 48), 3),
    Task(ChatCell(32, 3, 400, 48, 48), 2),
    *(Task(LoadCell(clients, MEDIUM, 64), 3) for clients in _CLIENTS),
    *(Task(LoadCell(clients, LONG, 64), 2) for clients in (1, 2, 4, 8)),
    Task(BurstCell(64, 1024, 32, 75), 1),
)
"""What ``make bench-full`` measures."""
