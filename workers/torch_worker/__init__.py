"""The PyTorch worker: models of transformers' architectures, on the CPU or on CUDA; never onnxruntime.

Only engine and preparing processes import torch; the worker itself never does, so that it stays small.
"""
