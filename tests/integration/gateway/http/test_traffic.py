"""Rates from a gateway's metrics, between two looks."""

from __future__ import annotations

import pytest

from diplex import errors
from diplex.cli.traffic import TrafficMeter
from tests.fakes import Fail


async def test_what_has_happened_since_the_last_look(gateway, client, worker):
    async with TrafficMeter(f"{gateway.url}/metrics") as meter:
        assert await meter.look() is None
        for _ in range(3):
            await client.completions.create(model="tiny", prompt="Hi", stream=False)
        worker.script = [Fail(errors.UnsupportedFeature("no"))]
        with pytest.raises(Exception, match="no"):
            await client.completions.create(model="tiny", prompt="Hi")
        traffic = await meter.look()
        quiet = await meter.look()
    assert traffic.input_per_second == pytest.approx(1.5 * traffic.output_per_second)
    assert traffic.requests_per_second == pytest.approx(4 * traffic.failed_per_second)
    assert "tokens/s in" in traffic.line()
    assert quiet.requests_per_second == 0


async def test_no_metrics_there(gateway):
    async with TrafficMeter(f"{gateway.url}/nothing") as meter:
        with pytest.raises(errors.Unavailable, match="no metrics at"):
            await meter.look()
    async with TrafficMeter(None) as meter:
        assert await meter.look() is None
