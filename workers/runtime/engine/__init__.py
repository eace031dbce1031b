"""The engine process of a model: a scheduler without tensors, a backend without policy, the loop."""
