"""Between text and tokens: chat templates, tokenisation, incremental decoding and stop strings."""
