"""Machine code of the compiled functions: found, or compiled by another process.

``python -m workers.onnx_worker.compiled.machine_code FOLDER`` compiles into ``FOLDER/machine-code``.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from filelock import FileLock

from workers.onnx_worker.compiled.object_file import load

_HERE: Final = Path(__file__).parent
_COMPILER: Final = "workers.onnx_worker.compiled.functions"


def find(home: Path) -> Path | None:
    """The code of these very functions: beside them, as in an image, or in a store.

    Args:
        home: The store.
    """
    places = [folder / "machine-code" / f"{_digest()}.o" for folder in (_HERE, home)]
    return next((place for place in places if place.is_file()), None)


def ensure(home: Path) -> Path | None:
    """The code, compiled into the store if need be; ``None`` if there is none and no compiler.

    Raises:
        OSError: It can't be written.
        subprocess.CalledProcessError: It can't be compiled.
        ValueError: What was compiled can't be loaded.
    """
    found = _intact(home)
    if found is not None or find_spec("numba") is None:
        return found
    folder = home / "machine-code"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "lock"):
        return _intact(home) or _compile(folder)


def _intact(home: Path) -> Path | None:
    """What :func:`find` finds, if it can be loaded: a file that a power cut has emptied can't."""
    found = find(home)
    try:
        if found is not None:
            load(found)
    except ValueError:
        return None
    return found


def _compile(folder: Path) -> Path:
    """Compiles, sees whether what came out can be loaded, and puts it into its place."""
    final, new = folder / f"{_digest()}.o", folder / "new"
    # Without a seed the names of symbols would differ each time, and the file with them.
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    try:
        subprocess.run([sys.executable, "-m", _COMPILER, str(new)], check=True, env=environment)  # noqa: S603  # our own
        load(new)
        with new.open("rb") as file:
            os.fsync(file.fileno())
        new.rename(final)
    finally:
        new.unlink(missing_ok=True)
    return final


def _digest() -> str:
    """Of the functions: code of others is not theirs."""
    sources = [*sorted((_HERE / "functions").glob("*.py")), _HERE / "shapes.py"]
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:16]


if __name__ == "__main__" and ensure(Path(sys.argv[1])) is None:
    sys.exit("numba is missing, which compiles: pip install 'diplex[compiled]'")
