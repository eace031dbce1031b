"""Configuration from a file, the environment and options: read, checked, explained and printed.

What there is to configure stands in the dataclasses of ``gateway.config``: a field of a dataclass's type is a
section, any other field a key, and the text under it its description. Nothing here knows a key by name.
"""
