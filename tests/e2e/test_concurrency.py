"""Eight clients at once."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from threading import Barrier

import pytest

from diplex import FinishReason, RawPrompt

CLIENTS = 8
PROMPTS = [f"{'the user and the model ' * (1 + 2 * i)}{word}" for i, word in enumerate("abcdefgh")]


@pytest.fixture
def at_once():
    """Gives eight clients, each on a connection of its own, one prompt each; all begin together."""
    with ExitStack() as exits:
        pool = exits.enter_context(ThreadPoolExecutor(CLIENTS))

        def run(stack, ask):
            clients = [exits.enter_context(stack.client()) for _ in PROMPTS]
            barrier = Barrier(CLIENTS)

            def one(client, prompt):
                barrier.wait(30)
                return ask(client, prompt)

            return list(pool.map(one, clients, PROMPTS))

        yield run


@pytest.mark.parametrize(
    "options",
    [{"temperature": 0}, {"temperature": 0.8, "top_k": 20, "seed": 11}],
    ids=["greedy", "sampled"],
)
def test_each_text_is_what_the_request_gives_alone(tiny_stack, at_once, options):
    def ask(client, prompt):
        return client.stream(RawPrompt(prompt), max_tokens=100, token_ids=True, **options).collect()

    with tiny_stack.client() as client:
        alone = [ask(client, prompt) for prompt in PROMPTS]

    together = at_once(tiny_stack, ask)

    assert [each.token_ids for each in together] == [each.token_ids for each in alone]
    assert [each.text for each in together] == [each.text for each in alone]
    assert len({each.text for each in alone}) == CLIENTS


def test_one_beginning_late_changes_nothing_for_the_others(tiny_stack):
    def ask(client, prompt):
        return client.generate(RawPrompt(prompt), max_tokens=200, temperature=0).text

    with tiny_stack.client() as client, ThreadPoolExecutor(CLIENTS) as pool:
        alone = [ask(client, prompt) for prompt in PROMPTS]
        running = []
        for prompt in PROMPTS:
            stream = client.stream(RawPrompt(prompt), max_tokens=200, temperature=0)
            next(stream)  # it is being decoded when the next one comes
            running.append(pool.submit(stream.collect))

        assert [each.result(60).text for each in running] == alone


def test_the_default_model_serves_eight(stack, at_once, figure):
    def ask(client, prompt):
        return client.stream(RawPrompt(prompt), max_tokens=48, temperature=0).collect()

    with stack.client() as client:
        began = time.monotonic()
        single = ask(client, PROMPTS[0])
        one_rate = single.receipt.usage.completion_tokens / (time.monotonic() - began)

    began = time.monotonic()
    together = at_once(stack, ask)
    seconds = time.monotonic() - began

    for each in together:
        assert each.text
        assert each.finish_reason in {FinishReason.MAX_TOKENS, FinishReason.END_OF_SEQUENCE}
    assert {each.receipt.worker for each in together} == {single.receipt.worker}
    total = sum(each.receipt.usage.completion_tokens for each in together)
    figure("eight clients", f"{total / seconds:.0f} tok/s together, one alone {one_rate:.0f} tok/s")
