"""The command line of a worker, whatever its backend: serve, pull, verify."""

from workers.runtime.command.application import application, main
from workers.runtime.command.kind import WorkerKind

__all__ = ["WorkerKind", "application", "main"]
