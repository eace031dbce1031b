"""What keeps a generation going when workers, connections or this process don't last."""
