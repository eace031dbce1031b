"""Enumerations that requests, events and states share."""

from __future__ import annotations

from typing import Final

from diplex.v1 import generation_pb2 as public

BACKENDS: Final = {"onnx": public.BACKEND_ONNX, "torch": public.BACKEND_TORCH}
PRECISIONS: Final = {
    "fp32": public.PRECISION_FP32,
    "bf16": public.PRECISION_BF16,
    "fp16": public.PRECISION_FP16,
    "int8": public.PRECISION_INT8,
    "int4": public.PRECISION_INT4,
    "q4": public.PRECISION_Q4,
    "q4_mixed": public.PRECISION_Q4_MIXED,
    "q4f16": public.PRECISION_Q4F16,
}
