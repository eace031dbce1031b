"""Pictures: from their bytes to pixels for a model's eyes, and to places in its prompt."""

from workers.runtime.vision.decoding import decode, look
from workers.runtime.vision.description import VisionDescription
from workers.runtime.vision.families import describe_eyes, preprocessor_of
from workers.runtime.vision.features import FeatureRows
from workers.runtime.vision.files import ImageFile
from workers.runtime.vision.gallery import Gallery, Picture
from workers.runtime.vision.grid import PatchGrid
from workers.runtime.vision.idefics3 import Idefics3
from workers.runtime.vision.options import ImageOptions
from workers.runtime.vision.preprocessing import Layout, Preprocessor, Size, Tiles
from workers.runtime.vision.viewer import Viewer

__all__ = [
    "FeatureRows",
    "Gallery",
    "Idefics3",
    "ImageFile",
    "ImageOptions",
    "Layout",
    "PatchGrid",
    "Picture",
    "Preprocessor",
    "Size",
    "Tiles",
    "Viewer",
    "VisionDescription",
    "decode",
    "describe_eyes",
    "look",
    "preprocessor_of",
]
