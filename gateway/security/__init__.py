"""Who may call: TLS, API keys, tokens, client certificates, and what each caller has a right to."""
