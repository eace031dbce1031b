"""``python -m workers.onnx_worker.compiled.functions FILE``: machine code for processors with AVX-512 VNNI.

What it makes doesn't depend on the processor that it runs on.
"""

import os
import sys
from pathlib import Path

# Read by numba when it is imported. Vectors of 512 bits are what the functions are written for.
os.environ["NUMBA_CPU_NAME"] = "x86-64-v4"
os.environ["NUMBA_CPU_FEATURES"] = "+avx512vnni,-prefer-256-bit"

from workers.onnx_worker.compiled.functions.assemble import machine_code

if __name__ == "__main__":
    Path(sys.argv[1]).write_bytes(machine_code())
