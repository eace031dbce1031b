"""What a run gives a model: token ids, or embeddings where some of them are features of pictures."""

from __future__ import annotations

from typing import Any

import torch

from workers.torch_worker.eyes import TorchEyes


class Inputs:
    """Makes them.

    Args:
        embedding: The model's, of token ids.
        eyes: Have the features that negative ids name; ``None`` if there are no negative ids.
    """

    def __init__(self, embedding: torch.nn.Module, eyes: TorchEyes | None) -> None:
        self._embedding = embedding
        self._eyes = eyes

    def of(self, ids: torch.Tensor) -> dict[str, Any]:
        """Arguments of a model for token ids, int64 ``[rows, width]``."""
        shown = ids < 0
        if self._eyes is None or not bool(shown.any()):
            return {"input_ids": ids}
        embeddings = self._embedding(ids.clamp(min=0))
        embeddings[shown], *further = self._eyes.gather(ids[shown].tolist())
        if not further:
            return {"inputs_embeds": embeddings}
        return {
            "inputs_embeds": embeddings,
            "visual_pos_masks": shown,
            "deepstack_visual_embeds": further,
        }
