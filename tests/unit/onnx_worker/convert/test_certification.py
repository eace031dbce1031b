"""Certificates of prepared artefacts, good and damaged."""

import numpy as np
import pytest

from workers.onnx_worker.convert import convert_gguf
from workers.onnx_worker.convert.certification import certify
from workers.runtime.fidelity.text import fixed_text
from workers.runtime.progress import Phase, silent


def test_fp32_is_the_same_model(prepared_fp32, tiny_gguf):
    certificate = certify(prepared_fp32, tiny_gguf, silent)
    assert certificate.kl < 1e-8
    assert certificate.top1_agreement > 0.99
    assert certificate.perplexity == pytest.approx(certificate.reference_perplexity, rel=1e-4)
    assert certificate.tokens == 512  # the model's context, shorter than the text
    assert certificate.text_sha256 == fixed_text().sha256


def test_int8_is_close(tmp_path, tiny_gguf):
    convert_gguf(tiny_gguf, tmp_path, precision="int8", report=silent)
    certificate = certify(tmp_path, tiny_gguf, silent)
    assert 1e-6 < certificate.kl < 0.1
    assert certificate.top1_agreement > 0.8


def test_damaged_weights_are_found_out(tmp_path, tiny_gguf):
    convert_gguf(tiny_gguf, tmp_path, precision="fp32", report=silent)
    weights = np.memmap(tmp_path / "model.onnx.data", dtype=np.float32, mode="r+")
    weights[len(weights) // 2 : len(weights) // 2 + 4000] *= -1
    weights.flush()
    certificate = certify(tmp_path, tiny_gguf, silent)
    assert certificate.kl > 0.1
    assert certificate.top1_agreement < 0.9


def test_progress_goes_up_to_the_last_token(prepared_fp32, tiny_gguf):
    seen = []
    certify(prepared_fp32, tiny_gguf, seen.append)
    assert {progress.phase for progress in seen} == {Phase.VERIFY}
    assert [progress.done for progress in seen] == [128, 256, 384, 512]
    assert seen[-1].total == 512
