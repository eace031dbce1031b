"""Which of the sequences that a worker has under way came from whom."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from diplex.v1 import models_pb2
from diplex.worker.v1 import worker_pb2


class Senders:
    """Counts sequences by the gateway that sent them; what it has sent itself a gateway knows better.

    Args:
        changed: Called when one has fewer.
    """

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._counts: Counter[tuple[str, str, int]] = Counter()  # gateway, model, precision -> sequences

    @contextmanager
    def sent(self, message: worker_pb2.GenerateRequest) -> Iterator[None]:
        """Counts a request's sequences while it is open."""
        request = message.request
        key, sequences = (message.gateway, request.model, request.precision), request.output.n or 1
        self._counts[key] += sequences
        try:
            yield
        finally:
            self._counts[key] -= sequences
            if not self._counts[key]:
                del self._counts[key]
            self._changed()

    def others(self, gateway: str, model: models_pb2.Model) -> int:
        """Of the sequences that a model has, with and without a slot, how many other gateways sent."""
        (deployment,) = model.deployments
        own = self._counts[gateway, model.name, deployment.precision]
        return max(0, deployment.slots.busy + deployment.slots.queued - own)
