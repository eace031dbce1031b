"""Everything that the two workers share. Imports numpy, never torch or onnxruntime."""
