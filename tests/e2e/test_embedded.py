"""A gateway that a program has to itself: the real processes, which end with it though it is killed."""

import os
import subprocess
import sys

import psutil
import pytest

PROGRAM = """
import sys
from diplex import ModelManager, model_manager
from diplex.embedded import EmbeddedGateway

up = [sys.executable, "-m", "diplex.cli", "up", "--private", "--no-sample", "--log-format", "json"]
model_manager.DEFAULT_ADDRESS = "127.0.0.1:1"
EmbeddedGateway.start = staticmethod(lambda: EmbeddedGateway.run([*up, "--model", "tiny-llama"]))
manager = ModelManager()
print(repr(manager.generate_text("tiny-llama", "Hi", temperature=0, max_tokens=8)), flush=True)
print(manager.client.address, flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("end", [pytest.param("its end", marks=pytest.mark.slow), "SIGKILL"])
def test_a_program_has_its_own_gateway_and_takes_it_along(tiny_catalogue, tiny_home, tmp_path, end):
    environment = {
        **os.environ,
        "DIPLEX_MODELS": str(tiny_catalogue),
        "DIPLEX_HOME": str(tiny_home),
        "TMPDIR": str(tmp_path),
    }
    environment.pop("DIPLEX_ADDRESS", None)
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as program:
        assert len(program.stdout.readline()) > 4
        address = program.stdout.readline().strip()
        assert address.startswith(f"unix:{tmp_path}/diplex-up-")
        processes = psutil.Process(program.pid).children(recursive=True)
        assert len(processes) >= 4  # up, worker, engine, gateway
        if end == "its end":
            program.stdin.close()
        else:
            program.kill()
        _, alive = psutil.wait_procs(processes, timeout=20)
        assert not alive
    assert program.returncode == (0 if end == "its end" else -9)
