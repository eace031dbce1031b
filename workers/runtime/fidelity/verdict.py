"""What `verify` says: the certificate measured here beside the one that the catalogue holds."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Final

from workers.runtime.fidelity.certificate import Certificate

TOLERANCE: Final = 1.25
"""Factor by which a measured KL may exceed the certified one: kernels round differently from CPU to CPU."""
NOISE: Final = 1e-4
"""KL in nats that is never held against an artefact, for certificates near 0."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a prepared artefact is as faithful as it is certified to be."""

    name: str
    """Model and profile."""
    digest: str
    """Of the artefact that was measured."""
    measured: Certificate
    certified: Certificate | None
    """The catalogue's figures for exactly this artefact; ``None`` when it has none."""

    @property
    def holds(self) -> bool:
        """Whether the fidelity is no worse than certified; an artefact without a certificate can't fail."""
        return self.certified is None or self.measured.kl <= self.certified.kl * TOLERANCE + NOISE

    def as_json(self) -> str:
        """One JSON document."""
        return json.dumps({**dataclasses.asdict(self), "holds": self.holds}, indent=2)

    def as_text(self) -> str:
        """A few lines for a person."""
        lines = [
            f"{self.name}  sha256:{self.digest}",
            f"{'':22}{'measured':>10}{'certified':>12}",
            *(self._line(field.name) for field in dataclasses.fields(Certificate) if field.name in _SHOWN),
        ]
        return "\n".join([*lines, self._conclusion()])

    def _line(self, name: str) -> str:
        places = _SHOWN[name]
        certified = "-" if self.certified is None else f"{getattr(self.certified, name):.{places}f}"
        return f"{name.replace('_', ' '):22}{getattr(self.measured, name):>10.{places}f}{certified:>12}"

    def _conclusion(self) -> str:
        if self.certified is None:
            return "the catalogue has no certificate for these files; the figures above stand alone"
        return "as certified" if self.holds else "WORSE than certified: prepare the model again and report it"


_SHOWN: Final = {"kl": 4, "perplexity": 3, "reference_perplexity": 3, "top1_agreement": 3, "tokens": 0}
"""Field -> decimal places."""
