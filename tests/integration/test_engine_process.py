"""Real engine processes on the tiny model in full precision, where a text can be compared token by token."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace

import psutil
import pytest
import pytest_asyncio

from diplex.errors import ContextLengthExceeded, EngineCrashed, Unavailable, UnsupportedModel
from tests.integration.conftest import ENGINE
from workers.runtime.engine.messages import Admitted, EngineConfig, Load
from workers.runtime.generation import Chat, FinishReason, Generation, Prompt, Stopping, TokenIds
from workers.runtime.sampling import SamplingParams
from workers.runtime.supervisor import restarts
from workers.runtime.supervisor import supervisor as supervisor_module
from workers.runtime.supervisor.changes import Changes
from workers.runtime.supervisor.engine_process import EngineProcess
from workers.runtime.supervisor.model import State
from workers.runtime.supervisor.spawner import Spawner

pytestmark = pytest.mark.asyncio(loop_scope="module")

GREEDY = SamplingParams(temperature=0)
LONG = 490
"""Tokens: what nearly fills the context, so that it is still going on when a test interferes."""

PROMPTS = (
    "a",
    "The model",
    "user and assistant " * 9,
    "Who is it that can tell me who I am?",
    "0123456789" * 4,
    "é🙂" * 5,
    "of the to is a " * 12,
    "!",
    "To be",
    "x" * 130,
)


class Loads:
    """What an engine last said about its load, to wait for."""

    def __init__(self):
        self.last = Load(0, 0, 0.0, 0.0)
        self.changes = Changes()

    def __call__(self, load):
        self.last = load
        self.changes.notify()

    async def until(self, *, busy):
        async with asyncio.timeout(20):
            while self.last.busy != busy:
                await self.changes.after(self.changes.count)


@asynccontextmanager
async def started(folder, loads=None, **config):
    settings = {"slots": 8, "threads": 1} | config
    engine, _ = await EngineProcess.start(Spawner(ENGINE), EngineConfig(folder, **settings), loads or Loads())
    try:
        yield engine
    finally:
        await engine.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(tiny_fp32):
    async with started(tiny_fp32) as process:
        yield process


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def singles(engine):
    """What every request of ``requests()`` gives alone."""
    return [await answer(engine, request) for request in requests()]


def generation(prompt, sampling=GREEDY, **stopping):
    return Generation(Prompt(prompt), sampling, Stopping(**stopping))


def requests():
    """Of different lengths in and out, so that they come and go at different steps."""
    return [generation(prompt, max_tokens=24 + 17 * (i % 4)) for i, prompt in enumerate(PROMPTS)]


async def answer(engine, request, first=None):
    """All tokens, the text and the end of a request; sets ``first`` at its first piece."""
    tokens, text, finish = [], "", None
    async with asyncio.timeout(60):
        async for event in engine.generate(request):
            if not isinstance(event, Admitted):
                tokens += event.token_ids
                text += event.text
                finish = event.finish
                if first is not None:
                    first.set()
    return tokens, text, finish.reason


async def together(engine, requests):
    return await asyncio.gather(*(answer(engine, request) for request in requests))


# --------------------------------------------------------------------------------- batch and single


async def test_batch_matches_single(engine, singles):
    assert await together(engine, requests()) == singles
    assert len({text for _, text, _ in singles}) == len(PROMPTS)


async def test_batch_matches_single_when_sequences_join_and_leave(engine, singles):
    """Each request comes in when the one before it has said something; every third one leaves early."""
    running = []
    first = None
    for number, request in enumerate(requests()):
        if first is not None:
            await first.wait()
        first = asyncio.Event()
        if number % 3 == 2:
            async with aclosing(engine.generate(generation("Gone " * 5, max_tokens=200))) as leaving:
                async for event in leaving:
                    if not isinstance(event, Admitted):
                        break
        running.append(asyncio.create_task(answer(engine, request, first)))
    assert await asyncio.gather(*running) == singles


async def test_chunked_prefill_equals_whole(tiny_fp32, singles):
    async with started(tiny_fp32, slots=3, prefill_chunk=7, shared_prefill_chunk=3) as chunked:
        assert await answer(chunked, requests()[2]) == singles[2]
        assert await together(chunked, requests()) == singles


async def test_a_seed_repeats_alone_in_a_batch_and_after_a_restart(engine, tiny_fp32):
    hot = SamplingParams(temperature=1.5, top_p=0.95, seed=11)
    request = generation("Once", hot, max_tokens=40)
    alone = await answer(engine, request)
    assert (await together(engine, [*requests()[:5], request]))[-1] == alone
    async with started(tiny_fp32) as another:
        assert await answer(another, request) == alone
    other = SamplingParams(temperature=1.5, top_p=0.95, seed=12)
    assert await answer(engine, generation("Once", other, max_tokens=40)) != alone


async def test_a_full_context_ends_a_sequence(tiny_fp32):
    async with started(tiny_fp32, max_length=32) as small:
        tokens, _, reason = await answer(small, generation("x" * 20))
        assert (len(tokens), reason) == (12, FinishReason.CONTEXT_LENGTH)
        with pytest.raises(ContextLengthExceeded):
            await answer(small, generation("x" * 32))


async def test_counts_are_those_of_a_generation(engine):
    chat = Chat(({"role": "user", "content": "Who <|im_end|> is it?"},))
    async with aclosing(engine.generate(Generation(chat, GREEDY, Stopping(max_tokens=1)))) as events:
        admitted = await anext(events)
    assert await engine.count(chat) == admitted.prompt_ids


# ------------------------------------------------------------------------------------- merged pieces

MANY = 12
"""Streams: more than those that get every piece at once."""


def pieces_of(events):
    return [event for event in events if not isinstance(event, Admitted)]


async def streamed(engine, request):
    """All pieces of a request."""
    async with asyncio.timeout(60):
        return pieces_of([event async for event in engine.generate(request)])


def whole(request):
    """The same with nobody who reads along."""
    return replace(request, output=replace(request.output, whole=True))


def joined(pieces):
    tokens = [token for piece in pieces for token in piece.token_ids]
    return tokens, "".join(piece.text for piece in pieces), pieces[-1].finish.reason


async def test_merged_pieces_say_the_same_as_single_ones(tiny_fp32):
    asked = [generation(f"{number} to", max_tokens=40 + number) for number in range(MANY)]
    async with started(tiny_fp32, slots=MANY) as engine:
        single = await asyncio.gather(*(streamed(engine, request) for request in asked))
    async with started(tiny_fp32, messages_per_second=1e-3, slots=MANY) as engine:
        merged = await asyncio.gather(*(streamed(engine, request) for request in asked))
        lone = await streamed(engine, asked[0])
    assert [joined(pieces) for pieces in merged] == [joined(pieces) for pieces in single]
    # No beat comes a second time: what is sent is the beginning, a beat, and the end.
    assert min(len(pieces) for pieces in merged) <= 4
    assert sum(map(len, merged)) < sum(map(len, single)) / 2
    assert joined(lone) == joined(single[0])
    assert len(lone) > 2 * len(merged[0])


async def test_a_whole_answer_is_one_piece(engine, singles):
    pieces = await streamed(engine, whole(requests()[0]))
    assert len(pieces) == 1
    assert joined(pieces) == singles[0]


async def test_whole_answers_hold_up_no_stream(tiny_fp32):
    asked = [generation(f"{number} to", max_tokens=60) for number in range(MANY)]
    async with started(tiny_fp32, messages_per_second=1e-3, slots=MANY) as engine:
        lone, *others = await asyncio.gather(
            streamed(engine, asked[0]), *(streamed(engine, whole(request)) for request in asked[1:])
        )
    assert [len(pieces) for pieces in others] == [1] * (MANY - 1)
    # On the beat there would be no more than 4, as above. A message a step comes to 60, less what is joined
    # when this process is slow to read.
    assert len(lone) > 8


async def test_messages_of_any_size_come_whole(engine):
    ids = tuple(5 + number % 200 for number in range(100_000))
    assert await engine.count(TokenIds(ids)) == ids
    assert await asyncio.gather(*(engine.count(TokenIds(ids[:n])) for n in (1, 60_000, 2, 30_000))) == [
        ids[:n] for n in (1, 60_000, 2, 30_000)
    ]


# ------------------------------------------------------------------------------------ ends of things


async def test_a_cancelled_request_frees_its_slot(tiny_fp32):
    loads = Loads()
    async with started(tiny_fp32, loads, slots=1) as engine:
        stream = engine.generate(generation("a", max_tokens=LONG))
        await anext(stream)
        await anext(stream)
        assert loads.last.busy == 1
        await stream.aclose()
        await loads.until(busy=0)
        assert len((await answer(engine, generation("a", max_tokens=3)))[0]) == 3


async def test_a_request_whose_caller_left_takes_no_further_steps(tiny_fp32):
    """The engine is held still meanwhile, so that it can't be done before it hears of it."""
    loads = Loads()
    async with started(tiny_fp32, loads, slots=1) as engine:
        os.kill(engine.pid, signal.SIGSTOP)
        stream = engine.generate(generation("a", max_tokens=LONG))
        waiting = asyncio.create_task(anext(stream))
        await asyncio.wait([waiting], timeout=0)
        waiting.cancel()
        await asyncio.wait([waiting])
        os.kill(engine.pid, signal.SIGCONT)
        assert len((await answer(engine, generation("a", max_tokens=3)))[0]) == 3
        assert loads.changes.count < LONG // 4


