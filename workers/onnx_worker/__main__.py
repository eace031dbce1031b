"""``python -m workers.onnx_worker``: serve models, prepare and verify them."""

from __future__ import annotations

from diplex.polling import poll_without_event_engine

poll_without_event_engine()  # before the imports below bring in grpc

from workers.onnx_worker.kind import KIND
from workers.runtime import command

app = command.application(KIND)


def main() -> None:
    """Runs a command; an error of ours is one line and exit code 1."""
    command.main(app)


if __name__ == "__main__":
    main()
