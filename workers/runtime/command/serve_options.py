"""The options of ``serve``, each with its name in the environment and its line of help."""

from __future__ import annotations

from typing import Annotated

import typer

from diplex.telemetry import LogFormat

Listen = Annotated[str, typer.Option(envvar="DIPLEX_LISTEN", help="host:port, or unix:/path.")]

ModelNames = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        envvar="DIPLEX_MODEL",
        help="A model to load: a name, hf:OWNER/NAME or a path; may be repeated.",
    ),
]

PinnedNames = Annotated[
    list[str] | None,
    typer.Option(
        envvar="DIPLEX_PIN",
        metavar="NAME[/PROFILE]",
        help="A model to load that stays, whatever else is asked for; may be repeated.",
    ),
]

MemoryBudget = Annotated[
    int,
    typer.Option(
        envvar="DIPLEX_MEMORY_BUDGET",
        min=0,
        help="MiB that the worker and all its engines may take together; "
        "0: four fifths of the memory that is available, control groups included.",
    ),
]

Residents = Annotated[
    int | None,
    typer.Option(
        envvar="DIPLEX_RESIDENTS",
        min=1,
        help="Models that the budget is to hold together: each gets such a share for all that it takes.",
        show_default="those that are named; 2 for one from 8 GiB on",
    ),
]

KeepAlive = Annotated[
    float | None,
    typer.Option(
        envvar="DIPLEX_KEEP_ALIVE",
        min=0,
        help="Seconds without a request after which a model is unloaded.",
        show_default="never",
    ),
]

OnDemand = Annotated[
    bool,
    typer.Option(
        envvar="DIPLEX_ON_DEMAND",
        help="Load a model of the catalogue when a request asks for it; idle ones may go for it.",
    ),
]

Slots = Annotated[
    int, typer.Option(envvar="DIPLEX_SLOTS", min=1, max=256, help="Sequences decoded together, a model.")
]

MaxLength = Annotated[
    int | None,
    typer.Option(envvar="DIPLEX_MAX_LENGTH", min=16, help="Tokens a sequence; default: the model's own."),
]

MaxQueue = Annotated[
    int, typer.Option(envvar="DIPLEX_MAX_QUEUE", min=0, help="Requests that may wait for a slot.")
]

Threads = Annotated[
    int,
    typer.Option(envvar="DIPLEX_THREADS", min=0, help="Threads that compute, a model; 0: one a core."),
]

Device = Annotated[
    str,
    typer.Option(
        envvar="DIPLEX_DEVICE",
        metavar="auto|cpu|cuda[:N]",
        help="What computes; auto: what the backend can use.",
    ),
]

PrefillChunk = Annotated[
    int, typer.Option(min=1, help="Longest piece of a prompt, in tokens, when nothing is decoded.")
]

SharedPrefillChunk = Annotated[
    int,
    typer.Option(
        min=1, help="Longest piece of a prompt, in tokens, while streams run, however fast they are."
    ),
]

MessagesPerSecond = Annotated[
    float,
    typer.Option(
        envvar="DIPLEX_MESSAGES_PER_SECOND",
        min=0,
        help="About how many messages all streams together send, once more than 8 run: the more run, "
        "the more tokens a message has. 0: always a message a step.",
    ),
]

MaxStall = Annotated[
    float,
    typer.Option(
        envvar="DIPLEX_MAX_STALL",
        min=0,
        help="By how much a prompt may lengthen streams' gaps between tokens, in lengths of a gap; "
        "up to twice that beside fewer than 8 streams, more where they would hold up several prompts.",
    ),
]

KvMib = Annotated[
    int,
    typer.Option(
        envvar="DIPLEX_KV_MIB",
        min=0,
        help="MiB for keys and values, a model; 0: what its share of the memory budget leaves.",
    ),
]

PrefixCacheMib = Annotated[
    int,
    typer.Option(
        envvar="DIPLEX_PREFIX_CACHE_MIB",
        min=0,
        help="MiB, of those, that may hold tokens of sequences that have ended; 0: no prefix cache.",
    ),
]

CacheSlots = Annotated[
    int | None,
    typer.Option(min=0, help="Slots beside --slots, for cached tokens only; default: as many again."),
]

