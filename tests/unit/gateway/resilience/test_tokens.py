"""Resumption tokens: what they bring back, and what they don't let pass."""

from __future__ import annotations

import secrets

import pytest

from diplex.errors import InvalidRequest
from diplex.v1 import generation_pb2 as pb
from diplex.worker.v1 import worker_pb2
from gateway.fleet.facts import Backend, Precision
from gateway.resilience.relayed import Relayed, Served
from gateway.resilience.tokens import Tokens, secrets_of

OWNER = b"request and caller"
KEYS = [b"k" * 32]


def response(kind, **fields):
    event = pb.GenerateStreamResponse(sequence=7, delta=pb.Delta(text="ä" * 60))
    return worker_pb2.GenerateResponse(event=event.SerializeToString(), kind=kind, **fields)


def delta(choice, *ids, characters=3):
    return response(worker_pb2.EVENT_KIND_DELTA, choice=choice, token_ids=ids, characters=characters)


RESPONSES = [
    response(worker_pb2.EVENT_KIND_PROGRESS),
    response(worker_pb2.EVENT_KIND_ACCEPTED),
    delta(0, 5, 70_000),
    delta(1, *range(300)),
    delta(0),
    response(worker_pb2.EVENT_KIND_FINISHED, choice=1, token_ids=[9], completion_tokens=302),
    response(worker_pb2.EVENT_KIND_RECEIPT),
]


def relayed_until(count):
    relayed = Relayed(seed=4, attempts=2, served=Served("tiny", Backend.ONNX, Precision.FP32))
    for each in RESPONSES[:count]:
        relayed.take(each, 1000.25)
    return relayed


def sealed(keys=KEYS, owner=OWNER):
    """The events of a stream as a client gets them."""
    relayed, seal = relayed_until(0), Tokens(keys).seal(owner)
    events = []
    for each in RESPONSES:
        assert relayed.take(each, 1000.25)
        events.append(pb.GenerateStreamResponse.FromString(seal.event(each, relayed)))
    return events


def resume(events, after):
    return pb.Resume(
        resumption_token="".join(event.resumption_token for event in events), after_sequence=after
    )


@pytest.mark.parametrize("after", range(1, 6))
def test_what_was_relayed_comes_back(after):
    events = sealed()
    assert [bool(event.resumption_token) for event in events] == [False, *[True] * 5, False]
    assert all(event.delta.text == "ä" * 60 for event in events)
    for brought in (events[: after + 1], events):  # also when the client has more tokens than events
        relayed, _ = Tokens(KEYS).opened(resume(brought, after), OWNER)
        assert relayed == relayed_until(after + 1)


def test_the_stream_goes_on_with_tokens_that_fit():
    events = sealed()
    relayed, seal = Tokens(KEYS).opened(resume(events, 2), OWNER)
    relayed.take(RESPONSES[3], 0)
    later = pb.GenerateStreamResponse.FromString(seal.event(RESPONSES[3], relayed))
    assert later.resumption_token == events[3].resumption_token


def test_any_of_the_keys_opens():
    keys = [b"new" * 8, *KEYS]
    assert Tokens(keys).opened(resume(sealed(), 3), OWNER)[0] == relayed_until(4)
    assert Tokens(keys[::-1]).opened(resume(sealed(keys), 3), OWNER)[0] == relayed_until(4)


def forged():
    tokens = [event.resumption_token for event in sealed() if event.resumption_token]
    yield "another key", [event.resumption_token for event in sealed([b"x" * 32])], OWNER
    yield "another request", tokens, b"another request"
    yield "without the first", tokens[1:], OWNER
    yield "without one between", [tokens[0], tokens[2]], OWNER
    yield "in another order", [tokens[0], tokens[2], tokens[1]], OWNER
    yield "of two streams", [*tokens[:2], sealed([b"x" * 32])[3].resumption_token], OWNER
    yield "cut", [tokens[0], tokens[1][:8] + "."], OWNER
    yield "no base64", [tokens[0], "?!ä."], OWNER
    yield "empty", [tokens[0], "."], OWNER
    for place in range(24):
        letters = list(tokens[1])
        letters[place] = "A" if letters[place] != "A" else "B"
        yield f"letter {place} changed", [tokens[0], "".join(letters)], OWNER


@pytest.mark.parametrize(("tokens", "owner"), [case[1:] for case in forged()], ids=[c[0] for c in forged()])
def test_nothing_else_is_believed(tokens, owner):
    brought = pb.Resume(resumption_token="".join(tokens), after_sequence=sum(map(bool, tokens)))
    with pytest.raises(InvalidRequest) as raised:
        Tokens(KEYS).opened(brought, owner)
    assert [violation.field for violation in raised.value.violations] == ["resume.resumption_token"]


def test_more_events_than_tokens():
    with pytest.raises(InvalidRequest) as raised:
        Tokens(KEYS).opened(resume(sealed(), 6), OWNER)
    assert [violation.field for violation in raised.value.violations] == ["resume.after_sequence"]


def test_a_token_is_small():
    assert len(sealed()[2].resumption_token) < 48


def test_secrets(tmp_path):
    file = tmp_path / "keys"
    first, second = secrets.token_hex(32), secrets.token_hex(16)
    file.write_text(f"{first}\n\n  {second}\n")
    assert secrets_of(str(file)) == [first.encode(), second.encode()]
    assert secrets_of("") != secrets_of("")
    for text in ("", "\n", f"{first}\nshort\n"):
        file.write_text(text)
        with pytest.raises(ValueError, match="openssl rand"):
            secrets_of(str(file))
