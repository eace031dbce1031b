"""The worker's own process: it owns the sockets, and one engine process for each loaded model."""
