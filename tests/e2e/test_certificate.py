"""The default artefact's certificate, measured again and compared with what the catalogue says."""

import json
import subprocess
import sys

import pytest

from tests.e2e import services
from workers.runtime.catalogue import Catalogue
from workers.runtime.fidelity.certificate import Certificate
from workers.runtime.fidelity.verdict import NOISE, TOLERANCE


@pytest.fixture(scope="module")
def verdict(default_model):
    """What ``verify --json`` says."""
    done = subprocess.run(
        [sys.executable, "-m", "workers.onnx_worker", "verify", default_model, "--json"],
        stdout=subprocess.PIPE,
        timeout=300,  # half a minute when the machine has nothing else to do
        check=True,
        env=services.environment(),
        cwd=services.ROOT,
    )
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def measured(verdict):
    return Certificate(**verdict["measured"])


def test_the_default_artefact_is_faithful(measured, figure):
    assert measured.kl <= 0.01
    assert measured.tokens >= 2000
    assert measured.top1_agreement > 0.9
    figure(
        "the default artefact",
        f"KL {measured.kl:.5f} over {measured.tokens} tokens, top-1 agreement {measured.top1_agreement:.4f}, "
        f"perplexity {measured.perplexity:.3f} against {measured.reference_perplexity:.3f}",
    )


def test_the_catalogue_tells_the_same(verdict, measured):
    match = Catalogue.load().find(services.DEFAULT_MODEL)
    profile = match.entry.backend("onnx").profile(match.profile)
    certified = profile.certificate

    assert verdict["holds"]
    assert verdict["digest"] == profile.digest
    assert certified is not None
    assert certified.kl <= 0.01
    assert measured.kl == pytest.approx(certified.kl, rel=TOLERANCE - 1, abs=NOISE)
    assert measured.perplexity == pytest.approx(certified.perplexity, rel=0.01)
    assert measured.reference_perplexity == pytest.approx(certified.reference_perplexity, rel=0.001)
    assert measured.top1_agreement == pytest.approx(certified.top1_agreement, abs=0.01)
    assert (measured.tokens, measured.text_sha256) == (certified.tokens, certified.text_sha256)
