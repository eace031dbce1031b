"""The protocol between a driver and its other end, with a pipeline that counts."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator

import pytest

from benchmarks.servers.driver_loop import serve


class Countdown:
    """Gives every request one token a step."""

    gather_seconds = 0.0

    def __init__(self) -> None:
        self.left: dict[int, int] = {}
        self.prompts: dict[int, list[int]] = {}

    @property
    def busy(self) -> bool:
        return bool(self.left)

    def submit(self, request_id: int, prompt: list[int], tokens: int) -> None:
        self.left[request_id] = tokens
        self.prompts[request_id] = prompt

    def cancel(self, request_id: int) -> None:
        self.left.pop(request_id, None)

    def step(self) -> list[tuple[int, int]]:
        given = [(request_id, 1) for request_id in self.left]
        self.left = {request_id: left - 1 for request_id, left in self.left.items() if left > 1}
        return given


@pytest.fixture
def driven() -> Iterator[tuple[socket.socket, Countdown]]:
    ours, theirs = socket.socketpair()
    ours.settimeout(10)
    pipeline = Countdown()
    with ours, theirs:
        thread = threading.Thread(target=serve, args=(pipeline, theirs))
        thread.start()
        yield ours, pipeline
        ours.close()
        thread.join(10)
        assert not thread.is_alive()


def test_a_request_gets_its_tokens(driven):
    ours, pipeline = driven
    lines = ours.makefile("r")
    assert json.loads(lines.readline()) == []
    ours.sendall(json.dumps({"id": 7, "prompt": [1, 2], "tokens": 3}).encode() + b"\n")
    assert [json.loads(lines.readline()) for _ in range(3)] == [[[7, 1]]] * 3
    assert pipeline.prompts == {7: [1, 2]}
    lines.close()


def test_a_message_may_come_in_pieces(driven):
    ours, _ = driven
    lines = ours.makefile("r")
    lines.readline()
    data = json.dumps({"id": 1, "prompt": [1], "tokens": 1}).encode() + b"\n"
    ours.sendall(data[:9])
    ours.sendall(data[9:])
    assert json.loads(lines.readline()) == [[1, 1]]
    lines.close()


def test_a_cancelled_request_gets_no_more(driven):
    ours, _ = driven
    lines = ours.makefile("r")
    lines.readline()
    endless = {"id": 1, "prompt": [1], "tokens": 1 << 60}
    ours.sendall(json.dumps(endless).encode() + b"\n")
    assert json.loads(lines.readline()) == [[1, 1]]
    ours.sendall(b'{"cancel": 1}\n{"id": 2, "prompt": [1], "tokens": 1}\n')
    while (got := json.loads(lines.readline())) == [[1, 1]]:
        pass
    assert got == [[2, 1]]
    lines.close()
