"""Every command in the README exists, with the options that it is given."""

import re
import shlex
from importlib.util import find_spec
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from diplex.cli.app import app
from gateway.__main__ import main as gateway_main
from workers.onnx_worker.__main__ import app as worker_app

ROOT = Path(__file__).parents[2]
FOREIGN = {"cd", "curl", "echo", "git", "grpcurl", "jq", "pip", "python3"}
"""Commands that aren't ours."""


def commands():
    """The commands in the README's ``sh`` blocks, each as the words that a shell would see."""
    for block in re.findall(r"^```sh\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;")
            lexer.whitespace_split = True
            words = []
            for word in [*lexer, "|"]:
                if set(word) <= set("|&;"):
                    if words:
                        yield words[: words.index(">")] if ">" in words else words
                    words = []
                elif words or not re.fullmatch(r"[A-Z_]+=.*", word):
                    words.append(word)


COMMANDS = list(commands())


def typer_app(words):
    """The command line that would get these words, and the words that remain for it."""
    program, *rest = words
    if Path(program).name == "diplex":
        return app, rest
    if rest[:2] == ["-m", "workers.onnx_worker"]:
        return worker_app, rest[2:]
    if rest[:2] == ["-m", "gateway"]:
        single = typer.Typer(add_completion=False)
        single.command()(gateway_main)
        return single, rest[2:]
    return None, rest


def test_there_are_commands():
    assert ["make", "run"] in COMMANDS
    assert [".venv/bin/diplex", "generate", "What is the capital of France?"] in COMMANDS


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_the_command_exists(words):
    program, *rest = words
    command_line, remaining = typer_app(words)
    if command_line is not None:
        check(command_line, remaining)
    elif program == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert set(rest) <= set(targets)
    elif rest[:1] == ["-m"]:
        assert find_spec(rest[1]) is not None
    else:
        assert program in FOREIGN


def check(command_line, words):
    """The subcommand exists, its ``--help`` works, and it takes the options; nothing is run."""
    command = typer.main.get_command(command_line)
    path = words[:1] if hasattr(command, "commands") else []
    if path:
        assert path[0] in command.commands
        command = command.commands[path[0]]
    assert CliRunner().invoke(command_line, [*path, "--help"]).exit_code == 0
    command.make_context(command.name, words[len(path) :]).close()  # parses, or raises a usage error
