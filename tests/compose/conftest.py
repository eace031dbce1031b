"""Everything here needs a container engine: `make compose-test`, `make images-test`."""

from __future__ import annotations

import pytest

from tests.compose.stack import running


@pytest.fixture(scope="session")
def stack():
    """Gateway and one ONNX worker, which every test leaves as it found them."""
    with running("diplex-test") as found:
        yield found


@pytest.fixture
def worker(stack):
    """The id of the only worker's container."""
    return stack.container("onnx-worker")
