"""A whole response is the sum of its stream."""

from __future__ import annotations

from diplex.v1 import generation_pb2 as pb
from gateway.assembly import Assembly


def test_choices_are_kept_apart_and_in_order():
    assembly = Assembly()
    for choice, text in ((1, "b"), (0, "a"), (1, "d"), (0, "c")):
        assembly.add(pb.GenerateStreamResponse(delta=pb.Delta(choice=choice, text=text, token_ids=[choice])))
    match = pb.StopMatch(text="x")
    for choice in (1, 0):
        finished = pb.ChoiceFinished(choice=choice, reason=pb.FINISH_REASON_STOP, stop_match=match)
        assembly.add(pb.GenerateStreamResponse(finished=finished))
    choices = assembly.response().choices
    assert [(it.index, it.text, list(it.token_ids)) for it in choices] == [
        (0, "ac", [0, 0]),
        (1, "bd", [1, 1]),
    ]
    assert all(it.finish_reason == pb.FINISH_REASON_STOP and it.stop_match == match for it in choices)


def test_a_choice_without_text_is_there():
    assembly = Assembly()
    finished = pb.ChoiceFinished(reason=pb.FINISH_REASON_MAX_TOKENS)
    assembly.add(pb.GenerateStreamResponse(finished=finished))
    (choice,) = assembly.response().choices
    assert (choice.index, choice.text) == (0, "")