CacheIdleSeconds = Annotated[
    float, typer.Option(min=0, help="Seconds without requests after which cached tokens are given back.")
]

ImageCacheMib = Annotated[
    int,
    typer.Option(
        envvar="DIPLEX_IMAGE_CACHE_MIB",
        min=1,
        help="MiB for features of pictures, a model with eyes: those in use and the latest before.",
    ),
]

Speculation = Annotated[
    bool,
    typer.Option(
        envvar="DIPLEX_SPECULATION",
        help="Guess streams' next tokens from their own pasts where that pays; same tokens, sooner.",
    ),
]

SpareEngine = Annotated[
    bool | None,
    typer.Option(
        "--spare-engine/--no-spare-engine",
        envvar="DIPLEX_SPARE_ENGINE",
        help="Start an engine process ahead, so that loads and restarts don't wait for its imports.",
        show_default="where they take seconds: with PyTorch",
    ),
]

MaxMessageMib = Annotated[
    int, typer.Option(min=1, help="Largest request, in MiB; more than the gateway lets in.")
]

DrainSeconds = Annotated[float, typer.Option(min=0, help="Time for running calls after SIGTERM.")]

AdminListen = Annotated[
    str,
    typer.Option(
        envvar="DIPLEX_WORKER_ADMIN_LISTEN",
        help="Where to serve channelz, health and reflection to operators: host:port, or unix:/path.",
        show_default="nowhere",
    ),
]

HealthListen = Annotated[
    str,
    typer.Option(
        envvar="DIPLEX_WORKER_HEALTH_LISTEN",
        help="Where to serve health alone and without TLS, for probes that speak none: host:port, or "
        "unix:/path.",
        show_default="nowhere",
    ),
]

MetricsListen = Annotated[
    str,
    typer.Option(
        envvar="DIPLEX_WORKER_METRICS_LISTEN",
        help="Where to serve metrics for Prometheus, host:port; whoever reaches it can read them.",
        show_default="nowhere",
    ),
]

TracesEndpoint = Annotated[
    str,
    typer.Option(
        envvar="DIPLEX_TRACES_ENDPOINT",
        help="Where spans are sent by OTLP over gRPC, as http://127.0.0.1:4317; "
        "empty: what the standard OTEL_* variables say.",
        show_default="nowhere",
    ),
]

LogLevel = Annotated[str, typer.Option(envvar="DIPLEX_LOG_LEVEL", help="Lowest level that is logged.")]
TlsCertificateFile = Annotated[
    str,
    typer.Option(
        envvar="DIPLEX_TLS_CERTIFICATE_FILE",
        help="The worker's certificate (PEM), behind it those that lead to its authority. "
        "Read again when it changes.",
        show_default="no TLS",
    ),
]

TlsKeyFile = Annotated[
    str,
    typer.Option(
        envvar="DIPLEX_TLS_KEY_FILE", help="The certificate's key (PEM), not encrypted.", show_default=False
    ),
]

TlsClientCaFile = Annotated[
    str,
    typer.Option(
        envvar="DIPLEX_TLS_CLIENT_CA_FILE",
        help="Authorities (PEM) one of which must have signed the certificate of whoever connects.",
        show_default="nobody needs a certificate",
    ),
]

GatewayNames = Annotated[
    list[str] | None,
    typer.Option(
        "--gateway-name",
        envvar="DIPLEX_GATEWAY_NAME",
        help="A name that such a certificate may have, the gateway's; may be repeated.",
        show_default="any",
    ),
]

GatewayTokenFile = Annotated[
    str,
    typer.Option(
        envvar="DIPLEX_GATEWAY_TOKEN_FILE",
        help="A file with a secret that callers must send: the gateway's security.worker_token_file.",
        show_default=False,
    ),
]

AllowUnauthenticated = Annotated[
    bool,
    typer.Option(
        "--allow-unauthenticated",
        envvar="DIPLEX_ALLOW_UNAUTHENTICATED",
        help="Let everybody call on an address that other machines reach too.",
    ),
]

WorkerName = Annotated[str, typer.Option(envvar="DIPLEX_WORKER_NAME", help="Identity in receipts.")]

LogForm = Annotated[LogFormat, typer.Option(envvar="DIPLEX_LOG_FORMAT", help="For machines or for people.")]
