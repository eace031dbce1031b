"""Every family against transformers, in an environment of its own: nothing else of the tests needs torch."""

import os
import subprocess
import venv

import pytest

from tests.e2e import services

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

# Any CPU build of this release will do; `TORCH` names one where the index has only larger ones.
PACKAGES = (os.environ.get("TORCH", "torch==2.13.0"), "transformers==5.24.0", "gguf>=0.17,<1", "accelerate")


def test_the_reference_is_what_transformers_computes(tmp_path):
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    pip = (python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    subprocess.run([*pip, *PACKAGES], check=True, timeout=600)
    for script in ("tools/check_families.py", "tools/check_checkpoints.py"):
        done = subprocess.run(
            [python, script],
            cwd=services.ROOT,
            env=os.environ | {"PYTHONPATH": str(services.ROOT)},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "all agree" in done.stdout
