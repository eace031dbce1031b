"""From the events of a generation to OpenAI's chunks."""

import json
import math

import pytest

from diplex.v1 import generation_pb2 as pb
from gateway.http.chat_reply import ChatChunks
from gateway.http.completion_reply import CompletionChunks

RECEIPT = pb.Receipt(request_id="r", usage=pb.Usage(prompt_tokens=3, completion_tokens=2))
ACCEPTED = pb.Accepted(request_id="r", model='a "model"')


def told(chunks, *events):
    """The chunks that come of some events."""
    data = b"".join(chunks.take(pb.GenerateStreamResponse(**event).SerializeToString()) for event in events)
    assert data == b"" or data.endswith(b"\n\n")
    return [json.loads(line.removeprefix("data: ")) for line in data.decode().split("\n\n") if line]


def finished(choice=0, reason=pb.FINISH_REASON_MAX_TOKENS):
    return {"finished": pb.ChoiceFinished(choice=choice, reason=reason)}


def test_several_choices():
    chunks = ChatChunks(2, include_usage=False)
    first = told(chunks, {"accepted": ACCEPTED})
    assert [chunk["choices"][0]["index"] for chunk in first] == [0, 1]
    assert first[0]["model"] == 'a "model"'
    rest = told(
        chunks,
        {"delta": pb.Delta(choice=1, text="b", tokens=1)},
        finished(1),
        {"delta": pb.Delta(choice=0, text="a", tokens=1)},
        finished(0, pb.FINISH_REASON_TIME_LIMIT),
        {"receipt": RECEIPT},
    )
    assert [
        (
            chunk["choices"][0]["index"],
            chunk["choices"][0]["delta"].get("content"),
            chunk["choices"][0]["finish_reason"],
        )
        for chunk in rest
    ] == [(1, "b", None), (1, None, "length"), (0, "a", None), (0, None, "length")]
    assert ["diplex" in chunk for chunk in rest] == [False, False, False, True]
    assert rest[-1]["diplex"]["finish_reasons"] == ["time_limit", "max_tokens"]


def test_what_shows_nothing_is_not_sent():
    chunks = ChatChunks(1, include_usage=True)
    told(chunks, {"accepted": ACCEPTED})
    assert told(chunks, {"delta": pb.Delta(tokens=1)}, {"progress": pb.LoadProgress()}) == []


def test_token_ids():
    chunks = ChatChunks(1, include_usage=False)
    accepted = pb.Accepted(request_id="r", prompt_token_ids=[1, 2])
    [first] = told(chunks, {"accepted": accepted})
    assert first["prompt_token_ids"] == [1, 2]
    [chunk] = told(chunks, {"delta": pb.Delta(token_ids=[3, 4], tokens=2)})
    assert chunk["choices"][0]["token_ids"] == [3, 4]
    assert chunk["choices"][0]["delta"] == {}


def logprob(text, value=-0.5, **more):
    return pb.TokenLogprob(token_id=1, token=text, logprob=value, **more)


def test_log_probabilities_of_chats():
    chunks = ChatChunks(1, include_usage=False)
    told(chunks, {"accepted": ACCEPTED})
    token = logprob(b"\xe8\xaa", top=[logprob(b"a", -math.inf)])
    [chunk] = told(chunks, {"delta": pb.Delta(text="x", logprobs=[token])})
    assert chunk["choices"][0]["logprobs"]["content"] == [
        {
            "token": "\ufffd",
            "logprob": -0.5,
            "bytes": [0xE8, 0xAA],
            "top_logprobs": [{"token": "a", "logprob": -9999.0, "bytes": [97]}],
        }
    ]


def test_log_probabilities_of_completions():
    chunks = CompletionChunks(1, include_usage=False)
    assert told(chunks, {"accepted": ACCEPTED}) == []
    deltas = [
        {"delta": pb.Delta(text="ab", logprobs=[logprob(b"a"), logprob(b"b", top=[logprob(b"b")])])},
        {"delta": pb.Delta(text="c", logprobs=[logprob(b"c")])},
    ]
    first, second = told(chunks, *deltas)
    assert first["choices"][0]["logprobs"] == {
        "tokens": ["a", "b"],
        "token_logprobs": [-0.5, -0.5],
        "top_logprobs": [None, {"b": -0.5}],
        "text_offset": [0, 1],
    }
    assert second["choices"][0]["logprobs"]["text_offset"] == [2]


@pytest.mark.parametrize(
    ("match", "reason"), [(pb.StopMatch(text="\n"), "\n"), (pb.StopMatch(token_id=7), 7), (None, None)]
)
def test_what_stopped_it(match, reason):
    chunks = CompletionChunks(1, include_usage=False)
    told(chunks, {"accepted": ACCEPTED})
    ended = pb.ChoiceFinished(reason=pb.FINISH_REASON_STOP, stop_match=match)
    [chunk] = told(chunks, {"finished": ended}, {"receipt": RECEIPT})
    assert chunk["choices"][0]["stop_reason"] == reason
    assert chunk["choices"][0]["finish_reason"] == "stop"
