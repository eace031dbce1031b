"""The Python blocks of a page, run one behind the other in one interpreter, as a reader would."""

from __future__ import annotations

import json
import subprocess
import sys
import traceback
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Self

from tests.docs.sandbox import Sandbox


class Notebook:
    """An interpreter in a sandbox. Leaving the ``with`` ends it.

    Args:
        sandbox: Where it runs.
    """

    def __init__(self, sandbox: Sandbox) -> None:
        self._process = subprocess.Popen(
            [*sandbox.enter, "python", Path(__file__)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=sandbox.folder,
            env=sandbox.environment | {"PYTHONPATH": str(Path(__file__).parents[2])},
        )

    def run(self, text: str, place: str) -> str:
        """Runs a block behind those before; returns how it failed, empty if it didn't."""
        self._process.stdin.write(json.dumps([text, place]) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        return json.loads(answer) if answer else f"{place}: the interpreter has ended"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=60)
        assert self._process.returncode == 0


def serve() -> None:
    """Runs blocks from standard input, a JSON line each, and answers each with a line."""
    names: dict[str, object] = {"__name__": "__main__"}
    for line in sys.stdin:
        text, place = json.loads(line)
        failure = ""
        with redirect_stdout(StringIO()):
            try:
                exec(compile(text, place, "exec"), names)  # noqa: S102 - that is what they are for
            except BaseException:  # noqa: BLE001 - whatever a block raises is its failure
                failure = traceback.format_exc()
        print(json.dumps(failure), flush=True)  # noqa: T201 - the answer


if __name__ == "__main__":
    serve()
