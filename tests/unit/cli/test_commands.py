"""The commands as a user runs them: real processes against a gateway on a socket."""

import json
import os
import signal
import subprocess
import sys

import pytest

from diplex.cli.options import DEFAULT_SYSTEM
from diplex.cli.terminal import ExitCode
from diplex.errors import ContextLengthExceeded, FieldViolation, NoWorker
from diplex.v1 import generation_pb2 as pb
from tests.fake_gateway import FakeGateway

COMMAND = (sys.executable, "-m", "diplex.cli")


@pytest.fixture
def gateway():
    return FakeGateway()


@pytest.fixture
def environment(gateway):
    with gateway.in_thread() as address:
        yield {**os.environ, "DIPLEX_ADDRESS": address, "COLUMNS": "200", "NO_COLOR": "1"}


@pytest.fixture
def diplex(environment):
    def run(*arguments, stdin=None):
        return subprocess.run(
            [*COMMAND, *arguments],
            env=environment,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )

    return run


def test_generate_prints_the_answer_and_nothing_else_when_piped(gateway, diplex):
    done = diplex("generate", "hi", "--max-tokens", "9", "--stop", "a", "--stop", "b", "--system", "s")
    assert (done.returncode, done.stdout, done.stderr) == (0, "Paris is the capital.\n", "")
    (request,) = gateway.requests
    assert request.stopping.max_tokens == 9
    assert list(request.stopping.stop) == ["a", "b"]
    assert [message.parts[0].text for message in request.chat.messages] == ["s", "hi"]
    assert not request.HasField("sampling")


def test_generate_reads_standard_input(gateway, diplex):
    diplex("generate", stdin="from a pipe")
    diplex("generate", "-", "--raw", stdin="from a dash")
    first, second = gateway.requests
    assert [message.parts[0].text for message in first.chat.messages] == [DEFAULT_SYSTEM, "from a pipe"]
    assert second.prompt == "from a dash"


def test_generate_json_is_one_document(diplex):
    document = json.loads(diplex("generate", "hi", "--json").stdout)
    assert document["text"] == "Paris is the capital."
    assert document["finish_reason"] == "stop"
    assert document["receipt"]["usage"]["completion_tokens"] == 5
    assert document["client"]["first_ms"] > 0


def test_the_receipt_is_one_line_on_standard_error(diplex):
    line = diplex("generate", "hi", "--receipt").stderr
    assert line.count("\n") == 1
    for part in ("7 (3 cached) → 5 tokens", "tok/s", "Fake-1M int8", "onnx-1a2b"):
        assert part in line


def test_errors_are_short_and_say_what_to_do(gateway, diplex):
    violation = FieldViolation("stopping.max_tokens", "must leave room for the prompt")
    gateway.error = ContextLengthExceeded("does not fit", violations=[violation])
    done = diplex("generate", "hi")
    assert done.returncode == ExitCode.REQUEST
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        "error does not fit",
        "  stopping.max_tokens must leave room for the prompt",
        "  shorten the prompt or lower --max-tokens",
    ]
    gateway.error = NoWorker("no worker is connected", retry_after=2)
    done = diplex("generate", "hi")
    assert done.returncode == ExitCode.UNAVAILABLE
    assert done.stderr.splitlines() == ["error no worker is connected", "  try again in 2 s"]


def test_nobody_there_and_no_prompt(diplex):
    done = diplex("generate", "hi", "--address", "127.0.0.1:1")
    assert done.returncode == ExitCode.UNAVAILABLE
    assert "diplex up" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert diplex("generate", "hi", "--no-such-option").returncode == ExitCode.REQUEST


def test_a_timeout_has_its_own_code(gateway, diplex):
    gateway.hold_after = 1
    done = diplex("generate", "hi", "--timeout", "1")
    assert (done.returncode, done.stdout) == (ExitCode.TIMEOUT, "Paris\n")


