"""Models that no catalogue knows: named by a hub repository or a path, looked at, and remembered."""

from workers.runtime.adoption.adopter import Adopter
from workers.runtime.adoption.facts import Facts, Formats
from workers.runtime.adoption.names import DiskName, HubName, parse

__all__ = ["Adopter", "DiskName", "Facts", "Formats", "HubName", "parse"]
