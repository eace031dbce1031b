"""Options and arguments that several commands have."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final

import typer

DEFAULT_MODEL: Final = "SmolLM2-135M-Instruct"
DEFAULT_LISTEN: Final = "127.0.0.1:50051"
DEFAULT_HTTP_LISTEN: Final = "127.0.0.1:8000"
DEFAULT_SYSTEM: Final = "You are a helpful AI assistant."
DEFAULT_MAX_TOKENS: Final = 1024


class LogFormat(StrEnum):
    """How logs are written."""

    CONSOLE = "console"
    JSON = "json"


Address = Annotated[
    str | None,
    typer.Option(
        envvar="DIPLEX_ADDRESS", help="The gateway: host:port or unix:/path.", show_default=DEFAULT_LISTEN
    ),
]
Model = Annotated[
    str | None, typer.Option(help="Name or alias of the model.", show_default="the gateway's default")
]
WantedBackend = Annotated[
    str | None, typer.Option("--backend", help="onnx or torch.", show_default="the gateway chooses")
]
System = Annotated[str, typer.Option(help="System message; empty: what the model's own template says.")]
MaxTokens = Annotated[int, typer.Option(min=1, help="Generated tokens at most.")]
Temperature = Annotated[float | None, typer.Option(help="0 is greedy.", show_default="the model's own")]
TopK = Annotated[int | None, typer.Option(help="Keep the k most probable tokens.", show_default=False)]
TopP = Annotated[float | None, typer.Option(help="Keep tokens up to this probability.", show_default=False)]
Seed = Annotated[int | None, typer.Option(help="Makes sampling repeatable.", show_default=False)]
Timeout = Annotated[
    float | None, typer.Option(min=0.001, help="Seconds that an answer may take.", show_default="none")
]
Receipt = Annotated[
    bool | None,
    typer.Option(
        "--receipt/--no-receipt", help="Tokens and speed on standard error.", show_default="at a terminal"
    ),
]
TorchPython = Annotated[
    str | None,
    typer.Option(
        envvar="DIPLEX_TORCH_PYTHON",
        help="The interpreter of an environment with diplex[torch].",
        show_default="this one",
    ),
]
ServedName = Annotated[
    str, typer.Argument(metavar="NAME[/PRECISION]", help="A model that `diplex models` lists.")
]
ModelName = Annotated[str, typer.Argument(metavar="NAME", help="A model of the catalogue.")]

Tls = Annotated[
    bool | None,
    typer.Option("--tls/--no-tls", envvar="DIPLEX_TLS", help="Talk TLS to the gateway.", show_default=False),
]
TlsCaFile = Annotated[
    str | None,
    typer.Option(
        envvar="DIPLEX_CA_FILE",
        help="Authorities (PEM) that sign the gateway's certificate; turns TLS on.",
        show_default=False,
    ),
]
TlsCertificateFile = Annotated[
    str | None,
    typer.Option(
        envvar="DIPLEX_CERTIFICATE_FILE", help="Your own certificate (PEM), if asked for.", show_default=False
    ),
]
TlsKeyFile = Annotated[
    str | None, typer.Option(envvar="DIPLEX_KEY_FILE", help="Its private key (PEM).", show_default=False)
]
TlsServerName = Annotated[
    str | None,
    typer.Option(
        envvar="DIPLEX_SERVER_NAME",
        help="The name in the gateway's certificate.",
        show_default="the address's host",
    ),
]
ApiKeyFile = Annotated[
    str | None,
    typer.Option(
        envvar="DIPLEX_API_KEY_FILE",
        help="A file with your API key or token; or set $DIPLEX_API_KEY.",
        show_default=False,
    ),
]
