"""Generated stubs; `make protos` writes them from `protos/`."""
