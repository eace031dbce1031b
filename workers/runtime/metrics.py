"""What a worker's engines are doing, read when Prometheus asks: slots, queues, rates and memory by model."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from workers.runtime.supervisor.model import ServedModel, State
from workers.runtime.supervisor.supervisor import Supervisor

_SECONDS: Final = 5.0
"""How long a scrape waits for the event loop, which may be busy."""
_LABELS: Final = ("gen_ai_request_model", "precision")


class EngineMetrics(Collector):
    """Tells of the models of a supervisor.

    Args:
        supervisor: Lives in ``loop``.
        loop: Where it is asked, since scrapes come in a thread of their own.
    """

    def __init__(self, supervisor: Supervisor, loop: asyncio.AbstractEventLoop) -> None:
        self._supervisor = supervisor
        self._loop = loop

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """One scrape."""
        return asyncio.run_coroutine_threadsafe(self._collected(), self._loop).result(_SECONDS)

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """The metrics without values, for whoever registers this."""
        return _gauges(())

    async def _collected(self) -> Iterable[GaugeMetricFamily]:
        return _gauges(self._supervisor.models)


def _gauges(models: Iterable[ServedModel]) -> list[GaugeMetricFamily]:
    slots = GaugeMetricFamily("diplex_slots", "Sequences that can be decoded together.", labels=_LABELS)
    busy = GaugeMetricFamily("diplex_slots_busy", "Slots in use.", labels=_LABELS)
    queued = GaugeMetricFamily("diplex_queued", "Requests that wait for a slot.", labels=_LABELS)
    prefill = GaugeMetricFamily(
        "diplex_prefill_tokens_per_second", "Rate of prefill over recent steps.", labels=_LABELS
    )
    decode = GaugeMetricFamily(
        "diplex_decode_tokens_per_second", "Rate of decode, all slots, over recent steps.", labels=_LABELS
    )
    resident = GaugeMetricFamily(
        "diplex_engine_resident_bytes", "Resident memory of the engine process.", labels=_LABELS
    )
    ready = GaugeMetricFamily("diplex_model_ready", "1 while the model can answer.", labels=_LABELS)
    for model in models:
        labels = (model.entry.name, model.profile)
        slots.add_metric(labels, model.limits.slots if model.state is State.READY else 0)
        busy.add_metric(labels, model.load.busy)
        queued.add_metric(labels, model.load.queued)
        prefill.add_metric(labels, model.load.prefill_rate)
        decode.add_metric(labels, model.load.decode_rate)
        resident.add_metric(labels, model.resident_bytes)
        ready.add_metric(labels, model.state is State.READY)
    return [slots, busy, queued, prefill, decode, resident, ready]
