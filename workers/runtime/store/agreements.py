"""Which terms of models have been agreed to in a store."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection

from diplex.errors import LicenceNotAccepted
from workers.runtime.catalogue import Terms
from workers.runtime.store import manifest as manifests
from workers.runtime.store.home import Home


class Agreements:
    """Remembers agreements, each with the digest of the text that was agreed to.

    Args:
        home: The store's folders.
        accepted: Names of terms that whoever runs this process agrees to.
    """

    def __init__(self, home: Home, accepted: Collection[str] = ()) -> None:
        self._home = home
        self._accepted = frozenset(name.lower() for name in accepted)

    def holds(self, terms: Terms) -> bool:
        """Whether these terms, in these words, have been agreed to."""
        try:
            record = json.loads(self._home.agreement(terms.name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        return isinstance(record, dict) and record.get("sha256") == _digest(terms)

    def record(self, terms: Terms) -> None:
        """Remember that these terms have been agreed to."""
        file = self._home.agreement(terms.name)
        file.parent.mkdir(parents=True, exist_ok=True)
        record = {
            "title": terms.title, "url": terms.url, "sha256": _digest(terms), "agreed": manifests.now(),
        }  # fmt: skip
        staged = file.with_name(f".{file.name}.{os.getpid()}")
        staged.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        staged.replace(file)

    def require(self, terms: Terms, model: str) -> None:
        """Refuse to go on without an agreement; remember it if this process' user agrees.

        Raises:
            LicenceNotAccepted: There is none; the message says how to agree.
        """
        if self.holds(terms):
            return
        if terms.name.lower() not in self._accepted:
            raise LicenceNotAccepted(
                f"{model} is provided under the {terms.title} ({terms.url}), which have not been agreed to "
                f"here. Run `diplex pull {model}` in a terminal to read them and agree, or agree with "
                f"`diplex pull {model} --accept-licence {terms.name}` or DIPLEX_ACCEPT_LICENCE={terms.name}.",
                metadata={"licence": terms.name, "url": terms.url},
            )
        self.record(terms)


def _digest(terms: Terms) -> str:
    return hashlib.sha256(terms.text.encode()).hexdigest()
