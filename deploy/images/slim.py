"""Takes out of a virtual environment what nothing runs, then compiles the rest.

    slim.py /opt/venv --without setuptools pip

Licences and metadata stay. Imports nothing beyond the standard library: it runs before anything is installed.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

UNUSED: Final = (
    # What compilers and linkers want.
    "**/*.a",
    "**/*.pyx",
    "**/*.pxd",
    "numpy/_core/include",
    "torch/include",
    "torch/share/cmake",
    "torch/lib/*test*",
    # Tests, and what is for tests only.
    "**/tests",
    "onnx/backend/test",
    "torch/test",
    "torch/bin/*[Tt]est*",
    "torch/bin/protoc*",
    # Tools of ONNX Runtime that prepare models otherwise than we do.
    "onnxruntime/quantization",
    "onnxruntime/tools",
    "onnxruntime/transformers",
    # A second copy of the library, for programs in C; Python's extension has its own inside.
    "onnxruntime/capi/libonnxruntime.so*",
    # Converts Fortran.
    "numpy/f2py",
)
"""Patterns below the folder of packages."""


def main() -> None:
    """Slims the environment that the command line names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("environment", type=Path)
    parser.add_argument("--without", nargs="*", default=[], metavar="PACKAGE", help="packages to uninstall")
    given = parser.parse_args()
    (packages,) = given.environment.glob("lib/python3*/site-packages")
    if given.without:
        pip = [given.environment / "bin" / "python", "-m", "pip", "uninstall", "--quiet", "--yes"]
        subprocess.run([*pip, *given.without], check=True)  # noqa: S603  # the names are the Dockerfile's
    before = _bytes(packages)
    for path in unused(packages):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    slimmed = _bytes(packages)
    # The root file system is read-only where this runs. The digests of sources say nothing there, so they
    # aren't compared.
    python = [given.environment / "bin" / "python", "-m", "compileall", "-q", "-j", "0"]
    compiled = subprocess.run([*python, "--invalidation-mode", "unchecked-hash", packages], check=False)  # noqa: S603
    if compiled.returncode:
        sys.stdout.write("some files are for other versions of Python, and were not compiled\n")
    sys.stdout.write(
        f"{packages}: {before >> 20} MiB, {slimmed >> 20} without what is unused, "
        f"{_bytes(packages) >> 20} compiled\n"
    )


def unused(packages: Path) -> Iterator[Path]:
    """What the patterns find, nothing within what was found before; may be removed while it is read."""
    for pattern in UNUSED:
        for path in sorted(packages.glob(pattern)):
            if path.exists() or path.is_symlink():
                yield path


def _bytes(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    main()
