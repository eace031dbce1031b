"""Plots as SVG."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot as plt

from benchmarks.suite.report import load_cells
from benchmarks.suite.summary import Summary

_PANELS = (
    ("decode_tok_s", "decode, tok/s over all clients", "linear"),
    ("ttft_p50_ms", "time to first token, p50, ms", "log"),
    ("gap_p99_ms", "between tokens, p99, ms", "log"),
    ("peak_rss_mib", "peak resident memory, MiB", "log"),
)
_LEAST_POINTS = 2


def draw(summary: Summary, stem: Path) -> list[Path]:
    """One file a prompt length that was measured with several numbers of clients; bars are least and most.

    Args:
        summary: What was measured.
        stem: Path of the files, without what distinguishes them.

    Returns:
        The files.
    """
    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = stem.name  # the same figures give the same file
    files = []
    for prompt, cells in load_cells(summary).items():
        if len(cells) < _LEAST_POINTS:
            continue
        figure, panels = plt.subplots(2, 2, figsize=(11, 8), layout="constrained")
        figure.suptitle(f"prompts of {prompt} tokens")
        for axes, (name, title, scale) in zip(panels.flat, _PANELS, strict=True):
            for server in summary.servers:
                points = [(clients, summary.value(key, server, name)) for clients, key in cells.items()]
                found = [(clients, spread) for clients, spread in points if spread is not None]
                middles = [spread.median for _, spread in found]
                below = [spread.median - spread.least for _, spread in found]
                above = [spread.most - spread.median for _, spread in found]
                at = [clients for clients, _ in found]
                axes.errorbar(at, middles, [below, above], marker="o", capsize=3, label=server)
            axes.set_xscale("log", base=2)
            axes.set_xticks(list(cells), [str(clients) for clients in cells])
            axes.set_yscale(scale)
            if scale == "linear":
                axes.set_ylim(bottom=0)
            axes.set_xlabel("clients")
            axes.set_title(title)
            axes.grid(visible=True, alpha=0.3)
        panels.flat[0].legend()
        path = stem.with_name(f"{stem.name}-{prompt}.svg")
        figure.savefig(path, metadata={"Date": None})
        plt.close(figure)
        files.append(path)
    return files
