"""The ONNX Runtime worker: text from in-place KV graphs on the CPU. Never imports torch."""