@pytest.mark.parametrize("way", ["interrupt", "terminate"])
def test_leaving_early_cancels(gateway, environment, way):
    gateway.hold_after = 1
    with subprocess.Popen(
        [*COMMAND, "generate", "hi"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout.read(5) == b"Paris"
        if way == "interrupt":
            process.send_signal(signal.SIGINT)
            assert process.wait(10) == ExitCode.INTERRUPTED
        else:
            process.terminate()
            assert process.wait(10) == -signal.SIGTERM
        assert process.stderr.read() == b""
    assert gateway.cancelled.wait(10)


def test_a_broken_pipe_is_quiet(gateway, environment):
    gateway.words = ["word "] * 20_000
    with subprocess.Popen(
        [*COMMAND, "generate", "hi"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.read(5)
        process.stdout.close()
        assert process.wait(20) == ExitCode.BROKEN_PIPE
        assert process.stderr.read() == b""


def test_chat_keeps_the_history_and_takes_commands(gateway, diplex):
    done = diplex("chat", stdin="one\n/system be brief\ntwo\n/reset\n/model fake\nthree\n/quit\nfour\n")
    assert (done.returncode, done.stdout) == (0, "Paris is the capital.\n" * 3)
    turns = [[m.parts[0].text for m in request.chat.messages] for request in gateway.requests]
    assert turns == [
        [DEFAULT_SYSTEM, "one"],
        ["be brief", "one", "Paris is the capital.", "two"],
        ["be brief", "three"],
    ]
    assert gateway.requests[2].model == "fake"


def test_chat_puts_pictures_before_what_is_said_next(gateway, diplex, tmp_path):
    (tmp_path / "a.png").write_bytes(b"picture")
    done = diplex("chat", stdin=f"/image {tmp_path / 'a.png'}\nwhat?\nand?\n")
    assert done.returncode == 0
    first, second = gateway.requests
    (*_, asked) = first.chat.messages
    assert [part.WhichOneof("content") for part in asked.parts] == ["image", "text"]
    assert asked.parts[0].image.data == b"picture"
    assert [len(message.parts) for message in second.chat.messages if message.role == pb.ROLE_USER] == [2, 1]
    assert diplex("chat", stdin="/image missing.png\n").returncode != 0


def test_generate_takes_pictures_and_sends_no_system_message_of_its_own(gateway, diplex, tmp_path):
    (tmp_path / "a.png").write_bytes(b"picture")
    shown = ("--image", str(tmp_path / "a.png"), "--split", "--longest-edge", "512")
    assert diplex("generate", "what?", *shown).returncode == 0
    assert diplex("generate", "what?", *shown, "--system", "be brief").returncode == 0
    first, second = gateway.requests
    assert [message.role for message in first.chat.messages] == [pb.ROLE_USER]
    assert [message.role for message in second.chat.messages] == [pb.ROLE_SYSTEM, pb.ROLE_USER]
    assert [part.WhichOneof("content") for part in first.chat.messages[0].parts] == ["image", "text"]
    assert first.image_options == pb.ImageOptions(split=True, longest_edge=512)


def test_chat_from_a_pipe_ends_with_the_first_error(diplex):
    done = diplex("chat", stdin="/model nope\none\n")
    assert (done.returncode, done.stdout) == (ExitCode.REQUEST, "")
    assert "nope" in done.stderr


def test_models_as_a_table_and_as_json(diplex):
    table = diplex("models")
    row = next(line for line in table.stdout.splitlines() if line.startswith("Fake-1M"))
    for part in ("(default)", "onnx", "int8", "ready", "3/8 +1", "2048", "0.0061", "abababababab"):
        assert part in row
    assert "232/4059" in row
    assert table.stderr == "Broken-7B on onnx-1a2b: no memory\n"
    document = json.loads(diplex("models", "--json").stdout)
    assert document["default_model"] == "Fake-1M"
    assert document["models"][0]["deployments"][0]["certificate"]["tokens"] == 2048


def test_plan_as_a_table_and_as_json(diplex):
    table = [line.split() for line in diplex("plan").stdout.splitlines()]
    assert table[1] == ["serves", "Fake-1M", "onnx", "int8", "one", "idle"]
    assert table[2] == ["can't", "Fake-1M", "torch", "int8", "two", "no", "memory"]
    assert [each["can_serve"] for each in json.loads(diplex("plan", "--json").stdout)] == [True, False]


def test_load_and_unload(diplex):
    done = diplex("load", "Fake-1M")
    assert done.returncode == 0
    assert done.stderr.splitlines()[:2] == [
        "convert 25%, a tensor",
        "load 25%, 50.0 of 200.0 MB, 3 s left, an artefact",
    ]
    assert "Fake-1M/int8 is ready on onnx-1a2b: 232 MiB, at most 4059" in done.stderr
    refused = diplex("load", "Big-70B")
    assert (refused.returncode, refused.stdout) == (ExitCode.FAILED, "")
    assert "there is no room" in refused.stderr
    assert diplex("unload", "Fake-1M").stderr == "Fake-1M is unloaded\n"
    assert diplex("unload", "Big-70B").returncode == ExitCode.REQUEST


def test_health(diplex):
    assert diplex("health").returncode == 0
    assert diplex("health", "--wait", "10", "--service", "diplex.v1.ModelService").stdout == "serving\n"
    absent = diplex("health", "--service", "nobody")
    assert (absent.returncode, absent.stdout) == (1, "service_unknown\n")
    nobody = diplex("health", "--wait", "0.1", "--address", "127.0.0.1:1")
    assert (nobody.returncode, nobody.stdout) == (1, "")
    assert "127.0.0.1:1" in nobody.stderr


def test_help_teaches_by_example(diplex):
    for command in ("up", "generate", "chat", "models", "load", "unload", "health", "pull", "verify"):
        assert f"Example: diplex {command}" in diplex(command, "--help").stdout
    assert diplex("--version").stdout.startswith("diplex ")


@pytest.mark.parametrize(
    ("hidden", "arguments", "said"),
    [
        ("typer", ["models"], "pip install 'diplex[cli]'"),
        ("httpx2", ["top", "--count", "1"], "pip install 'diplex[cli]'"),
        ("prompt_toolkit", ["chat"], "pip install 'diplex[cli]'"),
        ("onnxruntime", ["pull", "x"], "pip install 'diplex[onnx]'"),
    ],
)
def test_a_missing_extra_is_named(hidden, arguments, said):
    code = f"""
import sys
sys.modules[{hidden!r}] = None
from diplex.cli import main
sys.argv[1:] = {arguments!r}
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_the_foreground_command_ends_in_its_own_way():
    child = """
import signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(9))
print('started', flush=True)
signal.pause()
"""
    code = f"""
import sys
from diplex.cli.worker_module import foreground
sys.exit(foreground([sys.executable, '-c', {child!r}]))
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"started\n"
        process.send_signal(signal.SIGINT)  # the terminal would send it to the child too; it must not end us
        process.terminate()
        assert process.wait(10) == 9
