"""Plain transformers in float32, one request a line. Runs in an environment of its own, with torch.

    python -m benchmarks.vision.transformers_peer FOLDER THREADS

Reads ``{"image": "base64 of a file", "question": "…", "tokens": 64}`` and answers
``{"first": seconds, "decode": tokens a second}``; an empty object once it is ready. The time to the first
token counts from the file's bytes: decoding, preprocessing, eyes, prompt.
"""

from __future__ import annotations

import base64
import io
import json
import sys
import time
from pathlib import Path

import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor


class Clock:
    """A streamer that notes when tokens come; the first call brings the prompt."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def put(self, _tokens: object) -> None:
        """Takes note."""
        self.times.append(time.perf_counter())

    def end(self) -> None:
        """Nothing is left to do."""


class Peer:
    """The model.

    Args:
        folder: Its checkpoint.
    """

    def __init__(self, folder: Path) -> None:
        self._processor = AutoProcessor.from_pretrained(folder)
        self._model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()

    def answer(self, request: dict) -> dict[str, float]:
        """Generates greedily; seconds to the first token, and tokens a second behind it."""
        began, clock = time.perf_counter(), Clock()
        image = Image.open(io.BytesIO(base64.b64decode(request["image"]))).convert("RGB")
        content = [{"type": "image"}, {"type": "text", "text": request["question"]}]
        text = self._processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True
        )
        inputs = self._processor(text=text, images=[image], do_image_splitting=False, return_tensors="pt")
        with torch.inference_mode():
            self._model.generate(
                **inputs,
                do_sample=False,
                max_new_tokens=request["tokens"],
                min_new_tokens=request["tokens"],
                streamer=clock,
            )
        first, last = clock.times[1], clock.times[-1]
        return {"first": first - began, "decode": (request["tokens"] - 1) / (last - first)}


def main() -> None:
    """Serves until its input ends."""
    torch.set_num_threads(int(sys.argv[2]))
    peer = Peer(Path(sys.argv[1]))
    print("{}", flush=True)
    for line in sys.stdin:
        print(json.dumps(peer.answer(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
