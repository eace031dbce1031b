"""A page on which people try models, in their browser."""
