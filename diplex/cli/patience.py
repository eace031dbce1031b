"""How long commands try again: somebody waits at the terminal."""

from __future__ import annotations

from typing import Final

PATIENCE: Final = 2.0
"""Seconds until a command says that no gateway answers, or that a stream's connection is lost for good."""
