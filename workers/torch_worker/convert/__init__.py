"""From published checkpoints to prepared artefacts. Imported by preparing processes only."""

from workers.torch_worker.convert.converter import convert_checkpoint

__all__ = ["convert_checkpoint"]
