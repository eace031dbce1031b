"""Workers whose packets are lost: nothing is closed or said, and every stream completes all the same."""

from __future__ import annotations

import asyncio
import threading
from contextlib import ExitStack

import pytest

from tests.e2e import services
from tests.e2e.partitions import Island, StillProxy
from tests.e2e.replicas import asks, load, replicas, undisturbed


def test_streams_outlive_a_worker_that_is_cut_off(tiny_home, tiny_catalogue, tmp_path, figure):
    quick = services.environment(
        DIPLEX_RESILIENCE_KEEPALIVE_SECONDS="1", DIPLEX_RESILIENCE_KEEPALIVE_TIMEOUT_SECONDS="1"
    )
    with through_proxies(tiny_home, tiny_catalogue, tmp_path) as (addresses, links):
        cut_off(addresses, links, figure, "a proxy", streams=16, cuts=1, pause=1, healed=5, env=quick)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_streams_outlive_a_minute_of_cuts_by_proxies(tiny_home, tiny_catalogue, tmp_path, figure):
    with through_proxies(tiny_home, tiny_catalogue, tmp_path) as (addresses, links):
        cut_off(addresses, links, figure, "a proxy", streams=64, cuts=12, pause=5, healed=8)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_streams_outlive_a_minute_of_cuts_in_the_network(tiny_home, tiny_catalogue, figure):
    if reason := Island.missing():
        pytest.skip(reason)
    with ExitStack() as stack:
        islands = [stack.enter_context(Island(number)) for number in range(3)]
        addresses = [island.address for island in islands]
        inside = [island.inside for island in islands]
        stack.enter_context(
            replicas(addresses, tiny_home, tiny_catalogue, "--allow-unauthenticated", inside=inside)
        )
        cut_off(addresses, islands, figure, "a link", streams=64, cuts=12, pause=5, healed=8)


class through_proxies:  # noqa: N801  # reads as the function that it would be without its stack
    """Three workers, each behind a proxy that can stand still."""

    def __init__(self, home, catalogue, folder):
        self._arguments = home, catalogue
        self._sockets = [folder / f"w{index}.sock" for index in range(3)]
        self._stack = ExitStack()

    def __enter__(self):
        self._stack.enter_context(replicas([f"unix:{socket}" for socket in self._sockets], *self._arguments))
        links = [self._stack.enter_context(StillProxy(socket)) for socket in self._sockets]
        return [link.address for link in links], links

    def __exit__(self, *_):
        self._stack.close()


def cut_off(addresses, links, figure, by, *, streams, cuts, pause, healed, env=None):
    """One of three workers is cut off every ``pause`` seconds, and is back after ``healed`` seconds."""
    asked, over = asks(16, 300), threading.Event()
    with services.gateway(",".join(addresses), env=env) as gateway:
        for nth in range(1, 4):
            gateway.entry("worker connected", nth=nth)
        expected = asyncio.run(undisturbed(gateway.address, asked))
        timers = []

        def cut_and_heal():
            for number in range(cuts):
                if over.wait(pause):
                    break
                link = links[number % 3]
                link.cut()
                timers.append(threading.Timer(healed, link.heal))
                timers[-1].start()
            over.wait(healed)
            over.set()

        cutter = threading.Thread(target=cut_and_heal)
        cutter.start()
        try:
            outcome = asyncio.run(load(gateway.address, asked, expected, streams, over.is_set))
        finally:
            over.set()
            cutter.join()
            for timer in timers:
                timer.join()
        lost = gateway.log.count("next worker")
    figure(
        f"{streams} streams, {cuts} times {by} loses all packets for {healed} s",
        f"{outcome.completed} streams completed, {outcome.resumed} of them on more than one worker, "
        f"{len(outcome.wrong)} other texts, {len(outcome.failed)} failed, slowest {outcome.slowest:.1f} s",
    )
    assert outcome.failed == []
    assert outcome.wrong == []
    assert outcome.resumed > 0
    assert lost > 0
