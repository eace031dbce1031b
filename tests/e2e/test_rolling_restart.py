"""Gateways and workers that are restarted one after the other under load: no call of the SDK fails."""

from __future__ import annotations

import asyncio
import secrets
import signal
import threading
from contextlib import ExitStack

import pytest

from tests.e2e import services
from tests.e2e.replicas import asks, load, replicas, undisturbed


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_everything_is_restarted_again_and_again(tiny_home, tiny_catalogue, tmp_path, figure):
    restarted(tiny_home, tiny_catalogue, tmp_path, figure, streams=48, rounds=4)


def restarted(home, catalogue, folder, figure, *, streams, rounds):
    """Two gateways with one file of secrets, two workers; each is told to end, and started again."""
    keys = folder / "keys"
    keys.write_text(secrets.token_hex(32))
    addresses = [f"unix:{folder}/w{index}.sock" for index in range(2)]
    # A drain that is shorter than a stream, so that some are cut off.
    env = services.environment(DIPLEX_RESILIENCE_RESUMPTION_KEYS_FILE=str(keys), DIPLEX_DRAIN_SECONDS="0.3")
    asked, over = asks(16, 300), threading.Event()
    with replicas(addresses, home, catalogue) as workers, ExitStack() as stack:

        def gateway(listen="127.0.0.1:0"):
            started = stack.enter_context(services.gateway(",".join(addresses), listen=listen, env=env))
            for nth in (1, 2):
                started.entry("worker connected", nth=nth)
            return started

        gateways = [gateway(), gateway()]
        places = [each.address for each in gateways]
        target = "ipv4:" + ",".join(places)
        expected = asyncio.run(undisturbed(target, asked))

        def restart_all():
            try:
                for _ in range(rounds):
                    for index, place in enumerate(places):
                        gateways[index].send(signal.SIGTERM)
                        gateways[index].wait()
                        gateways[index] = gateway(place)
                    for index in range(2):
                        workers.drain_and_restart(index)
            finally:
                over.set()

        restarter = threading.Thread(target=restart_all)
        restarter.start()
        try:
            outcome = asyncio.run(load(target, asked, expected, streams, over.is_set))
        finally:
            restarter.join()
    figure(
        f"{streams} streams, two gateways and two workers restarted {rounds} times each",
        f"{outcome.completed} streams completed, {outcome.resumed} of them on more than one worker, "
        f"{len(outcome.wrong)} other texts, {len(outcome.failed)} failed, slowest {outcome.slowest:.1f} s",
    )
    assert outcome.failed == []
    assert outcome.wrong == []
    assert outcome.resumed > 0
