"""What a published decoder takes for tokens: their ids, or embeddings that another graph looks up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from diplex.errors import UnsupportedModel
from workers.onnx_worker.published.decoder import EMBEDS, IDS, PER_LAYER

Ids = NDArray[np.int64]


class TokenInputs(Protocol):
    """Makes the inputs of a decoder."""

    def __call__(self, ids: Ids) -> dict[str, NDArray[Any]]:
        """The inputs for int64 ``[batch, tokens]``; negative ids name rows of image features."""


class PlainIds:
    """For a decoder that looks tokens up by itself; a :class:`TokenInputs`."""

    def __call__(self, ids: Ids) -> dict[str, NDArray[Any]]:
        """See :class:`TokenInputs`."""
        return {IDS: ids}


class Embeddings:
    """Looks tokens up in a graph of its own; a :class:`TokenInputs`.

    Args:
        session: Of ``embed_tokens*.onnx``, which takes ``input_ids`` and gives ``inputs_embeds``, and
            ``per_layer_inputs`` in Gemma-3n's layout.
        needed: What the decoder takes.
        features: Rows of features, float32 ``[ids, hidden]``, by the ids that name them.
        image_token: The token that is looked up in the place of a row of features.

    Raises:
        UnsupportedModel: The graph takes or gives something else.
    """

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        needed: frozenset[str],
        features: Callable[[list[int]], NDArray[np.float32]] | None = None,
        image_token: int = 0,
    ) -> None:
        self._session = session
        self._features = features
        self._image_token = image_token
        inputs = [value.name for value in session.get_inputs()]
        given = {value.name for value in session.get_outputs()}
        self._wanted: Final = sorted(needed & {EMBEDS, PER_LAYER})
        if inputs != [IDS]:
            raise UnsupportedModel(f"the embedding takes {', '.join(inputs)} instead of {IDS} alone")
        if lacking := set(self._wanted) - given:
            raise UnsupportedModel(f"the embedding gives no {min(lacking)}, which the decoder takes")

    def __call__(self, ids: Ids) -> dict[str, NDArray[Any]]:
        """See :class:`TokenInputs`."""
        seen = ids < 0
        found = self._session.run(self._wanted, {IDS: np.where(seen, self._image_token, ids)})
        inputs = dict(zip(self._wanted, found, strict=True))
        if self._features is not None and seen.any():
            inputs[EMBEDS] = np.array(inputs[EMBEDS])
            inputs[EMBEDS][seen] = self._features(ids[seen].tolist())
        return inputs