async def test_a_reader_that_is_slow_gets_larger_pieces(engine):
    stream = engine.generate(generation("a", max_tokens=60))
    async with aclosing(stream):
        assert isinstance(await anext(stream), Admitted)
        other = await answer(engine, generation("a", max_tokens=60))
        pieces = [piece async for piece in stream]
    assert len(pieces) < 30
    assert [token for piece in pieces for token in piece.token_ids] == other[0]


async def test_a_killed_engine_fails_what_waits_for_it(tiny_fp32):
    async with started(tiny_fp32, slots=2) as engine:
        streams = [engine.generate(generation(prompt, max_tokens=LONG)) for prompt in ("a", "b", "c")]
        for stream in streams:
            assert isinstance(await anext(stream), Admitted)
        os.kill(engine.pid, signal.SIGKILL)

        async def rest(stream):
            async for _ in stream:
                pass

        async with asyncio.timeout(10):
            outcomes = await asyncio.gather(*map(rest, streams), return_exceptions=True)
            assert [type(outcome) for outcome in outcomes] == [EngineCrashed] * 3
            assert "signal 9" in outcomes[0].message
            assert await engine.died() == -signal.SIGKILL
            with pytest.raises(EngineCrashed):
                await engine.count(Prompt("a"))
            with pytest.raises(EngineCrashed):
                await answer(engine, generation("a"))


