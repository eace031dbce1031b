"""A server process chooses how gRPC polls before gRPC is there to ask."""

import os
import subprocess
import sys

import pytest

CHOOSE = "from diplex.polling import poll_without_event_engine as choose; choose();"
SAY = "import os, sys; print(os.environ.get('GRPC_EXPERIMENTS'), 'grpc' in sys.modules)"


def run(code, **environment):
    kept = {name: value for name, value in os.environ.items() if name != "GRPC_EXPERIMENTS"}
    return subprocess.run(
        [sys.executable, "-c", code], env=kept | environment, capture_output=True, text=True, check=True
    )


def test_grpc_is_not_there_yet():
    value, imported = run(f"{CHOOSE} {SAY}").stdout.split()
    assert value.startswith("-event_engine_client,")
    assert imported == "False"


@pytest.mark.parametrize("module", ["gateway.__main__", "workers.onnx_worker.__main__"])
def test_who_has_chosen_has_the_last_word(module):
    assert run(f"import {module}; {SAY}", GRPC_EXPERIMENTS="canary").stdout.split() == ["canary", "True"]
    assert run(f"import {module}; {SAY}").stdout.startswith("-event_engine_client,")


def test_grpc_knows_what_it_is_told():
    """A name that gRPC has dropped would be an error in the log of every start."""
    code = (
        "import asyncio, grpc.aio\n"
        "async def use():\n"
        "    async with grpc.aio.insecure_channel('unix:/none') as channel:\n"
        "        channel.get_state(try_to_connect=True)\n"
        "asyncio.run(use())"
    )
    assert "experiment" in run(code, GRPC_EXPERIMENTS="-no_such_thing").stderr
    assert "experiment" not in run(f"{CHOOSE}\n{code}").stderr
