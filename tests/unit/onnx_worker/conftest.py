"""A model hub for the tests of models that no catalogue knows."""

from tests.unit.runtime.store.conftest import hub

__all__ = ["hub"]
