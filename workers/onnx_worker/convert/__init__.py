"""Turns a GGUF file into the artefact that the ONNX engine loads. Needs gguf, onnx and numpy; never torch."""

from workers.onnx_worker.convert.converter import convert_gguf

__all__ = ["convert_gguf"]
