"""What a gateway tells of itself: logs, traces and metrics."""
