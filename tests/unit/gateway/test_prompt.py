"""What a request weighs, and when two prompts begin alike."""

from __future__ import annotations

import pytest

from diplex.v1 import generation_pb2 as pb
from gateway.prompt import prefix_of, tokens_of


def said(role, text):
    return pb.ChatMessage(role=role, parts=[pb.ContentPart(text=text)])


def chat(*texts, system="Be nice.", model="tiny", tools=()):
    roles = [pb.ROLE_USER, pb.ROLE_ASSISTANT]
    messages = [said(pb.ROLE_SYSTEM, system)]
    messages += [said(roles[index % 2], text) for index, text in enumerate(texts)]
    return pb.GenerateRequest(model=model, chat=pb.ChatInput(messages=messages), tools=tools)


def shared(before, after):
    """Whether a later prompt is found to go on from an earlier one."""
    earlier = prefix_of(before)
    return bool({*earlier.points, earlier.whole} & set(prefix_of(after).points))


class TestConversations:
    def test_the_next_turn_goes_on_from_the_last(self):
        assert shared(chat("Hi"), chat("Hi", "Hello!", "How are you?"))
        assert shared(chat("a", "b", "c"), chat("a", "b", "c", "d", "e"))

    def test_another_conversation_does_not(self):
        assert not shared(chat("Hi"), chat("Ho", "Hello!", "How are you?"))

    def test_the_same_first_question_is_no_conversation(self):
        assert not shared(chat("Hi"), chat("Hi"))

    def test_a_long_system_message_is_shared(self):
        long = "rule " * 1000
        assert shared(chat("Hi", system=long), chat("Ho", system=long))

    @pytest.mark.parametrize("other", [{"model": "big"}, {"tools": [pb.Tool(name="f")]}])
    def test_other_models_and_tools_make_another_prompt(self, other):
        assert not shared(chat("Hi"), chat("Hi", "Hello!", "And?", **other))

    def test_images_count(self):
        def seen(data):
            parts = [pb.ContentPart(image=pb.Image(data=data)), pb.ContentPart(text="What is it?")]
            first = pb.ChatMessage(role=pb.ROLE_USER, parts=parts)
            later = [first, said(pb.ROLE_ASSISTANT, "A cat"), said(pb.ROLE_USER, "Sure?")]
            return [pb.GenerateRequest(chat=pb.ChatInput(messages=it)) for it in ([first], later)]

        assert shared(seen(b"cat")[0], seen(b"cat")[1])
        assert not shared(seen(b"cat")[0], seen(b"dog")[1])

    def test_its_length_is_bounded(self):
        assert len(prefix_of(chat(*"ab" * 500)).points) == 64


class TestOtherInputs:
    def test_blocks_of_text(self):
        long = "word " * 1000
        assert shared(pb.GenerateRequest(prompt=long + "a"), pb.GenerateRequest(prompt=long + "b"))
        assert not shared(pb.GenerateRequest(prompt="short"), pb.GenerateRequest(prompt="short"))

    def test_blocks_of_tokens(self):
        ids = list(range(300))
        one, two = (pb.GenerateRequest(tokens=pb.TokenInput(ids=[*ids, last])) for last in (1, 2))
        assert shared(one, two)

    def test_nothing(self):
        assert prefix_of(pb.GenerateRequest()).points == ()


class TestTokens:
    @pytest.mark.parametrize(
        ("request_", "tokens"),
        [
            (pb.GenerateRequest(prompt="x" * 40), 10 + 256),
            (pb.GenerateRequest(prompt="x" * 40, stopping=pb.StoppingOptions(max_tokens=5)), 15),
            (
                pb.GenerateRequest(
                    tokens=pb.TokenInput(ids=[1, 2]), stopping=pb.StoppingOptions(max_tokens=5)
                ),
                7,
            ),
            (pb.GenerateRequest(stopping=pb.StoppingOptions(max_tokens=2**32 - 1)), 4096),
            (
                pb.GenerateRequest(
                    prompt="x" * 8, stopping=pb.StoppingOptions(max_tokens=5), output=pb.OutputOptions(n=3)
                ),
                17,
            ),
        ],
    )
    def test_prompt_and_what_is_asked_for(self, request_, tokens):
        assert tokens_of(request_) == tokens

    def test_images_of_a_chat(self):
        parts = [pb.ContentPart(text="x" * 40), pb.ContentPart(image=pb.Image(data=b"x" * 10_000))]
        message = pb.ChatMessage(role=pb.ROLE_USER, parts=parts)
        assert tokens_of(pb.GenerateRequest(chat=pb.ChatInput(messages=[message]))) == 10 + 64 + 256
