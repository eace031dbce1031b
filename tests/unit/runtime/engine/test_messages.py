"""What crosses the pipe comes out as it went in."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from diplex import errors
from workers.runtime.engine import messages
from workers.runtime.engine.process import Connection
from workers.runtime.generation import (
    Chat,
    Finish,
    FinishReason,
    Generation,
    Priority,
    Prompt,
    Stopping,
    Timings,
    TokenIds,
)
from workers.runtime.sampling import SamplingParams

FINISH = Finish(FinishReason.STOP, "END", 3, 5, Timings(0.1, 0.2, 0.3))
GENERATION = Generation(
    Chat(({"role": "user", "content": "Grüße 🙂"},)),
    SamplingParams(temperature=0.5, seed=2**64 - 1),
    Stopping(7, ("END",), (1, 2)),
    Priority.INTERACTIVE,
)

MESSAGES = [
    messages.EngineConfig(Path("/models/tiny"), slots=3, max_length=128),
    messages.Submit(1, GENERATION),
    messages.Cancel(2),
    messages.Count(3, Prompt("x" * 100_000)),
    messages.Ready(4, 128),
    messages.Admitted(5, (1, 2, 3)),
    messages.Counted(6, ()),
    messages.Stepped(
        (messages.Piece(7, "a", (9,)), messages.Piece(8, "", (), FINISH)), messages.Load(1, 2, 3.5, 4.5)
    ),
    messages.Count(9, TokenIds((1, 2))),
]


@pytest.fixture
def ends():
    """A connection, and the socket at its other end."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield Connection(ours), theirs


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_there_and_back(message):
    frame = messages.pack(message)
    header, body = frame[: messages.HEADER_BYTES], frame[messages.HEADER_BYTES :]
    assert messages.body_length(header) == len(body)
    assert messages.unpack(body) == message


def test_errors_keep_all_they_know():
    error = errors.ContextLengthExceeded(
        "too long",
        violations=[errors.FieldViolation("input", "shorten it")],
        metadata={"prompt_tokens": "9"},
        retry_after=1.5,
    )
    refused = messages.unpack(messages.pack(messages.Refused(1, error))[messages.HEADER_BYTES :])
    assert type(refused.error) is errors.ContextLengthExceeded
    assert vars(refused.error) == vars(error)
    assert str(refused.error) == "too long"


def test_a_connection_cuts_the_stream_into_messages(ends):
    connection, peer = ends
    frames = b"".join(messages.pack(message) for message in MESSAGES[:3])
    peer.sendall(frames[:7])
    peer.sendall(frames[7:])
    assert [connection.receive() for _ in range(3)] == MESSAGES[:3]


@pytest.mark.parametrize("kept", [0, 2, messages.HEADER_BYTES, 20])
def test_a_supervisor_that_goes_in_the_middle_of_a_message_is_gone(ends, kept):
    connection, peer = ends
    peer.sendall(messages.pack(MESSAGES[1])[:kept])
    peer.close()
    assert connection.receive() is None


def test_a_supervisor_that_goes_without_reading_is_gone(ends):
    connection, peer = ends
    connection.send(messages.Ready(1, 1))
    peer.close()
    assert connection.receive() is None
    connection.send(messages.Ready(1, 1))
