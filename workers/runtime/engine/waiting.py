"""The order in which waiting sequences get a slot. Pure.

1. The higher priority class first; but a class that was passed over often enough goes next.
2. Within a class the client that has been served least: a virtual token counter a client (Sheng et al., 2023,
   "Fairness in Serving Large Language Models", algorithm 2), in which a computed prompt token and a generated
   one count the same, since they cost about the same here. A client that comes back after a pause starts
   level with the least served of those that wait, so that nobody saves up service by being idle.
3. Within a client what is due first, then what came first.

Nobody starves: every class gets its turn (1), every client in it (2), and a sequence is due at a fixed time,
behind which no later one of its client can be put (3).
"""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass, field
from typing import Final

from workers.runtime.engine.sequence import Sequence

MOST_PASSED_OVER: Final = 16
"""Admissions of higher classes that a waiting class bears: what the slots hold by default, so that it waits
for one turnover of the slots and then gets one in seventeen."""
_MANY_CLIENTS: Final = 256
"""Counters kept before those that say nothing any longer are dropped."""

_Line = list[tuple[float, int, Sequence]]  # heap of (due, arrival, sequence)


@dataclass(slots=True)
class _Class:
    """The waiting sequences of one priority."""

    returned: deque[Sequence] = field(default_factory=deque)
    """Those that had a slot and lost it: they go first."""
    lines: dict[str, _Line] = field(default_factory=dict)  # client -> its sequences; never empty ones
    passed_over: int = 0
    """Admissions of higher classes since the last one from here."""

    def __bool__(self) -> bool:
        return bool(self.returned or self.lines)

    def remove(self, sequence: Sequence) -> bool:
        if sequence in self.returned:
            self.returned.remove(sequence)
            return True
        line = self.lines.get(sequence.client, [])
        kept = [entry for entry in line if entry[2] is not sequence]
        if len(kept) == len(line):
            return False
        heapq.heapify(kept)
        if kept:
            self.lines[sequence.client] = kept
        else:
            del self.lines[sequence.client]
        return True


class WaitingSequences:
    """The queue.

    Args:
        most_passed_over: Admissions of higher classes that a waiting class bears.
    """

    def __init__(self, most_passed_over: int = MOST_PASSED_OVER) -> None:
        self._most_passed_over = most_passed_over
        self._classes: dict[int, _Class] = {}  # priority -> class; empty ones stay
        self._served: dict[str, int] = {}  # client -> tokens, after lifting
        self._last_left = ""
        """The client that was the last to have nothing waiting any longer."""
        self._arrivals = 0
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def add(self, sequence: Sequence) -> None:
        """Takes in a new sequence."""
        self._lift(sequence.client)
        self._arrivals += 1
        line = self._class(sequence).lines.setdefault(sequence.client, [])
        heapq.heappush(line, (sequence.due, self._arrivals, sequence))
        self._size += 1

    def put_back(self, sequence: Sequence) -> None:
        """Takes in a sequence that lost its slot, before all others of its class."""
        self._class(sequence).returned.appendleft(sequence)
        self._size += 1

    def remove(self, sequence: Sequence) -> None:
        """Takes out a sequence that nobody waits for any longer."""
        if self._class(sequence).remove(sequence):
            self._size -= 1
            self._left(sequence.client)

    def first(self) -> Sequence | None:
        """Who gets the next slot."""
        waiting = {priority: members for priority, members in self._classes.items() if members}
        if not waiting:
            return None
        due = [priority for priority, c in waiting.items() if c.passed_over >= self._most_passed_over]
        chosen = waiting[max(due or waiting)]
        if chosen.returned:
            return chosen.returned[0]
        line = min(chosen.lines.items(), key=lambda item: (self._served[item[0]], item[1][0][:2]))[1]
        return line[0][2]

    def admit(self, sequence: Sequence) -> None:
        """Takes out the :meth:`first` one, since it got a slot."""
        for priority, members in self._classes.items():
            if priority < sequence.priority and members:
                members.passed_over += 1
        own = self._class(sequence)
        own.passed_over = 0
        self.remove(sequence)

    def charge(self, client: str, tokens: int) -> None:
        """Books service of a client."""
        self._served[client] = self._served.get(client, 0) + tokens

    def _class(self, sequence: Sequence) -> _Class:
        return self._classes.setdefault(sequence.priority, _Class())

    def _clients(self) -> set[str]:
        """Those with something waiting. What was put back is left out: it had its turn."""
        return {client for members in self._classes.values() for client in members.lines}

    def _lift(self, client: str) -> None:
        """Lifts a client that had nothing waiting to the level of those that have."""
        waiting = self._clients()
        if client in waiting:
            return
        last = self._served.get(self._last_left, 0)
        level = min((self._served[other] for other in waiting), default=last)
        self._served[client] = max(self._served.get(client, 0), level)
        if len(self._served) > _MANY_CLIENTS:
            self._drop_counters(waiting | {client} | ({self._last_left} & self._served.keys()), level)

    def _drop_counters(self, needed: set[str], level: int) -> None:
        """Keeps the counters that are needed and the highest of the others: debts, largest first.

        Who is at the level or below would be lifted anyway.
        """
        debts = [c for c, tokens in self._served.items() if c not in needed and tokens > level]
        kept = sorted(debts, key=self._served.__getitem__, reverse=True)[: _MANY_CLIENTS // 2]
        self._served = {c: self._served[c] for c in (*needed, *kept)}

    def _left(self, client: str) -> None:
        if client not in self._clients():
            self._last_left = client