async def test_a_model_that_cannot_be_loaded_says_why(tmp_path):
    with pytest.raises(UnsupportedModel, match=r"model\.json can't be read"):
        await EngineProcess.start(Spawner(ENGINE), EngineConfig(tmp_path), Loads())


async def test_an_engine_that_cannot_be_started_at_all(tmp_path):
    with pytest.raises(FileNotFoundError):
        await EngineProcess.start(Spawner((str(tmp_path / "none"),)), EngineConfig(tmp_path), Loads())
    with pytest.raises(EngineCrashed, match="exit code 3 while loading"):
        await EngineProcess.start(
            Spawner((sys.executable, "-c", "raise SystemExit(3)")), EngineConfig(tmp_path), Loads()
        )


# -------------------------------------------------------------------------------- under a supervisor


@asynccontextmanager
async def closing(supervisor):
    try:
        yield supervisor
    finally:
        await supervisor.close()


async def until(supervisor, condition):
    async with asyncio.timeout(30):
        while not condition():
            await supervisor.changes.after(supervisor.changes.count)


async def test_a_model_comes_back_after_its_engine_was_killed(supervisor_of):
    async with closing(supervisor_of()) as supervisor:
        model = supervisor.load("tiny-llama")
        await model.ready()
        before = await answer(model, generation("a", max_tokens=10))
        pid = model._engine.pid
        stream = model.generate(generation("a", max_tokens=LONG))
        await anext(stream)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(EngineCrashed):
            async for _ in stream:
                pass
        # It need not be ready again: the next request waits for that.
        await until(supervisor, lambda: model.state is not State.READY or model._engine.pid != pid)
        assert await answer(model, generation("a", max_tokens=10)) == before
        assert model._engine.pid != pid
        assert model.state is State.READY


async def test_a_spare_engine_takes_the_place_of_one_that_was_killed(supervisor_of, monkeypatch):
    monkeypatch.setattr(supervisor_module, "_QUIET_SECONDS", 0.01)
    async with closing(supervisor_of(spare_engine=True)) as supervisor:
        keeping = asyncio.create_task(supervisor.keep_spare_engine())
        model = supervisor.load("tiny-llama")
        await model.ready()
        before = await answer(model, generation("a", max_tokens=10))
        spawner = supervisor._spawner
        await until(supervisor, lambda: spawner.has_spare)
        spare = spawner._spare.process.pid
        os.kill(model._engine.pid, signal.SIGKILL)
        await until(supervisor, lambda: model.state is State.READY and model._engine.pid == spare)
        assert await answer(model, generation("a", max_tokens=10)) == before
        await until(supervisor, lambda: spawner.has_spare)
        assert spawner._spare.process.pid != spare
        last = psutil.Process(spawner._spare.process.pid)
        keeping.cancel()
    assert not last.is_running()


