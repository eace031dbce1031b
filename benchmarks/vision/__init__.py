"""Seeing models: Diplex against plain transformers, and text beside pictures."""
