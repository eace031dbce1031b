"""A load generator: streams as they arrive, and the figures that they come to. Serves ``diplex bench``."""
