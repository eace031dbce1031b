"""The ONNX Runtime worker: text from in-place KV graphs on the CPU. Never imports torch.

Importing it turns ONNX Runtime's telemetry off, which its wheels send by default since 1.29, beginning when
they are imported. An operator who wants it sets ``ORT_DISABLE_TELEMETRY=0``.
"""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
