"""The PyTorch worker: models of transformers' architectures, on the CPU or on CUDA; never onnxruntime.

Only engine and preparing processes import torch; the worker itself never does, so that it stays small.

Importing it lets idle threads of OpenMP sleep at once, unless the environment says otherwise: spinning ones
take the cores from whoever else needs them, which costs a busy machine more than half of its speed.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# Bars that libraries draw by themselves would stand between the lines of a log.
os.environ.setdefault("TQDM_DISABLE", "1")
