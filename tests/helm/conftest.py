from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest

from tests.conftest import tiny_catalogue, tiny_home
from tests.helm.chart import SETS, Manifests, rendered

__all__ = ["tiny_catalogue", "tiny_home"]

_rendered: Callable[[str], Manifests] = cache(rendered)


@pytest.fixture(params=SETS)
def manifests(request: pytest.FixtureRequest) -> Manifests:
    """What each of the chart's sets of values comes to, one after the other."""
    return _rendered(request.param)
