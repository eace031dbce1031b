"""What all commands share: consoles, how errors look, and what they exit with."""

from __future__ import annotations

import os
import signal
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import Final

import typer
from rich.console import Console
from rich.markup import escape

from diplex import errors

PIPED_WIDTH: Final = 200
"""Columns of a table that goes to a file or a program."""


class ExitCode(IntEnum):
    """What a command ends with. Scripts may rely on it."""

    OK = 0
    FAILED = 1
    """Anything that has no code of its own; ``health``: not serving."""
    REQUEST = 2
    """The command line or the request is at fault: trying again changes nothing."""
    UNAVAILABLE = 3
    """Nobody could answer now: try again."""
    TIMEOUT = 4
    """The timeout has passed."""
    INTERRUPTED = 128 + signal.SIGINT
    BROKEN_PIPE = 128 + signal.SIGPIPE


_CODES: dict[type[errors.DiplexError], ExitCode] = {
    errors.InvalidRequest: ExitCode.REQUEST,
    errors.ModelNotFound: ExitCode.REQUEST,
    errors.MessageTooLarge: ExitCode.REQUEST,
    errors.QueueFull: ExitCode.UNAVAILABLE,
    errors.Unavailable: ExitCode.UNAVAILABLE,
    errors.DeadlineExceeded: ExitCode.TIMEOUT,
    errors.DiplexError: ExitCode.FAILED,
}

_HINTS: dict[type[errors.DiplexError], str] = {
    errors.ModelNotFound: "`diplex models` lists what is served",
    errors.ModelLoading: "`diplex health --wait 60` returns when it is ready",
    errors.NoWorker: "`diplex up` starts a gateway with a worker",
    errors.ContextLengthExceeded: "shorten the prompt or lower --max-tokens",
    errors.InternalError: "the gateway's log says more; `diplex up --verbose` shows it",
}

# Control characters that could drive a terminal, but for tab and newline.
_CONTROL = {code: None for code in (*range(32), *range(127, 160)) if chr(code) not in "\t\n"}


def standard_error() -> Console:
    """Where everything goes that is not the answer itself."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def write_text(text: str) -> None:
    """Writes generated text to standard output at once; to a terminal without control characters."""
    sys.stdout.write(without_control(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()


def without_control(text: str) -> str:
    """A text without characters that could drive a terminal."""
    return text.translate(_CONTROL)


@contextmanager
def without_echo() -> Iterator[None]:
    """While it is open, keys are not shown as they are pressed; what is drawn would be shifted by them."""
    if not sys.stdin.isatty():
        yield
        return
    before = termios.tcgetattr(sys.stdin)
    quiet = [*before]
    quiet[3] &= ~termios.ECHO  # of the local modes
    termios.tcsetattr(sys.stdin, termios.TCSADRAIN, quiet)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def exit_code_of(error: errors.DiplexError) -> ExitCode:
    """What a command that failed with ``error`` exits with."""
    return next(_CODES[kind] for kind in type(error).__mro__ if kind in _CODES)


def print_error(error: errors.DiplexError) -> None:
    """The message, the fields at fault, and what to do next."""
    console = standard_error()
    console.print(f"[bold red]error[/] {escape(error.message)}")
    for violation in error.violations:
        if violation.description not in error.message:
            console.print(f"  [yellow]{escape(violation.field)}[/] {escape(violation.description)}")
    hint = _HINTS.get(type(error), "")
    if error.retry_after is not None:
        hint = f"try again in {error.retry_after:.3g} s"
    if hint and hint not in error.message:
        console.print(f"  [dim]{escape(hint)}[/]")


@contextmanager
def reported() -> Iterator[None]:
    """Around a command: what goes wrong ends in a clear line and an exit code instead of a traceback."""
    try:
        yield
    except errors.DiplexError as error:
        print_error(error)
        raise typer.Exit(exit_code_of(error)) from error
    except KeyboardInterrupt:
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    except BrokenPipeError:
        # Python flushes at exit, which must not fail again (docs.python.org, "Note on SIGPIPE").
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(ExitCode.BROKEN_PIPE) from None
