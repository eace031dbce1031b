"""ONNX graphs as model hubs publish them: the compatible way to run a model, beside the fast one.

Such a folder holds a decoder (``onnx/decoder_model_merged*.onnx``, or ``onnx/model*.onnx`` which looks tokens
up by itself), mostly an embedding (``embed_tokens``) and, for a model with eyes, a ``vision_encoder``; each
in several precisions, told apart by the end of the name. The decoder takes keys and values of all tokens
before and returns them with the new ones behind: they are copied in every step.
"""
