"""Clients against a server that lives in the test."""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator, Iterator, Sequence

import pytest

from benchmarks.servers.server import StreamFailed
from benchmarks.suite import load


class Scripted:
    """Ends every text after so many tokens, or fails."""

    name = "scripted"

    def __init__(self, most: int, *, fails: bool = False) -> None:
        self.most = most
        self.fails = fails
        self.prompts: list[Sequence[int]] = []

    async def generate(self, prompt: Sequence[int], tokens: int) -> AsyncGenerator[int]:
        self.prompts.append(prompt)
        for _ in range(min(self.most, tokens)):
            yield 1
        if self.fails:
            raise StreamFailed("it fell over")


def prompts(client: int) -> Iterator[Sequence[int]]:
    return ([client, number] for number in itertools.count())


async def test_every_client_gets_its_tokens():
    server = Scripted(most=100)
    seen = await load.run(server, 3, prompts, 7)
    assert [stream.tokens for stream in seen.streams] == [7, 7, 7]
    assert server.prompts == [[0, 0], [1, 0], [2, 0]]
    assert all(not stream.begins for stream in seen.streams)


async def test_a_client_whose_text_ends_early_asks_again_with_another_prompt():
    server = Scripted(most=3)
    stream = await load.client(server, prompts(5), 8)
    assert stream.tokens == 8
    assert stream.begins == [3, 6]
    assert server.prompts == [[5, 0], [5, 1], [5, 2]]


async def test_a_server_that_gives_nothing_fails():
    with pytest.raises(StreamFailed, match="no token"):
        await load.client(Scripted(most=0), prompts(0), 8)


async def test_a_failing_stream_fails_the_load():
    with pytest.raises(StreamFailed, match="fell over"):
        await load.run(Scripted(most=1, fails=True), 2, prompts, 8)
