"""Structured logs and request ids, the same in every process."""

from __future__ import annotations

import logging
import sys
from typing import Literal

import structlog

from diplex.request_id import REQUEST_ID_KEY, new_request_id, request_id_of
from diplex.tracing import current_ids

__all__ = ["REQUEST_ID_KEY", "LogFormat", "configure_logging", "new_request_id", "request_id_of"]

LogFormat = Literal["json", "console"]


def configure_logging(service: str, *, log_format: LogFormat, level: str = "INFO") -> None:
    """Sends all logs of this process to standard error, one JSON object or one readable line each.

    Args:
        service: Name of the process in every line, as ``gateway``.
        log_format: ``json`` for machines, ``console`` for people.
        level: Lowest level that is written.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        _add_trace,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: list[structlog.typing.Processor] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        if log_format == "json"
        else [
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(),
                # The default shows local variables, among them requests.
                exception_formatter=structlog.dev.plain_traceback,
            )
        ]
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        )
    )
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service)


def _add_trace(
    _: structlog.typing.WrappedLogger, __: str, line: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """The trace that the line belongs to, if it belongs to one."""
    line.update(current_ids())
    return line