async def test_a_model_whose_engine_never_gets_ready_is_given_up(supervisor_of, tmp_path, monkeypatch):
    monkeypatch.setattr(restarts, "_FIRST_DELAY", 0.001)
    starts = tmp_path / "starts"
    program = f"open({str(starts)!r}, 'a').write('x'); import os; os.kill(os.getpid(), 9)"
    async with closing(supervisor_of(command=(sys.executable, "-c", program))) as supervisor:
        model = supervisor.load("tiny-llama")
        with pytest.raises(EngineCrashed, match=r"signal 9 .* while loading"):
            await model.ready()
        assert model.state is State.FAILED
        assert starts.read_text() == "x" * 5
        with pytest.raises(Unavailable, match="signal 9"):
            await answer(model, generation("a"))
        with pytest.raises(Unavailable, match="signal 9"):
            await model.count(Prompt("a"))


async def test_a_model_that_failed_is_tried_again_when_it_is_asked_for(supervisor_of, prepare_tiny):
    failures = [UnsupportedModel("not today")]

    def prepare(entry, profile, report):
        if failures:
            raise failures.pop()
        return prepare_tiny(entry, profile, report)

    async with closing(supervisor_of(prepare=prepare)) as supervisor:
        failed = supervisor.load("tiny-llama")
        with pytest.raises(UnsupportedModel, match="not today"):
            await failed.ready()
        again = supervisor.load("tiny-llama")
        await again.ready()
        assert supervisor.load("tiny-llama") is again
        assert supervisor.models == (again,)


async def test_unloading_gives_the_process_up(supervisor_of):
    async with closing(supervisor_of()) as supervisor:
        model = supervisor.load("tiny-llama")
        await model.ready()
        process = psutil.Process(model._engine.pid)
        assert model.resident_bytes > 0
        stream = model.generate(generation("a", max_tokens=LONG))
        await anext(stream)
        await supervisor.unload("tiny-llama")
        assert not process.is_running()
        assert supervisor.models == ()
        with pytest.raises(EngineCrashed):
            async for _ in stream:
                pass


async def test_unloading_while_loading_fails_who_waits(supervisor_of):
    hanging = (sys.executable, "-c", "import sys, socket; socket.socket(fileno=int(sys.argv[1])).recv(9**6)")
    async with closing(supervisor_of(command=hanging)) as supervisor:
        model = supervisor.load("tiny-llama")
        waiting = [asyncio.create_task(model.ready()), asyncio.create_task(model.count(Prompt("a")))]
        await asyncio.wait(waiting, timeout=0)
        await supervisor.unload("tiny-llama")
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [Unavailable, Unavailable]


async def test_names_and_profiles(supervisor_of):
    async with closing(supervisor_of()) as supervisor:
        int8 = supervisor.load("tiny-llama/int8")
        assert supervisor.serving("fixtures/tiny") is int8
        fp32 = supervisor.load("tiny-llama")
        assert supervisor.serving("Tiny-LLaMA") is fp32
        assert supervisor.serving("tiny-llama", "int8") is int8
        assert supervisor.serving("fixtures/tiny/int8") is int8
        await asyncio.gather(int8.ready(), fp32.ready())
        assert (await answer(int8, generation("a", max_tokens=5)))[2] is FinishReason.MAX_TOKENS


# -------------------------------------------------------------------------------- death of a supervisor


async def test_an_engine_dies_with_its_supervisor(tiny_home, tiny_catalogue, tmp_path_factory):
    listen = f"unix:{tmp_path_factory.mktemp('s')}/w.sock"
    options = ("--home", str(tiny_home), "--catalogue", str(tiny_catalogue), "--model", "tiny-llama")
    worker = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "workers.onnx_worker", "serve", "--listen", listen, "--threads", "1"),
        *options,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(30):
            while b"model ready" not in (line := await worker.stderr.readline()):
                assert line, "the worker ended"
        (engine,) = psutil.Process(worker.pid).children()
        assert "workers.onnx_worker.engine" in engine.cmdline()
    finally:
        worker.kill()
        await worker.communicate()
    gone, _ = await asyncio.to_thread(psutil.wait_procs, [engine], timeout=10)
    assert gone == [engine]
