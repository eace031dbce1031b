"""The caller's trace, for programs that use OpenTelemetry; the SDK itself doesn't need it."""

from __future__ import annotations

import sys


def trace_headers() -> tuple[tuple[str, str], ...]:
    """Metadata that joins a call to the trace under way in this program; empty if there is none.

    A program that never imported OpenTelemetry has none.
    """
    if "opentelemetry.trace" not in sys.modules:
        return ()
    from opentelemetry import propagate  # noqa: PLC0415  # only where a program brought it

    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return tuple((key.lower(), value) for key, value in carrier.items() if value.isascii())
