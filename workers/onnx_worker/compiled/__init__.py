"""The model of ``int8`` by loops of our own, compiled for the processor when a model is loaded.

A step of decoding is a few large products between many small operations, and an operator at a time each of
them is read from memory, written back and waited for. Here a step is one function: its threads take the
pieces of one operation after the other, and what is small is done where its values are already at hand. See
docs/decisions/0057-a-step-compiled.md.

``backend`` is what an engine uses; ``availability`` says whether it can.
"""
