"""``diplex keys``: makes API keys."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta

from diplex import errors
from diplex.api_key import new_key

_LONGEST_NAME = 100


def new(name: str, *, role: str | None, days: int | None) -> None:
    """Prints a new key on standard error and its entry on standard output.

    Raises:
        InvalidRequest: The name can't be used.
    """
    if not (0 < len(name) <= _LONGEST_NAME and name.isprintable()):
        raise errors.InvalidRequest(f"the name must be 1 to {_LONGEST_NAME} printable characters")
    made = new_key()
    # What JSON writes of a text is what TOML reads.
    lines = [f"name = {json.dumps(name)}", f'id = "{made.id}"', f'sha256 = "{made.sha256}"']
    if role is not None:
        lines.append(f"role = {json.dumps(role)}")
    if days is not None:
        expires = datetime.now(UTC).replace(microsecond=0) + timedelta(days=days)
        lines.append(f"expires = {expires.isoformat()}")
    sys.stdout.write("\n".join(["", "[[keys]]", *lines, ""]))
    sys.stdout.flush()
    sys.stderr.write(f"{made.key}\n")
