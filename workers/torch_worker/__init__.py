"""The PyTorch worker: models of transformers' architectures, on the CPU or on CUDA; never onnxruntime.

Only engine and preparing processes import torch; the worker itself never does, so that it stays small.

Importing it lets idle threads of OpenMP spin for some ten microseconds and then sleep, unless the
environment says otherwise: that is as long as it takes from one operation to the next. By default they spin
for much longer, and take the cores from whoever else needs them.
"""

import os

if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "5000")
# Bars that libraries draw by themselves would stand between the lines of a log.
os.environ.setdefault("TQDM_DISABLE", "1")
