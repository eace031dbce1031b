"""From the image files of a request to pictures that an engine can be asked about."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from workers.runtime.vision.decoding import decode, look
from workers.runtime.vision.files import ImageFile
from workers.runtime.vision.gallery import Gallery, Picture, picture_key
from workers.runtime.vision.options import ImageOptions
from workers.runtime.vision.preprocessing import Layout, Preprocessor, Tiles


class Viewer:
    """Looks at files. Safe to use from several threads.

    Args:
        preprocessor: The model's.
        gallery: The pictures that the engine knows.
    """

    def __init__(self, preprocessor: Preprocessor, gallery: Gallery) -> None:
        self.gallery = gallery
        self._preprocessor = preprocessor

    def layouts(self, files: Sequence[ImageFile], options: ImageOptions) -> list[Layout]:
        """How pictures stand in a prompt, from their headers alone.

        Raises:
            InvalidRequest: One can't be read, or not be seen with these options.
        """
        return [self._preprocessor.layout(look(file), options) for file in files]

    def pictures(self, files: Sequence[ImageFile], options: ImageOptions) -> tuple[Picture, ...]:
        """The pictures, all of them pinned in the gallery, or none if this raises.

        Raises:
            InvalidRequest: One can't be decoded.
            ResourceExhausted: There is no room for its features.
        """
        pinned: list[Picture] = []
        try:
            for file, layout in zip(files, self.layouts(files, options), strict=True):
                tiles = partial(self._tiles, file, options)
                pinned.append(self.gallery.pin(picture_key(file.data, options), layout, tiles))
        except BaseException:
            self.gallery.unpin(pinned)
            raise
        return tuple(pinned)

    def _tiles(self, file: ImageFile, options: ImageOptions) -> Tiles:
        return self._preprocessor.tiles(decode(file), options)
