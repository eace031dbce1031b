"""Options that several commands of a worker have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Home = Annotated[
    Path | None, typer.Option(envvar="DIPLEX_HOME", help="The model store.", show_default="the user's cache")
]
Overlays = Annotated[
    str, typer.Option("--catalogue", envvar="DIPLEX_MODELS", help="Further catalogue files, as in PATH.")
]
Accept = Annotated[
    list[str] | None,
    typer.Option(
        "--accept-licence",
        envvar="DIPLEX_ACCEPT_LICENCE",
        metavar="NAME",
        help="Agree to a model's terms, as gemma, without being asked; may be repeated.",
    ),
]
Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME[/PROFILE]",
        help="A model of the catalogue, hf:OWNER/NAME, or a path to a folder or file.",
    ),
]
