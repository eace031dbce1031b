"""The version that is installed."""

from importlib.metadata import PackageNotFoundError, version


def installed_version() -> str:
    """Version of the distribution, or ``unknown`` in a tree that was never installed."""
    try:
        return version("diplex")
    except PackageNotFoundError:
        return "unknown"
