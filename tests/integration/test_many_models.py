"""Several models on one worker under a memory budget: real processes, real memory."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys

import grpc
import psutil
import pytest

from diplex import errors, status
from diplex.v1 import generation_pb2 as pb
from diplex.v1 import models_pb2
from tests.integration.worker_process import (
    ENGINE,
    LONG,
    PREPARATION,
    rest,
    watched_memory,
    worker,
    write_catalogue,
)

UNLOADED, LOADING, READY = (
    models_pb2.MODEL_STATE_UNLOADED,
    models_pb2.MODEL_STATE_LOADING,
    models_pb2.MODEL_STATE_READY,
)
MIB = 2**20
FEW = ("--slots", "2", "--max-length", "512")


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory):
    return write_catalogue(tmp_path_factory.mktemp("many"), "a", "b", "c")


@pytest.fixture(scope="module")
def home(tmp_path_factory, catalogue):
    """A store in which all three are prepared."""
    folder = tmp_path_factory.mktemp("home")
    for name in ("a", "b", "c"):
        command = [sys.executable, "-m", "workers.onnx_worker", "pull", name, "--home", str(folder)]
        subprocess.run([*command, "--catalogue", str(catalogue)], check=True, capture_output=True, timeout=60)
    return folder


@pytest.fixture
def sockets(tmp_path_factory):
    return tmp_path_factory.mktemp("s")


async def refusal(call):
    with pytest.raises(grpc.RpcError) as raised:
        await (rest(call) if hasattr(call, "read") else call)
    return status.from_rpc_error(raised.value)


def is_ready(name):
    return lambda states: states[name].state == READY


async def budget_for(count, sockets, home, catalogue):
    """MiB that a worker and so many tiny models come to, with room for less than another one."""
    async with worker(sockets, home, catalogue, "--model", "a", *FEW) as one:
        states = await one.until(is_ready("a/fp32"))
        own = psutil.Process(one.process.pid).memory_info().rss
        return -(-(own + (count + 0.4) * states["a/fp32"].most_bytes) // MIB)


# ------------------------------------------------------------------------------------- the budget


async def test_the_idle_one_goes_and_the_busy_one_stays(sockets, home, catalogue):
    budget = await budget_for(2, sockets, home, catalogue)
    options = ("--memory-budget", f"{budget:.0f}", "--residents", "3", *FEW)
    async with worker(sockets, home, catalogue, "--model", "a", "--model", "b", *options) as many:
        await many.until(lambda states: is_ready("a/fp32")(states) and is_ready("b/fp32")(states))
        for name in "ab":
            await many.unload(name)
        baseline = many.resident_bytes()
        assert not many.children()
        with watched_memory(many) as seen:
            await many.loaded("a")
            engine_a = await many.child(ENGINE)
            await many.loaded("b")

            busy = many.generate("a", max_tokens=LONG)
            assert (await busy.read()).WhichOneof("event") == "accepted"
            engine_a.suspend()  # so that it can't be done too early

            events = await rest(many.generate("c", progress=True))
            kinds = [event.WhichOneof("event") for event in events]
            first = kinds.index("accepted")
            assert kinds[:first] == ["progress"] * first
            assert kinds[-1] == "receipt"
            phases = [event.progress.phase for event in events[:first]]
            assert pb.LOAD_PHASE_LOAD in phases
            assert pb.LOAD_PHASE_WARM in phases

            states = await many.states()
            assert [states[f"{name}/fp32"].state for name in "abc"] == [READY, UNLOADED, READY]
            engine_a.resume()
            events = await rest(busy)
            assert events[-1].receipt.usage.completion_tokens == LONG
        assert max(seen) <= 1.05 * budget * MIB
        for name in "ac":
            await many.unload(name)
        assert not many.children()
        assert many.resident_bytes() <= 1.05 * baseline


async def test_one_model_that_takes_all_that_it_may_fits(sockets, home, catalogue):
    """Keys and values of 256 long sequences would take more; they make do with what the budget leaves."""
    options = ("--memory-budget", "300", "--residents", "1", "--slots", "256")
    async with worker(sockets, home, catalogue, "--model", "a", *options) as one:
        states = await one.until(lambda it: it["a/fp32"].state in (READY, models_pb2.MODEL_STATE_FAILED))
        own = psutil.Process(one.process.pid).memory_info().rss
        assert states["a/fp32"].state == READY, states["a/fp32"]
        assert 200 * MIB < own + states["a/fp32"].most_bytes <= 300 * MIB


async def test_a_request_waits_for_a_busy_model_and_is_served(sockets, home, catalogue):
    budget = await budget_for(1, sockets, home, catalogue)
    options = ("--memory-budget", f"{budget:.0f}", "--residents", "3", *FEW)
    async with worker(sockets, home, catalogue, "--model", "a", *options) as many:
        await many.until(is_ready("a/fp32"))
        engine = await many.child(ENGINE)
        busy = many.generate("a", max_tokens=LONG)
        assert (await busy.read()).WhichOneof("event") == "accepted"
        engine.suspend()

        waiting = many.generate("b", progress=True)
        while "waits for memory until a/fp32 is idle" not in (await waiting.read()).progress.detail:
            pass
        # Who leaves takes the wish along.
        left = many.generate("c", progress=True)
        await left.read()
        left.cancel()
        states = await many.until(lambda states: states["c/fp32"].state in (UNLOADED, LOADING))
        assert states["a/fp32"].state == READY

        engine.resume()
        events = await rest(busy)
        assert events[-1].HasField("receipt")
        events = await rest(waiting)
        assert events[-1].receipt.model == "b"
        states = await many.until(lambda states: states["c/fp32"].state == UNLOADED)
        assert states["a/fp32"].state == UNLOADED


async def test_what_cannot_fit_is_refused_with_numbers(sockets, home, catalogue):
    budget = await budget_for(1, sockets, home, catalogue)
    options = ("--memory-budget", f"{budget:.0f}", "--residents", "3", *FEW)
    async with worker(sockets, home, catalogue, "--pin", "a", *options) as many:
        states = await many.until(is_ready("a/fp32"))
        assert states["a/fp32"].pinned
        for call in (many.generate("b"), many.load("c")):
            error = await refusal(call)
            assert type(error) is errors.InsufficientMemory
            assert f"budget of {budget:.0f} MiB" in error.message
            assert "(pinned)" in error.message
            assert "--memory-budget" in error.message
            assert int(error.metadata["needed_bytes"]) > 50 * MIB
        assert (await rest(many.generate("a")))[-1].HasField("receipt")
        states = await many.states()
        assert states["b/fp32"].state == UNLOADED
        assert "needs" in states["b/fp32"].detail


async def test_predictions_are_near_what_is_measured(sockets, home, catalogue, tmp_path):
    async with worker(sockets, home, catalogue, "--model", "a", *FEW) as one:
        states = await one.until(is_ready("a/fp32"))
        found, shelved = states["a/fp32"], states["b/fp32"]
        assert found.predicted_bytes == pytest.approx(found.loaded_bytes, rel=0.1)
        assert found.resident_bytes == pytest.approx(found.loaded_bytes, rel=0.1)
        assert shelved.predicted_bytes == pytest.approx(found.loaded_bytes, rel=0.1)
        assert shelved.digest.startswith("sha256:")
        assert shelved.most_bytes > shelved.predicted_bytes
        assert states["b/int8"].predicted_bytes == 0  # not prepared yet
        await one.unload("a")
        # It is predicted by what was measured from now on.
        states = await one.until(lambda states: states["a/fp32"].state == UNLOADED)
        assert states["a/fp32"].predicted_bytes == found.loaded_bytes


# ----------------------------------------------------------------------------- time and catalogue


async def test_an_idle_model_goes_after_its_time_and_comes_back(sockets, home, catalogue):
    options = ("--keep-alive", "0.2", "--pin", "b", *FEW)
    async with worker(sockets, home, catalogue, "--model", "a", *options) as many:
        # It may be ready and gone again between two looks, so nobody waits to see it ready.
        await many.until(lambda states: states["a/fp32"].state == UNLOADED)
        assert (await rest(many.generate("a")))[-1].HasField("receipt")
        states = await many.until(lambda states: states["a/fp32"].state == UNLOADED)
        assert states["b/fp32"].state == READY


async def test_catalogue_files_are_taken_while_it_serves(sockets, home, tmp_path):
    file = write_catalogue(tmp_path, "a")
    async with worker(sockets, home, file, "--model", "a", *FEW) as many:
        states = await many.until(is_ready("a/fp32"))
        assert set(states) == {"a/fp32", "a/int8"}
        write_catalogue(tmp_path, "a", "new")
        await many.until(lambda states: "new/fp32" in states)
        file.write_text("[[model]]\nname = 7\n", encoding="utf-8")
        assert (await rest(many.generate("new")))[-1].HasField("receipt")
        write_catalogue(tmp_path, "new")
        states = await many.until(lambda states: "a/fp32" not in states)
        assert states["new/fp32"].state == READY
        assert type(await refusal(many.generate("a"))) is errors.ModelNotFound


# -------------------------------------------------------------------------- kills and cancellation


@pytest.fixture
def fresh(tmp_path):
    """A catalogue of one model, and an empty store."""
    return write_catalogue(tmp_path, "a", "b"), tmp_path / "home"


def leftovers(home):
    found = [path for kind in ("blobs", "prepared") for path in (home / kind).rglob(".*")]
    return found + list((home / "partial").glob("*"))


async def test_a_load_under_way_is_cancelled(sockets, home, fresh):
    catalogue, empty = fresh
    async with worker(sockets, empty, catalogue, "--model", "a", *FEW) as many:
        await many.until(is_ready("a/fp32"))
        loading = many.load("b")
        await loading.read()
        preparing = await many.child(PREPARATION)
        await many.unload("b")
        assert not preparing.is_running()
        error = await refusal(loading)
        assert type(error) is errors.Unavailable
        assert "was unloaded" in error.message
        assert (await many.loaded("b")).state == READY
        assert not leftovers(empty)


async def test_a_preparing_process_that_is_killed(sockets, fresh):
    catalogue, empty = fresh
    async with worker(sockets, empty, catalogue, "--model", "a", *FEW) as many:
        await many.until(is_ready("a/fp32"))
        loading = many.load("b")
        (await many.child(PREPARATION)).kill()
        error = await refusal(loading)
        assert type(error) is errors.Unavailable
        assert "was killed by signal 9" in error.message
        assert "try again" in error.message
        assert (await many.loaded("b")).state == READY
        assert not leftovers(empty)


async def test_an_engine_that_is_killed_while_it_loads_is_started_again(sockets, home, catalogue):
    async with worker(sockets, home, catalogue, "--model", "a", *FEW) as many:
        killed = await many.child(ENGINE)
        killed.kill()
        await many.until(is_ready("a/fp32"))
        assert (await rest(many.generate("a")))[-1].HasField("receipt")


@pytest.mark.parametrize("module", [PREPARATION, ENGINE])
async def test_a_worker_that_is_killed_while_it_loads(sockets, fresh, module):
    catalogue, empty = fresh
    async with worker(sockets, empty, catalogue, "--model", "a", *FEW) as first:
        child = await first.child(module)
        first.process.kill()
        await first.process.wait()
        gone, _ = await asyncio.to_thread(psutil.wait_procs, [child], timeout=10)
        assert gone == [child]
    async with worker(sockets, empty, catalogue, "--model", "a", *FEW) as second:
        await second.until(is_ready("a/fp32"))
        assert (await rest(second.generate("a")))[-1].HasField("receipt")
    assert not leftovers(empty)


@pytest.mark.parametrize("whom", ["engine", "worker"])
async def test_a_kill_while_a_model_is_unloaded(sockets, home, catalogue, whom):
    async with worker(sockets, home, catalogue, "--model", "a", *FEW) as first:
        await first.until(is_ready("a/fp32"))
        engine = await first.child(ENGINE)
        engine.suspend()  # it can't end by itself
        unloading = asyncio.ensure_future(first.unload("a"))
        await first.until(lambda states: states["a/fp32"].state == UNLOADED)
        os.kill(engine.pid if whom == "engine" else first.process.pid, signal.SIGKILL)
        if whom == "engine":
            await unloading
            assert (await first.loaded("a")).state == READY
            return
        assert type(await refusal(unloading)) is not errors.ModelNotFound
        gone, _ = await asyncio.to_thread(psutil.wait_procs, [engine], timeout=10)
        assert gone == [engine]
    async with worker(sockets, home, catalogue, "--model", "a", *FEW) as second:
        await second.until(is_ready("a/fp32"))


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a disk of its own, too small for a model, and what makes it larger."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(options):
        return subprocess.run(
            ["/bin/mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)],
            capture_output=True,
            check=False,
        )

    if mount("size=200k").returncode != 0:
        pytest.skip("mounting a small disk needs root")
    yield folder, lambda: mount("remount,size=64m").check_returncode()
    # At once: an engine that was told to end may still have the files mapped.
    subprocess.run(["/bin/umount", "--lazy", str(folder)], check=True)


async def test_a_disk_that_is_full_while_a_model_is_prepared(sockets, fresh, small_disk):
    catalogue, _ = fresh
    disk, enlarge = small_disk
    async with worker(sockets, disk / "home", catalogue, "--model", "a", *FEW) as many:
        failed = await many.until(lambda states: states["a/fp32"].state == models_pb2.MODEL_STATE_FAILED)
        assert "there is no room to" in failed["a/fp32"].detail
        error = await refusal(many.load("a"))
        assert type(error) is errors.InsufficientStorage
        assert "free some, or set DIPLEX_HOME" in error.message
        assert not leftovers(disk / "home")
        enlarge()
        assert (await many.loaded("a")).state == READY


UNVERIFIED = """
[[model]]
name = "{name}"
architecture = "llama"
licence = "Apache-2.0"
capabilities = ["text"]
context_length = 128
parameters = {parameters}

