"""Turns published models into what the ONNX engine loads. Needs gguf, onnx and numpy; never torch."""

from workers.onnx_worker.convert.converter import convert_checkpoint, convert_gguf

__all__ = ["convert_checkpoint", "convert_gguf"]
