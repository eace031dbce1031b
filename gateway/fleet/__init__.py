"""The workers of a gateway: connections, what each can do, and what all of them offer together."""