[model.onnx]
{more}
artefact = {{ format = "safetensors", sources = [{{ hf = "owner/{name}", unverified = true }}] }}
profiles = {{ fp32 = {{}} }}
"""


async def test_what_cannot_be_served_here_says_why_before_anything_is_downloaded(sockets, home, tmp_path):
    """A model that the backend can't serve, one that nobody has pulled, and one that is too large."""
    file = tmp_path / "models.toml"
    kinds = {
        "odd": ('unsupported = "its eyes are not built yet"', 1000),
        "distant": ("", 1000),
        "vast": ("", 10**13),
    }
    file.write_text(
        "".join(
            UNVERIFIED.format(name=name, more=more, parameters=size) for name, (more, size) in kinds.items()
        )
    )
    async with worker(sockets, home, file) as many:
        known = await many.states()
        assert known["odd/fp32"].detail == "can't be served: its eyes are not built yet"
        assert known["vast/fp32"].predicted_bytes > 4 * 10**13
        told = await refusal(many.generate("odd"))
        assert isinstance(told, errors.UnsupportedModel)
        assert "its eyes are not built yet" in told.message
        told = await refusal(many.generate("distant"))
        assert "nobody has verified its source (owner/distant)" in told.message
        told = await refusal(many.loaded("vast"))
        assert isinstance(told, errors.InsufficientMemory)
