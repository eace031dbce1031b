"""The eyes of Idefics3 models (SmolVLM), a SigLIP tower and a connector, as a graph that takes one tile.

Made with onnx and numpy alone, like the decoder (:mod:`workers.onnx_worker.convert.graph`), which takes what
they give as rows of its input.
"""
