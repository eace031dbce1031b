"""The small seeing model: drawings, lessons about them, and the training (needs torch and transformers)."""
