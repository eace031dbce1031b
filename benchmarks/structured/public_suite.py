"""The schemas of the public JSON-Schema-Test-Suite, as the source package of ``jsonschema`` carries it."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

PACKAGE: Final = "jsonschema==4.26.0"
FOLDER: Final = "json/tests/draft2020-12/"
OUT: Final = {
    "dynamicRef": "references that depend on who refers",
    "anchor": "$id within a schema, which other documents use to name its parts",
    "refRemote": "schemas that would have to be fetched",
    "vocabulary": "dialects of one's own, which would have to be fetched",
    "unevaluatedItems": "depends on what other keywords looked at, which a grammar doesn't know",
    "unevaluatedProperties": "depends on what other keywords looked at, which a grammar doesn't know",
    "infinite-loop-detection": "concerns validators, not schemas",
    "optional/": "what the suite calls optional, formats among it",
}
"""Keyword file -> why its schemas are out of scope. All other files of the draft are in scope, whole."""


@dataclass(frozen=True)
class SuiteCase:
    """A schema of the suite."""

    file: str
    """Keyword file, as ``allOf`` or ``optional/bignum``."""
    schema: dict[str, Any] | bool
    satisfiable: bool
    """Whether the suite gives an instance that is valid."""
    in_scope: bool


def cases() -> list[SuiteCase]:
    """All schemas of the draft's folder, in the order of the files. Downloads the package."""
    found = []
    for file, groups in sorted(_files().items()):
        in_scope = not any(file == out or (out.endswith("/") and file.startswith(out)) for out in OUT)
        found += [
            SuiteCase(file, group["schema"], any(test["valid"] for test in group["tests"]), in_scope)
            for group in groups
        ]
    return found


def _files() -> dict[str, list[dict[str, Any]]]:
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--no-binary",
            "jsonschema",
        ]
        subprocess.run([*command, "--dest", folder, PACKAGE], check=True, capture_output=True)  # noqa: S603
        [archive] = Path(folder).glob("*.tar.gz")
        with tarfile.open(archive) as package:
            return {
                member.name.partition(FOLDER)[2].removesuffix(".json"): json.load(file)
                for member in package.getmembers()
                if FOLDER in member.name and (file := package.extractfile(member))
            }
