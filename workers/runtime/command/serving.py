"""``serve``: a worker from its options to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final

import typer

from diplex.certificates import ServerTls
from diplex.serving import MEBIBYTE, ServerConfig
from diplex.telemetry import configure_logging
from diplex.tracing import TracingConfig, configure_tracing
from workers.runtime.adoption import parse
from workers.runtime.command.kind import WorkerKind
from workers.runtime.command.models import Models, named
from workers.runtime.command.options import Accept, AllowCode, Home, Overlays
from workers.runtime.command.serve_options import (
    AdminListen,
    AllowUnauthenticated,
    CacheIdleSeconds,
    CacheSlots,
    Device,
    DrainSeconds,
    GatewayNames,
    GatewayTokenFile,
    HealthListen,
    ImageCacheMib,
    KeepAlive,
    KvMib,
    Listen,
    LogForm,
    LogLevel,
    MaxLength,
    MaxMessageMib,
    MaxQueue,
    MaxStall,
    MemoryBudget,
    MessagesPerSecond,
    MetricsListen,
    ModelNames,
    OnDemand,
    PinnedNames,
    PrefillChunk,
    PrefixCacheMib,
    Residents,
    SharedPrefillChunk,
    Slots,
    SpareEngine,
    Speculation,
    Threads,
    TlsCertificateFile,
    TlsClientCaFile,
    TlsKeyFile,
    TracesEndpoint,
    WorkerName,
)
from workers.runtime.engine.beat import DEFAULT_MESSAGES_PER_SECOND
from workers.runtime.engine.memory import available_bytes
from workers.runtime.engine.messages import (
    DEFAULT_CACHE_IDLE_SECONDS,
    DEFAULT_IMAGE_CACHE_MIB,
    DEFAULT_MAX_STALL,
    DEFAULT_PREFILL_CHUNK,
    DEFAULT_PREFIX_CACHE_MIB,
    DEFAULT_SHARED_PREFILL_CHUNK,
    EngineConfig,
)
from workers.runtime.guard import GatewayCheck
from workers.runtime.serve import WorkerConfig
from workers.runtime.serve import serve as serve_worker
from workers.runtime.supervisor.supervisor import Supervisor, SupervisorConfig
from workers.runtime.supervisor.terms import ServingConfig

_SHARE: Final = 0.8
"""Of the available memory, what the budget is by default."""
_AMPLE_SHARE: Final = 4096 * MEBIBYTE
"""Half a budget that is as much as this leaves room for a second model that nobody has named yet."""


def serve_command(kind: WorkerKind) -> Callable[..., None]:
    """The command ``serve`` of a kind of worker."""

    def serve(
        *,
        listen: Listen = "127.0.0.1:50061",
        model: ModelNames = None,
        home: Home = None,
        catalogue: Overlays = "",
        accept_licence: Accept = None,
        allow_remote_code: AllowCode = None,
        pin: PinnedNames = None,
        memory_budget: MemoryBudget = 0,
        residents: Residents = None,
        keep_alive: KeepAlive = None,
        on_demand: OnDemand = True,
        slots: Slots = 16,
        max_length: MaxLength = None,
        max_queue: MaxQueue = 256,
        threads: Threads = 0,
        device: Device = "auto",
        prefill_chunk: PrefillChunk = DEFAULT_PREFILL_CHUNK,
        shared_prefill_chunk: SharedPrefillChunk = DEFAULT_SHARED_PREFILL_CHUNK,
        messages_per_second: MessagesPerSecond = DEFAULT_MESSAGES_PER_SECOND,
        max_stall: MaxStall = DEFAULT_MAX_STALL,
        kv_mib: KvMib = 0,
        prefix_cache_mib: PrefixCacheMib = DEFAULT_PREFIX_CACHE_MIB,
        cache_slots: CacheSlots = None,
        cache_idle_seconds: CacheIdleSeconds = DEFAULT_CACHE_IDLE_SECONDS,
        image_cache_mib: ImageCacheMib = DEFAULT_IMAGE_CACHE_MIB,
        speculation: Speculation = True,
        spare_engine: SpareEngine = None,
        max_message_mib: MaxMessageMib = 40,
        drain_seconds: DrainSeconds = 30.0,
        tls_certificate_file: TlsCertificateFile = "",
        tls_key_file: TlsKeyFile = "",
        tls_client_ca_file: TlsClientCaFile = "",
        gateway_name: GatewayNames = None,
        gateway_token_file: GatewayTokenFile = "",
        allow_unauthenticated: AllowUnauthenticated = False,
        name: WorkerName = "",
        log_format: LogForm = "json",
        log_level: LogLevel = "INFO",
        metrics_listen: MetricsListen = "",
        admin_listen: AdminListen = "",
        health_listen: HealthListen = "",
        traces_endpoint: TracesEndpoint = "",
    ) -> None:
        """Serve models to gateways until SIGTERM.

        Example: python -m workers.onnx_worker serve --listen 127.0.0.1:50061 --model SmolLM2-135M-Instruct
        """
        try:
            callers = GatewayCheck(
                tls=ServerTls.of(tls_certificate_file, tls_key_file, tls_client_ca_file),
                names=tuple(gateway_name or ()),
                token_file=gateway_token_file,
                allow_unauthenticated=allow_unauthenticated,
            )
            callers.check_listen(listen)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error
        kind.check_device(device)
        configure_logging(f"{kind.backend}-worker", log_format=log_format, level=log_level)
        send_spans = configure_tracing(f"diplex-{kind.backend}-worker", TracingConfig(traces_endpoint))
        engine = EngineConfig(
            folder=Path(),
            slots=slots,
            max_length=max_length,
            max_queue=max_queue,
            threads=threads,
            device=device,
            prefill_chunk=prefill_chunk,
            shared_prefill_chunk=shared_prefill_chunk,
            max_stall=max_stall,
            kv_mib=kv_mib,
            prefix_cache_mib=prefix_cache_mib,
            cache_slots=cache_slots,
            cache_idle_seconds=cache_idle_seconds,
            image_cache_mib=image_cache_mib,
            messages_per_second=messages_per_second,
            speculation=speculation,
        )
        models = Models.open(kind, home, catalogue, accept_licence, allow_remote_code)
        names = list(dict.fromkeys([*(model or []), *(pin or [])])) or list(kind.models)
        names = [named(models.find(each)) if parse(each) is not None else each for each in names]
        budget = memory_budget * MEBIBYTE or _default_budget()
        serving = ServingConfig(
            memory_budget=budget,
            residents=residents or max(len(names), _unnamed_residents(budget)),
            on_demand=on_demand,
            keep_alive=keep_alive,
            starts_empty=not names,
            pinned=tuple(pin or ()),
        )
        server = ServerConfig(
            listen=listen,
            max_message_bytes=max_message_mib * MEBIBYTE,
            drain_seconds=drain_seconds,
            admin_listen=admin_listen,
            health_listen=health_listen,
            tls=callers.tls,
        )

        async def run() -> None:
            settings = SupervisorConfig(
                kind.backend,
                kind.command("engine"),
                engine,
                serving,
                kind.spare_engine if spare_engine is None else spare_engine,
            )
            supervisor = Supervisor(settings, models.files.load(), kind.artefacts(models.store))
            config = WorkerConfig(server, names, callers, models.files, metrics_listen, name)
            await serve_worker(config, supervisor)

        try:
            asyncio.run(run())
        finally:
            send_spans()

    return serve


def _default_budget() -> int | None:
    available = available_bytes()
    return None if available is None else int(_SHARE * available)


def _unnamed_residents(budget: int | None) -> int:
    return 1 if budget is not None and budget < 2 * _AMPLE_SHARE else 2
