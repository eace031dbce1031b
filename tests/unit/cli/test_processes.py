"""The supervisor, with real processes that stand in for gateway and worker."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap

import psutil
import pytest

from diplex.cli.processes import ChildFailed, Command, RestartPolicy, Supervisor

FOREVER = "import signal; print('up', flush=True); signal.pause()"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + FOREVER
QUICK = RestartPolicy(first_pause=0.01, longest_pause=0.02, most_failures=3)


def python(name, code):
    return Command(name, [sys.executable, "-c", code])


class Watched:
    """A supervisor, and what it said."""

    def __init__(self, *commands, **options):
        self.lines = asyncio.Queue()
        self.restarts = []
        self.supervisor = Supervisor(
            commands,
            on_line=lambda name, text: self.lines.put_nowait((name, text)),
            on_restart=lambda *restart: self.restarts.append(restart),
            policy=QUICK,
            **options,
        )

    async def up(self, count=1):
        for _ in range(count):
            assert (await self.lines.get())[1] == "up"


async def test_starts_in_order_and_stops_in_reverse():
    goodbye = (
        "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(print('bye', flush=True)));"
        + FOREVER
    )
    watched = Watched(python("first", goodbye), python("second", goodbye))
    await watched.supervisor.start(watched.up(2))
    pids = list(watched.supervisor.pids.values())
    await watched.supervisor.stop()
    assert [watched.lines.get_nowait() for _ in range(2)] == [("second", "bye"), ("first", "bye")]
    assert not any(psutil.pid_exists(pid) for pid in pids)


async def test_a_killed_child_starts_again():
    watched = Watched(python("child", FOREVER))
    await watched.supervisor.start(watched.up())
    before = watched.supervisor.pids["child"]
    os.kill(before, signal.SIGKILL)
    await watched.up()
    assert watched.supervisor.pids["child"] != before
    assert [(name, code) for name, code, _ in watched.restarts] == [("child", -signal.SIGKILL)]
    await watched.supervisor.stop()


async def test_the_death_of_a_child_is_seen_while_its_own_child_holds_the_pipe():
    code = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {FOREVER!r}]).wait()"
    watched = Watched(python("child", code))
    await watched.supervisor.start(watched.up())
    parent = psutil.Process(watched.supervisor.pids["child"])
    (orphan,) = parent.children()
    parent.kill()
    await watched.up()  # only a new child can say so
    orphan.kill()
    watched.supervisor.kill()
    await watched.supervisor.stop()


async def test_a_death_during_start_up_is_told_with_the_last_lines():
    watched = Watched(python("good", FOREVER), python("bad", "print('no luck'); raise SystemExit(7)"))
    with pytest.raises(ChildFailed) as caught:
        await watched.supervisor.start(asyncio.Event().wait())
    assert (caught.value.name, caught.value.code, caught.value.lines) == ("bad", 7, ("no luck",))
    await watched.supervisor.stop()
    assert watched.supervisor.pids == {}


async def test_a_program_that_is_not_there_is_a_death_too():
    watched = Watched(Command("ghost", ["/nonexistent/program"]))
    with pytest.raises(ChildFailed) as caught:
        await watched.supervisor.start(asyncio.Event().wait())
    assert any("No such file" in line for line in caught.value.lines)
    await watched.supervisor.stop()


async def test_gives_up_after_rapid_failures(tmp_path):
    once = tmp_path / "once"
    code = f"""
        import pathlib, signal
        once = pathlib.Path({str(once)!r})
        first = not once.exists()
        once.touch()
        print('up', flush=True)
        if first: signal.pause()
    """
    watched = Watched(python("child", textwrap.dedent(code)))
    await watched.supervisor.start(watched.up())
    os.kill(watched.supervisor.pids["child"], signal.SIGTERM)
    with pytest.raises(ChildFailed) as caught:
        await watched.supervisor.watch()
    assert caught.value.deaths == QUICK.most_failures + 1
    assert len(watched.restarts) == QUICK.most_failures
    await watched.supervisor.stop()


async def test_what_a_check_raises_ends_the_start():
    async def never():
        raise TimeoutError

    watched = Watched(python("child", FOREVER))
    with pytest.raises(TimeoutError):
        await watched.supervisor.start(never())
    await watched.supervisor.stop()
    assert watched.supervisor.pids == {}


async def test_who_ignores_sigterm_is_killed_in_the_end():
    watched = Watched(python("child", STUBBORN), stop_seconds=0.1)
    await watched.supervisor.start(watched.up())
    pid = watched.supervisor.pids["child"]
    await watched.supervisor.stop()
    assert not psutil.pid_exists(pid)


async def test_kill_does_not_wait_for_the_stubborn():
    watched = Watched(python("child", STUBBORN))
    await watched.supervisor.start(watched.up())
    stopping = asyncio.create_task(watched.supervisor.stop())
    await asyncio.sleep(0)
    watched.supervisor.kill()
    await asyncio.wait_for(stopping, 10)


async def test_stopping_during_a_pause_between_restarts():
    watched = Watched(python("child", FOREVER))
    watched.supervisor._policy = RestartPolicy(first_pause=3600)
    await watched.supervisor.start(watched.up())
    paused = asyncio.Event()
    watched.supervisor._on_restart = lambda *_: paused.set()
    os.kill(watched.supervisor.pids["child"], signal.SIGKILL)
    await paused.wait()
    await asyncio.wait_for(watched.supervisor.stop(), 10)


def test_children_die_with_a_supervisor_that_is_killed():
    code = f"""
        import asyncio, sys
        from diplex.cli.processes import Command, Supervisor
        async def main():
            ready = asyncio.Event()
            supervisor = Supervisor(
                [Command("child", [sys.executable, "-c", {STUBBORN!r}])],
                on_line=lambda *_: ready.set(), on_restart=print)
            await supervisor.start(ready.wait())
            print(supervisor.pids["child"], flush=True)
            await supervisor.watch()
        asyncio.run(main())
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True
    ) as parent:
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    _, alive = psutil.wait_procs([child], timeout=10)
    assert not alive


def test_pauses_double_up_to_a_limit_with_jitter():
    policy = RestartPolicy(first_pause=1, longest_pause=10)
    for failures, middle in ((1, 1), (2, 2), (3, 4), (9, 10)):
        pauses = [policy.pause(failures) for _ in range(50)]
        assert all(0.75 * middle <= pause <= 1.25 * middle for pause in pauses)
        assert len(set(pauses)) > 1
