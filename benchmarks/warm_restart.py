"""How long a worker takes to be ready again when its models are prepared: seconds, and seconds a 100 MB.

    python -m benchmarks.warm_restart [--rounds N] [MODEL …]

A model is prepared first, if that isn't done yet. Then worker and gateway start as processes of their own,
again and again; the time runs until the gateway's health says that a request can be answered. The bytes are
those of the prepared artefact's weights. What starting Python and gRPC takes is the same for all models: a
line through the medians tells it from what the bytes take.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time

import numpy as np

from benchmarks.stack import Stack
from workers.onnx_worker.formats import OnnxFormats
from workers.onnx_worker.prepare import ToOnnx
from workers.runtime.artefact import WEIGHTS_FILE
from workers.runtime.catalogue import Catalogue
from workers.runtime.store import Store, default_home

_MODELS = ("SmolLM2-135M-Instruct/q4_mixed", "SmolLM2-135M-Instruct/int8", "SmolLM2-135M-Instruct/fp32")


def main() -> None:
    """Runs the benchmark and prints its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("models", nargs="*", default=_MODELS)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    sizes, seconds = [], []
    print(f"{'model':36} {'weights MB':>10} {'ready after s':>13} {'s a 100 MB':>10}")
    for model in options.models:
        megabytes = _prepared_bytes(model) / 1e6
        ready = statistics.median(_restart(model) for _ in range(options.rounds))
        sizes.append(megabytes)
        seconds.append(ready)
        print(f"{model:36} {megabytes:10.1f} {ready:13.2f} {100 * ready / megabytes:10.2f}", flush=True)
    if len(set(sizes)) > 1:
        slope, start = np.polyfit(sizes, seconds, 1)
        print(f"\na line through them: {start:.2f} s, and {100 * slope:.2f} s for every 100 MB")


def _prepared_bytes(model: str) -> int:
    match = Catalogue.load().find(model)
    store = Store(default_home(os.environ))
    artefact = store.ensure(match.entry, OnnxFormats.backend, match.profile, ToOnnx())
    return (artefact.folder / WEIGHTS_FILE).stat().st_size


def _restart(model: str) -> float:
    began = time.perf_counter()
    with Stack(models=[model]):
        return time.perf_counter() - began


if __name__ == "__main__":
    main()
