"""Loads on a door that lives in the test, and what they come to."""

import asyncio
import json

import pytest

from diplex.bench.doors import Refused
from diplex.bench.load import Load, Seen, Shape
from diplex.bench.plot import histogram, sparkline
from diplex.bench.prompts import PromptBook
from diplex.bench.report import Report, as_json, tokens_by_second
from diplex.bench.streams import Stream

BOOK = PromptBook(range(1000), seed=1)


class Scripted:
    """Gives what is asked for in messages of two tokens; every third request fails; may hold all others."""

    where = "here"

    def __init__(self, *, fails=False, holds=False):
        self.fails = fails
        self.holds = holds
        self.asked = []
        self.running = self.most = 0
        self.cancelled = 0
        self.all_run = asyncio.Event()

    async def generate(self, prompt, tokens):
        self.asked.append((len(prompt), tokens))
        if self.fails and len(self.asked) % 3 == 0:
            raise Refused("QUEUE_FULL", "4 wait already", 0.001)
        self.running += 1
        self.most = max(self.most, self.running)
        if self.running == 4:
            self.all_run.set()
        try:
            for _ in range(tokens // 2):
                await asyncio.sleep(0)
                yield 2
                if self.holds:
                    await asyncio.Event().wait()
        except (GeneratorExit, asyncio.CancelledError):
            self.cancelled += 1
            raise
        finally:
            self.running -= 1


def shape(**changes):
    given = {
        "clients": 4,
        "rate": None,
        "seconds": None,
        "requests": 12,
        "prompt_tokens": (8,),
        "max_tokens": 6,
    }
    return Shape(**(given | changes))


async def test_so_many_at_a_time_until_all_are_answered():
    door, wanted = Scripted(), shape(prompt_tokens=(8, 20))
    load = Load(door, BOOK, wanted)
    await load.run()
    assert door.most == 4
    assert sorted(door.asked) == [(8, 6)] * 6 + [(20, 6)] * 6
    report = Report.of(load.seen, wanted, "here")
    assert (report.requests, report.cut, report.failed, report.tokens) == (12, 0, {}, 72)
    assert report.tokens_per_second == pytest.approx(72 / load.seen.seconds)
    assert json.loads(json.dumps(as_json(report)))["first_token_ms"]["p99"] >= report.first_token_ms["p50"]


async def test_what_runs_when_the_time_is_over_is_cut_and_counts():
    door, wanted = Scripted(holds=True), shape(requests=None, seconds=0.05)
    load = Load(door, BOOK, wanted)
    await load.run()
    report = Report.of(load.seen, wanted, "here")
    assert (report.requests, report.cut, report.tokens) == (0, 4, 8)
    assert report.whole_ms is None
    assert door.cancelled == 4


async def test_an_interrupted_load_keeps_what_it_has_seen():
    door = Scripted(holds=True)
    load = Load(door, BOOK, shape())
    running = asyncio.create_task(load.run())
    await door.all_run.wait()
    load.stop()
    await running
    assert load.seen.ended > load.seen.began


async def test_failures_are_counted_by_reason_and_the_load_goes_on():
    wanted = shape()
    load = Load(Scripted(fails=True), BOOK, wanted)
    await load.run()
    report = Report.of(load.seen, wanted, "here")
    assert (report.requests, report.failed) == (8, {"QUEUE_FULL": 4})
    assert load.seen.examples == {"QUEUE_FULL": "4 wait already"}


async def test_requests_at_a_rate_come_however_many_run():
    door, wanted = Scripted(holds=True), shape(rate=2000.0, requests=None, seconds=0.1, clients=1)
    load = Load(door, BOOK, wanted)
    await load.run()
    assert door.most > 50


async def test_the_first_answers_are_not_measured():
    door = Scripted()
    load = Load(door, BOOK, shape())
    await load.warm()
    assert door.asked == [(8, 2)] * 4
    assert load.seen.streams == []


def test_prompts_have_their_length_and_no_common_beginning():
    prompts = [BOOK.prompt(100, number) for number in range(50)]
    assert {len(prompt) for prompt in prompts} == {100}
    assert len({tuple(prompt[:16]) for prompt in prompts}) > 25
    assert BOOK.prompt(100, 7) == prompts[7]
    assert len(BOOK.prompt(3000, 1)) == 3000


async def test_the_text_of_prompts_does_not_repeat_itself():
    texts = []

    class Tokens:
        async def token_ids(self, text):
            texts.append(text)
            return range(len(text.split()))

    await PromptBook.of(Tokens(), seed=3)
    sentences = " ".join(texts).split(". ")
    assert len(set(sentences)) == len(sentences) == 120


def test_tokens_by_second_leaves_out_the_second_that_is_not_over():
    stream = Stream(8, 10.0, [10.5, 11.5, 11.6, 12.5], [1, 2, 3, 4])
    assert tokens_by_second(Seen(began=10.0, ended=12.9, streams=[stream])) == [1, 5]


def test_plots_of_a_terminal():
    assert sparkline([0, 4, 8]) == "▁▅█"
    assert sparkline([0, 0]) == "▁▁"
    lines = histogram([1.0, 1.0, 9.0])
    assert lines[0] == f"      1.0 {'█' * 40} 2"
    assert lines[-1].endswith(" 1")
    assert histogram([]) == []
