"""The workers: what they share, and one package for each backend."""
