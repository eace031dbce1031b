"""The functions that are compiled, in Python as numba takes it, and what makes machine code of them.

Only the process that compiles imports this: ``python -m workers.onnx_worker.compiled.functions FILE``.
Engines load the machine code.
"""
