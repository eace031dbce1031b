"""Which linear layers of a model read the same input."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from torch import nn

_GROUPS: Final = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
"""Names that the families give to what is computed from the same tensor."""


def linear_groups(model: nn.Module) -> Iterator[tuple[str, ...]]:
    """The names of all linear layers, those that read the same input together.

    What has siblings is either all with a bias or all without.
    """
    for name, module in model.named_modules():
        children = {child: part for child, part in module.named_children() if isinstance(part, nn.Linear)}
        prefix = f"{name}." if name else ""
        for group in () if "cross" in name else _GROUPS:
            members = [children[child] for child in group if child in children]
            alike = len({(part.in_features, part.bias is None) for part in members}) == 1
            if len(members) == len(group) and alike:
                yield tuple(prefix + child for child in group)
                for child in group:
                    del children[child]
        for child in children:
            yield (prefix + child,)


def group_name(group: tuple[str, ...]) -> str:
    """The name under which a group's weights are kept: ``layers.0.attn.q_proj+k_proj+v_proj``."""
    parent, _, first = group[0].rpartition(".")
    names = "+".join([first, *(name.rpartition(".")[2] for name in group[1:])])
    return f"{parent}.{names}" if parent else names
