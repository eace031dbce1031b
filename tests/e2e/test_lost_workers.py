"""Workers that are killed under streams: every stream completes, with the text that it would have had."""

from __future__ import annotations

import asyncio
import threading

import pytest

from tests.e2e import services
from tests.e2e.replicas import asks, load, replicas, undisturbed


def test_streams_outlive_their_workers(tiny_home, tiny_catalogue, tmp_path, figure):
    killed(tiny_home, tiny_catalogue, tmp_path, figure, streams=24, pause=1.5, kills=2)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_streams_outlive_a_minute_of_kills(tiny_home, tiny_catalogue, tmp_path, figure):
    killed(tiny_home, tiny_catalogue, tmp_path, figure, streams=64, pause=5, kills=12)


def killed(home, catalogue, folder, figure, *, streams, pause, kills):
    """One of three workers is killed every so many seconds, and started again."""
    addresses = [f"unix:{folder}/w{index}.sock" for index in range(3)]
    asked, over = asks(16, 300), threading.Event()
    with (
        replicas(addresses, home, catalogue) as running,
        services.gateway(",".join(addresses)) as gateway,
    ):
        for nth in range(1, 4):
            gateway.entry("worker connected", nth=nth)
        expected = asyncio.run(undisturbed(gateway.address, asked))

        def kill_and_restart():
            for number in range(kills):
                if over.wait(pause):
                    break
                running.restart(number % 3)
            over.wait(pause)
            over.set()

        killer = threading.Thread(target=kill_and_restart)
        killer.start()
        try:
            outcome = asyncio.run(load(gateway.address, asked, expected, streams, over.is_set))
        finally:
            over.set()
            killer.join()
    figure(
        f"{streams} streams, {running.kills} workers killed",
        f"{outcome.completed} streams completed, {outcome.resumed} of them on more than one worker, "
        f"{len(outcome.wrong)} other texts, {len(outcome.failed)} failed, slowest {outcome.slowest:.1f} s",
    )
    assert outcome.failed == []
    assert outcome.wrong == []
    assert outcome.resumed > 0
    assert running.kills == kills
